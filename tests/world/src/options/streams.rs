//! What each stream of a world may hold, and how it is written and sent.

use std::time::Duration;

use tidegate_stream::Compression;

use crate::random::Random;

/// More than any world writes.
const AMPLE: u64 = 64 * 1024 * 1024;

/// Limits of one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamLimits {
    /// The quota in bytes.
    pub max_bytes: u64,
    /// The quota in records.
    pub max_records: Option<u64>,
    /// How long records stay at most.
    pub max_age: Option<Duration>,
    /// How its groups are written.
    pub compression: Compression,
    /// Its priority at the uplinks.
    pub priority: u8,
}

impl Default for StreamLimits {
    fn default() -> StreamLimits {
        StreamLimits {
            max_bytes: AMPLE,
            max_records: None,
            max_age: None,
            compression: Compression::None,
            priority: 0,
        }
    }
}

impl StreamLimits {
    /// Whether the stream stays so small that it soon needs no more room on the disk.
    pub(super) fn is_small(&self) -> bool {
        self.max_bytes < AMPLE || self.max_records.is_some() || self.max_age.is_some()
    }

    /// Whether only the number of records may be a reason to drop at the quota.
    pub(crate) fn counts_records_only(&self) -> Option<u64> {
        self.max_records.filter(|_| self.max_bytes == AMPLE)
    }
}

/// Limits of `telemetry` and `alerts`, which block, `journal`, which drops the oldest, and
/// `orders`, which refuses.
pub(super) fn draw(random: &mut Random, more: &mut Random) -> [StreamLimits; 4] {
    const BYTES: [&[u64]; 4] = [
        &[64 * 1024, 64 * 1024, 160, 80],
        &[64 * 1024, 64 * 1024, 48],
        &[12, 24, 48],
        &[16, 40, 64 * 1024],
    ];
    const RECORDS: [&[u64]; 4] = [&[60, 150, 400], &[40, 80], &[15, 40, 120], &[20, 60, 200]];
    const AGES_MS: [u64; 4] = [60, 400, 1_500, 4_000];
    let prioritised = more.one_in(2);
    let bytes = BYTES.map(|sizes| random.pick(sizes) * 1024);
    [0, 1, 2, 3].map(|at| {
        let counted = more.one_in(4).then(|| more.pick(RECORDS[at]));
        // Half of those that count records do nothing else.
        let max_bytes = if counted.is_some() && more.one_in(2) { AMPLE } else { bytes[at] };
        StreamLimits {
            max_bytes,
            max_records: counted,
            max_age: more.one_in(5).then(|| Duration::from_millis(more.pick(&AGES_MS))),
            compression: more.pick(&[Compression::None, Compression::Lz4]),
            priority: if prioritised { more.range(0, 4) as u8 } else { 0 },
        }
    })
}
