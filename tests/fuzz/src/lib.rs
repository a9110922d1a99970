//! Fuzz targets for the MQTT broker core, the MQTT client of the uplink and the runtime of functions. A target is a function of bytes that panics at a
//! finding, so that any fuzzer can drive it; the program beside it mutates the committed corpus
//! (`corpus/TARGET`) without knowledge of coverage, on the stable compiler and reproducibly.
//!
//! - `packets`: bytes at one or two connections, in any portions. Whatever they are, the broker
//!   sends only what the specifications allow, keeps within its limits and forgets everything
//!   when everybody has gone.
//! - `machine`: the bytes are read as steps of several clients: packets valid and invalid, lost
//!   connections, time. A reference model of MQTT delivery says who must get what.
//! - `uplink`: bytes from a server at the MQTT client of the uplink. Whatever they are, no batch is
//!   answered twice, memory keeps its bounds, and what it writes is valid for the broker core.
//! - `modules`: changes to modules of functions, which are installed, started and called. Whatever
//!   they are, that ends, within the limits.
//! - `hostcalls`: imports of functions called with any arguments. A model says what they return and
//!   what they write.

use std::path::{Path, PathBuf};
use std::{fs, io};

pub mod hostcalls;
mod input;
pub mod machine;
mod model;
pub mod modules;
pub mod mutate;
mod owner;
pub mod packets;
pub mod uplink;

pub use owner::TRACE;

/// One fuzz target.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and that of its corpus.
    pub name: &'static str,
    /// Panics at a finding.
    pub run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: [Target; 5] = [
    Target { name: "packets", run: packets::run },
    Target { name: "machine", run: machine::run },
    Target { name: "uplink", run: uplink::run },
    Target { name: "modules", run: modules::run },
    Target { name: "hostcalls", run: hostcalls::run },
];

/// The committed inputs of a target, in the order of their names.
pub fn corpus(target: &Target) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let files: io::Result<Vec<PathBuf>> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect();
    let mut files = files?;
    files.sort();
    files.into_iter().map(|file| Ok((file.clone(), fs::read(file)?))).collect()
}

#[cfg(test)]
mod tests {
    use super::mutate::{Random, mutated};
    use super::*;

    /// The corpus and a bounded run of mutated inputs. A finding is replayed and made smaller with
    /// the seed in its message: `cargo run -p tidegate-fuzz -- TARGET --seed SEED --runs 1`.
    fn run(name: &str, runs: u64) {
        let target = TARGETS.iter().find(|target| target.name == name).unwrap();
        let corpus = corpus(target).unwrap();
        assert!(corpus.len() > 10, "the corpus is there");
        for (_, input) in &corpus {
            (target.run)(input);
        }
        let corpus: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
        for seed in 0..runs {
            let input = mutated(&mut Random::new(seed), &corpus);
            if std::panic::catch_unwind(|| (target.run)(&input)).is_err() {
                panic!("cargo run -p tidegate-fuzz -- {name} --seed {seed} --runs 1");
            }
        }
    }

    #[test]
    fn no_bytes_break_the_packet_path() {
        run("packets", 20_000);
    }

    #[test]
    fn delivery_is_what_the_reference_model_says() {
        run("machine", 4_000);
    }

    #[test]
    fn no_bytes_of_a_server_break_the_uplinks_client() {
        run("uplink", 20_000);
    }

    #[test]
    fn no_module_gets_past_its_limits() {
        run("modules", 3_000);
        let [installed, started, handled] = modules::reached();
        assert!(installed > 150 && started > 100 && handled > 30, "{}", modules::tell());
    }

    #[test]
    fn imports_do_what_the_model_says() {
        run("hostcalls", 2_000);
    }
}
