//! The cloud as the gateway sees it: takes messages, acknowledges them, forgets nothing, and
//! applies the documented dedupe (gateway, epoch, stream, seq).

use std::collections::BTreeMap;

/// A message as it arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrived {
    /// Original topic.
    pub topic: String,
    /// Original client.
    pub client: String,
    /// Payload.
    pub payload: Vec<u8>,
}

/// Identity of a record: epoch, stream, sequence (one gateway a world).
pub type Key = (String, u32, u64);

/// What the cloud holds.
#[derive(Debug, Default)]
pub struct Upstream {
    /// By stream, epoch, sequence.
    pub records: BTreeMap<Key, Arrived>,
    /// Messages whose identity was there already with the same content.
    pub repeated: u64,
    /// Identities that came again with other content: never allowed.
    pub conflicts: Vec<String>,
}

impl Upstream {
    /// Takes a message in.
    pub fn take(&mut self, headers: &[(String, String)], payload: &[u8]) {
        let value = |name: &str| {
            headers
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
                .unwrap_or_else(|| panic!("a message without {name}: {headers:?}"))
        };
        let key = (
            value("tg-stream"),
            value("tg-epoch").parse().expect("tg-epoch is a number"),
            value("tg-seq").parse().expect("tg-seq is a number"),
        );
        let arrived = Arrived {
            topic: value("tg-topic"),
            client: value("tg-client"),
            payload: payload.to_vec(),
        };
        match self.records.get(&key) {
            None => {
                self.records.insert(key, arrived);
            }
            Some(before) if *before == arrived => self.repeated += 1,
            Some(before) => self.conflicts.push(format!("{key:?}: {before:?}, then {arrived:?}")),
        }
    }

    /// The `id` field of each payload of a stream, in the order of (epoch, seq).
    pub fn ids(&self, stream: &str) -> Vec<(String, String)> {
        self.records
            .iter()
            .filter(|((name, _, _), _)| name == stream)
            .map(|(_, arrived)| (arrived.client.clone(), id_of(&arrived.payload)))
            .collect()
    }
}

/// The `id` field of a JSON payload.
fn id_of(payload: &[u8]) -> String {
    let text = String::from_utf8_lossy(payload);
    let start = text.find("\"id\":\"").map(|at| at + 6).unwrap_or_else(|| panic!("no id: {text}"));
    let end = text[start..].find('"').unwrap_or_else(|| panic!("no end of id: {text}"));
    text[start..start + end].to_owned()
}
