//! The host-guest contract tg1: frames and codes; no engine; no_std.
