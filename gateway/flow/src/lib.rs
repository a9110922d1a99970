//! The gateway as one value: topic to stream, stream to function, results and cursor in one
//! commit, stream to uplink.

pub mod status;
