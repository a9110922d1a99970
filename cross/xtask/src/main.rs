//! Repository commands: demo, test, bench, world.

fn main() {}
