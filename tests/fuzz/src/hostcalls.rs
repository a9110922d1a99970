//! The target `hostcalls`: a guest that calls the imports with any arguments, beside a model of
//! what they do, written from `docs/formats/abi-tg1.md`.
//!
//! The guest ends by handing over all of its memory, so that a byte written where nothing may be
//! written is seen.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use tidegate_abi::{BatchWriter, Kind, Level, MessageRef, Operation, OutputReader, import};
use tidegate_guest::json::Json;
use tidegate_runtime::{Limits, Module, State, Verdict};

use crate::input::Input;
use crate::mutate::Random;

/// The guest's memory: a page.
const MEMORY: usize = 65_536;
/// Where the gateway puts its frame.
const INPUT_AT: usize = 32_768;
/// Where the guest has keys and prefixes.
const KEYS_AT: usize = 1_024;
const KEYS: &[u8] = b"keys/a keys/b keys/abc keys/ key lines of \xff\xfe text";
/// Where it has JSON, and paths into it: addresses and lengths.
const TEXT_AT: usize = 2_048;
const TEXT: &[u8] = br#"{"a":1,"b":{"a":[true]},"\u0061":{"b":2},"c":"x"}"#;
const PATHS_AT: usize = 3_072;
const PATHS: [(u32, u32); 10] = [
    (TEXT_AT as u32 + 2, 1),
    (TEXT_AT as u32 + 8, 1),
    (NAMES_AT, 3),
    (NAMES_AT, 1),
    (NAMES_AT, 17),
    (NAMES_AT, 0),
    (NAMES_AT, 257),
    (KEYS_AT as u32 + 35, 3),
    (MEMORY as u32 - 1, 1),
    (MEMORY as u32, 1),
];
const NAMES_AT: u32 = 3_200;
const NAMES: &[u8] = b"b.a.b.a.b.a.b.a.b.a";
/// Header of the output frame, of its EMIT, and the fixed part of that: what the guest writes
/// over the start of its memory when it is done. The results of the calls follow.
const SHELL: usize = 16 + 8 + 16;
const MAX_CALLS: usize = 16;
const LOG_BYTES: usize = 64;
const NOW_NS: i64 = 1_700_000_000_123_456_789;
const BATCH: u64 = 42;

const FAULT: i64 = -14;
const INVALID: i64 = -22;
const NO_ENTRY: i64 = -2;

#[derive(Debug, Clone, Copy)]
enum Call {
    Get([i32; 4]),
    Scan([i32; 6]),
    Now(i32),
    Random([i32; 2]),
    Log([i32; 3]),
    Find([i32; 5]),
    FindEach([i32; 7]),
}

/// The first bytes are entries of the state, then come calls with their arguments.
pub fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let state = state(&mut input);
    let mut calls = Vec::new();
    while !input.is_empty() && calls.len() < MAX_CALLS {
        calls.push(call(&mut input));
    }
    let limits = Limits {
        deadline: Duration::from_secs(60),
        start_deadline: Duration::from_secs(60),
        log_bytes: LOG_BYTES,
        ..Limits::default()
    };
    let wasm = match wat::parse_str(guest(&calls)) {
        Ok(wasm) => wasm,
        Err(error) => panic!("the guest is no module: {error}"),
    };
    let module = match Module::compile(&wasm, &limits) {
        Ok(module) => module,
        Err(error) => panic!("the guest is refused: {error}"),
    };
    let mut instance = match module.instantiate(b"{}") {
        Ok(instance) => instance,
        Err(error) => panic!("the guest does not start: {error}"),
    };
    let frame = frame();
    let outcome = instance.call(&frame, Arc::new(state.clone()));
    let mut model = Model::new(&frame, &state);
    let results: Vec<i64> = calls.iter().map(|call| model.call(call)).collect();
    for (index, result) in results.iter().enumerate() {
        let at = SHELL + 8 * index;
        model.memory[at..at + 8].copy_from_slice(&result.to_le_bytes());
    }
    let Verdict::Done(output) = &outcome.verdict else {
        panic!("{:?}: {calls:?}", outcome.verdict)
    };
    let Ok(output) = OutputReader::parse(output) else { panic!("the frame is not one") };
    let Some(Operation::Emit { payload, .. }) = output.iter().next() else { panic!("no EMIT") };
    let differs = payload.iter().zip(&model.memory[SHELL..]).position(|(a, b)| a != b);
    assert!(
        differs.is_none(),
        "byte {} of the memory differs: {calls:?}, results {results:?}",
        SHELL + differs.unwrap_or_default()
    );
    assert_eq!(outcome.logs, model.logs(), "{calls:?}");
}

fn state(input: &mut Input<'_>) -> State {
    let names: [&[u8]; 8] =
        [b"keys/a", b"keys/b", b"keys/abc", b"keys/", b"key", b"", b"keys0", b"\xff\xff"];
    let entries = input.below(names.len() + 1);
    names[..entries]
        .iter()
        .map(|name| {
            let byte = input.byte();
            // Some values are longer than what is left of the memory behind their buffer.
            let len = if byte == 0xff { 70_000 } else { usize::from(byte) };
            (name.to_vec(), vec![byte ^ 0x5a; len])
        })
        .collect()
}

fn call(input: &mut Input<'_>) -> Call {
    match input.below(7) {
        0 => Call::Get([key(input), length(input), number(input), length(input)]),
        1 => Call::Scan([
            key(input),
            length(input),
            key(input),
            length(input),
            number(input),
            length(input),
        ]),
        2 => Call::Now(number(input).min(3)),
        3 => Call::Random([number(input), length(input)]),
        4 => Call::Find(question(input)),
        5 => Call::FindEach(question_for_each(input)),
        _ => Call::Log([number(input), key(input), length(input)]),
    }
}

/// Mostly one about the text.
fn question(input: &mut Input<'_>) -> [i32; 5] {
    let mut often = |usual: i32| if input.below(8) < 7 { usual } else { number(input) };
    let (text, len, paths) =
        (often(TEXT_AT as i32), often(TEXT.len() as i32), often(PATHS_AT as i32));
    let paths = paths.wrapping_add(8 * input.below(PATHS.len()) as i32);
    [text, len, paths, input.below(10) as i32, number(input)]
}

/// Mostly one about the frame.
fn question_for_each(input: &mut Input<'_>) -> [i32; 7] {
    let mut often = |usual: i32| if input.below(8) < 7 { usual } else { number(input) };
    let (frame, len) = (often(INPUT_AT as i32), often(frame().len() as i32));
    let (first, paths) = (often(0), often(PATHS_AT as i32));
    let paths = paths.wrapping_add(8 * input.below(PATHS.len()) as i32);
    let (first, count) = (first.wrapping_add(input.below(4) as i32), input.below(10) as i32);
    [frame, len, first, paths, count, number(input), input.below(5) as i32]
}

/// Mostly where a key begins.
fn key(input: &mut Input<'_>) -> i32 {
    match input.below(8) {
        0..=5 => KEYS_AT as i32 + [0, 7, 14, 23, 29, 30][input.below(6)],
        _ => number(input),
    }
}

/// Mostly that of a key.
fn length(input: &mut Input<'_>) -> i32 {
    match input.below(4) {
        0 | 1 => [0, 3, 4, 5, 6, 8][input.below(6)],
        2 => i32::from(input.byte()),
        _ => number(input),
    }
}

/// A number, the ends of ranges more often than others.
fn number(input: &mut Input<'_>) -> i32 {
    let byte = i32::from(input.byte());
    match input.below(7) {
        0 => byte,
        1 => byte << 8,
        2 => MEMORY as i32 - byte,
        3 => MEMORY as i32 + byte,
        4 => -byte,
        5 => i32::MIN.wrapping_add(byte - 128),
        _ => i32::from_le_bytes([byte as u8, input.byte(), input.byte(), input.byte()]),
    }
}

fn guest(calls: &[Call]) -> String {
    let mut handle = String::new();
    let arguments = |list: &[i32]| -> String {
        list.iter().map(|number| format!("(i32.const {number}) ")).collect()
    };
    for (index, call) in calls.iter().enumerate() {
        let result = match call {
            Call::Get(list) => format!("(i64.extend_i32_s (call $kv_get {}))", arguments(list)),
            Call::Scan(list) => format!("(i64.extend_i32_s (call $kv_scan {}))", arguments(list)),
            Call::Now(clock) => format!("(call $now (i32.const {clock}))"),
            Call::Random(list) => format!("(i64.extend_i32_s (call $random {}))", arguments(list)),
            Call::Log(list) => format!("(call $log {}) (i64.const 0)", arguments(list)),
            Call::Find(list) => format!("(i64.extend_i32_s (call $json_find {}))", arguments(list)),
            Call::FindEach(list) => {
                format!("(i64.extend_i32_s (call $json_find_each {}))", arguments(list))
            }
        };
        // Writing to a String does not fail.
        let _ = writeln!(handle, "{result} (local.set $r{index})");
    }
    for (index, word) in shell().iter().enumerate() {
        let _ = writeln!(handle, "(i64.store (i32.const {}) (i64.const {word}))", 8 * index);
    }
    let mut locals = String::new();
    for index in 0..calls.len() {
        let at = SHELL + 8 * index;
        let _ = write!(locals, "(local $r{index} i64)");
        let _ = writeln!(handle, "(i64.store (i32.const {at}) (local.get $r{index}))");
    }
    let data: String = data().iter().map(|(at, bytes)| segment(*at, bytes)).collect();
    format!(
        r#"(module
            (import "tg1" "kv_get" (func $kv_get (param i32 i32 i32 i32) (result i32)))
            (import "tg1" "kv_scan" (func $kv_scan (param i32 i32 i32 i32 i32 i32) (result i32)))
            (import "tg1" "now" (func $now (param i32) (result i64)))
            (import "tg1" "random" (func $random (param i32 i32) (result i32)))
            (import "tg1" "log" (func $log (param i32 i32 i32)))
            (import "tg1" "json_find" (func $json_find (param i32 i32 i32 i32 i32) (result i32)))
            (import "tg1" "json_find_each"
                (func $json_find_each (param i32 i32 i32 i32 i32 i32 i32) (result i32)))
            (memory (export "memory") 1 1)
            {data}
            (func (export "tg_abi_1"))
            (func (export "tg_buffer") (param i32) (result i32) (i32.const {INPUT_AT}))
            (func (export "tg_init") (param i32 i32) (result i32) (i32.const 0))
            (func (export "tg_handle") (param i32 i32) (result i64) {locals}
                {handle} (i64.const {MEMORY})))"#
    )
}

/// What the guest has in its memory from the beginning.
fn data() -> [(usize, Vec<u8>); 4] {
    let paths = PATHS.iter().flat_map(|(at, len)| [at.to_le_bytes(), len.to_le_bytes()].concat());
    [
        (KEYS_AT, KEYS.to_vec()),
        (TEXT_AT, TEXT.to_vec()),
        (PATHS_AT, paths.collect()),
        (NAMES_AT as usize, NAMES.to_vec()),
    ]
}

fn segment(at: usize, bytes: &[u8]) -> String {
    let bytes: String = bytes.iter().map(|byte| format!("\\{byte:02x}")).collect();
    format!("(data (i32.const {at}) \"{bytes}\")")
}

/// The first bytes of an output frame that is all the memory: one EMIT without a topic.
fn shell() -> [i64; SHELL / 8] {
    let body = (MEMORY - 24) as i64;
    let payload = (MEMORY - SHELL) as i64;
    let magic = i64::from(u32::from_le_bytes(*b"TGO1"));
    [1 << 32 | magic, MEMORY as i64, body << 32 | 1, payload << 32, 0]
}

fn frame() -> Vec<u8> {
    let mut writer = BatchWriter::new(Kind::Messages, NOW_NS, BATCH);
    for payload in [&b"21.5"[..], TEXT, b"no JSON"] {
        let message = MessageRef { topic: "sensors/a", payload, ..MessageRef::default() };
        assert!(writer.push(&message).is_ok(), "a short message fits");
    }
    writer.finish()
}

/// What the imports do to the guest's memory.
struct Model<'a> {
    memory: Vec<u8>,
    state: &'a State,
    random: Random,
    lines: Vec<(Level, String)>,
    log_left: usize,
    dropped: u64,
}

impl<'a> Model<'a> {
    fn new(frame: &[u8], state: &'a State) -> Model<'a> {
        let mut memory = vec![0; MEMORY];
        for (at, bytes) in data() {
            memory[at..at + bytes.len()].copy_from_slice(&bytes);
        }
        memory[INPUT_AT..INPUT_AT + frame.len()].copy_from_slice(frame);
        let random = Random::new(BATCH);
        Model { memory, state, random, lines: Vec::new(), log_left: LOG_BYTES, dropped: 0 }
    }

    fn call(&mut self, call: &Call) -> i64 {
        match *call {
            Call::Get(list) => self.get(list),
            Call::Scan(list) => self.scan(list),
            Call::Now(clock) => {
                if clock == 0 {
                    NOW_NS
                } else {
                    INVALID
                }
            }
            Call::Random(list) => self.random(list),
            Call::Log(list) => self.log(list),
            Call::Find(list) => self.find(list).unwrap_or_else(|error| error),
            Call::FindEach(list) => self.find_each(list).unwrap_or_else(|error| error),
        }
    }

    fn bytes(&self, at: i32, len: usize) -> Option<Vec<u8>> {
        let at = u64::from(at as u32);
        let inside = at + len as u64 <= MEMORY as u64;
        inside.then(|| self.memory[at as usize..at as usize + len].to_vec())
    }

    fn write(&mut self, at: i32, bytes: &[u8]) {
        let at = at as u32 as usize;
        self.memory[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn get(&mut self, [key, key_len, buf, cap]: [i32; 4]) -> i64 {
        let Some(key) = self.bytes(key, key_len as u32 as usize) else { return FAULT };
        let Some(value) = self.state.get(&key) else { return NO_ENTRY };
        if value.len() as u64 <= u64::from(cap as u32) {
            if self.bytes(buf, value.len()).is_none() {
                return FAULT;
            }
            self.write(buf, value);
        }
        value.len() as i64
    }

    fn scan(&mut self, [prefix, prefix_len, after, after_len, buf, cap]: [i32; 6]) -> i64 {
        let room = cap as u32 as usize;
        let (Some(prefix), Some(after), Some(_)) = (
            self.bytes(prefix, prefix_len as u32 as usize),
            self.bytes(after, after_len as u32 as usize),
            self.bytes(buf, room),
        ) else {
            return FAULT;
        };
        let mut page = Vec::new();
        for (key, value) in self.state {
            if !key.starts_with(&prefix) || (!after.is_empty() && *key <= after) {
                continue;
            }
            let mut entry = (key.len() as u32).to_le_bytes().to_vec();
            entry.extend((value.len() as u32).to_le_bytes());
            entry.extend(key);
            entry.extend(value);
            if page.len() + entry.len() > room {
                if page.is_empty() {
                    return entry.len() as i64;
                }
                break;
            }
            page.extend(entry);
        }
        self.write(buf, &page);
        page.len() as i64
    }

    fn random(&mut self, [buf, len]: [i32; 2]) -> i64 {
        let len = len as u32 as usize;
        if self.bytes(buf, len).is_none() {
            return FAULT;
        }
        let mut bytes = Vec::new();
        while bytes.len() < len {
            bytes.extend(self.random.number().to_le_bytes());
        }
        bytes.truncate(len);
        self.write(buf, &bytes);
        0
    }

    fn find(&mut self, [text, text_len, paths, count, found]: [i32; 5]) -> Result<i64, i64> {
        let count = count as u32 as usize;
        let text = self.bytes(text, text_len as u32 as usize).ok_or(FAULT)?;
        if text.len() > import::JSON_TEXT_BYTES || count > import::JSON_PATHS {
            return Err(INVALID);
        }
        let paths = self.paths(paths, count, found, 8 * count)?;
        let json = Json::parse(&text).map_err(|_| INVALID)?;
        let places = paths.iter().flat_map(|path| place(&text, &json, path));
        self.write(found, &places.flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
        Ok(0)
    }

    fn find_each(
        &mut self,
        [frame, frame_len, first, paths, count, found, entries]: [i32; 7],
    ) -> Result<i64, i64> {
        let frame = self.bytes(frame, frame_len as u32 as usize).ok_or(FAULT)?;
        let count = count as u32 as usize;
        if count > import::JSON_PATHS {
            return Err(INVALID);
        }
        let most = (entries as u32 as usize).min(import::JSON_ENTRIES);
        let paths = self.paths(paths, count, found, 16 * most * count)?;
        let number = |at: usize| -> Result<usize, i64> {
            let bytes = frame.get(at..).and_then(<[u8]>::first_chunk).ok_or(INVALID)?;
            Ok(u32::from_le_bytes(*bytes) as usize)
        };
        let (mut places, mut told, mut read) = (Vec::new(), 0, 0);
        let first = first as u32 as usize;
        for index in (first..number(8)?).take(most) {
            let (at, len) = (number(56 + 48 * index)?, number(60 + 48 * index)?);
            let text = frame.get(at..at + len).ok_or(INVALID)?;
            let is_short = len <= import::JSON_TEXT_BYTES;
            if is_short && read + len > import::JSON_TEXT_BYTES {
                break;
            }
            read += if is_short { len } else { 0 };
            let json = Json::parse(text).ok().filter(|_| is_short);
            for path in &paths {
                let value = json.and_then(|json| json.path(path));
                let place = json.map_or([u32::MAX, 0], |json| place(text, &json, path));
                places.extend(place.map(u32::to_le_bytes).concat());
                let number = value.and_then(|value| value.as_f64());
                places.extend(number.unwrap_or(f64::NAN).to_le_bytes());
            }
            told += 1;
        }
        self.write(found, &places);
        Ok(told)
    }

    /// The paths of a question, where there is room for the answer.
    fn paths(&self, table: i32, count: usize, found: i32, room: usize) -> Result<Vec<String>, i64> {
        let table = self.bytes(table, 8 * count).ok_or(FAULT)?;
        self.bytes(found, room).ok_or(FAULT)?;
        let mut paths = Vec::new();
        for pair in table.as_chunks::<8>().0 {
            let number = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|byte| pair[at + byte]));
            let path = self.bytes(number(0).cast_signed(), number(4) as usize).ok_or(FAULT)?;
            if path.len() > import::JSON_PATH_BYTES {
                return Err(INVALID);
            }
            paths.push(String::from_utf8(path).map_err(|_| INVALID)?);
        }
        if paths.concat().matches('.').count() > import::JSON_DOTS {
            return Err(INVALID);
        }
        Ok(paths)
    }

    fn log(&mut self, [level, text, len]: [i32; 3]) -> i64 {
        let text = self.bytes(text, len as u32 as usize).unwrap_or_default();
        let price = text.len().max(1);
        if self.dropped > 0 || price > self.log_left {
            self.dropped += 1;
            return 0;
        }
        self.log_left -= price;
        let level = match level {
            2 => Level::Warn,
            3 => Level::Info,
            4 => Level::Debug,
            _ => Level::Error,
        };
        self.lines.push((level, String::from_utf8_lossy(&text).into_owned()));
        0
    }

    fn logs(&self) -> Vec<(Level, String)> {
        let mut lines = self.lines.clone();
        if self.dropped > 0 {
            let text = format!(
                "{} more lines were not kept: log_bytes is {LOG_BYTES} a call",
                self.dropped
            );
            lines.push((Level::Warn, text));
        }
        lines
    }
}

/// Start and end of the value at a path, both 0 where there is none.
fn place(text: &[u8], json: &Json<'_>, path: &str) -> [u32; 2] {
    let value = json.path(path).map_or("", |value| value.text());
    let start = (value.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
    if value.is_empty() { [0, 0] } else { [start as u32, start.wrapping_add(value.len()) as u32] }
}
