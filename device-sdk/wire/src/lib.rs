//! Names and messages shared by gateway, devices and simulator; no_std.
