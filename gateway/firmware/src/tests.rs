//! The desk against the agents of the device SDK, in simulated time.

mod cable;
mod compatibility;
mod fleet;
mod hostile;
mod rollout;

/// Some instant to count from.
pub(crate) fn instant() -> std::time::Instant {
    #[expect(clippy::disallowed_methods, reason = "tests need some instant to start from")]
    std::time::Instant::now()
}
