//! The uplinks of a world, and what is at their other ends.

use std::time::Duration;

use tidegate_flow::{LOSS_STREAM, LateLimits};
use tidegate_uplink::UplinkOptions;

use crate::plan::STREAMS;
use crate::random::Random;
use crate::sink::SinkKind;

/// An uplink and the sink at its other end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkKind {
    /// What is there.
    pub sink: SinkKind,
    /// Window, backoff, time-outs.
    pub options: UplinkOptions,
    /// Names of the streams that it sends.
    pub streams: Vec<&'static str>,
    /// Of those, the ones that go live first.
    pub live_first: Vec<&'static str>,
    /// From this life of the gateway on none of them is live first any more.
    pub live_until: Option<u64>,
    /// When a backlog of those is put off.
    pub late: LateLimits,
    /// Of the sink's replicas, the one that never answers.
    pub dead_replica: Option<usize>,
    /// Payload bytes of several records that the sink takes as one.
    pub max_object: Option<usize>,
}

impl UplinkKind {
    /// One that sends all streams, in order, to a sink without replicas.
    pub(super) fn new(sink: SinkKind, options: UplinkOptions) -> UplinkKind {
        UplinkKind {
            sink,
            options,
            streams: STREAMS.to_vec(),
            live_first: Vec::new(),
            live_until: None,
            late: LateLimits::default(),
            dead_replica: None,
            max_object: None,
        }
    }
}

impl UplinkKind {
    /// Whether something has to be durable before its records may go.
    pub(crate) fn prepares(&self) -> bool {
        self.options.sealed || !self.live_first.is_empty()
    }
}

/// One to three, each kind at most once.
pub(super) fn draw(random: &mut Random, more: &mut Random) -> Vec<UplinkKind> {
    let window = random.millis(400, 2_500);
    let all = [SinkKind::Consumer, SinkKind::Committed, SinkKind::Windowed { window }];
    let leave_out = random.range(0, 5) as usize;
    let alone = random.one_in(4).then(|| random.range(0, 3) as usize);
    let chosen = |at: usize| alone.map_or(at != leave_out, |alone| at == alone);
    let kinds = all.into_iter().enumerate().filter(|(at, _)| chosen(*at));
    let uplink = |(_, sink)| UplinkKind::new(sink, uplink_options(random));
    let mut uplinks: Vec<UplinkKind> = kinds.map(uplink).collect();
    if more.one_in(2) {
        let at = more.range(0, uplinks.len() as u64) as usize;
        put_objects(&mut uplinks[at], more);
    }
    for uplink in &mut uplinks {
        put_live_first(uplink, more);
        replicate(uplink, more);
        if more.one_in(3) {
            uplink.streams.push(LOSS_STREAM);
        }
    }
    divide(&mut uplinks, more);
    uplinks
}

fn uplink_options(random: &mut Random) -> UplinkOptions {
    let backoff_min = random.millis(2, 40);
    UplinkOptions {
        window: random.pick(&[1, 7, 40, 100, 400]),
        window_bytes: random.pick(&[600, 16 * 1024, 1024 * 1024]),
        backoff_min,
        backoff_max: backoff_min * 20,
        ack_timeout: random.millis(60, 600),
        connect_timeout: random.millis(50, 500),
        batch_records: random.pick(&[1, 1, 5, 50]),
        batch_age: Duration::from_millis(random.pick(&[0, 0, 10])),
        ..UplinkOptions::default()
    }
}

/// Its sink is an object store, which needs boundaries that last.
fn put_objects(uplink: &mut UplinkKind, more: &mut Random) {
    uplink.sink = SinkKind::Objects;
    uplink.options.sealed = true;
    uplink.options.batch_records = more.pick(&[3, 10, 50]);
    // No record alone is as large.
    uplink.max_object = more.one_in(4).then_some(2_500);
}

fn put_live_first(uplink: &mut UplinkKind, more: &mut Random) {
    if more.one_in(3) {
        uplink.live_first = STREAMS.into_iter().filter(|_| more.one_in(2)).collect();
        uplink.live_until = more.one_in(4).then(|| more.range(1, 5));
        uplink.late = LateLimits {
            least_records: more.pick(&[3, 15, 50]),
            grant_records: more.pick(&[2, 10, 40]),
        };
    }
}

fn replicate(uplink: &mut UplinkKind, more: &mut Random) {
    if more.one_in(3) {
        uplink.options.endpoints = more.range(2, 4) as usize;
        let any = more.range(0, uplink.options.endpoints as u64) as usize;
        uplink.dead_replica = more.one_in(2).then_some(any);
    }
}

/// Takes a stream from one of several uplinks; in some worlds the stream that drops its oldest
/// records is sent by none.
fn divide(uplinks: &mut [UplinkKind], more: &mut Random) {
    let take = |uplink: &mut UplinkKind, name: &str| {
        uplink.streams.retain(|stream| *stream != name);
        uplink.live_first.retain(|stream| *stream != name);
    };
    if more.one_in(12) {
        uplinks.iter_mut().for_each(|uplink| take(uplink, STREAMS[2]));
    } else if uplinks.len() > 1 && more.one_in(3) {
        let at = more.range(0, uplinks.len() as u64) as usize;
        take(&mut uplinks[at], more.pick(&STREAMS));
    }
}
