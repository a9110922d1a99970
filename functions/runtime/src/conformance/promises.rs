//! The promises, one function each: `Err` says what happened instead.

use super::frames;
use super::stage::Stage;
use crate::{Failure, State, Verdict};
use std::sync::Arc;
use tidegate_abi::{InputFlags, Operation, OutputReader};

/// How to look whether a promise is kept.
type Look = fn(&mut Stage<'_>) -> Result<(), String>;

/// All of them, as sentences.
pub(super) const ALL: &[(&str, Look)] = &[
    ("a configuration that is no JSON is refused, not trapped over", broken_configuration),
    ("the input buffer grows, shrinks and stays inside the memory", buffer),
    ("asking for a buffer again and again takes no more memory", buffer_again),
    ("batches of 0, 1, 16, 64 and 256 messages are taken", batches),
    ("each payload is taken: empty, large, no text, no JSON", payloads),
    ("topics, properties and numbers at their ends are taken", edges),
    ("entries may share bytes and lie in any order", shared_bytes),
    ("unknown flags change nothing", unknown_flags),
    ("no cause is named to a gateway that does not ask for it", causes),
    ("timers of unknown names are acknowledged or given back, not trapped over", timers),
    ("a request is answered at most once, or given back, not trapped over", requests),
    ("unknown events are acknowledged or given back, not trapped over", events),
    ("the same frame and state give the same output, in any instance", no_memory),
    ("state that it cannot read is refused, not trapped over", strange_state),
    ("long runs take no more memory", long_runs),
    ("it can be stopped", stop),
];

fn none() -> Arc<State> {
    Arc::default()
}

fn broken_configuration(stage: &mut Stage<'_>) -> Result<(), String> {
    for config in [b"{".as_slice(), b"\xff\xfe", b"", b"[]", b"{\"a\":"] {
        match stage.start_with(config) {
            Ok(()) | Err(Failure::Configuration { .. }) => {}
            Err(failure) => {
                let config = config.escape_ascii();
                return Err(format!("with the configuration `{config}`: {failure}"));
            }
        }
    }
    Ok(())
}

fn buffer(stage: &mut Stage<'_>) -> Result<(), String> {
    let mut instance = stage.instance()?;
    for bytes in [0, 1, 4_096, 65_536, 1 << 20, 16, 0, 1 << 20] {
        instance.buffer(bytes).map_err(|failure| format!("tg_buffer({bytes}): {failure}"))?;
    }
    Ok(())
}

fn buffer_again(stage: &mut Stage<'_>) -> Result<(), String> {
    let mut instance = stage.instance()?;
    let mut before = 0;
    for round in 0..1_000 {
        let bytes = 60_000 + round % 7;
        instance.buffer(bytes).map_err(|failure| format!("tg_buffer({bytes}): {failure}"))?;
        if round == 20 {
            before = instance.memory_bytes();
        }
    }
    same_memory(before, instance.memory_bytes(), "980 calls of tg_buffer")
}

fn same_memory(before: usize, after: usize, over: &str) -> Result<(), String> {
    if after > before {
        return Err(format!(
            "from {before} to {after} bytes over {over}: memory is not given back"
        ));
    }
    Ok(())
}

fn batches(stage: &mut Stage<'_>) -> Result<(), String> {
    let mut instance = stage.instance()?;
    for count in [0, 1, 16, 64, 256, 1, 0] {
        let frame = frames::messages(stage.subject, count, InputFlags::CAUSES)?;
        stage
            .give(&mut instance, &frame, &none())
            .map_err(|what| format!("a batch of {count}: {what}"))?;
    }
    let frame = frames::messages(stage.subject, 64, InputFlags::CAUSES)?;
    stage.fuel_per_message = instance.call(&frame, none()).fuel / 64;
    Ok(())
}

fn payloads(stage: &mut Stage<'_>) -> Result<(), String> {
    let deep = "[".repeat(10_000);
    let long = "x".repeat(256 << 10);
    let cases: [(&str, &[u8]); 9] = [
        ("empty", b""),
        ("no UTF-8", b"\xff\xfe\x00"),
        ("zeros", &[0; 100]),
        ("half a JSON object", br#"{"value":"#),
        ("a number alone", b"12.5"),
        ("an object without members", b"{}"),
        (
            "numbers out of range",
            br#"{"value":1e999,"limit":-0,"v":123456789012345678901234567890}"#,
        ),
        ("10,000 brackets", deep.as_bytes()),
        ("256 KiB of text", long.as_bytes()),
    ];
    let mut instance = stage.instance()?;
    for (name, payload) in cases {
        let frame = frames::payload(stage.subject, payload)?;
        stage
            .give(&mut instance, &frame, &none())
            .map_err(|what| format!("a payload that is {name}: {what}"))?;
    }
    Ok(())
}

fn edges(stage: &mut Stage<'_>) -> Result<(), String> {
    let frame = frames::edges(stage.subject)?;
    stage.give_new(&frame, &none()).map(|_| ())
}

fn shared_bytes(stage: &mut Stage<'_>) -> Result<(), String> {
    let apart = frames::messages(stage.subject, 2, InputFlags::CAUSES)?;
    let expected = stage.give_new(&apart, &none())?;
    let found = stage.give_new(&frames::shared_bytes(stage.subject), &none())?;
    same(&expected, &found, "two messages that share their bytes")
}

fn same(expected: &Verdict, found: &Verdict, what: &str) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    Err(format!("{what}: {}, where it was {} before", shown(found), shown(expected)))
}

fn shown(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Done(output) => match OutputReader::parse(output) {
            Ok(reader) => format!("{} operations in {} bytes", reader.count(), output.len()),
            Err(_) => "no output".to_owned(),
        },
        Verdict::RetryBatch => "-1, retry".to_owned(),
        Verdict::DeadLetterBatch => "-2, dead letter".to_owned(),
        Verdict::Failed(failure) => failure.to_string(),
    }
}

fn unknown_flags(stage: &mut Stage<'_>) -> Result<(), String> {
    let frame = frames::messages(stage.subject, 2, InputFlags::CAUSES)?;
    let expected = stage.give_new(&frame, &none())?;
    let found = stage.give_new(&frames::with_unknown_flags(&frame), &none())?;
    same(&expected, &found, "with all flags set")
}

fn causes(stage: &mut Stage<'_>) -> Result<(), String> {
    let frame = frames::messages(stage.subject, 2, InputFlags::NONE)?;
    stage.give_new(&frame, &none()).map(|_| ())
}

fn timers(stage: &mut Stage<'_>) -> Result<(), String> {
    stage.give_new(&frames::timers()?, &none()).map(|_| ())
}

fn requests(stage: &mut Stage<'_>) -> Result<(), String> {
    stage.give_new(&frames::request()?, &none()).map(|_| ())
}

fn events(stage: &mut Stage<'_>) -> Result<(), String> {
    stage.give_new(&frames::events()?, &none()).map(|_| ())
}

fn no_memory(stage: &mut Stage<'_>) -> Result<(), String> {
    let frame = frames::messages(stage.subject, 3, InputFlags::CAUSES)?;
    let expected = stage.give_new(&frame, &none())?;
    let mut instance = stage.instance()?;
    for _ in 0..3 {
        let found = stage.give(&mut instance, &frame, &none())?;
        same(&expected, &found, "the same instance again, with the state as it was")?;
    }
    let other = frames::edges(stage.subject)?;
    stage.give(&mut instance, &other, &none())?;
    let found = stage.give(&mut instance, &frame, &none())?;
    same(&expected, &found, "after another batch, with the state as it was")
}

/// The keys that it writes, each with bytes that it did not write.
fn strange_state(stage: &mut Stage<'_>) -> Result<(), String> {
    let frame = frames::messages(stage.subject, 3, InputFlags::CAUSES)?;
    let Verdict::Done(output) = stage.give_new(&frame, &none())? else { return Ok(()) };
    let mut keys = Vec::new();
    if let Ok(reader) = OutputReader::parse(&output) {
        for operation in reader.iter() {
            if let Operation::KvPut { key, .. } = operation {
                keys.push(key.to_vec());
            }
        }
    }
    let large = vec![b'7'; 70_000];
    for value in [b"".as_slice(), b"\xff", b"{\"a\":", &[1; 8], &large] {
        let state: State = keys.iter().map(|key| (key.clone(), value.to_vec())).collect();
        let bytes = value.len();
        stage
            .give_new(&frame, &Arc::new(state))
            .map_err(|what| format!("with {bytes} foreign bytes at each of its keys: {what}"))?;
    }
    Ok(())
}

fn long_runs(stage: &mut Stage<'_>) -> Result<(), String> {
    let mut instance = stage.instance()?;
    let frame = frames::messages(stage.subject, 64, InputFlags::CAUSES)?;
    let mut before = 0;
    for round in 0..600 {
        stage.give(&mut instance, &frame, &none())?;
        if round == 100 {
            before = instance.memory_bytes();
        }
    }
    same_memory(before, instance.memory_bytes(), "500 batches of 64 messages")
}

fn stop(stage: &mut Stage<'_>) -> Result<(), String> {
    let mut instance = stage.instance()?;
    let frame = frames::messages(stage.subject, 1, InputFlags::CAUSES)?;
    stage.give(&mut instance, &frame, &none())?;
    instance.stop().map_err(|failure| format!("tg_stop: {failure}"))
}
