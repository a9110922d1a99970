//! The sensors of the soak.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::mqtt::Version;
use crate::publisher::{Next, Publisher, PublisherOptions, Report, Source, message_id};
use crate::sensors::telemetry_topic;

/// Sensors, and the readings of each in a second: 2,000 together.
const SENSORS: usize = 20;
const INTERVAL: Duration = Duration::from_millis(10);
const WINDOW: usize = 100;

/// A sensor until it is stopped: one reading in a hundred is over every limit.
struct Paced {
    name: String,
    started: Option<Instant>,
}

impl Source for Paced {
    fn next(&mut self, number: u64, now: Instant) -> Next {
        let due = *self.started.get_or_insert(now) + INTERVAL.mul_f64(number as f64);
        if now < due {
            return Next::At(due);
        }
        let value = if number % 100 == 7 { 40.5 } else { 21.5 };
        let payload = format!(r#"{{"id":"{}","value":{value:?}}}"#, message_id(&self.name, number));
        Next::Message { topic: telemetry_topic(&self.name), payload: payload.into_bytes() }
    }
}

/// All sensors.
pub(super) struct Load {
    publishers: Vec<Publisher>,
}

impl Load {
    /// Half of them go by a link that is cut now and then.
    pub(super) fn start(direct: SocketAddr, by_link: SocketAddr) -> Result<Load> {
        let start = |number: usize| {
            let name = format!("p{number}");
            let address = if number.is_multiple_of(2) { direct } else { by_link };
            // With an identity of their own, so that what comes again after a cut is known.
            let (version, identity) = (Version::V5, Some(1));
            let source = Paced { name: name.clone(), started: None };
            let options = PublisherOptions { address, name, version, window: WINDOW, identity };
            Publisher::start(options, Box::new(source))
        };
        Ok(Load { publishers: (0..SENSORS).map(start).collect::<Result<_>>()? })
    }

    pub(super) fn acknowledged(&self) -> u64 {
        self.publishers.iter().map(|publisher| publisher.progress().acknowledged).sum()
    }

    /// Ends them when everything is acknowledged.
    pub(super) fn finish(self, deadline: Instant) -> Result<Vec<Report>> {
        self.publishers.iter().for_each(Publisher::stop);
        self.publishers.into_iter().map(|publisher| publisher.finish(deadline)).collect()
    }
}
