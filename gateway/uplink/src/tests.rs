//! The uplink core against a server that answers as the test says, and against one that
//! misbehaves by seed.

mod batches;
mod body;
mod envelope;
mod lossy;
mod rules;
