//! Reads the body of a request, within its bounds of size and time.

use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

use axum::body::Body;
use hyper::body::Body as _;

use super::refusal::Refusal;

/// Time for the whole of a body.
pub(crate) const BODY_WITHIN: Duration = Duration::from_secs(10);

/// What a client says that it will send, at most `max`; without a length, that.
///
/// # Errors
/// It says that it is more.
pub(crate) fn announced(body: &Body, max: usize) -> Result<usize, Refusal> {
    let hint = body.size_hint();
    if hint.lower() > max as u64 {
        return Err(too_large(max));
    }
    Ok(hint.exact().map_or(max, |bytes| bytes as usize))
}

/// Reads all of it.
///
/// # Errors
/// It is longer than `max`, takes too long, or breaks off.
pub(crate) async fn read(body: Body, max: usize) -> Result<Vec<u8>, Refusal> {
    match tokio::time::timeout(BODY_WITHIN, collect(body, max)).await {
        Ok(read) => read,
        Err(_) => Err(Refusal::new(408, "the body did not come in time")),
    }
}

async fn collect(mut body: Body, max: usize) -> Result<Vec<u8>, Refusal> {
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        let frame = frame.map_err(|_| Refusal::new(400, "the body broke off"))?;
        // Trailers are nobody's concern.
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > max {
            return Err(too_large(max));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn too_large(max: usize) -> Refusal {
    Refusal::new(413, &format!("the body has more than {max} bytes"))
}
