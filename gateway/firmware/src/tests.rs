//! The desk against the agents of the device SDK, in simulated time.

mod fleet;
mod hostile;
mod rollout;
