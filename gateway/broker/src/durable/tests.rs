//! Bytes that are frozen, and what waits for the disk.

mod bytes;
mod doubts;
mod waiting;
