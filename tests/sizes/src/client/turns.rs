//! The least that runs a future: it is asked again and again.

use core::future::poll_fn;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use crate::board;

/// Runs it to its end.
pub fn run<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}

/// Its value, unless this time comes first.
pub async fn until<T>(millis: u64, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(value) => Poll::Ready(Some(value)),
        Poll::Pending if board::millis() >= millis => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await
}
