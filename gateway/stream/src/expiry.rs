//! What goes by time: what every reader has passed and the stream does not retain, and what is
//! older than the stream allows, read or not.
//!
//! A record that nobody has passed goes by `max_age` alone, and then into the ledger. In a stream
//! without readers nobody has passed anything, so `retain` frees nothing there. The unit is a
//! chunk of the index, and its newest record decides.

use std::time::Duration;

use crate::ids::{Seq, StreamId};
use crate::ledger::LossReason;
use crate::log::Log;
use crate::planted::PlantedBug;
use crate::wall_clock::{WallClock, counted_from};

/// Up to where, and when, a trusted clock last saw the records of a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Dated {
    through: Seq,
    at_ms: i64,
}

impl Default for Dated {
    fn default() -> Dated {
        Dated { through: Seq(0), at_ms: i64::MIN }
    }
}

impl Log {
    /// Lets go of what is too old.
    pub(crate) fn expire(&mut self, id: StreamId, clock: WallClock) {
        let anyway = self.options.plants(PlantedBug::ExpiresByAnyClock);
        let now_ms = if anyway { Some(clock.unix_ms()) } else { clock.trusted_ms() };
        if let Some(now_ms) = now_ms {
            self.date_chunks(id, now_ms);
        }
        while let Some(stream) = self.state.stream(id) {
            let Some(oldest) = stream.chunks.front() else { return };
            let older = |age: Duration| {
                now_ms.is_some_and(|now_ms| {
                    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
                    oldest.newest_ms.saturating_add(age) <= now_ms
                })
            };
            let retain = stream.config.retain;
            let passed = self.state.has_passed(stream, oldest.end());
            let aged = stream.config.max_age.is_some_and(older);
            if passed && (retain.is_zero() || older(retain) || aged) {
                self.free_oldest(id);
            } else if aged {
                self.drop_oldest(id, LossReason::Expired);
            } else {
                return;
            }
        }
    }

    /// Replaces times that cannot be right, of chunks that are new since the last time. Only in
    /// memory: after a restart they count anew.
    fn date_chunks(&mut self, id: StreamId, now_ms: i64) {
        let Some(stream) = self.state.stream_mut(id) else { return };
        let dated =
            std::mem::replace(&mut stream.dated, Dated { through: stream.durable, at_ms: now_ms });
        let fresh = stream.chunks.partition_point(|chunk| chunk.end() <= dated.through);
        for chunk in stream.chunks.range_mut(fresh..) {
            // One that has grown has records that were not there the last time.
            let since_ms = if chunk.first < dated.through { dated.at_ms } else { i64::MIN };
            chunk.newest_ms = counted_from(chunk.newest_ms, since_ms, now_ms);
        }
        // The clock may have been set back meanwhile.
        if let Some(oldest) = stream.chunks.front_mut() {
            oldest.newest_ms = oldest.newest_ms.min(now_ms);
        }
    }
}
