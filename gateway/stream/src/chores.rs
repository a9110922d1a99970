//! Work for the disk between the groups: preparing segments ahead of time, giving back what is
//! no longer needed. In small steps, because a group may have to wait for one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::disk::{DiskRequest, Failure, Request, Step};
use crate::ids::SegmentId;
use crate::log::Log;
use crate::segment::{damaged_name, segment_name, spare_name, unfinished_name};
use crate::writing::Job;

/// Bytes of a new segment written in one step.
const STEP_BYTES: u32 = 256 << 10;
/// Wait after a chore that failed.
const RETRY: Duration = Duration::from_secs(1);

/// What is to be done, and what there is.
#[derive(Debug, Default)]
pub(crate) struct Chores {
    /// Prepared segments.
    pub(crate) spares: VecDeque<u64>,
    /// Segments without anything needed.
    pub(crate) free: VecDeque<FreeSegment>,
    /// Names left over by failed writes.
    pub(crate) litter: Vec<String>,
    /// Files kept because of damage.
    pub(crate) damaged_files: usize,
    /// The segment being prepared, and how far it is.
    preparing: Option<(u64, u32)>,
    not_before: Option<Instant>,
    pub(crate) group_was_last: bool,
    /// Definitions were added without a time: they wait from the next one given.
    pub(crate) defined: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct FreeSegment {
    pub(crate) id: SegmentId,
    pub(crate) len: u32,
    pub(crate) damaged: bool,
}

/// The chore under way.
#[derive(Debug)]
pub(crate) enum Chore {
    Prepare { id: u64, done: u32 },
    Recycle { segment: FreeSegment, spare: u64 },
    Remove(FreeSegment),
    KeepAside(FreeSegment),
    Tidy,
}

impl Log {
    /// Whether the next segment must be prepared now, even if groups never leave a pause.
    pub(crate) fn chore_is_pressing(&self) -> bool {
        let half_full = self.active.as_ref().is_some_and(|a| a.offset > a.len / 2);
        let waiting = self.chores.not_before.is_some();
        self.chores.group_was_last
            && half_full
            && !waiting
            && self.chores.spares.is_empty()
            && self.wants_spare()
            && self.retry.is_none()
    }

    fn wants_spare(&self) -> bool {
        !self.shutting_down && self.chores.spares.len() <= self.options.reserve_segments
    }

    /// When a chore that failed is tried again.
    pub(crate) fn chore_timeout(&self) -> Option<Instant> {
        let work = !self.chores.free.is_empty() || self.wants_spare();
        self.chores.not_before.filter(|_| work)
    }

    pub(crate) fn start_chore(&mut self, now: Instant) -> Option<DiskRequest> {
        if self.chores.not_before.is_some_and(|at| now < at) {
            return None;
        }
        self.chores.not_before = None;
        let (chore, steps) = self.next_chore()?;
        self.chores.group_was_last = false;
        self.job = Some(Job::Chore(chore));
        Some(DiskRequest(Request::Write { steps }))
    }

    fn next_chore(&mut self) -> Option<(Chore, Vec<Step>)> {
        if self.retry.is_none() && !self.chores.litter.is_empty() {
            let names = std::mem::take(&mut self.chores.litter);
            let steps = names.into_iter().map(|name| Step::Remove(name).may_fail()).collect();
            return Some((Chore::Tidy, steps));
        }
        if let Some(segment) = self.chores.free.pop_front() {
            return Some(self.free_steps(segment));
        }
        if !self.wants_spare() {
            return None;
        }
        let (id, done) = match self.chores.preparing {
            Some(preparing) => preparing,
            None => (self.take_file_number(), 0),
        };
        let steps = self.prepare_steps(id, done);
        Some((Chore::Prepare { id, done }, steps))
    }

    fn free_steps(&mut self, segment: FreeSegment) -> (Chore, Vec<Step>) {
        let from = segment_name(segment.id);
        let room_aside = self.chores.damaged_files < self.options.max_damaged_files;
        if segment.damaged && room_aside && !self.disk_full {
            let to = damaged_name(segment.id);
            return (Chore::KeepAside(segment), vec![Step::Rename { from, to }]);
        }
        let useful = segment.len == self.options.segment_bytes && !segment.damaged;
        if useful && self.chores.spares.len() < self.options.max_spare_segments {
            let spare = segment.id.0;
            let to = spare_name(spare);
            return (Chore::Recycle { segment, spare }, vec![Step::Rename { from, to }]);
        }
        (Chore::Remove(segment), vec![Step::Remove(from)])
    }

    /// Zeros, written and synced before the file counts for anything, under a name that is
    /// removed at the next open.
    fn prepare_steps(&self, id: u64, done: u32) -> Vec<Step> {
        let name = unfinished_name(id);
        let len = self.options.segment_bytes;
        let mut steps = Vec::new();
        if done == 0 {
            steps.push(Step::NeedFree(u64::from(len)));
            steps.push(Step::Create { name: name.clone(), zeroed: 0 });
        }
        let step = STEP_BYTES.min(len - done);
        let bytes = Bytes::from(vec![0; step as usize]);
        steps.push(Step::Write { name: name.clone(), offset: u64::from(done), bytes });
        steps.push(Step::Sync(name.clone()));
        if done + step == len {
            steps.push(Step::Rename { from: name, to: spare_name(id) });
            steps.push(Step::SyncDir);
        }
        steps
    }

    pub(crate) fn chore_done(&mut self, now: Instant, chore: Chore, result: Result<(), Failure>) {
        match (chore, result) {
            (Chore::Prepare { id, done }, Ok(())) => {
                let done = done + STEP_BYTES.min(self.options.segment_bytes - done);
                self.counters.bytes_written += u64::from(STEP_BYTES);
                if done < self.options.segment_bytes {
                    self.chores.preparing = Some((id, done));
                } else {
                    self.chores.preparing = None;
                    self.gained_spare(id);
                }
            }
            (Chore::Prepare { id, .. }, Err(failure)) => {
                self.chores.preparing = None;
                self.chores.litter.push(unfinished_name(id));
                self.chore_failed(now, &failure);
            }
            (Chore::Recycle { spare, .. }, Ok(())) => self.gained_spare(spare),
            (Chore::KeepAside(_), Ok(())) => self.chores.damaged_files += 1,
            (Chore::Remove(_) | Chore::Tidy, Ok(())) => {}
            // Made by a write that failed before it had this name.
            (Chore::Recycle { .. } | Chore::Remove(_) | Chore::KeepAside(_), Err(failure))
                if failure.error.kind() == std::io::ErrorKind::NotFound => {}
            (
                Chore::Recycle { segment, .. } | Chore::Remove(segment) | Chore::KeepAside(segment),
                Err(failure),
            ) => {
                self.chores.free.push_back(segment);
                self.chore_failed(now, &failure);
            }
            (Chore::Tidy, Err(failure)) => self.chore_failed(now, &failure),
        }
    }

    fn gained_spare(&mut self, spare: u64) {
        self.chores.spares.push_back(spare);
        if self.chores.spares.len() > self.options.reserve_segments {
            self.disk_full = false;
        }
    }

    fn chore_failed(&mut self, now: Instant, failure: &Failure) {
        self.note_failure(failure);
        self.chores.not_before = Some(now + RETRY);
    }
}
