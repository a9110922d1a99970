//! The Tidegate daemon and its commands.

fn main() {}
