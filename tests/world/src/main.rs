//! `tidegate-world`: simulation campaigns and replays.

use std::process::ExitCode;

use tidegate_world::campaign::{self, Entry, First, Report, Tell};
use tidegate_world::{Options, Planted, operations_of_a_calm_run};

const HELP: &str = "\
Runs worlds: the whole gateway in a seeded simulator.

  cargo xtask world --seeds N [--from S] [--bug NAME]   storms: everything goes wrong that can
  cargo xtask world --power-cut SEED [--at OPERATION]   2,000 readings and one power cut
  cargo xtask world --power-cut SEED --points N         the same, cut at N points of the run

Options:
  --seeds N       worlds to run
  --from S        first seed (default 0)
  --bug NAME      plant a mistake; the campaign must find it, and ends where it does
  --at OPERATION  cut the power at this disk operation (default: not at all)
  --points N      cut at N points, one world each

Examples:
  cargo xtask world --seeds 10000
  cargo xtask world --seeds 1 --from 4711
  cargo xtask world --seeds 200 --bug ack-before-sync
Exit code: 0 nothing wrong, 1 a world broke a promise (the replay line says which) or a campaign
had a world without its share of trouble, 2 usage.";

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)) {
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Some(arguments)) => run(&arguments),
        Err(error) => {
            eprintln!("tidegate-world: {error}\n\n{HELP}");
            ExitCode::from(2)
        }
    }
}

#[derive(Debug, Default)]
struct Arguments {
    seeds: Option<u64>,
    from: u64,
    power_cut: Option<u64>,
    at: Option<u64>,
    points: Option<u64>,
    bug: Option<Planted>,
}

impl Arguments {
    fn parse(mut words: impl Iterator<Item = String>) -> Result<Option<Arguments>, String> {
        let mut arguments = Arguments::default();
        while let Some(word) = words.next() {
            if word == "--help" || word == "-h" {
                return Ok(None);
            }
            let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
            let number = || value.parse::<u64>().map_err(|e| format!("{word} {value}: {e}"));
            match word.as_str() {
                "--seeds" => arguments.seeds = Some(number()?),
                "--from" => arguments.from = number()?,
                "--power-cut" => arguments.power_cut = Some(number()?),
                "--at" => arguments.at = Some(number()?),
                "--points" => arguments.points = Some(number()?),
                "--bug" => arguments.bug = Some(value.parse()?),
                _ => return Err(format!("unknown option {word}")),
            }
        }
        if arguments.seeds.is_none() && arguments.power_cut.is_none() {
            return Err("say --seeds N or --power-cut SEED".to_owned());
        }
        Ok(Some(arguments))
    }

    /// The worlds to run, each with what replays it.
    fn worlds(&self) -> Vec<Entry> {
        let Some(seed) = self.power_cut else {
            return campaign::storms(self.from, self.seeds.unwrap_or(0), self.bug);
        };
        let Some(points) = self.points else {
            let at = self.at.map_or(String::new(), |at| format!(" --at {at}"));
            let replay = format!("--power-cut {seed}{at}");
            return vec![Entry { replay, options: Options::power_cut(seed, self.at) }];
        };
        let operations = operations_of_a_calm_run(seed);
        let cut = |point| {
            let at = 1 + point * operations / points;
            let replay = format!("--power-cut {seed} --at {at}");
            Entry { replay, options: Options::power_cut(seed, Some(at)) }
        };
        (0..points).map(cut).collect()
    }
}

fn run(arguments: &Arguments) -> ExitCode {
    campaign::announce_panics();
    let worlds = arguments.worlds();
    let first = if arguments.bug.is_some() { First::Only } else { First::AndAllOthers };
    let report = campaign::run(&worlds, arguments.bug, first, Tell::Everything);
    println!("{report}");
    if report.broken.is_empty() && has_its_share(arguments, &report) {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// A storm in which nothing hit work proves nothing.
fn has_its_share(arguments: &Arguments, report: &Report) -> bool {
    arguments.seeds.is_none() || report.bitten == report.worlds
}
