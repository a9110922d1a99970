//! What functions published and gave up, read back from the streams that took it.

use anyhow::Context;
use tidegate_fixtures::{Dead, Output as Published};
use tidegate_flow::attributes::Attributes;
use tidegate_flow::{DEAD_LETTER_STREAM, Gateway, Now};
use tidegate_stream::{MemoryDisk, ReadLimit, ReadOutcome, RecordRef, Seq};

use super::cast::OUTPUTS;

/// What has come, and how far it was read.
pub(super) struct Harvest {
    next_output: Seq,
    next_dead: Seq,
    /// Until it is taken.
    pub(super) outputs: Vec<Published>,
    /// Until it is taken.
    pub(super) dead: Vec<Dead>,
}

impl Default for Harvest {
    fn default() -> Harvest {
        let (outputs, dead) = (Vec::new(), Vec::new());
        Harvest { next_output: Seq(1), next_dead: Seq(1), outputs, dead }
    }
}

impl Harvest {
    /// Reads on, as far as it is durable.
    pub(super) fn collect(
        &mut self,
        gateway: &mut Gateway,
        disk: &MemoryDisk,
        now: Now,
    ) -> anyhow::Result<()> {
        let outputs = &mut self.outputs;
        let mut take = |record: &RecordRef<'_>| outputs.extend(published(record));
        self.next_output = read_on(gateway, disk, now, OUTPUTS, self.next_output, &mut take)?;
        let dead = &mut self.dead;
        let mut take = |record: &RecordRef<'_>| dead.extend(given_up(record));
        let name = DEAD_LETTER_STREAM;
        self.next_dead = read_on(gateway, disk, now, name, self.next_dead, &mut take)?;
        Ok(())
    }
}

/// Reads the durable records of a stream from a sequence on; answers the next one.
fn read_on(
    gateway: &mut Gateway,
    disk: &MemoryDisk,
    now: Now,
    name: &str,
    mut next: Seq,
    take: &mut dyn FnMut(&RecordRef<'_>),
) -> anyhow::Result<Seq> {
    let stream = gateway.stream(name).with_context(|| format!("no stream {name}"))?;
    let limit = ReadLimit { records: 1024, bytes: 1 << 20 };
    loop {
        let outcome =
            gateway.log_mut().read(now.instant, stream, next, limit, &mut |_, _, record| {
                take(&record);
            });
        match outcome {
            ReadOutcome::Read { next: after } | ReadOutcome::Lost { next: after } => next = after,
            ReadOutcome::End => return Ok(next),
            ReadOutcome::Fetching => {
                while let Some(request) = gateway.log_mut().poll_disk(now.instant) {
                    gateway.handle_disk(now, request.perform(disk));
                }
            }
        }
    }
}

fn published(record: &RecordRef<'_>) -> Option<Published> {
    let function = record.client.strip_prefix("fn/")?;
    let attributes = Attributes::decode(record.attributes).unwrap_or_default();
    Some(Published {
        function: function.to_owned(),
        topic: record.topic.to_owned(),
        payload: record.payload.to_vec(),
        qos: attributes.qos,
        retain: attributes.retain,
        user: attributes.user,
    })
}

fn given_up(record: &RecordRef<'_>) -> Option<Dead> {
    let letter = Attributes::decode(record.attributes).unwrap_or_default().dead?;
    Some(Dead {
        function: letter.function,
        topic: record.topic.to_owned(),
        payload: record.payload.to_vec(),
        reason: letter.reason,
    })
}
