//! Looks at what is retained whenever the gateway has started: a client that subscribes before
//! anything else happens gets the last acknowledged message of each topic, or a later one.

use std::collections::BTreeMap;

use tidegate_broker::ConnId;

use super::World;
use crate::mqtt::{self, Connect, Incoming, Qos, Version};
use crate::options::{Interest, Route};
use crate::publisher::{Publisher, is_empty};

/// No link has this number.
const PROBE: ConnId = ConnId(u64::MAX);

impl World {
    pub(super) fn check_retained(&mut self) {
        let on_state = |publisher: &&Publisher| publisher.sensor.route == Route::State;
        if self.publishers.iter().filter(on_state).count() == 0 {
            return;
        }
        self.tally.retained_checks += 1;
        let found = self.retained();
        let mut wrong = Vec::new();
        for publisher in self.publishers.iter().filter(on_state) {
            let topic = publisher.topic();
            let said = |reading: u64| match is_empty(Route::State, reading) {
                true => None,
                false => Some(publisher.payload(reading)),
            };
            let got = found.get(&topic);
            let last = publisher.acknowledged.last().copied();
            let mut due = (last.unwrap_or(0)..publisher.next()).map(said);
            let right = last.is_none() && got.is_none() || due.any(|due| due.as_ref() == got);
            if !right {
                wrong.push(format!(
                    "{topic} retains {got:?}: {last:?} was acknowledged, {} were sent",
                    publisher.next()
                ));
            }
        }
        wrong.iter().for_each(|what| self.fault(what));
    }

    /// What a new subscriber is given, by topic.
    fn retained(&mut self) -> BTreeMap<String, String> {
        let now = self.time.now();
        let Some(gateway) = &mut self.gateway else { return BTreeMap::new() };
        gateway.handle_open(now, PROBE, "probe".to_owned());
        let mut bytes = mqtt::connect(&Connect {
            version: Version::V311,
            client: "probe",
            keep_alive: 0,
            kept: false,
            receive_maximum: None,
        });
        let filter = Interest::On(Route::State).filter();
        bytes.extend(mqtt::subscribe(Version::V311, &[(filter, Qos::AtMostOnce)]));
        gateway.handle_bytes(now, PROBE, &bytes);
        let mut answer = gateway.unsent(PROBE).map_or(Vec::new(), |out| out.as_slice().to_vec());
        gateway.handle_closed(now, PROBE, "the probe has seen enough");
        let mut found = BTreeMap::new();
        for packet in mqtt::incoming(Version::V311, &mut answer) {
            if let Incoming::Publish(message) = packet {
                let payload = String::from_utf8_lossy(&message.payload).into_owned();
                found.insert(message.topic, payload);
            }
        }
        found
    }
}
