//! What a record costs in a started instance, beside the same function as native code.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tidegate_gauge::Gauge;
use tidegate_guest::{Function, native};
use tidegate_runtime::{Limits, Module, State, Verdict};
use tidegate_threshold::Threshold;

use super::readings::{Shape, frames};
use super::{BENCH, Field, Settings};
use crate::quantile::median;
use crate::report::{Bar, Row};

/// Records of a call.
const BATCHES: [usize; 3] = [1, 16, 256];
/// Different frames that a run goes through again and again.
const FRAMES: usize = 64;
/// What a record may cost, without state, with batches of [`JUDGED_FROM`] and more.
const RECORD_NS: f64 = 600.0;
const JUDGED_FROM: usize = 16;
/// A hysteresis needs a state: whether a sensor is above the limit.
const WITH_STATE: &[u8] = br#"{"limit":30,"hysteresis":1}"#;
/// Every reading above the limit, whatever was before: no state.
const WITHOUT_STATE: &[u8] = br#"{"limit":30,"every":true}"#;

pub(super) fn run(settings: &Settings, field: &Field) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for batch in BATCHES {
        let bar = (batch >= JUDGED_FROM).then_some(Bar::UpTo(RECORD_NS));
        let case = Case { what: "gauge, packed", module: &field.gauge, config: b"{}", batch };
        rows.extend(case.measure::<Gauge>(Shape::Packed, bar, settings)?);
    }
    for (what, config, judged) in [
        ("threshold, JSON", WITHOUT_STATE, true),
        ("threshold, JSON, with state", WITH_STATE, false),
    ] {
        for batch in BATCHES {
            let bar = (judged && batch >= JUDGED_FROM).then_some(Bar::UpTo(RECORD_NS));
            let case = Case { what, module: &field.threshold, config, batch };
            rows.extend(case.measure::<Threshold>(Shape::Json, bar, settings)?);
        }
    }
    Ok(rows)
}

struct Case<'a> {
    what: &'a str,
    module: &'a Path,
    config: &'a [u8],
    batch: usize,
}

/// Time and outputs of one run.
struct Sample {
    ns: f64,
    fuel: f64,
}

impl Case<'_> {
    fn measure<F: Function>(
        &self,
        shape: Shape,
        bar: Option<Bar>,
        settings: &Settings,
    ) -> Result<Vec<Row>> {
        let case = format!("{}, batch {}", self.what, self.batch);
        let frames = frames(shape, self.batch, FRAMES)?;
        let calls = settings.records.div_ceil(self.batch as u64);
        let (mut ours, mut native) = (Vec::new(), Vec::new());
        for _ in 0..settings.runs {
            ours.push(self.in_engine(&frames, calls).with_context(|| case.clone())?);
            native.push(self.natively::<F>(&frames, calls).with_context(|| case.clone())?);
        }
        let ns = |samples: &[Sample]| median(samples.iter().map(|sample| sample.ns));
        eprintln!("{case}: {:.0?} ns, native {:.0?}", ns(&ours), ns(&native));
        let fuel = median(ours.iter().map(|sample| sample.fuel));
        let row = Row::new(BENCH, &case, "time_per_record", "ns", ns(&ours));
        Ok(vec![
            row.beside("native", ns(&native)).with_bar(bar),
            Row::new(BENCH, &case, "fuel_per_record", "units", fuel),
        ])
    }

    fn in_engine(&self, frames: &[Vec<u8>], calls: u64) -> Result<Sample> {
        let wasm = std::fs::read(self.module)
            .with_context(|| format!("cannot read {}", self.module.display()))?;
        let module = Module::compile(&wasm, &Limits::default())?;
        let mut instance = module.instantiate(self.config).map_err(|start| start.failure)?;
        let state = Arc::new(State::new());
        let (mut fuel, mut time) = (0, Duration::ZERO);
        // The first round warms up.
        for round in [frames.len() as u64, calls] {
            fuel = 0;
            let start = Instant::now();
            for frame in frames.iter().cycle().take(usize::try_from(round)?) {
                let outcome = instance.call(frame, state.clone());
                fuel += outcome.fuel;
                match outcome.verdict {
                    Verdict::Done(output) => drop(black_box(output)),
                    other => bail!("a call ended with {other:?}"),
                }
            }
            time = start.elapsed();
        }
        let records = (calls * self.batch as u64) as f64;
        Ok(Sample { ns: time.as_nanos() as f64 / records, fuel: fuel as f64 / records })
    }

    fn natively<F: Function>(&self, frames: &[Vec<u8>], calls: u64) -> Result<Sample> {
        let instance = native::Instance::<F>::new(self.config);
        let mut instance = instance.map_err(|error| anyhow::anyhow!("{}", error.text()))?;
        let state = native::Entries::new();
        let start = Instant::now();
        for frame in frames.iter().cycle().take(usize::try_from(calls)?) {
            match instance.call(frame, &state) {
                Ok(output) => drop(black_box(output)),
                Err(ended) => bail!("a native call ended with {ended:?}"),
            }
        }
        let records = (calls * self.batch as u64) as f64;
        Ok(Sample { ns: start.elapsed().as_nanos() as f64 / records, fuel: 0.0 })
    }
}
