//! The stage as the subject of a case.

use std::collections::BTreeMap;

use tidegate_fixtures::{Answer, Dead, Event, Output, Record, Request, Subject};
use tidegate_flow::attributes::Attributes;
use tidegate_stream::Record as Stored;

use super::stage::Stage;

/// A stage on which a case is run.
pub(crate) struct Rehearsal(pub(crate) Stage);

impl Subject for Rehearsal {
    fn take(&mut self, records: &[Record]) -> Result<(), String> {
        let now = self.0.unix_ms();
        let records = records.iter().map(|record| stored(record, now)).collect();
        said(self.0.take(records))
    }

    fn tell(&mut self, event: &Event) -> Result<(), String> {
        said(self.0.tell(event))
    }

    fn ask(&mut self, request: &Request) -> Result<(), String> {
        said(self.0.ask(request))
    }

    fn set_secret(&mut self, name: &str, value: &[u8]) -> Result<(), String> {
        self.0.set_secret(name, value)
    }

    fn answers(&mut self) -> Vec<Answer> {
        self.0.answers()
    }

    fn advance_to(&mut self, unix_ms: i64) -> Result<(), String> {
        said(self.0.advance_to(unix_ms))
    }

    fn restart(&mut self) -> Result<(), String> {
        said(self.0.restart())
    }

    fn outputs(&mut self) -> Vec<Output> {
        self.0.outputs()
    }

    fn dead(&mut self) -> Vec<Dead> {
        self.0.dead()
    }

    fn state(&mut self, function: Option<&str>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, String> {
        self.0.state(function)
    }

    fn notes(&mut self) -> Vec<String> {
        self.0.notes()
    }

    fn waits(&mut self) -> Option<String> {
        self.0.waits()
    }
}

fn said(result: anyhow::Result<()>) -> Result<(), String> {
    result.map_err(|error| format!("{error:#}"))
}

fn stored(record: &Record, now: i64) -> Stored {
    let attributes = Attributes {
        qos: record.qos,
        retain: record.retain,
        user: record.user.clone(),
        ..Attributes::default()
    };
    let mut bytes = Vec::new();
    attributes.encode(&mut bytes);
    Stored {
        unix_ms: record.unix_ms.unwrap_or(now),
        topic: record.topic.clone(),
        client: record.client.clone(),
        publisher: None,
        attributes: bytes,
        payload: record.payload.clone(),
    }
}
