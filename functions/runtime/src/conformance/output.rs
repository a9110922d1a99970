//! What holds for each output, whatever the function is for. The runtime has checked the frame and the
//! indices of its NACKs; this is what the gateway would refuse beyond that.

use std::collections::BTreeSet;
use tidegate_abi::{BatchHeader, InputFlags, Kind, Operation, OutputReader};

/// An output frame, empty for none, to an input with this header.
pub(super) fn check(output: &[u8], input: BatchHeader) -> Result<(), String> {
    if output.is_empty() {
        return Ok(());
    }
    let reader = OutputReader::parse(output).map_err(|error| error.to_string())?;
    let mut answers = 0;
    let mut refused = BTreeSet::new();
    for operation in reader.iter() {
        match operation {
            Operation::Emit { topic, cause, .. } => {
                topic_is_right(topic)?;
                if let Some(cause) = cause {
                    cause_is_right(u32::from(cause.get()), input)?;
                }
            }
            Operation::Nack { index, .. } => {
                if !refused.insert(index) {
                    return Err(format!("two NACKs for entry {index}"));
                }
            }
            Operation::Respond { status, .. } => {
                answers += 1;
                if !(200..600).contains(&status) {
                    return Err(format!("RESPOND with status {status}, not 200 to 599"));
                }
            }
            Operation::TimerSet { name, .. } => not_empty("TIMER_SET without a name", name)?,
            Operation::Metric { name, .. } => not_empty("METRIC without a name", name)?,
            Operation::KvPut { .. } | Operation::KvDel { .. } | Operation::Log { .. } => {}
        }
    }
    match (input.kind, answers) {
        (_, 0) => Ok(()),
        (Kind::Request, 1) if refused.is_empty() => Ok(()),
        (Kind::Request, 1) => Err("RESPOND and NACK for the same request".to_owned()),
        (Kind::Request, answers) => Err(format!("{answers} RESPONDs for one request")),
        (kind, _) => Err(format!("RESPOND in the output to a frame of {kind:?}")),
    }
}

fn cause_is_right(cause: u32, input: BatchHeader) -> Result<(), String> {
    if !input.flags.contains(InputFlags::CAUSES) {
        return Err(format!("EMIT names the cause {cause}, and bit 0 of the flags was not set"));
    }
    if cause > input.count {
        return Err(format!("EMIT names the cause {cause} in a frame of {} entries", input.count));
    }
    Ok(())
}

fn topic_is_right(topic: &str) -> Result<(), String> {
    if topic.is_empty() || topic.contains(['+', '#', '\0']) {
        return Err(format!("EMIT to `{}`, which is no topic", topic.escape_default()));
    }
    Ok(())
}

fn not_empty(what: &str, name: &str) -> Result<(), String> {
    if name.is_empty() { Err(what.to_owned()) } else { Ok(()) }
}
