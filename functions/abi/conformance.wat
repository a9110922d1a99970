;; Checks a host of the contract tg1 (docs/formats/abi-tg1.md), from inside a function.
;;
;; How to use it: translate it (wat2wasm), start it with any configuration, and give it, with the state
;;
;;     a      -> 12345
;;     b/1    -> x
;;     b/2    -> yy
;;     c      -> (empty)
;;
;; and with batch id 42, a frame of any kind with at least one entry. `tg_handle` returns
;;
;;   -100 - N  when the host breaks promise N of the list below (a failure, by the contract), or
;;   an output frame with all operations that any kind may have: EMIT to `conformance` with the payload
;;   `ok`, NACK drop of entry 0, KV_PUT of `b/3` with a time to live of 1,000 ms, KV_DEL of `a`, METRIC
;;   `checks`, LOG, TIMER_SET of `conformance` and its cancellation. None of it may have an effect when
;;   the host refuses the call.
;;
;; A start that breaks a promise is a `tg_init` that returns N.
;;
;;    1  `_initialize` is called once, before everything else
;;    2  `tg_abi_1` is never called
;;    3  the configuration lies at the address that tg_buffer gave last, and has the length asked for
;;    4  while the function starts, time is 0 and the state is empty
;;    5  a frame lies at the address that tg_buffer gave last, and has the length asked for
;;    6  magic, kind, count and total of the frame are as the contract says
;;    7  the function is not entered while it is inside
;;    8  now(0) is the time of the frame; now(1) is -22
;;    9  kv_get returns the length and writes the value
;;   10  kv_get writes nothing when the buffer is too small, and returns the length
;;   11  kv_get of no key is -2; of an empty value 0
;;   12  a pointer outside of the memory is -14
;;   13  kv_scan writes the entries of a prefix, in order
;;   14  kv_scan goes on after a key, and ends with 0
;;   15  kv_scan writes whole entries; when the first does not fit, nothing, and returns what it needs
;;   16  random is SplitMix64 of the batch id, from the start in each call of tg_handle; each call of
;;       random starts with a new step
;;   17  log takes any level and any text
;;   18  secret_get of a name that is not granted is -1, and writes nothing
;;   19  json_find says where values are, and writes nothing for what is no JSON
;;   20  json_find_each says the same for the payloads of a frame, with the numbers, and marks what is no
;;       JSON
(module
  (import "tg1" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i32)))
  (import "tg1" "kv_scan" (func $kv_scan (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "tg1" "now" (func $now (param i32) (result i64)))
  (import "tg1" "random" (func $random (param i32 i32) (result i32)))
  (import "tg1" "log" (func $log (param i32 i32 i32)))
  (import "tg1" "secret_get" (func $secret_get (param i32 i32 i32 i32) (result i32)))
  (import "tg1" "json_find" (func $json_find (param i32 i32 i32 i32 i32) (result i32)))
  (import "tg1" "json_find_each" (func $json_find_each (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1)

  ;; 0: texts. 1024: results of imports. 2048: the output frame. 65536 on: the input buffer.
  (data (i32.const 0) "ab/b/1b/2cmissing")
  ;; 512: a JSON text. 576: the paths `b.c` and `x`. 592: their names.
  (data (i32.const 512) "{\22a\22:1,\22b\22:{\22c\22:[2]}}")
  (data (i32.const 576) "\50\02\00\00\03\00\00\00\53\02\00\00\01\00\00\00b.cx")
  ;; 640: an input frame of two entries, of which nothing but the places of the payloads is filled in.
  (data (i32.const 640) "TGB1\01\00\00\00\02\00\00\00\9f\00\00\00")
  (data (i32.const 696) "\80\00\00\00\18\00\00\00")
  (data (i32.const 744) "\98\00\00\00\07\00\00\00")
  (data (i32.const 768) "{\22b\22:{\22c\22:-2.5},\22x\22:\227\22}no JSON")
  (global $a i32 (i32.const 0))
  (global $b/ i32 (i32.const 1))
  (global $b/1 i32 (i32.const 3))
  (global $b/2 i32 (i32.const 6))
  (global $c i32 (i32.const 9))
  (global $missing i32 (i32.const 10))
  (global $result i32 (i32.const 1024))

  ;; The output frame: 16 + 40 + 32 + 32 + 24 + 32 + 24 + 48 + 48 bytes.
  (data (i32.const 2048)
    "TGO1\08\00\00\00\28\01\00\00\00\00\00\00"
    "\01\00\00\00\1d\00\00\00" "\0b\00\00\00\02\00\00\00\00\00\00\00\01\00\00\00" "conformanceok\00\00\00"
    "\02\00\00\00\14\00\00\00" "\00\00\00\00\07\00\00\00\04\00\00\00\02\00\00\00" "seen\00\00\00\00"
    "\03\00\00\00\15\00\00\00" "\03\00\00\00\02\00\00\00\e8\03\00\00\00\00\00\00" "b/3zz\00\00\00"
    "\04\00\00\00\09\00\00\00" "\01\00\00\00\00\00\00\00" "a\00\00\00\00\00\00\00"
    "\05\00\00\00\16\00\00\00" "\06\00\00\00\01\00\00\00\00\00\00\00\00\00\31\40" "checks\00\00"
    "\06\00\00\00\0a\00\00\00" "\02\00\00\00\03\00\00\00" "ok\00\00\00\00\00\00"
    "\08\00\00\00\23\00\00\00" "\0b\00\00\00\00\00\00\00\e8\03\00\00\00\00\00\00\60\ea\00\00\00\00\00\00" "conformance\00\00\00\00\00"
    "\08\00\00\00\23\00\00\00" "\0b\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00\00" "conformance\00\00\00\00\00")

  (global $initialized (mut i32) (i32.const 0))
  (global $marked (mut i32) (i32.const 0))
  (global $inside (mut i32) (i32.const 0))
  (global $asked (mut i32) (i32.const -1))
  (global $seed (mut i64) (i64.const 0))

  (func (export "_initialize")
    (global.set $initialized (i32.add (global.get $initialized) (i32.const 1))))
  (func (export "tg_abi_1") (global.set $marked (i32.const 1)))

  (func (export "tg_buffer") (param $min_len i32) (result i32)
    (local $pages i32)
    (if (global.get $inside) (then (unreachable)))
    (global.set $asked (local.get $min_len))
    (local.set $pages (i32.add (i32.const 2) (i32.shr_u (local.get $min_len) (i32.const 16))))
    (if (i32.gt_u (local.get $pages) (memory.size))
      (then (drop (memory.grow (i32.sub (local.get $pages) (memory.size))))))
    (i32.const 65536))

  (func (export "tg_init") (param $ptr i32) (param $len i32) (result i32)
    (if (i32.ne (global.get $initialized) (i32.const 1)) (then (return (i32.const 1))))
    (if (i32.ne (local.get $ptr) (i32.const 65536)) (then (return (i32.const 3))))
    (if (i32.ne (local.get $len) (global.get $asked)) (then (return (i32.const 3))))
    (if (i64.ne (call $now (i32.const 0)) (i64.const 0)) (then (return (i32.const 4))))
    (if (i32.ne (call $kv_get (global.get $a) (i32.const 1) (global.get $result) (i32.const 64)) (i32.const -2))
      (then (return (i32.const 4))))
    (i32.const 0))

  (func (export "tg_handle") (param $ptr i32) (param $len i32) (result i64)
    (local $broken i32)
    (global.set $inside (i32.const 1))
    (local.set $broken (call $checks (local.get $ptr) (local.get $len)))
    (global.set $inside (i32.const 0))
    (if (local.get $broken)
      (then (return (i64.sub (i64.const -100) (i64.extend_i32_u (local.get $broken))))))
    ;; 2048 << 32 | 296
    (i64.const 8796093022504))

  ;; The number of the first promise that is broken, 0 for none.
  (func $checks (param $ptr i32) (param $len i32) (result i32)
    (if (i32.ne (global.get $initialized) (i32.const 1)) (then (return (i32.const 1))))
    (if (global.get $marked) (then (return (i32.const 2))))
    (if (i32.ne (local.get $ptr) (i32.const 65536)) (then (return (i32.const 5))))
    (if (i32.ne (local.get $len) (global.get $asked)) (then (return (i32.const 5))))
    ;; TGB1, kind 1 to 4, total, and a table of count entries that fits.
    (if (i32.ne (i32.load (local.get $ptr)) (i32.const 0x31424754)) (then (return (i32.const 6))))
    (if (i32.gt_u (i32.sub (i32.load16_u offset=4 (local.get $ptr)) (i32.const 1)) (i32.const 3))
      (then (return (i32.const 6))))
    (if (i32.ne (i32.load offset=12 (local.get $ptr)) (local.get $len)) (then (return (i32.const 6))))
    (if (i32.eqz (i32.load offset=8 (local.get $ptr))) (then (return (i32.const 6))))
    (if (i32.gt_u (i32.load offset=8 (local.get $ptr))
                  (i32.div_u (i32.sub (local.get $len) (i32.const 32)) (i32.const 48)))
      (then (return (i32.const 6))))
    (if (i64.ne (call $now (i32.const 0)) (i64.load offset=16 (local.get $ptr))) (then (return (i32.const 8))))
    (if (i64.ne (call $now (i32.const 1)) (i64.const -22)) (then (return (i32.const 8))))
    (global.set $seed (i64.load offset=24 (local.get $ptr)))
    (local.set $len (call $reads))
    (if (local.get $len) (then (return (local.get $len))))
    (local.set $len (call $scans))
    (if (local.get $len) (then (return (local.get $len))))
    (call $others))

  (func $clear
    (memory.fill (global.get $result) (i32.const 0xee) (i32.const 64)))

  (func $reads (result i32)
    (call $clear)
    (if (i32.ne (call $kv_get (global.get $a) (i32.const 1) (global.get $result) (i32.const 5)) (i32.const 5))
      (then (return (i32.const 9))))
    ;; "1234", "5", then what was there before
    (if (i32.ne (i32.load (global.get $result)) (i32.const 0x34333231)) (then (return (i32.const 9))))
    (if (i32.ne (i32.load16_u offset=4 (global.get $result)) (i32.const 0xee35)) (then (return (i32.const 9))))
    (call $clear)
    (if (i32.ne (call $kv_get (global.get $a) (i32.const 1) (global.get $result) (i32.const 4)) (i32.const 5))
      (then (return (i32.const 10))))
    (if (i32.ne (i32.load (global.get $result)) (i32.const 0xeeeeeeee)) (then (return (i32.const 10))))
    (if (i32.ne (call $kv_get (global.get $missing) (i32.const 7) (global.get $result) (i32.const 64)) (i32.const -2))
      (then (return (i32.const 11))))
    (if (call $kv_get (global.get $c) (i32.const 1) (global.get $result) (i32.const 64))
      (then (return (i32.const 11))))
    (if (i32.ne (call $kv_get (i32.const -1) (i32.const 1) (global.get $result) (i32.const 64)) (i32.const -14))
      (then (return (i32.const 12))))
    (if (i32.ne (call $kv_get (global.get $a) (i32.const 1) (i32.const -4) (i32.const 64)) (i32.const -14))
      (then (return (i32.const 12))))
    (if (i32.ne (call $random (i32.const -1) (i32.const 2)) (i32.const -14)) (then (return (i32.const 12))))
    (i32.const 0))

  (func $scan (param $after i32) (param $after_len i32) (param $cap i32) (result i32)
    (call $clear)
    (call $kv_scan (global.get $b/) (i32.const 2) (local.get $after) (local.get $after_len)
      (global.get $result) (local.get $cap)))

  (func $scans (result i32)
    ;; b/1 -> x in 12 bytes, b/2 -> yy in 13
    (if (i32.ne (call $scan (i32.const 0) (i32.const 0) (i32.const 64)) (i32.const 25)) (then (return (i32.const 13))))
    (if (i64.ne (i64.load (global.get $result)) (i64.const 0x100000003)) (then (return (i32.const 13))))
    (if (i32.ne (i32.load offset=8 (global.get $result)) (i32.const 0x78312f62)) (then (return (i32.const 13))))
    (if (i64.ne (i64.load offset=12 (global.get $result)) (i64.const 0x200000003)) (then (return (i32.const 13))))
    (if (i32.ne (i32.load offset=20 (global.get $result)) (i32.const 0x79322f62)) (then (return (i32.const 13))))
    (if (i32.ne (i32.load16_u offset=24 (global.get $result)) (i32.const 0xee79)) (then (return (i32.const 13))))
    (if (i32.ne (call $scan (global.get $b/1) (i32.const 3) (i32.const 64)) (i32.const 13)) (then (return (i32.const 14))))
    (if (i32.ne (i32.load offset=8 (global.get $result)) (i32.const 0x79322f62)) (then (return (i32.const 14))))
    (if (call $scan (global.get $b/2) (i32.const 3) (i32.const 64)) (then (return (i32.const 14))))
    (if (i32.ne (call $scan (i32.const 0) (i32.const 0) (i32.const 24)) (i32.const 12)) (then (return (i32.const 15))))
    (if (i32.ne (call $scan (i32.const 0) (i32.const 0) (i32.const 11)) (i32.const 12)) (then (return (i32.const 15))))
    (if (i32.ne (i32.load (global.get $result)) (i32.const 0xeeeeeeee)) (then (return (i32.const 15))))
    (i32.const 0))

  (func $others (result i32)
    (call $clear)
    (if (call $random (global.get $result) (i32.const 11)) (then (return (i32.const 16))))
    (if (i64.ne (i64.load (global.get $result)) (call $step)) (then (return (i32.const 16))))
    ;; three bytes of the next step, then what was there before
    (if (i32.ne (i32.load offset=8 (global.get $result))
                (i32.or (i32.and (i32.wrap_i64 (call $step)) (i32.const 0xffffff)) (i32.const 0xee000000)))
      (then (return (i32.const 16))))
    (if (call $random (global.get $result) (i32.const 8)) (then (return (i32.const 16))))
    (if (i64.ne (i64.load (global.get $result)) (call $step)) (then (return (i32.const 16))))
    (call $log (i32.const 3) (global.get $missing) (i32.const 7))
    (call $log (i32.const 99) (global.get $missing) (i32.const 7))
    (call $log (i32.const 4) (i32.const -1) (i32.const 7))
    (call $clear)
    (if (i32.ne (call $secret_get (global.get $missing) (i32.const 7) (global.get $result) (i32.const 64)) (i32.const -1))
      (then (return (i32.const 18))))
    (if (i32.ne (i32.load (global.get $result)) (i32.const 0xeeeeeeee)) (then (return (i32.const 18))))
    (if (i32.ne (call $secret_get (i32.const -1) (i32.const 7) (global.get $result) (i32.const 64)) (i32.const -14))
      (then (return (i32.const 18))))
    (if (i32.ne (call $json_find (i32.const 512) (i32.const 20) (i32.const 576) (i32.const 2) (global.get $result)) (i32.const -22))
      (then (return (i32.const 19))))
    (if (i32.ne (i32.load (global.get $result)) (i32.const 0xeeeeeeee)) (then (return (i32.const 19))))
    (if (i32.ne (call $json_find (i32.const 512) (i32.const 21) (i32.const -1) (i32.const 2) (global.get $result)) (i32.const -14))
      (then (return (i32.const 19))))
    (if (call $json_find (i32.const 512) (i32.const 21) (i32.const 576) (i32.const 2) (global.get $result))
      (then (return (i32.const 19))))
    ;; 16 to 19, and nowhere
    (if (i64.ne (i64.load (global.get $result)) (i64.const 0x1300000010)) (then (return (i32.const 19))))
    (if (i64.ne (i64.load offset=8 (global.get $result)) (i64.const 0)) (then (return (i32.const 19))))
    (return (call $finds)))

  (func $finds (result i32)
    (call $clear)
    (if (i32.ne (call $each (i32.const 2) (i32.const 4)) (i32.const 0)) (then (return (i32.const 20))))
    (if (i32.ne (call $json_find_each (i32.const 640) (i32.const 159) (i32.const 0) (i32.const -1)
                  (i32.const 2) (global.get $result) (i32.const 1)) (i32.const -14))
      (then (return (i32.const 20))))
    (if (i32.ne (i32.load (global.get $result)) (i32.const 0xeeeeeeee)) (then (return (i32.const 20))))
    ;; no room but for one
    (if (i32.ne (call $each (i32.const 0) (i32.const 1)) (i32.const 1)) (then (return (i32.const 20))))
    (if (i32.ne (i32.load offset=32 (global.get $result)) (i32.const 0xeeeeeeee)) (then (return (i32.const 20))))
    (if (i32.ne (call $each (i32.const 0) (i32.const 4)) (i32.const 2)) (then (return (i32.const 20))))
    ;; 10 to 14, which is a number, and 20 to 23, which is none
    (if (i64.ne (i64.load (global.get $result)) (i64.const 0xe0000000a)) (then (return (i32.const 20))))
    (if (f64.ne (f64.load offset=8 (global.get $result)) (f64.const -2.5)) (then (return (i32.const 20))))
    (if (i64.ne (i64.load offset=16 (global.get $result)) (i64.const 0x1700000014)) (then (return (i32.const 20))))
    (if (f64.eq (f64.load offset=24 (global.get $result)) (f64.load offset=24 (global.get $result)))
      (then (return (i32.const 20))))
    (if (i32.ne (i32.load offset=32 (global.get $result)) (i32.const -1)) (then (return (i32.const 20))))
    (i32.const 0))

  (func $each (param $first i32) (param $entries i32) (result i32)
    (call $json_find_each (i32.const 640) (i32.const 159) (local.get $first) (i32.const 576) (i32.const 2)
      (global.get $result) (local.get $entries)))

  ;; SplitMix64
  (func $step (result i64)
    (local $z i64)
    (global.set $seed (i64.add (global.get $seed) (i64.const 0x9e3779b97f4a7c15)))
    (local.set $z (global.get $seed))
    (local.set $z (i64.mul (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 30))) (i64.const 0xbf58476d1ce4e5b9)))
    (local.set $z (i64.mul (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 27))) (i64.const 0x94d049bb133111eb)))
    (i64.xor (local.get $z) (i64.shr_u (local.get $z) (i64.const 31)))))
