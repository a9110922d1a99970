// Functions for the Tidegate gateway in AssemblyScript: what assembly/function.ts imports. The contract
// is docs/formats/abi-tg1.md of the gateway.
//
// What holds for every function:
// - What it emits, its state changes and the acknowledgement of the batch commit together or not at
//   all. An abort, a missed deadline or a result other than OK discards all of them.
// - State reads see what was committed before the batch, and the function's own writes.
// - Memory is a cache: a new instance may take over between any two batches. Only the state lasts.

import { configure, handle } from "./function";

// ---- What a function is given ----------------------------------------------------------------------

/** What all entries of a batch are. */
export const MESSAGES: i32 = 1;
export const TIMERS: i32 = 2;
export const REQUESTS: i32 = 3;
export const EVENTS: i32 = 4;

/** A batch, good until `handle` returns. */
export class Batch {
  constructor(private at: usize, private bytes: i32) {}

  get kind(): i32 { return load<u16>(this.at, 4); }
  get count(): i32 { return load<i32>(this.at, 8); }
  /** Time of the batch, nanoseconds since 1970: the only clock. */
  get nowNs(): i64 { return load<i64>(this.at, 16); }
  /** The same for each attempt at the same entries. */
  get id(): u64 { return load<u64>(this.at, 24); }

  entry(index: i32): Entry {
    assert(index >= 0 && index < this.count, "no such entry in the batch");
    return new Entry(this.at, this.bytes, index);
  }
}

/** A message, a timer, a request or an event. Its texts are read when they are asked for. */
export class Entry {
  private at: usize;
  private name: string | null = null;
  constructor(private frame: usize, private bytes: i32, public index: i32) {
    this.at = frame + 32 + 48 * <usize>index;
  }

  get seq(): u64 { return load<u64>(this.at, 0); }
  /** Of receipt, nanoseconds since 1970; of a timer: when it was due. */
  get timeNs(): i64 { return load<i64>(this.at, 8); }
  /** Of a timer its name, of a request its route, of an event its name. */
  get topic(): string {
    const known = this.name;
    if (known) return known;
    const name = String.UTF8.decode(this.span(16));
    this.name = name;
    return name;
  }
  get text(): string { return String.UTF8.decode(this.span(24)); }
  get payload(): Uint8Array { return Uint8Array.wrap(this.span(24)); }
  get qos(): u8 { return load<u8>(this.at, 40); }
  get retained(): bool { return load<u8>(this.at, 41) != 0; }
  /** How often it was given before. */
  get attempt(): u16 { return load<u16>(this.at, 42); }
  /** By which of the function's inputs it came. */
  get source(): u32 { return load<u32>(this.at, 44); }

  /** The level of the topic, counted from 0; empty where there is none. */
  level(level: i32): string {
    const levels = this.topic.split("/");
    return level < levels.length ? levels[level] : "";
  }

  /**
   * The value of a property, null where there is none. Of a request: ":method", ":path", ":user",
   * "{NAME}" for a parameter of the route, "?query", and the headers in lower case.
   */
  property(key: string): string | null {
    const list = changetype<usize>(this.span(32));
    const len = load<i32>(this.at, 36);
    let at: i32 = 0;
    while (at + 4 <= len) {
      const keyLen = <i32>load<u16>(list + at);
      const valueLen = <i32>load<u16>(list + at + 2);
      if (at + 4 + keyLen + valueLen > len) break;
      if (String.UTF8.decodeUnsafe(list + at + 4, keyLen) == key) {
        return String.UTF8.decodeUnsafe(list + at + 4 + keyLen, valueLen);
      }
      at += 4 + keyLen + valueLen;
    }
    return null;
  }

  private span(field: usize): ArrayBuffer {
    const offset = load<u32>(this.at + field);
    const len = load<u32>(this.at + field + 4);
    assert(<u64>offset + len <= <u64>this.bytes, "an entry outside of the input frame");
    const copy = new ArrayBuffer(<i32>len);
    memory.copy(changetype<usize>(copy), this.frame + offset, len);
    return copy;
  }
}

// ---- What a function can do ------------------------------------------------------------------------

/** What was not refused with `nack` is acknowledged. */
export const OK: i64 = 0;
/** Nothing happened; give the batch again later. */
export const RETRY: i64 = -1;
/** Nothing happened; put the batch among the dead letters. */
export const DEAD: i64 = -2;

/** Classes of a NACK: give it again later, forget it, put it among the dead letters. */
export const NACK_RETRY: u16 = 1;
export const NACK_DROP: u16 = 2;
export const NACK_DEAD: u16 = 3;

export const ERROR: i32 = 1;
export const WARN: i32 = 2;
export const INFO: i32 = 3;
export const DEBUG: i32 = 4;

/** Writes a line to the function's log at once: it stays when the batch fails later. */
export function log(level: i32, text: string): void {
  const bytes = String.UTF8.encode(text);
  tg1_log(level, changetype<usize>(bytes), bytes.byteLength);
}

/**
 * The effects of a batch, in the order of the calls. None happens before `handle` has returned OK.
 * `state` is the function's memory.
 */
export class Out {
  state: State = new State();
  private frame: Uint8Array = new Uint8Array(256);
  private len: i32 = 16;
  private count: i32 = 0;

  constructor(private causes: bool) {}

  /** Publishes a message that comes from this entry, quality of service 1: it carries the entry's
   * trace context on. */
  emitFor(entry: Entry, topic: string, payload: string): void {
    this.emitBytes(entry, topic, String.UTF8.encode(payload), 1, false);
  }

  /** Publishes a message that comes from no single entry, quality of service 1. */
  emit(topic: string, payload: string): void {
    this.emitBytes(null, topic, String.UTF8.encode(payload), 1, false);
  }

  emitBytes(entry: Entry | null, topic: string, payload: ArrayBuffer, qos: u8, retain: bool): void {
    const name = String.UTF8.encode(topic);
    const index = entry ? entry.index : 65535;
    const cause: u32 = this.causes && index < 65535 ? index + 1 : 0;
    const flags: u32 = <u32>qos | (<u32>(retain ? 1 : 0) << 8) | (cause << 16);
    const words: u64[] = [pair(name.byteLength, payload.byteLength), pair(0, flags)];
    this.operation(1, words, name, payload);
  }

  /** Refuses an entry; all others still count. */
  nack(entry: Entry, nackClass: u16, reason: string): void {
    const text = String.UTF8.encode(reason);
    this.operation(2, [pair(entry.index, 0), pair(text.byteLength, nackClass)], text, null);
  }

  /** Adds to a counter of the function. */
  increase(name: string, value: f64): void { this.metric(name, 1, value); }
  /** Sets a gauge of the function. */
  gauge(name: string, value: f64): void { this.metric(name, 2, value); }

  /** Answers a request, once. */
  respond(status: u16, mediaType: string, body: string): void {
    const type = String.UTF8.encode(mediaType);
    const bytes = String.UTF8.encode(body);
    this.operation(7, [pair(type.byteLength, bytes.byteLength), status], type, bytes);
  }

  /** Starts the timer of that name, or replaces it; period 0: once. */
  timer(name: string, delayMs: u64, periodMs: u64): void {
    const bytes = String.UTF8.encode(name);
    this.operation(8, [pair(bytes.byteLength, 0), delayMs, periodMs], bytes, null);
  }

  cancelTimer(name: string): void { this.timer(name, 0, 0); }

  private metric(name: string, kind: u32, value: f64): void {
    const bytes = String.UTF8.encode(name);
    this.operation(5, [pair(bytes.byteLength, kind), reinterpret<u64>(value)], bytes, null);
  }

  /** Appends an operation: its fixed part as words of 8 bytes, then the pieces. */
  operation(code: u16, words: u64[], a: ArrayBuffer, b: ArrayBuffer | null): void {
    const bLen = b ? b.byteLength : 0;
    const body = words.length * 8 + a.byteLength + bLen;
    const next = this.len + 8 + ((body + 7) & ~7);
    if (next > this.frame.length) {
      const bigger = new Uint8Array(max(next, this.frame.length * 2));
      memory.copy(bigger.dataStart, this.frame.dataStart, this.len);
      this.frame = bigger;
    }
    let at = this.frame.dataStart + this.len;
    store<u64>(at, pair(code, body));
    at += 8;
    for (let i = 0; i < words.length; i++, at += 8) store<u64>(at, words[i]);
    memory.copy(at, changetype<usize>(a), a.byteLength);
    if (b) memory.copy(at + a.byteLength, changetype<usize>(b), bLen);
    this.len = next;
    this.count++;
  }

  /** The result of tg_handle; the frame lives until the next call. */
  finish(): i64 {
    this.state.writeTo(this);
    if (this.count == 0) return 0;
    const at = this.frame.dataStart;
    store<u64>(at, pair(0x314f4754, this.count));
    store<u64>(at + 8, pair(this.len, 0));
    return <i64>pair(this.len, <u32>at);
  }
}

/** The function's key-value state: committed values, and this batch's own writes over them. */
export class State {
  private keys: string[] = [];
  private values: Array<ArrayBuffer | null> = [];
  private lives: u64[] = [];

  /** The text of a key, null where there is no such key. */
  get(key: string): string | null {
    const bytes = this.getBytes(key);
    return bytes ? String.UTF8.decode(bytes) : null;
  }

  getBytes(key: string): ArrayBuffer | null {
    const own = this.keys.indexOf(key);
    return own >= 0 ? this.values[own] : committed(key);
  }

  /** The number of a key, NaN where there is none; the other languages' numbers are the same. */
  getNumber(key: string): f64 {
    const bytes = this.getBytes(key);
    return bytes && bytes.byteLength == 8 ? load<f64>(changetype<usize>(bytes)) : NaN;
  }

  put(key: string, value: string): void { this.putBytes(key, String.UTF8.encode(value), 0); }

  putNumber(key: string, value: f64): void {
    const bytes = new ArrayBuffer(8);
    store<f64>(changetype<usize>(bytes), value);
    this.putBytes(key, bytes, 0);
  }

  /** With a time to live in milliseconds the key goes by itself; 0 = never. */
  putBytes(key: string, value: ArrayBuffer | null, ttlMs: u64): void {
    let own = this.keys.indexOf(key);
    if (own < 0) {
      own = this.keys.push(key) - 1;
      this.values.push(null);
      this.lives.push(0);
    }
    this.values[own] = value;
    this.lives[own] = ttlMs;
  }

  delete(key: string): void { this.putBytes(key, null, 0); }

  /** The committed keys that start with a prefix, in their order; own writes are not among them. */
  scan(prefix: string): string[] {
    const found: string[] = [];
    const start = String.UTF8.encode(prefix);
    let after = new ArrayBuffer(0);
    let page = new ArrayBuffer(4096);
    while (true) {
      const at = changetype<usize>(page);
      const len = tg1_kv_scan(changetype<usize>(start), start.byteLength, changetype<usize>(after),
        after.byteLength, at, page.byteLength);
      if (len <= 0) return found;
      if (len > page.byteLength) {
        page = new ArrayBuffer(len);
        continue;
      }
      for (let entry = at; entry < at + len; ) {
        const keyLen = load<u32>(entry);
        after = new ArrayBuffer(keyLen);
        memory.copy(changetype<usize>(after), entry + 8, keyLen);
        found.push(String.UTF8.decode(after));
        entry += 8 + keyLen + load<u32>(entry, 4);
      }
    }
  }

  writeTo(out: Out): void {
    for (let i = 0; i < this.keys.length; i++) {
      const key = String.UTF8.encode(this.keys[i]);
      const value = this.values[i];
      if (value) {
        out.operation(3, [pair(key.byteLength, value.byteLength), this.lives[i]], key, value);
      } else {
        out.operation(4, [pair(key.byteLength, 0)], key, null);
      }
    }
  }
}

// ---- JSON ------------------------------------------------------------------------------------------

/** A piece of JSON, as it was written. */
export class Json {
  /** Only `parse` and `get` make these of checked text. */
  constructor(public text: string) {}

  /** Null where the text is no JSON. */
  static parse(text: string): Json | null {
    const scanner = new Scanner(text);
    scanner.space();
    const start = scanner.at;
    if (!scanner.value(0)) return null;
    const end = scanner.at;
    scanner.space();
    return scanner.at == text.length ? new Json(text.substring(start, end)) : null;
  }

  /** The last member of that name, null where there is none or this is no object. */
  get(name: string): Json | null {
    if (!this.text.startsWith("{")) return null;
    const scanner = new Scanner(this.text);
    let found: Json | null = null;
    scanner.at = 1;
    while (true) {
      scanner.space();
      let start = scanner.at;
      if (!scanner.string()) return found;
      const key = this.text.substring(start + 1, scanner.at - 1);
      scanner.space();
      scanner.at++;
      scanner.space();
      start = scanner.at;
      scanner.value(0);
      if (key == name) found = new Json(this.text.substring(start, scanner.at));
      scanner.space();
      scanner.at++;
    }
  }

  /** NaN where it is no number, or too large for one. */
  get number(): f64 {
    const first = this.text.charCodeAt(0);
    if (first != 0x2d && (first < 0x30 || first > 0x39)) return NaN;
    const number = parseFloat(this.text);
    return isFinite(number) ? number : NaN;
  }

  /** What is between the quotes, escapes as they are; null where it is no string. */
  get string(): string | null {
    return this.text.startsWith('"') ? this.text.substring(1, this.text.length - 1) : null;
  }

  /** A string with its quotes, escaped where JSON wants it. */
  static quote(text: string): string {
    let quoted = '"';
    let start = 0;
    for (let i = 0; i < text.length; i++) {
      const c = text.charCodeAt(i);
      if (c >= 0x20 && c != 0x22 && c != 0x5c) continue;
      quoted += text.substring(start, i) + "\\";
      quoted += c < 0x20 ? "u" + c.toString(16).padStart(4, "0") : text.charAt(i);
      start = i + 1;
    }
    return quoted + text.substring(start) + '"';
  }
}

class Scanner {
  at: i32 = 0;
  constructor(private text: string) {}

  private peek(): i32 { return this.at < this.text.length ? this.text.charCodeAt(this.at) : -1; }

  space(): void {
    for (let c = this.peek(); c == 0x20 || (c >= 9 && c <= 10) || c == 13; c = this.peek()) this.at++;
  }

  private take(c: i32): bool {
    this.space();
    if (this.peek() != c) return false;
    this.at++;
    return true;
  }

  string(): bool {
    if (!this.take(0x22)) return false;
    for (let c = this.peek(); c >= 0x20; c = this.peek()) {
      this.at++;
      if (c == 0x22) return true;
      if (c == 0x5c && this.peek() >= 0) this.at++;
    }
    return false;
  }

  value(depth: i32): bool {
    if (depth > 32) return false;
    this.space();
    const c = this.peek();
    if (c == 0x22) return this.string();
    if (c == 0x7b || c == 0x5b) return this.inside(c + 2, depth);
    if (c == 0x74) return this.word("true");
    if (c == 0x66) return this.word("false");
    if (c == 0x6e) return this.word("null");
    return this.number();
  }

  private inside(close: i32, depth: i32): bool {
    this.at++;
    if (this.take(close)) return true;
    do {
      if (close == 0x7d && !(this.string() && this.take(0x3a))) return false;
      if (!this.value(depth + 1)) return false;
    } while (this.take(0x2c));
    return this.take(close);
  }

  private word(word: string): bool {
    if (!this.text.startsWith(word, this.at)) return false;
    this.at += word.length;
    return true;
  }

  private digits(): bool {
    const start = this.at;
    for (let c = this.peek(); c >= 0x30 && c <= 0x39; c = this.peek()) this.at++;
    return this.at > start;
  }

  private number(): bool {
    if (this.peek() == 0x2d) this.at++;
    if (this.peek() == 0x30) this.at++;
    else if (!this.digits()) return false;
    if (this.peek() == 0x2e) {
      this.at++;
      if (!this.digits()) return false;
    }
    if ((this.peek() | 32) == 0x65) {
      this.at++;
      if (this.peek() == 0x2b || this.peek() == 0x2d) this.at++;
      if (!this.digits()) return false;
    }
    return true;
  }
}

// ---- The border to the gateway ---------------------------------------------------------------------

// @ts-ignore: decorator
@external("tg1", "kv_get")
declare function tg1_kv_get(key: usize, keyLen: i32, buf: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("tg1", "kv_scan")
declare function tg1_kv_scan(prefix: usize, prefixLen: i32, after: usize, afterLen: i32, buf: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("tg1", "secret_get")
declare function tg1_secret_get(name: usize, nameLen: i32, buf: usize, cap: i32): i32;
// @ts-ignore: decorator
@external("tg1", "log")
declare function tg1_log(level: i32, text: usize, len: i32): void;

/** Two fields of 4 bytes, in the order of their offsets. */
function pair(first: u32, second: u32): u64 { return <u64>first | (<u64>second << 32); }

function committed(key: string): ArrayBuffer | null {
  const name = String.UTF8.encode(key);
  let cap = 64;
  while (true) {
    const value = new ArrayBuffer(cap);
    const len = tg1_kv_get(changetype<usize>(name), name.byteLength, changetype<usize>(value), cap);
    if (len < 0) return null;
    if (len <= cap) return value.slice(0, len);
    cap = len;
  }
}

/** The secret of this name as it is now; null when it has no value, or `secrets` does not name it. */
export function secret(name: string): ArrayBuffer | null {
  const text = String.UTF8.encode(name);
  let cap = 64;
  while (true) {
    const value = new ArrayBuffer(cap);
    const len = tg1_secret_get(changetype<usize>(text), text.byteLength, changetype<usize>(value), cap);
    if (len < 0) return null;
    if (len <= cap) return value.slice(0, len);
    cap = len;
  }
}

/** The compiler calls this for `throw` and `assert`: the gateway shows the line as the reason. */
export function abort(message: string | null, file: string | null, line: u32, column: u32): void {
  const place = (file ? file : "?") + ":" + line.toString() + ":" + column.toString();
  log(ERROR, "panicked at " + place + (message ? ": " + message : ""));
  unreachable();
}

/** Seeds Math.random(): the same numbers in each instance, so that a replay gives the same output. */
export function seed(): f64 { return 0.5; }

let input: Uint8Array = new Uint8Array(4096);
let last: Out | null = null;

export function tg_abi_1(): void {}

export function tg_buffer(minLen: i32): usize {
  if (input.length < minLen) input = new Uint8Array(minLen);
  return input.dataStart;
}

export function tg_init(at: usize, len: i32): i32 {
  const config = Json.parse(len > 0 ? String.UTF8.decodeUnsafe(at, len) : "{}");
  if (!config) {
    log(ERROR, "the configuration is not JSON");
    return 1;
  }
  const refusal = configure(config);
  if (refusal) log(ERROR, refusal);
  return refusal ? 1 : 0;
}

export function tg_handle(at: usize, len: i32): i64 {
  assert(len >= 32 && load<u32>(at) == 0x31424754 && load<i32>(at, 12) == len && load<u32>(at, 8) <= <u32>(len - 32) / 48,
    "the input frame is malformed");
  last = null;
  __collect();
  const out = new Out((load<u16>(at, 6) & 1) != 0);
  last = out;
  const result = handle(new Batch(at, len), out);
  return result == OK ? out.finish() : result;
}
