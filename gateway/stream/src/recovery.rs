//! Opening a store: finding out what is there, whatever happened to it.
//!
//! 1. Look at all files and segment headers; a newer format ends it here, before any change.
//! 2. The headers say which segments, and which ends of segments, are void because a write
//!    failed there and its frame was written again later.
//! 3. From the newest complete checkpoint on, segments are read as a whole; of older ones only
//!    the footers, or all of it where that is missing or damaged.
//! 4. The state is the checkpoint's, changed by all frames from its first part on (replay.rs).
//! 5. Sequences that should be there and are not go into the ledger.
//! 6. The log goes on behind the last frame, once that is durable (taking_up.rs).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::checkpoint::part_bytes;
use crate::chores::{Chores, FreeSegment};
use crate::copying::Copying;
use crate::disk::Disk;
use crate::frame::{BLOCK, FORMAT_VERSION, Frame, SECTOR, Seed, claimed_store};
use crate::group::Group;
use crate::ids::{Epoch, Position, SegmentId, Seq, StreamId};
use crate::ledger::{Loss, LossReason};
use crate::log::{Counters, Log, SegmentInfo};
use crate::marking::Marking;
use crate::options::LogOptions;
use crate::planted::PlantedBug;
use crate::reading::Reading;
use crate::scan::{Scan, read_tolerant};
use crate::segment::{
    Chunk, FIRST_FRAME, FileName, Footer, HEADER, HeaderFound, Place, SegmentHeader, segment_name,
};
use crate::state::State;

/// Why a store was not opened. It was not changed.
#[derive(Debug, Error)]
pub enum OpenError {
    /// A newer version of this program wrote it.
    #[error(
        "{file} has format {version}, this program knows up to {FORMAT_VERSION}: use the newer program that wrote it, or another data directory"
    )]
    NewerFormat {
        /// The file that says so.
        file: String,
        /// Its format.
        version: u16,
    },
    /// The directory cannot be read.
    #[error("cannot list the store's files: {0}")]
    List(#[source] io::Error),
}

/// What opening a store found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Recovery {
    /// The store is new.
    pub created: bool,
    /// It was shut down; nothing is in doubt.
    pub clean: bool,
    /// Records appended from now on have another epoch than those before.
    pub new_epoch: bool,
    /// Segments with data.
    pub segments: usize,
    /// Of those, the ones that were read as a whole.
    pub scanned_segments: usize,
    /// Segments with damage.
    pub damaged_segments: usize,
    /// Bytes read.
    pub bytes_read: u64,
    /// Frames whose commits were done again.
    pub frames_replayed: u64,
    /// Bytes behind the last frame that an unfinished write left.
    pub torn_bytes: u64,
    /// Losses that were found now.
    pub losses: Vec<Loss>,
    /// What else is worth telling, in words.
    pub notes: Vec<String>,
}

/// A file that may be a segment of this store.
#[derive(Debug)]
pub(crate) struct Candidate {
    pub(crate) id: SegmentId,
    pub(crate) len: u32,
    pub(crate) header: Option<SegmentHeader>,
    /// Where the segment after it says that it ends.
    pub(crate) cut: Option<u32>,
}

/// The store while it is looked at.
pub(crate) struct Opening<'d> {
    pub(crate) disk: &'d dyn Disk,
    pub(crate) options: LogOptions,
    pub(crate) unix_ms: i64,
    pub(crate) store: u64,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) free: VecDeque<FreeSegment>,
    pub(crate) spares: VecDeque<u64>,
    pub(crate) litter: Vec<String>,
    pub(crate) damaged_files: usize,
    /// A segment was begun behind the last frame.
    pub(crate) unused: bool,
    /// Files with blocks that cannot be read: what was there is not known.
    pub(crate) unreadable: BTreeSet<String>,
    pub(crate) next_file: u64,
    /// The newest frame, as it was done again.
    pub(crate) last_frame: Vec<u8>,
    /// What segments are read into, one after the other.
    buffer: Vec<u8>,
    pub(crate) recovery: Recovery,
}

/// The newest complete checkpoint.
pub(crate) struct CheckpointFound {
    pub(crate) place: Place,
    pub(crate) commit: u64,
    pub(crate) body: Vec<u8>,
}

/// What segments hold, footers and scans put together.
#[derive(Default)]
pub(crate) struct Contents {
    /// Segments known by their footer only.
    pub(crate) footers: BTreeMap<SegmentId, Footer>,
    pub(crate) scans: BTreeMap<SegmentId, Scan>,
}

impl Log {
    /// Opens the store in `disk`, and makes one when there is none. `entropy` names a new store;
    /// `unix_ms` gives its first epoch.
    ///
    /// # Errors
    /// For a store of a newer format, which is left as it is, and when the directory cannot be
    /// read. Damage is never an error.
    pub fn open(
        disk: &dyn Disk,
        options: LogOptions,
        now: Instant,
        unix_ms: i64,
        entropy: u64,
    ) -> Result<(Log, Recovery), OpenError> {
        let options = with_usable_sizes(options);
        let mut opening = Opening::look(disk, options, unix_ms)?;
        opening.identify(entropy);
        opening.resolve_void();
        let mut contents = opening.read_contents();
        opening.forget_repeated(&mut contents);
        let (mut log, recovery) = opening.build(contents, now, entropy);
        log.state.trims_by_fastest = log.options.plants(PlantedBug::TrimByFastestReader);
        Ok((log, recovery))
    }
}

/// A segment takes at least two of the largest frames.
fn with_usable_sizes(mut options: LogOptions) -> LogOptions {
    options.max_frame_bytes = options.max_frame_bytes.clamp(4 << 10, 16 << 20);
    let frame = options.max_frame_bytes + part_bytes(options.max_frame_bytes) + 2 * BLOCK;
    let least = (2 * frame + 2 * BLOCK) as u32;
    options.segment_bytes = options.segment_bytes.max(least).next_multiple_of(BLOCK as u32);
    options.read_bytes = options.read_bytes.next_multiple_of(SECTOR).max(BLOCK);
    options.max_ledger_entries = options.max_ledger_entries.max(1);
    options.max_publishers = options.max_publishers.max(8);
    options
}

impl<'d> Opening<'d> {
    fn look(disk: &'d dyn Disk, options: LogOptions, unix_ms: i64) -> Result<Self, OpenError> {
        let mut names = disk.list().map_err(OpenError::List)?;
        names.sort_unstable();
        let mut opening = Opening {
            disk,
            options,
            unix_ms,
            store: 0,
            candidates: Vec::new(),
            free: VecDeque::new(),
            spares: VecDeque::new(),
            litter: Vec::new(),
            damaged_files: 0,
            unused: false,
            unreadable: BTreeSet::new(),
            next_file: 1,
            last_frame: Vec::new(),
            buffer: Vec::new(),
            recovery: Recovery::default(),
        };
        for name in &names {
            opening.look_at(name)?;
        }
        Ok(opening)
    }

    fn look_at(&mut self, name: &str) -> Result<(), OpenError> {
        let number = match FileName::parse(name) {
            FileName::Segment(id) => {
                let len = self.disk.len(name).unwrap_or(0).min(u64::from(u32::MAX)) as u32;
                let sector = self.read(name, 0, HEADER);
                let header = match SegmentHeader::decode(&sector) {
                    HeaderFound::Newer(version) => {
                        return Err(OpenError::NewerFormat { file: name.to_owned(), version });
                    }
                    // What a recycled file was before.
                    HeaderFound::Valid(header) if header.segment != id => None,
                    HeaderFound::Valid(header) => Some(header),
                    HeaderFound::Unusable => None,
                };
                self.candidates.push(Candidate { id, len, header, cut: None });
                id.0
            }
            FileName::Spare(id) => {
                let usable = self.disk.len(name).ok()
                    == Some(u64::from(self.options.segment_bytes))
                    && self.spares.len() < self.options.max_spare_segments;
                if usable {
                    self.spares.push_back(id);
                } else {
                    self.litter.push(name.to_owned());
                }
                id
            }
            FileName::Unfinished(id) => {
                self.litter.push(name.to_owned());
                id
            }
            FileName::Damaged(id) => {
                self.damaged_files += 1;
                id
            }
            FileName::Foreign => return Ok(()),
        };
        self.next_file = self.next_file.max(number.saturating_add(1));
        Ok(())
    }

    pub(crate) fn read(&mut self, name: &str, offset: u64, len: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.read_into(&mut bytes, name, offset, len);
        bytes
    }

    fn read_into(&mut self, bytes: &mut Vec<u8>, name: &str, offset: u64, len: usize) {
        let bad = read_tolerant(self.disk, name, offset, len, bytes);
        self.recovery.bytes_read += bytes.len() as u64;
        if bad > 0 {
            self.unreadable.insert(name.to_owned());
            self.recovery.notes.push(format!("{name}: {bad} blocks cannot be read"));
        }
    }

    /// Has `look` see all bytes of a segment. They share one buffer, whose first allocation is so
    /// large that it comes from the kernel and goes back there. A second one of that size would
    /// not: glibc takes freed sizes for usual ones and keeps them (16 MB more resident memory).
    pub(crate) fn with_segment<T>(
        &mut self,
        id: SegmentId,
        len: u32,
        look: impl FnOnce(&mut Self, &[u8]) -> T,
    ) -> T {
        let mut bytes = std::mem::take(&mut self.buffer);
        self.read_into(&mut bytes, &segment_name(id), 0, len as usize);
        let seen = look(self, &bytes);
        self.buffer = bytes;
        seen
    }

    pub(crate) fn seed(&self, segment: SegmentId) -> Seed {
        if self.options.trusts_stale_frames() {
            Seed::without_segment(self.store)
        } else {
            Seed::new(self.store, segment)
        }
    }

    /// Which store this is: what the newest header says, or else any frame.
    fn identify(&mut self, entropy: u64) {
        self.recovery.created = self.candidates.is_empty();
        let by_header = self.candidates.iter().rev().find_map(|c| Some(c.header?.store));
        let store = by_header.or_else(|| self.store_by_frames());
        self.store = store.unwrap_or(entropy);
        let store = self.store;
        let (own, foreign) = std::mem::take(&mut self.candidates)
            .into_iter()
            .partition(|c| c.header.is_none_or(|header| header.store == store));
        self.candidates = own;
        for candidate in foreign {
            let name = segment_name(candidate.id);
            self.recovery.notes.push(format!("{name} belongs to another store and is left alone"));
        }
    }

    fn store_by_frames(&mut self) -> Option<u64> {
        let files: Vec<_> = self.candidates.iter().rev().map(|c| (c.id, c.len)).collect();
        let store_in = |id, bytes: &[u8]| {
            (0..bytes.len()).step_by(SECTOR).find_map(|at| {
                let store = claimed_store(&bytes[at..])?;
                Frame::verify(&bytes[at..], Seed::new(store, id)).ok().map(|_| store)
            })
        };
        files
            .into_iter()
            .find_map(|(id, len)| self.with_segment(id, len, |_, bytes| store_in(id, bytes)))
    }

    /// Segments between a segment and the one that it says was before it are void, and so is
    /// what is behind the end that it names.
    fn resolve_void(&mut self) {
        let mut cuts: BTreeMap<SegmentId, u32> = BTreeMap::new();
        let mut kept = Vec::new();
        let mut void_above: Option<Option<SegmentId>> = None;
        for mut candidate in std::mem::take(&mut self.candidates).into_iter().rev() {
            if void_above.is_some_and(|above| Some(candidate.id) > above) {
                self.give_back(&candidate);
                continue;
            }
            candidate.cut = cuts.get(&candidate.id).copied();
            void_above = candidate.header.map(|header| {
                header.previous_end.map(|place| {
                    cuts.insert(place.segment, place.offset);
                    place.segment
                })
            });
            kept.push(candidate);
        }
        kept.reverse();
        self.candidates = kept;
    }

    fn give_back(&mut self, candidate: &Candidate) {
        let (id, len) = (candidate.id, candidate.len);
        self.free.push_back(FreeSegment { id, len, damaged: false });
    }

    /// Reads footers up to the newest checkpoint that is complete, and everything from there on;
    /// everything, when there is none.
    fn read_contents(&mut self) -> Contents {
        let present: BTreeSet<_> = self.candidates.iter().map(|c| c.id).collect();
        let named = self.candidates.iter().rev().filter_map(|c| c.header?.checkpoint);
        let mut starts: Vec<_> =
            named.map(|place| place.segment).filter(|id| present.contains(id)).collect();
        starts.dedup();
        // Two are kept: see Log::recycle.
        for start in starts.into_iter().take(2) {
            let contents = self.read_from(Some(start));
            if find_checkpoint(&contents).is_some() {
                return contents;
            }
            let name = segment_name(start);
            let note = format!("the checkpoint in {name} is damaged: reading more");
            self.recovery.notes.push(note);
        }
        self.read_from(None)
    }

    fn read_from(&mut self, start: Option<SegmentId>) -> Contents {
        let mut contents = Contents::default();
        let plan: Vec<_> = self.candidates.iter().map(|c| (c.id, c.len, c.cut)).collect();
        for (id, len, cut) in plan {
            let old = start.is_some_and(|start| id < start);
            // One that a restart left behind does not know what was appended after it.
            let whole = |footer: &Footer| cut.is_none_or(|cut| footer.end == cut);
            let footer = old.then(|| self.read_footer(id, len)).flatten().filter(whole);
            if let Some(footer) = footer {
                contents.footers.insert(id, footer);
                continue;
            }
            let any_order = self.options.trusts_stale_frames();
            let scan = self.with_segment(id, len, |opening, bytes| {
                Scan::of(id, bytes, opening.seed(id), cut, any_order)
            });
            contents.scans.insert(id, scan);
        }
        contents
    }

    fn read_footer(&mut self, id: SegmentId, len: u32) -> Option<Footer> {
        let name = segment_name(id);
        let at = u64::from(len.checked_sub(HEADER as u32)?);
        let trailer = self.read(&name, at, HEADER);
        let place = Footer::locate(&trailer, self.store, id)?;
        let inside =
            place.end <= place.start && u64::from(place.start) + u64::from(place.len) <= at;
        if !inside {
            return None;
        }
        let bytes = self.read(&name, u64::from(place.start), place.len as usize);
        place.decode(&bytes, self.store, id)
    }

    /// A commit that was written twice counts where it was written last. An end that is not there is
    /// damage, unless nothing is missing: then the last frame of it was written again.
    fn forget_repeated(&mut self, contents: &mut Contents) {
        if self.options.trusts_stale_frames() {
            return;
        }
        let mut later = u64::MAX;
        for scan in contents.scans.values_mut().rev() {
            scan.forget_from(later);
            let follows = scan.frames.last().is_some_and(|last| last.commit + 1 == later);
            scan.damaged |= scan.ends_early && !follows;
            later = scan.frames.first().map_or(later, |frame| frame.commit);
        }
    }

    fn build(mut self, mut contents: Contents, now: Instant, entropy: u64) -> (Log, Recovery) {
        let checkpoint = find_checkpoint(&contents);
        let mut state = State::default();
        if let Some(checkpoint) = &checkpoint {
            let broken;
            (state, broken) = State::decode(&checkpoint.body, &self.options);
            self.note_malformed(broken);
        }
        let listed = !state.epochs.is_empty();
        self.replay(&mut state, &mut contents, checkpoint.as_ref());
        let newest = self.newest_frames(&contents);
        let (epoch, clean) = self.end_of(&contents, checkpoint.as_ref(), entropy);
        // Without a checkpoint everything was read.
        let whole =
            (listed || checkpoint.is_none()) && !self.misses_frames(&contents, checkpoint.as_ref());
        if let Some(known) = self.newest_epoch(&contents).filter(|_| !whole) {
            state.epochs.forget_through(known);
        }
        state.epochs.note(epoch);
        let mut log = self.empty_log(state, epoch);
        let last = contents.scans.values().rev().find_map(|scan| scan.frames.last());
        log.next_commit = last.map_or(1, |frame| frame.commit + 1);
        log.checkpoint = checkpoint.as_ref().map(|checkpoint| checkpoint.place);
        log.checkpoint_before = self.checkpoint_before(log.checkpoint);
        log.checkpoint_bytes = checkpoint.as_ref().map_or(0, |c| c.body.len() as u64);
        log.bytes_since_checkpoint = bytes_since(&contents, log.checkpoint);
        self.index(&mut log, &contents);
        self.find_gaps(&mut log);
        if let Some(id) = newest {
            self.take_up(&mut log, &contents, id, clean);
            log.prove_end_later(now, &contents, id);
        }
        self.recovery.segments = log.segments.len();
        self.recovery.damaged_segments = log.segments.values().filter(|s| s.damaged).count();
        self.hand_over(&mut log);
        (log, self.recovery)
    }

    /// The newest that headers name in front of this one.
    fn checkpoint_before(&self, newest: Option<Place>) -> Option<Place> {
        let named = self.candidates.iter().filter_map(|c| c.header?.checkpoint);
        named.filter(|place| Some(*place) < newest).max()
    }

    pub(crate) fn note_malformed(&mut self, sections: usize) {
        if sections > 0 {
            let note = format!("{sections} sections with valid checksums make no sense");
            self.recovery.notes.push(note);
        }
    }

    /// The last segment with frames; later ones were begun and never used.
    fn newest_frames(&mut self, contents: &Contents) -> Option<SegmentId> {
        let used = |id: &SegmentId| {
            contents.footers.contains_key(id)
                || contents.scans.get(id).is_some_and(|scan| !scan.frames.is_empty())
        };
        let newest = self.candidates.iter().rev().map(|c| c.id).find(used);
        let (kept, unused): (Vec<_>, Vec<_>) = std::mem::take(&mut self.candidates)
            .into_iter()
            .partition(|candidate| newest.is_some_and(|newest| candidate.id <= newest));
        self.candidates = kept;
        for candidate in unused {
            self.give_back(&candidate);
            self.unused = true;
        }
        newest
    }

    /// The epoch to go on with, and whether the end is a clean one.
    fn end_of(
        &mut self,
        contents: &Contents,
        from: Option<&CheckpointFound>,
        entropy: u64,
    ) -> (Epoch, bool) {
        let frames = contents.scans.values().flat_map(|scan| &scan.frames);
        let clean = frames.last().is_some_and(|frame| frame.clean);
        let epoch = match self.newest_epoch(contents) {
            None => first_epoch(self.unix_ms, entropy),
            Some(epoch)
                if !self.options.is_copy
                    && !self.misses_frames(contents, from)
                    && (clean || self.ends_in_zeros(contents)) =>
            {
                epoch
            }
            Some(epoch) => {
                // The clock as well, because the newest epoch may have gone with what was lost.
                self.recovery.new_epoch = true;
                first_epoch(self.unix_ms, 0).max(Epoch(epoch.0.saturating_add(1)))
            }
        };
        self.recovery.clean = clean;
        (epoch, clean)
    }

    /// The newest that anything names.
    fn newest_epoch(&self, contents: &Contents) -> Option<Epoch> {
        let frames = contents.scans.values().flat_map(|scan| &scan.frames);
        let headers = self.candidates.iter().filter_map(|c| Some(c.header?.epoch));
        frames.map(|frame| frame.epoch).chain(headers).max()
    }

    /// Whether a frame is missing that the state is made of: a stream may have had records in it
    /// and none behind it, so that nobody knows which of its sequences are used.
    fn misses_frames(&self, contents: &Contents, from: Option<&CheckpointFound>) -> bool {
        if self.options.trusts_stale_frames() {
            return false;
        }
        let first = from.map_or(1, |checkpoint| checkpoint.commit);
        let frames = contents.scans.values().flat_map(|scan| &scan.frames);
        let needed = frames.map(|frame| frame.commit).filter(|commit| *commit >= first);
        !needed.zip(first..).all(|(have, expected)| have == expected)
    }

    fn empty_log(&mut self, state: State, epoch: Epoch) -> Log {
        Log {
            store: self.store,
            epoch,
            state,
            unix_ms: self.unix_ms,
            open: Group::new(0, Position(0)),
            closed: VecDeque::new(),
            closed_bytes: 0,
            flight_bytes: 0,
            retry: None,
            retry_at: None,
            backoff: Duration::from_millis(20),
            flush_through: None,
            end: Position(0),
            durable: Position(0),
            next_commit: 1,
            spare_sections: Vec::new(),
            job: None,
            segments: BTreeMap::new(),
            active: None,
            log_end: None,
            next_file: self.next_file,
            chores: Chores::default(),
            checkpointing: None,
            checkpoint: None,
            checkpoint_before: None,
            checkpoint_bytes: 0,
            bytes_since_checkpoint: 0,
            definitions_once: false,
            releases: VecDeque::new(),
            disk_full: false,
            shutting_down: false,
            only_looked_at: false,
            marking: Marking::default(),
            copying: Copying::default(),
            reading: Reading::default(),
            counters: Counters::default(),
            options: self.options.clone(),
        }
    }

    /// Tells the streams where their records are.
    fn index(&mut self, log: &mut Log, contents: &Contents) {
        for candidate in &self.candidates {
            let (id, len) = (candidate.id, candidate.len);
            let (chunks, end, damaged) = if let Some(footer) = contents.footers.get(&id) {
                (footer.chunks.clone(), footer.end, false)
            } else if let Some(scan) = contents.scans.get(&id) {
                self.recovery.scanned_segments += 1;
                (scan.index().chunks, scan.end, scan.damaged)
            } else {
                continue;
            };
            log.segments.insert(id, SegmentInfo { len, end, live: 0, live_bytes: 0, damaged });
            for chunk in chunks {
                log.place(chunk, false);
            }
        }
    }

    /// Compares what is there with what should be.
    fn find_gaps(&mut self, log: &mut Log) {
        for index in 0..log.state.streams.len() {
            let id = StreamId(index as u16);
            let stream = &log.state.streams[index];
            let cursors = stream.readers.iter().filter_map(|id| Some(log.state.reader(*id)?.next));
            let end = stream.chunks.back().map_or(stream.first, Chunk::end);
            let next = cursors.fold(stream.next.max(end), Seq::max);
            let mut expected = stream.first;
            let mut gaps = Vec::new();
            for chunk in &stream.chunks {
                if chunk.first > expected {
                    gaps.push((expected, chunk.first));
                }
                expected = chunk.end().max(expected);
            }
            if next > expected {
                gaps.push((expected, next));
            }
            if let Some(stream) = log.state.stream_mut(id) {
                stream.next = next;
                stream.durable = next;
            }
            for (first, end) in gaps {
                self.enter_gap(log, id, first, end);
            }
        }
    }

    fn enter_gap(&mut self, log: &mut Log, stream: StreamId, first: Seq, end: Seq) {
        for (first, end) in log.state.ledger.untold(stream, first, end) {
            self.enter_untold(log, stream, first, end);
        }
    }

    fn enter_untold(&mut self, log: &mut Log, stream: StreamId, first: Seq, end: Seq) {
        let loss = Loss {
            stream,
            first,
            last: Seq(end.0 - 1),
            records: end.0 - first.0,
            bytes: 0,
            reason: LossReason::Damaged,
            unix_ms: self.unix_ms,
        };
        log.state.enter_loss(loss, &self.options);
        log.open.push_loss(loss);
        log.chores.defined = true;
        self.recovery.losses.push(loss);
    }

    fn hand_over(&mut self, log: &mut Log) {
        log.chores.spares = std::mem::take(&mut self.spares);
        log.chores.free = std::mem::take(&mut self.free);
        log.chores.litter = std::mem::take(&mut self.litter);
        log.chores.damaged_files = self.damaged_files;
    }
}

/// The files of a store, before anything but their headers is read.
pub(crate) struct Survey {
    pub(crate) store: u64,
    /// The newest epoch that a header names.
    pub(crate) epoch: Epoch,
    /// In the order of the log, without those that are void.
    pub(crate) segments: Vec<Candidate>,
    /// Files that were set aside because of damage.
    pub(crate) kept_aside: usize,
}

/// Steps 1 and 2 of opening a store, for looking at it.
pub(crate) fn survey(disk: &dyn Disk) -> Result<Survey, OpenError> {
    let mut opening = Opening::look(disk, LogOptions::default(), 0)?;
    opening.identify(0);
    opening.resolve_void();
    let epochs = opening.candidates.iter().filter_map(|candidate| Some(candidate.header?.epoch));
    Ok(Survey {
        store: opening.store,
        epoch: epochs.max().unwrap_or_default(),
        segments: opening.candidates,
        kept_aside: opening.damaged_files,
    })
}

/// Greater for every later start of a store, so that a sink never takes records of a new store
/// for those of an old one with the same name: seconds since 1970, or chance when the clock is
/// not set.
fn first_epoch(unix_ms: i64, entropy: u64) -> Epoch {
    const YEAR_2020: u32 = 1_577_836_800;
    match u32::try_from(unix_ms / 1000) {
        Ok(seconds) if seconds >= YEAR_2020 => Epoch(seconds),
        Ok(_) | Err(_) => Epoch(1 + (entropy % u64::from(YEAR_2020 - 1)) as u32),
    }
}

fn find_checkpoint(contents: &Contents) -> Option<CheckpointFound> {
    let mut best = None;
    let mut growing: Option<(u64, usize, CheckpointFound)> = None;
    for scan in contents.scans.values() {
        for frame in &scan.frames {
            let Some(part) = &frame.part else { continue };
            if part.index == 0 {
                let place = Place { segment: scan.segment, offset: frame.offset };
                let (commit, body) = (frame.commit, part.bytes.clone());
                growing = Some((part.number, 1, CheckpointFound { place, commit, body }));
            } else if let Some((_, have, found)) = growing
                .as_mut()
                .filter(|(number, have, _)| *number == part.number && *have == part.index)
            {
                found.body.extend_from_slice(&part.bytes);
                *have += 1;
            }
            if growing
                .as_ref()
                .is_some_and(|(number, have, _)| *number == part.number && *have == part.of)
            {
                best = growing.take().map(|(_, _, found)| found);
            }
        }
    }
    best
}

fn bytes_since(contents: &Contents, checkpoint: Option<Place>) -> u64 {
    let behind = |scan: &Scan| checkpoint.is_none_or(|place| scan.segment > place.segment);
    let scans = contents.scans.values().filter(|scan| behind(scan));
    scans.map(|scan| u64::from(scan.end - FIRST_FRAME)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_store_gets_a_later_epoch_than_one_made_before() {
        let at = |ms| first_epoch(ms, 77).0;
        assert!(at(1_800_000_000_000) > at(1_700_000_000_000));
        assert!(at(5_000) < at(1_700_000_000_000));
        assert!(first_epoch(i64::MIN, u64::MAX).0 > 0);
    }
}
