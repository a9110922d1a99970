//! `tidegate-world`: simulation campaigns and replays.

use std::process::ExitCode;
use std::time::Instant;

use tidegate_world::{Options, Planted, World, operations_of_a_calm_run};

const HELP: &str = "\
Runs worlds: the whole gateway in a seeded simulator.

  cargo xtask world --seeds N [--from S] [--bug NAME]   storms: power cuts, silence, full disks
  cargo xtask world --power-cut SEED [--at OPERATION]   2,000 readings and one power cut
  cargo xtask world --power-cut SEED --points N         the same, cut at N points of the run

Options:
  --seeds N       worlds to run
  --from S        first seed (default 0)
  --bug NAME      plant a mistake; the campaign must find it
  --at OPERATION  cut the power at this disk operation (default: not at all)
  --points N      cut at N points, one world each

Example: cargo xtask world --seeds 1000 --from 5000
Exit code: 0 nothing wrong, 1 a world broke a promise (the replay line says which), 2 usage.";

fn main() -> ExitCode {
    match Arguments::parse(std::env::args().skip(1)) {
        Ok(None) => {
            println!("{HELP}");
            ExitCode::SUCCESS
        }
        Ok(Some(arguments)) => campaign(&arguments),
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

    /// The worlds to run, each with the line that replays it.
    fn worlds(&self) -> Vec<(String, Options)> {
        let Some(seed) = self.power_cut else {
            let seeds = self.from..self.from + self.seeds.unwrap_or(0);
            return seeds
                .map(|seed| (format!("--seeds 1 --from {seed}"), Options::storm(seed)))
                .collect();
        };
        let Some(points) = self.points else {
            let replay = self.at.map_or(String::new(), |at| format!(" --at {at}"));
            let replay = format!("--power-cut {seed}{replay}");
            return vec![(replay, Options::power_cut(seed, self.at))];
        };
        let operations = operations_of_a_calm_run(seed);
        (0..points)
            .map(|point| 1 + point * operations / points)
            .map(|at| (format!("--power-cut {seed} --at {at}"), Options::power_cut(seed, Some(at))))
            .collect()
    }
}

fn campaign(arguments: &Arguments) -> ExitCode {
    let began = Instant::now();
    let worlds = arguments.worlds();
    let (mut cuts, mut operations, mut broken) = (0, 0, 0);
    for (done, (replay, options)) in worlds.iter().enumerate() {
        let options = match arguments.bug {
            Some(bug) => options.clone().with(bug),
            None => options.clone(),
        };
        let mut world = World::new(options);
        world.run();
        cuts += world.cuts();
        operations += world.operations();
        let wrong = world.verdict();
        if !wrong.is_empty() {
            broken += 1;
            let bug = arguments.bug.map_or(String::new(), |bug| format!(" --bug {bug}"));
            eprintln!("{}\nreplay: cargo xtask world {replay}{bug}", wrong.join("\n"));
        }
        if (done + 1) % 1_000 == 0 {
            eprintln!("{} of {} worlds, {broken} broken", done + 1, worlds.len());
        }
    }
    println!(
        "{} worlds, {cuts} power cuts, {operations} disk operations, {broken} broken promises, {:.1} s",
        worlds.len(),
        began.elapsed().as_secs_f64()
    );
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
