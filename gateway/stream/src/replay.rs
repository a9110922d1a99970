//! The second look at the segments of an opening store: doing again what their frames say.
//!
//! The first look found the frames and the checkpoint, and kept neither's bytes, so that opening
//! takes no more memory than one segment. What cannot be read a second time counts as damage,
//! as if it had not been read the first time either.

use crate::disk::read_full;
use crate::frame::Frame;
use crate::ids::SegmentId;
use crate::recovery::{CheckpointFound, Contents, Opening};
use crate::scan::{Scan, ScannedFrame};
use crate::segment::segment_name;
use crate::state::State;

/// How often a frame that was there is read again before it counts as damaged.
const TRIES: usize = 3;

impl Opening<'_> {
    /// Does again what the frames from the checkpoint on say.
    pub(crate) fn replay(
        &mut self,
        state: &mut State,
        contents: &mut Contents,
        from: Option<&CheckpointFound>,
    ) {
        let mut broken = 0;
        for (id, scan) in &mut contents.scans {
            if from.is_some_and(|from| *id < from.place.segment) {
                continue;
            }
            let Some(len) = self.candidates.iter().find(|c| c.id == *id).map(|c| c.len) else {
                continue;
            };
            let before = scan.frames.len();
            broken += self.with_segment(*id, len, |opening, bytes| {
                opening.replay_segment(state, scan, bytes, from)
            });
            let lost = before - scan.frames.len();
            if lost > 0 {
                scan.damaged = true;
                let name = segment_name(*id);
                self.recovery.notes.push(format!("{name}: {lost} frames cannot be read again"));
            }
        }
        self.note_malformed(broken);
    }

    /// Does again what the frames of one segment say, and forgets those that cannot be read. The
    /// number of sections that make no sense.
    fn replay_segment(
        &mut self,
        state: &mut State,
        scan: &mut Scan,
        bytes: &[u8],
        from: Option<&CheckpointFound>,
    ) -> usize {
        let in_any_order = self.options.trusts_stale_frames();
        let id = scan.segment;
        let mut broken = 0;
        scan.frames.retain(|frame| {
            if from.is_some_and(|from| frame.commit < from.commit) && !in_any_order {
                return true;
            }
            let Some(bytes) = self.frame_again(id, frame, bytes) else {
                return false;
            };
            broken += self.do_again(state, &bytes);
            self.last_frame = bytes;
            true
        });
        broken
    }

    /// The bytes of a frame that the first look has verified.
    fn frame_again(
        &self,
        segment: SegmentId,
        frame: &ScannedFrame,
        bytes: &[u8],
    ) -> Option<Vec<u8>> {
        let seed = self.seed(segment);
        let range = frame.offset as usize..(frame.offset + frame.total) as usize;
        let known = |bytes: &[u8]| {
            Frame::verify(bytes, seed).is_ok_and(|again| again.commit == frame.commit)
        };
        if let Some(bytes) = bytes.get(range).filter(|bytes| known(bytes)) {
            return Some(bytes.to_vec());
        }
        let name = segment_name(segment);
        (0..TRIES).find_map(|_| {
            let mut bytes = vec![0; frame.total as usize];
            let read = read_full(self.disk, &name, u64::from(frame.offset), &mut bytes);
            read.is_ok_and(|read| read == bytes.len() && known(&bytes)).then_some(bytes)
        })
    }

    /// The number of its sections that make no sense.
    fn do_again(&mut self, state: &mut State, bytes: &[u8]) -> usize {
        let Some(frame) = Frame::trusted(bytes) else { return 0 };
        self.recovery.frames_replayed += 1;
        let applied = frame.sections().map(|s| state.apply(&s, frame.base_ms, &self.options));
        applied.filter(Result::is_err).count()
    }
}
