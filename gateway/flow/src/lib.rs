//! The gateway as one value: broker, log, functions and uplinks composed.
