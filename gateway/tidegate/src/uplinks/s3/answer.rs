//! What the answers of an S3 server mean (Amazon S3 API Reference, "Error responses"): the table
//! in `docs/formats/s3-sink.md`.

use tidegate_uplink::RefuseReason;

use super::target::S3Target;
use crate::uplinks::web::{Answer, Ending, retry_after};
use crate::utc::Utc;

/// Characters of the server's own words that are shown.
const MAX_SAID: usize = 200;

/// Whether the object that was put at `now` is stored.
pub(super) fn put(target: &S3Target, now: Utc, answer: &Answer) -> Result<(), Ending> {
    let status = answer.status.as_u16();
    let body = String::from_utf8_lossy(&answer.body);
    let code = element(&body, "Code").unwrap_or_default();
    let at = target.address();
    let said = match element(&body, "Message") {
        Some(message) if !message.is_empty() => format!("{status} {code} ({message})"),
        Some(_) | None => format!("{status} {code}").trim_end().to_owned(),
    };
    let broken = |advice: &str| Ending::Broken(format!("{at} answered {said}: {advice}"));
    Err(match (status, code.as_str()) {
        // A proxy's own page may be a 200 too; a server of S3 names what it stored.
        (200, _) if answer.header("etag").is_some() => return Ok(()),
        (200, _) => broken("a success without an etag is none; is there a proxy in between?"),
        (413, _) | (_, "EntityTooLarge") => {
            let reason = RefuseReason::PacketTooLarge { bytes: None, max: None };
            Ending::Refused(reason, format!("{at} answered {said}: the object is too large"))
        }
        (_, "RequestTimeTooSkewed") => {
            let theirs = element(&body, "ServerTime");
            let theirs = theirs.as_deref().or(answer.header("date")).unwrap_or("another time");
            Ending::Broken(format!(
                "{at} refuses the gateway's clock: it says {now}, the server {theirs}; set the \
                 clock (NTP) and check the time zone"
            ))
        }
        (_, "InvalidAccessKeyId" | "SignatureDoesNotMatch") => {
            broken("check the keys in credentials_file, and region")
        }
        (_, "ExpiredToken" | "InvalidToken" | "TokenRefreshRequired") => {
            broken("the keys have ended; write new ones to credentials_file")
        }
        (_, "AuthorizationHeaderMalformed") => {
            let region = element(&body, "Region");
            let region = region.map_or("another".to_owned(), |region| format!("\"{region}\""));
            broken(&format!("the bucket is in {region} region; change region"))
        }
        (_, "NoSuchBucket" | "InvalidBucketName") => {
            broken(&format!("there is no bucket \"{}\"; make it, or change url", target.bucket()))
        }
        (408 | 425 | 429 | 500 | 502 | 503 | 504, _)
        | (_, "RequestTimeout" | "SlowDown" | "OperationAborted" | "BadDigest") => {
            Ending::Busy(retry_after(answer), format!("{at} answered {said}: trying again"))
        }
        (300..=399, _) => broken("redirects are not followed; check region and url"),
        (401 | 403, _) => broken("the keys may not write there; s3:PutObject is needed"),
        (404 | 405 | 501, _) => broken("that is no S3 server; check url"),
        _ => broken("unexpected; check url"),
    })
}

/// The text of the first element of this name, fit for a log.
fn element(xml: &str, name: &str) -> Option<String> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    let (text, _) = rest.split_once(&format!("</{name}>"))?;
    Some(text.chars().filter(|c| !c.is_control()).take(MAX_SAID).collect())
}
