//! How long a server asks us to wait: the header `retry-after` (RFC 9110, section 10.2.3).

use std::time::Duration;

use super::connection::Answer;

/// No server makes us wait longer at once: it is asked again then.
const MAX_WAIT: Duration = Duration::from_secs(60 * 60);

/// The wait that an answer asks for, at most an hour; `None` when it asks for none. A date is
/// counted from the answer's own `date`: the gateway's clock may not be set.
pub(in crate::uplinks) fn retry_after(answer: &Answer) -> Option<Duration> {
    let value = answer.header("retry-after")?.trim();
    let wait = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let until = httpdate::parse_http_date(value).ok()?;
            let now = httpdate::parse_http_date(answer.header("date")?).ok()?;
            until.duration_since(now).unwrap_or(Duration::ZERO)
        }
    };
    Some(wait.min(MAX_WAIT))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use hyper::{HeaderMap, StatusCode};

    use super::*;

    fn waits(headers: &[(&'static str, &'static str)]) -> Option<Duration> {
        let headers = headers.iter().map(|(name, value)| {
            (name.parse().unwrap(), hyper::header::HeaderValue::from_static(value))
        });
        let headers: HeaderMap = headers.collect();
        retry_after(&Answer { status: StatusCode::OK, headers, body: Bytes::new() })
    }

    #[test]
    fn seconds_and_dates_are_obeyed_and_nonsense_is_not() {
        let date = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        let seconds = |seconds| Some(Duration::from_secs(seconds));
        let cases = [
            (vec![], None),
            (vec![("retry-after", "7")], seconds(7)),
            (vec![("retry-after", "0")], seconds(0)),
            (vec![("retry-after", "999999999999")], seconds(3_600)),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "-1")], None),
            (vec![date, ("retry-after", "Sun, 06 Nov 1994 08:50:00 GMT")], seconds(23)),
            (vec![date, ("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT")], seconds(0)),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:50:00 GMT")], None),
        ];
        for (headers, expected) in cases {
            assert_eq!(waits(&headers), expected, "{headers:?}");
        }
    }
}
