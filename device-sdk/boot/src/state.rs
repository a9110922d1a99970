//! The state of a device: which release runs, how far the next one is.
//!
//! Invariant: a record replaces the one before only when it is whole.

use embedded_storage::nor_flash::NorFlash;
use tidegate_wire::crc32c::crc32c;
use tidegate_wire::digest::Digest8;

use crate::flash::{Flash, FlashFailed};
use crate::layout::{Layout, MAX_PARTS};

/// Bytes of a record.
pub(crate) const RECORD: usize = 64;
const MAGIC: [u8; 4] = *b"TGS1";
const NO_LEDGER: u8 = 255;

/// What a device is in the middle of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Phase {
    /// Nothing that the bootloader has to do with.
    Idle,
    /// A release is in flash, and is to be started.
    Staged,
    /// Its images are being exchanged.
    Swapping,
    /// It runs and has to prove itself.
    Trial,
    /// It has not, and what ran before comes back.
    Reverting,
}

/// How the last release ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Outcome {
    /// There was none.
    None,
    /// It has proved itself.
    Confirmed,
    /// It has not.
    Reverted,
    /// The bootloader did not start it.
    Refused,
}

/// Everything that has to change at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// What the device is in the middle of.
    pub phase: Phase,
    /// Bit n: part n runs at B.
    pub sides: u8,
    /// The same for the release that is staged or on trial.
    pub next_sides: u8,
    /// Starts on trial that are left.
    pub attempts: u8,
    /// Ledger of the installed release; none from the factory.
    pub ledger: Option<u8>,
    /// How the last release ended.
    pub outcome: Outcome,
    /// Why: the code of a refusal; 0 when it was confirmed.
    pub code: u8,
    /// The gateway knows how.
    pub reported: bool,
    /// Half steps of the exchange that are done.
    pub step: u32,
    /// Pages of each part that are exchanged.
    pub pages: [u16; MAX_PARTS],
    /// Sequence of the installed release.
    pub sequence: u64,
    /// Least sequence that may be taken.
    pub floor: u64,
    /// Version of the key set in flash that counts; 0: the one in the bootloader.
    pub key_set: u32,
    /// The manifest that is staged or on trial, or was given up last.
    pub manifest: Digest8,
}

impl State {
    /// A device as it comes from the factory.
    pub const FACTORY: State = State {
        phase: Phase::Idle,
        sides: 0,
        next_sides: 0,
        attempts: 0,
        ledger: None,
        outcome: Outcome::None,
        code: 0,
        reported: false,
        step: 0,
        pages: [0; MAX_PARTS],
        sequence: 0,
        floor: 0,
        key_set: 0,
        manifest: [0; 8],
    };

    /// The ledger for the release that comes.
    #[must_use]
    pub fn next_ledger(&self) -> u8 {
        match self.ledger {
            Some(0) => 1,
            Some(_) | None => 0,
        }
    }

    /// Sides as they are now, the release on trial counted.
    #[must_use]
    pub fn running_sides(&self) -> u8 {
        match self.phase {
            Phase::Trial => self.next_sides,
            Phase::Idle | Phase::Staged | Phase::Swapping | Phase::Reverting => self.sides,
        }
    }

    pub(crate) fn write(&self, generation: u32) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        record[..4].copy_from_slice(&MAGIC);
        record[4..8].copy_from_slice(&generation.to_le_bytes());
        record[8] = match self.phase {
            Phase::Idle => 0,
            Phase::Staged => 1,
            Phase::Swapping => 2,
            Phase::Trial => 3,
            Phase::Reverting => 4,
        };
        record[9] = self.sides;
        record[10] = self.next_sides;
        record[11] = self.attempts;
        record[12] = self.ledger.unwrap_or(NO_LEDGER);
        record[13] = match self.outcome {
            Outcome::None => 0,
            Outcome::Confirmed => 1,
            Outcome::Reverted => 2,
            Outcome::Refused => 3,
        };
        record[14] = self.code;
        record[15] = u8::from(self.reported);
        record[16..20].copy_from_slice(&self.step.to_le_bytes());
        for (place, pages) in record[20..28].chunks_exact_mut(2).zip(self.pages) {
            place.copy_from_slice(&pages.to_le_bytes());
        }
        record[28..36].copy_from_slice(&self.sequence.to_le_bytes());
        record[36..44].copy_from_slice(&self.floor.to_le_bytes());
        record[44..48].copy_from_slice(&self.key_set.to_le_bytes());
        record[48..56].copy_from_slice(&self.manifest);
        let crc = crc32c(&record[..60]);
        record[60..].copy_from_slice(&crc.to_le_bytes());
        record
    }

    /// The generation and the state; `None` when it is no valid record.
    pub(crate) fn read(record: &[u8; RECORD]) -> Option<(u32, State)> {
        let number = |at: usize| -> Option<u32> {
            Some(u32::from_le_bytes(*record.get(at..)?.first_chunk()?))
        };
        let long = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(*record.get(at..)?.first_chunk()?))
        };
        if record[..4] != MAGIC || crc32c(&record[..60]) != number(60)? {
            return None;
        }
        let phase = match record[8] {
            0 => Phase::Idle,
            1 => Phase::Staged,
            2 => Phase::Swapping,
            3 => Phase::Trial,
            4 => Phase::Reverting,
            _ => return None,
        };
        let outcome = match record[13] {
            0 => Outcome::None,
            1 => Outcome::Confirmed,
            2 => Outcome::Reverted,
            3 => Outcome::Refused,
            _ => return None,
        };
        let mut pages = [0; MAX_PARTS];
        for (pages, place) in pages.iter_mut().zip(record[20..28].chunks_exact(2)) {
            *pages = u16::from_le_bytes([place[0], place[1]]);
        }
        let mut manifest = [0; 8];
        manifest.copy_from_slice(&record[48..56]);
        let state = State {
            phase,
            sides: record[9],
            next_sides: record[10],
            attempts: record[11],
            ledger: (record[12] < 2).then_some(record[12]),
            outcome,
            code: record[14],
            reported: record[15] == 1,
            step: number(16)?,
            pages,
            sequence: long(28)?,
            floor: long(36)?,
            key_set: number(44)?,
            manifest,
        };
        Some((number(4)?, state))
    }
}

/// The records, and where the next one goes.
#[derive(Clone, Copy, Debug)]
pub struct StateLog {
    state: State,
    generation: u32,
    /// The unit of the newest record, and the first place behind the last that is not blank.
    unit: u32,
    place: u32,
}

impl StateLog {
    /// No records.
    pub const FACTORY: StateLog =
        StateLog { state: State::FACTORY, generation: 0, unit: 0, place: 0 };

    /// Reads the state.
    ///
    /// # Errors
    /// The flash has failed.
    pub fn load<F: NorFlash>(
        flash: &mut Flash<'_, F>,
        layout: &Layout<'_>,
    ) -> Result<StateLog, FlashFailed> {
        let places = flash.unit() / RECORD as u32;
        let mut log = StateLog::FACTORY;
        let mut used = [0; 2];
        let mut invalid = 0;
        for unit in 0..2u32 {
            for place in 0..places {
                let at = layout.state.from + unit * flash.unit() + place * RECORD as u32;
                let mut record = [0; RECORD];
                flash.read(at, &mut record)?;
                if record.iter().all(|byte| *byte == 0xff) {
                    continue;
                }
                used[unit as usize] = place + 1;
                match State::read(&record) {
                    Some((generation, state)) if generation > log.generation => {
                        (log.state, log.generation, log.unit) = (state, generation, unit);
                    }
                    Some(_) => {}
                    None => invalid += 1,
                }
            }
        }
        log.place = used[log.unit as usize];
        // A torn record may read right the next time, and has had a generation, too.
        log.generation += invalid;
        Ok(log)
    }

    /// The state that counts.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// How many states were stored before this one and with it: rises with each.
    #[must_use]
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// Makes another state count.
    ///
    /// # Errors
    /// The flash has failed; the state that counted before may count, or the new one.
    pub fn store<F: NorFlash>(
        &mut self,
        flash: &mut Flash<'_, F>,
        layout: &Layout<'_>,
        state: State,
    ) -> Result<(), FlashFailed> {
        let unit = flash.unit();
        if self.place >= unit / RECORD as u32 {
            self.unit = 1 - self.unit;
            let from = layout.state.from + self.unit * unit;
            flash.erase(from, from + unit)?;
            self.place = 0;
        }
        let record = state.write(self.generation + 1);
        let at = layout.state.from + self.unit * unit + self.place * RECORD as u32;
        self.place += 1;
        flash.write(at, &record)?;
        let mut back = [0; RECORD];
        flash.read(at, &mut back)?;
        if back != record {
            return Err(FlashFailed::read_back(at));
        }
        self.generation += 1;
        self.state = state;
        Ok(())
    }
}
