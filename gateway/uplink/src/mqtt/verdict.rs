//! What the code of a PUBACK means for the message.

use super::broken::Malformed;
use crate::action::RefuseReason;

/// `None` when the server has the message.
///
/// # Errors
/// The code is neither a success nor a failure that MQTT knows.
pub(super) fn verdict(code: u8) -> Result<Option<RefuseReason>, Malformed> {
    Ok(Some(match code {
        // Success, and no matching subscribers.
        0x00 | 0x10 => return Ok(None),
        0x87 => RefuseReason::NotAuthorized,
        0x90 => RefuseReason::TopicInvalid,
        // Not in the standard's list for PUBACK, and what mosquitto answers all the same.
        0x95 => RefuseReason::PacketTooLarge { bytes: None, max: None },
        0x97 => RefuseReason::QuotaExceeded,
        0x99 => RefuseReason::PayloadFormatInvalid,
        0x80 | 0x83 | 0x91 => RefuseReason::Other { code },
        0x81.. => RefuseReason::Unencodable(format!(
            "the server answered it with code 0x{code:02x}, which MQTT 5 does not have for that"
        )),
        _ => return Err(Malformed::Code(code)),
    }))
}
