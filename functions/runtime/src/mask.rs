//! Takes the values of secrets out of what a guest says in its output frame for people: lines of
//! the log, reasons, names of metrics. What it publishes and answers is its own.

use tidegate_abi::{FrameTooLarge, Operation, OutputReader, OutputWriter};

use crate::secrets::Secrets;

/// The frame without the values; `None` when none is in it.
pub(crate) fn masked(
    output: &OutputReader<'_>,
    secrets: &Secrets,
) -> Result<Option<Vec<u8>>, FrameTooLarge> {
    let shown = |operation: &Operation<'_>| match operation {
        Operation::Log { text, .. } | Operation::Nack { text, .. } => tells(secrets, text),
        Operation::Metric { name, .. } => tells(secrets, name),
        Operation::Emit { .. }
        | Operation::KvPut { .. }
        | Operation::KvDel { .. }
        | Operation::Respond { .. }
        | Operation::TimerSet { .. } => false,
    };
    if secrets.is_empty() || !output.iter().any(|operation| shown(&operation)) {
        return Ok(None);
    }
    let mut writer = OutputWriter::new();
    for operation in output.iter() {
        match operation {
            Operation::Log { level, text } => {
                writer.push(&Operation::Log { level, text: &clean(secrets, text) })?;
            }
            Operation::Nack { index, class, code, text } => {
                let text = &clean(secrets, text);
                writer.push(&Operation::Nack { index, class, code, text })?;
            }
            Operation::Metric { name, kind, value } => {
                writer.push(&Operation::Metric { name: &clean(secrets, name), kind, value })?;
            }
            operation @ (Operation::Emit { .. }
            | Operation::KvPut { .. }
            | Operation::KvDel { .. }
            | Operation::Respond { .. }
            | Operation::TimerSet { .. }) => writer.push(&operation)?,
        }
    }
    Ok(Some(writer.finish()))
}

fn tells(secrets: &Secrets, text: &str) -> bool {
    clean(secrets, text) != text
}

fn clean(secrets: &Secrets, text: &str) -> String {
    String::from_utf8_lossy(&secrets.masked(text.as_bytes())).into_owned()
}
