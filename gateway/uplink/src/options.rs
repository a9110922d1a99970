//! How much may be in flight and how long to wait.

use std::time::Duration;

/// Largest window, in records. A consumer that remembers this many sequence numbers per stream
/// recognises every duplicate, so raising it is a change of the envelope's contract.
pub const MAX_WINDOW: usize = 1_000;

/// Limits and delays of one uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UplinkOptions {
    /// Messages in flight over all lanes, 1 to [`MAX_WINDOW`] (taken as the nearest of the two
    /// when outside). A larger window is faster on a slow link and means more duplicates after
    /// a lost connection. Default 100.
    pub window: usize,
    /// Bytes in flight, in the caller's measure; exceeded by at most one message, so that a
    /// message larger than the window still goes. This is the memory that a full window holds.
    /// Default 1 MiB.
    pub window_bytes: usize,
    /// The first retry waits a random time up to this, each further one up to twice as long.
    /// Default 200 ms.
    pub backoff_min: Duration,
    /// Upper end of that growth. Default 30 s.
    pub backoff_max: Duration,
    /// With messages in flight and no answer for this long, the link is taken for dead although
    /// nothing closed it. Default 10 s.
    pub ack_timeout: Duration,
    /// From asking for a connection to hearing that it stands. Default 10 s.
    pub connect_timeout: Duration,
    /// How often a message that the server calls unacceptable is sent before it is given up and
    /// reported by [`Action::Reject`](crate::Action::Reject). Default 3.
    pub attempts: u32,
    /// Servers to try in turn, at least 1; they share the cursor, so they must share what they
    /// hold. Default 1.
    pub endpoints: usize,
    /// A batch is sent when it has so many records, at least 1, at most `window`. Default 1: each
    /// record by itself.
    pub batch_records: usize,
    /// A batch is sent when it has so many bytes; exceeded by at most one record. Default 64 KiB.
    pub batch_bytes: usize,
    /// A batch is sent when its first record has waited so long. Default 0: a batch is what is
    /// there, and nothing waits.
    pub batch_age: Duration,
    /// Boundaries of batches are persisted before they are sent, so that a batch that is sent
    /// again is the same batch; such a batch may exceed the window by one batch a lane. Default
    /// false.
    pub sealed: bool,
    /// Most batches a second. Default no limit.
    pub max_batches_per_second: Option<u64>,
    /// Most bytes a second, in the caller's measure. Default no limit.
    pub max_bytes_per_second: Option<u64>,
    /// Most bytes a second of what was there before the connection, so that catching up leaves
    /// room for fresh records of other streams. Default no limit.
    pub max_backfill_bytes_per_second: Option<u64>,
}

impl Default for UplinkOptions {
    fn default() -> UplinkOptions {
        UplinkOptions {
            window: 100,
            window_bytes: 1024 * 1024,
            backoff_min: Duration::from_millis(200),
            backoff_max: Duration::from_secs(30),
            ack_timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(10),
            attempts: 3,
            endpoints: 1,
            batch_records: 1,
            batch_bytes: 64 * 1024,
            batch_age: Duration::ZERO,
            sealed: false,
            max_batches_per_second: None,
            max_bytes_per_second: None,
            max_backfill_bytes_per_second: None,
        }
    }
}
