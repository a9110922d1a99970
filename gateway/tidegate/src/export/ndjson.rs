//! One JSON object a line. The last member is `"crc"`: CRC-32C, eight hexadecimal digits, of the
//! line's bytes in front of the comma before it.

use super::{Item, WRONG_CHECKSUM};

/// What stands in front of the digits, and behind them.
const BEFORE: &str = r#","crc":""#;
const BEHIND: &str = r#""}"#;
const DIGITS: usize = 8;

/// The line of an item, its end included.
pub(super) fn encode(item: &Item) -> Result<Vec<u8>, serde_json::Error> {
    let mut line = serde_json::to_vec(item)?;
    line.pop(); // The brace that comes behind the checksum.
    let crc = crc32c::crc32c(&line);
    line.extend_from_slice(format!("{BEFORE}{crc:08x}{BEHIND}\n").as_bytes());
    Ok(line)
}

/// The item of a line without its end, and whether it has a checksum.
pub(super) fn decode(line: &[u8]) -> Result<(Item, bool), String> {
    let checksum = checksum(line);
    if let Some((covered, crc)) = checksum
        && crc32c::crc32c(covered) != crc
    {
        return Err(WRONG_CHECKSUM.to_owned());
    }
    let item = serde_json::from_slice(line);
    let item = item.map_err(|error| format!("not an item of an export: {error}"))?;
    Ok((item, checksum.is_some()))
}

fn checksum(line: &[u8]) -> Option<(&[u8], u32)> {
    let rest = line.strip_suffix(BEHIND.as_bytes())?;
    let (rest, digits) = rest.split_at_checked(rest.len().checked_sub(DIGITS)?)?;
    let covered = rest.strip_suffix(BEFORE.as_bytes())?;
    let digits = std::str::from_utf8(digits).ok()?;
    Some((covered, u32::from_str_radix(digits, 16).ok()?))
}
