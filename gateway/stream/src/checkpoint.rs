//! Checkpoints: the state as one list of sections, cut into parts that ride in frames.
//!
//! A checkpoint is the state before the group that carries its first part. Recovery needs all
//! parts and the frames from the first part on, so no segment from there on is recycled before
//! a newer checkpoint is complete and durable; and none from the one before it on, as long as
//! there is room, so that damage to a checkpoint costs nothing.

use std::collections::VecDeque;

use crate::group::Part;
use crate::log::Log;
use crate::segment::Place;

/// Bytes in front of each part: the checkpoint's number.
pub(crate) const PART_HEADER: usize = 8;

/// A checkpoint on its way to the disk.
#[derive(Debug)]
pub(crate) struct Checkpointing {
    /// The group that carries the first part, or a later one.
    first_group: u64,
    number: u64,
    parts: VecDeque<Part>,
    of: usize,
    bytes: u64,
    start: Option<Place>,
}

impl Checkpointing {
    /// Whether parts still wait for a group.
    pub(crate) fn has_parts(&self) -> bool {
        !self.parts.is_empty()
    }
}

impl Log {
    /// Bytes of state in one part: small enough not to delay the group that carries it much.
    pub(crate) fn part_bytes(&self) -> usize {
        part_bytes(self.options.max_frame_bytes)
    }

    /// Takes the state as it is now. One that is already on its way is completed first, except
    /// for the last one.
    pub(crate) fn begin_checkpoint(&mut self, clean: bool) {
        if self.checkpointing.is_some() && !clean {
            return;
        }
        self.close_group();
        self.definitions_once = false;
        let state = self.state.encode();
        let number = self.next_commit;
        let chunks: Vec<&[u8]> = state.chunks(self.part_bytes()).collect();
        let of = chunks.len();
        let part = |(index, bytes): (usize, &&[u8])| Part {
            number,
            index,
            of,
            bytes: [number.to_le_bytes().as_slice(), bytes].concat(),
            clean: clean && index + 1 == of,
        };
        self.checkpointing = Some(Checkpointing {
            first_group: self.open.id,
            number,
            parts: chunks.iter().enumerate().map(part).collect(),
            of,
            bytes: state.len() as u64,
            start: None,
        });
    }

    /// Begins one when enough was written since the last, or when definitions stand in one frame
    /// only: without the name of a stream nobody finds its records.
    pub(crate) fn checkpoint_when_due(&mut self) {
        let least = u64::from(self.options.segment_bytes).max(4 * self.checkpoint_bytes);
        if self.bytes_since_checkpoint >= least || self.definitions_once {
            self.begin_checkpoint(false);
        }
    }

    /// The part that rides in this group.
    pub(crate) fn next_part(&mut self, group: u64) -> Option<Part> {
        let checkpointing = self.checkpointing.as_mut()?;
        if group < checkpointing.first_group { None } else { checkpointing.parts.pop_front() }
    }

    /// A part is durable; with the last one, so is the checkpoint.
    pub(crate) fn part_written(&mut self, number: u64, index: usize, place: Place) {
        let Some(checkpointing) = self.checkpointing.as_mut().filter(|c| c.number == number) else {
            return;
        };
        if index == 0 {
            checkpointing.start = Some(place);
        }
        if index + 1 == checkpointing.of && checkpointing.start.is_some() {
            self.checkpoint_before = self.checkpoint;
            self.checkpoint = checkpointing.start;
            self.checkpoint_bytes = checkpointing.bytes;
            self.bytes_since_checkpoint = 0;
            self.checkpointing = None;
        }
    }
}

/// See [`Log::part_bytes`].
pub(crate) fn part_bytes(max_frame_bytes: usize) -> usize {
    (max_frame_bytes / 4).clamp(1 << 10, 256 << 10)
}
