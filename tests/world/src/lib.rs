//! The whole gateway inside a seeded simulator: simulated time, a disk that loses what was not
//! synced, sensors on bad connections that send again, subscribers that go away and come back,
//! files that come into a folder, clients that ask over HTTP, upstreams that fall silent, clocks that
//! jump. One seed is one world, for ever; a failure is replayed with one line.
//!
//! A world runs until every reading is acknowledged and has gone up or into the ledger; then the
//! judge compares what was promised, what was logged, what the sinks took and what the ledger
//! says.
//!
//! A [`fleet`] is another kind of world: devices of the SDK with their flash, to which a release comes.
//!
//! Not here: real sockets, files, threads and servers (`tests/it`, `tests/rig`), and damage to
//! what was synced (`gateway/stream`).

mod caller;
pub mod campaign;
mod clerk;
mod device;
pub mod fleet;
mod folder;
mod function;
mod judge;
mod line;
pub mod mqtt;
pub mod options;
mod plan;
pub mod planted;
mod publisher;
pub mod random;
mod sink;
mod subscriber;
pub mod tally;
mod timeline;
pub mod world;

pub use function::StateSize;
pub use options::Options;
pub use planted::Planted;
pub use sink::SinkKind;
pub use tally::Tally;
pub use world::World;

/// Runs a world to its end and says what was wrong with it; empty when nothing was.
pub fn run(options: Options) -> Vec<String> {
    run_and_count(options).0
}

/// The same, with what happened in it.
pub fn run_and_count(options: Options) -> (Vec<String>, Tally) {
    let mut world = World::new(options);
    world.run();
    let wrong = world.verdict();
    let tally = world.tally().clone();
    (wrong, tally)
}

/// Disk operations of a 2,000-reading run without a power cut.
pub fn operations_of_a_calm_run(seed: u64) -> u64 {
    let mut world = World::new(Options::power_cut(seed, None));
    world.run();
    world.operations()
}

#[cfg(test)]
mod tests;
