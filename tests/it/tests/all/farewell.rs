//! A function that never ends with the event `stop`: the gateway ends all the same, and soon.

use std::time::{Duration, Instant};

use tidegate_rig::gateway::Gateway;

use crate::binaries;
use crate::setup::{alone, scratch_with, wait};

/// Loops for ever, whatever it is given.
const LOOP: &str = r#"(module
  (memory (export "memory") 1)
  (func (export "tg_abi_1"))
  (func (export "tg_buffer") (param i32) (result i32) (i32.const 1024))
  (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))
  (func (export "tg_handle") (param i32 i32) (result i64) (loop $more (br $more)) (unreachable)))"#;

const CONFIG: &str = r#"[gateway]
id = "gw-it"
data_dir = "{data}"

[mqtt]
listen = "{mqtt}"

[http]
listen = "{http}"

[function.endless]
module = "loop.wasm"
events = ["stop"]
deadline = "1m"
fuel_per_batch = 1000000000000
"#;

/// How long the gateway waits for functions, and what it may need beside that on a busy machine.
const GOODBYE: Duration = Duration::from_secs(2);
const GRACE: Duration = Duration::from_secs(3);

#[test]
fn a_shutdown_waits_two_seconds_for_functions_and_no_longer() {
    let _machine = alone();
    let scratch = scratch_with("loop.wasm", &wat::parse_str(LOOP).unwrap());
    let mut gateway = Gateway::new(&binaries::tidegate(), scratch, CONFIG).unwrap();
    gateway.start().unwrap();
    wait(&gateway, "the function is there", || {
        let status = gateway.status().ok();
        status.is_some_and(|status| status["functions"][0]["state"] == "idle")
    });
    for _ in 0..2 {
        let began = Instant::now();
        let status = gateway.terminate(Duration::from_secs(30)).unwrap();
        let took = began.elapsed();
        assert_eq!(status.code(), Some(0), "a clean end\n{}", gateway.log_tail());
        assert!((GOODBYE..GOODBYE + GRACE).contains(&took), "{took:?}\n{}", gateway.log_tail());
        let told = "functions have not handled the event stop";
        assert!(gateway.log_tail().contains(told), "{}", gateway.log_tail());
        // The next life is given the event of this one first, and hangs with it.
        gateway.start().unwrap();
    }
}
