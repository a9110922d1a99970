//! The promise of the stream `losses` (docs/formats/loss.md): what it says is in the ledger, and
//! it says each lost sequence once.

use std::collections::BTreeSet;

use tidegate_flow::LOSS_STREAM;

use super::Account;
use super::sessions::{SPOOL, Spool};

pub(super) fn judge(accounts: &[Account<'_>], spool: &Spool, wrong: &mut Vec<String>) {
    let Some(losses) = accounts.iter().find(|account| account.name == LOSS_STREAM) else { return };
    let mut told = BTreeSet::new();
    for traced in losses.records.values() {
        let text = String::from_utf8_lossy(&traced.record.payload);
        if text.starts_with(r#"{"v":2,"#) {
            continue; // What a session lost: it has no sequences.
        }
        let Some((stream, reason, first, last)) = parse(&text) else {
            wrong.push(format!("{LOSS_STREAM}: {text} is no record of a loss"));
            continue;
        };
        let account = accounts.iter().find(|account| account.name == stream);
        for seq in first..=last {
            let entered = match account {
                Some(account) => account.lost.get(&seq),
                None => spool.entered.get(&seq).filter(|_| stream == SPOOL),
            };
            if entered.is_none_or(|entered| entered.name() != reason) {
                wrong.push(format!(
                    "{LOSS_STREAM}: {stream} {seq} is told as {reason}, not {entered:?}"
                ));
            }
            if !told.insert((stream.to_owned(), seq)) {
                wrong.push(format!("{LOSS_STREAM}: {stream} {seq} is told twice"));
            }
        }
    }
}

/// Stream, reason, first and last sequence.
fn parse(json: &str) -> Option<(&str, &str, u64, u64)> {
    let text = |name: &str| {
        let rest = json.split_once(&format!("\"{name}\":\""))?.1;
        Some(rest.split_once('"')?.0)
    };
    let number = |name: &str| {
        let rest = json.split_once(&format!("\"{name}\":"))?.1;
        rest.split([',', '}']).next()?.parse().ok()
    };
    Some((text("stream")?, text("reason")?, number("first")?, number("last")?))
}
