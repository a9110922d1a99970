//! The whole gateway inside a seeded simulator: simulated time, a disk that loses what was not
//! synced, publishers that send again, an upstream that falls silent. One seed is one world, for
//! ever; a failure is replayed with one line.

mod judge;
pub mod mqtt;
pub mod options;
mod publisher;
pub mod random;
pub mod upstream;
pub mod world;

pub use options::{Options, Planted};
pub use world::World;

/// Runs a world to its end and says what was wrong with it; empty when nothing was.
pub fn run(options: Options) -> Vec<String> {
    let mut world = World::new(options);
    world.run();
    world.verdict()
}

/// Disk operations of a 2,000-reading run without a power cut.
pub fn operations_of_a_calm_run(seed: u64) -> u64 {
    let mut world = World::new(Options::power_cut(seed, None));
    world.run();
    world.operations()
}

#[cfg(test)]
mod tests;
