//! Durable segmented log: append, group commit, cursors, retention, recovery.
