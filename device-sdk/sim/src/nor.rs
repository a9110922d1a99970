//! NOR flash whose power can be cut at any write and erase.
//!
//! Strict: a word is written once between two erases, to whole words, within units. What was under way when
//! the power went is half done: of a write some words are whole, one is torn, the others blank; of an erase each
//! word is anything. A torn word may read differently each time.

use std::collections::BTreeMap;

use embedded_storage::nor_flash::{
    ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash,
};

use crate::random::Random;

/// Why an operation was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NorError {
    /// There is no power.
    Dead,
    /// Outside of the flash.
    Outside,
    /// Not whole words or units.
    Unaligned,
    /// A word was to be written twice.
    Twice {
        /// Where.
        at: u32,
    },
}

impl NorFlashError for NorError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            NorError::Outside => NorFlashErrorKind::OutOfBounds,
            NorError::Unaligned => NorFlashErrorKind::NotAligned,
            NorError::Dead | NorError::Twice { .. } => NorFlashErrorKind::Other,
        }
    }
}

/// A word that was being written when the power went.
#[derive(Debug, Clone, Copy)]
struct Torn<const WORD: usize> {
    settled: [u8; WORD],
    /// Bits that read as 0 or 1, differently each time.
    wavering: [u8; WORD],
}

/// A flash with words of `WORD` bytes and units of `UNIT`.
#[derive(Debug, Clone)]
pub struct Nor<const WORD: usize, const UNIT: usize> {
    bytes: Vec<u8>,
    written: Vec<bool>,
    torn: BTreeMap<usize, Torn<WORD>>,
    random: Random,
    cut_at: Option<u64>,
    dead: bool,
    /// Writes and erases that were begun.
    pub operations: u64,
    /// Erases of each unit.
    pub erases: Vec<u32>,
    /// A word was written twice, which is a mistake of who wrote it.
    pub misused: bool,
}

impl<const WORD: usize, const UNIT: usize> Nor<WORD, UNIT> {
    /// A blank flash of so many units.
    #[must_use]
    pub fn new(units: usize, seed: u64) -> Self {
        Nor {
            bytes: vec![0xff; units * UNIT],
            written: vec![false; units * UNIT / WORD],
            torn: BTreeMap::new(),
            random: Random::new(seed),
            cut_at: None,
            dead: false,
            operations: 0,
            erases: vec![0; units],
            misused: false,
        }
    }

    /// What the factory puts there.
    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self.written[at / WORD..(at + bytes.len()).div_ceil(WORD)].fill(true);
    }

    /// What is there, torn words as they are now.
    #[must_use]
    pub fn look(&self, at: usize, length: usize) -> &[u8] {
        &self.bytes[at..at + length]
    }

    /// What is torn from now on, and how, comes from this seed.
    pub fn reseed(&mut self, seed: u64) {
        self.random = Random::new(seed);
    }

    /// The power goes in the middle of this operation, counted from 0 since the beginning.
    pub fn cut_at(&mut self, operation: u64) {
        self.cut_at = Some(operation);
    }

    /// Whether there is no power.
    #[must_use]
    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// The power comes back.
    pub fn power_on(&mut self) {
        self.dead = false;
        self.cut_at = None;
    }

    /// Begins an operation; true when the power goes in the middle of it.
    fn begin(&mut self) -> Result<bool, NorError> {
        if self.dead {
            return Err(NorError::Dead);
        }
        self.dead = self.cut_at == Some(self.operations);
        self.operations += 1;
        Ok(self.dead)
    }

    /// Half of the torn words are all but written, a quarter all but blank, the others anything between.
    fn tear(&mut self, word: usize, wanted: &[u8]) {
        let mut torn = Torn { settled: [0xff; WORD], wavering: [0; WORD] };
        match self.random.below(4) {
            0 | 1 => torn.settled.copy_from_slice(wanted),
            2 => {}
            _ => {
                for (settled, wanted) in torn.settled.iter_mut().zip(wanted) {
                    *settled = wanted | self.random.number() as u8;
                }
            }
        }
        // One or two of the bits that should have become 0 waver.
        for _ in 0..1 + self.random.below(2) {
            let at = self.random.below(WORD);
            let bit = 1 << self.random.below(8);
            if wanted[at] & bit == 0 {
                torn.settled[at] &= !bit;
                torn.wavering[at] |= bit;
            }
        }
        self.torn.insert(word, torn);
        self.written[word] = true;
        self.waver();
    }

    fn waver(&mut self) {
        for (word, torn) in &self.torn {
            for n in 0..WORD {
                let wavers = torn.wavering[n] & self.random.number() as u8;
                self.bytes[word * WORD + n] = torn.settled[n] | wavers;
            }
        }
    }
}

impl<const WORD: usize, const UNIT: usize> ErrorType for Nor<WORD, UNIT> {
    type Error = NorError;
}

impl<const WORD: usize, const UNIT: usize> ReadNorFlash for Nor<WORD, UNIT> {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NorError> {
        if self.dead {
            return Err(NorError::Dead);
        }
        self.waver();
        let from = offset as usize;
        let found = self.bytes.get(from..from + bytes.len()).ok_or(NorError::Outside)?;
        bytes.copy_from_slice(found);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl<const WORD: usize, const UNIT: usize> NorFlash for Nor<WORD, UNIT> {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = UNIT;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NorError> {
        let (from, to) = (from as usize, to as usize);
        if !from.is_multiple_of(UNIT) || !to.is_multiple_of(UNIT) {
            return Err(NorError::Unaligned);
        }
        if to > self.bytes.len() || from > to {
            return Err(NorError::Outside);
        }
        for unit in from / UNIT..to / UNIT {
            let cut = self.begin()?;
            self.erases[unit] += 1;
            for word in unit * UNIT / WORD..(unit + 1) * UNIT / WORD {
                let place = word * WORD..(word + 1) * WORD;
                if cut && self.random.chance(300_000) {
                    // Not reached yet.
                    continue;
                }
                self.torn.remove(&word);
                if cut && self.random.chance(300_000) {
                    let anything = self.random.bytes(WORD);
                    self.bytes[place].copy_from_slice(&anything);
                    self.written[word] = true;
                } else {
                    self.bytes[place].fill(0xff);
                    self.written[word] = false;
                }
            }
            if cut {
                return Err(NorError::Dead);
            }
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NorError> {
        let from = offset as usize;
        if !from.is_multiple_of(WORD) || !bytes.len().is_multiple_of(WORD) {
            return Err(NorError::Unaligned);
        }
        if from + bytes.len() > self.bytes.len() {
            return Err(NorError::Outside);
        }
        let cut = self.begin()?;
        let words = bytes.len() / WORD;
        // The last word is the worst to be torn: then everything else is there.
        let whole = match (cut, self.random.below(2)) {
            (false, _) => words,
            (true, 0) => words - 1,
            (true, _) => self.random.below(words + 1),
        };
        for (n, wanted) in bytes.chunks_exact(WORD).enumerate() {
            let word = from / WORD + n;
            if n > whole || (n == whole && cut && self.random.chance(100_000)) {
                break;
            }
            if self.torn.contains_key(&word) {
                // It read as blank by chance: nothing good comes of writing it.
                continue;
            }
            if self.written[word] {
                self.misused = true;
                return Err(NorError::Twice { at: (word * WORD) as u32 });
            }
            if n == whole {
                self.tear(word, wanted);
                break;
            }
            self.bytes[word * WORD..(word + 1) * WORD].copy_from_slice(wanted);
            self.written[word] = true;
        }
        if cut { Err(NorError::Dead) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_written_once_between_two_erases() {
        let mut nor = Nor::<4, 4_096>::new(2, 1);
        nor.write(8, &[1; 8]).unwrap();
        assert_eq!(nor.write(12, &[1; 4]), Err(NorError::Twice { at: 12 }));
        assert!(nor.misused);
        nor.erase(0, 4_096).unwrap();
        nor.write(12, &[2; 4]).unwrap();
        assert_eq!(nor.look(8, 8), [0xff, 0xff, 0xff, 0xff, 2, 2, 2, 2]);
        assert_eq!(nor.write(2, &[1; 4]), Err(NorError::Unaligned));
        assert_eq!(nor.erase(0, 12_288), Err(NorError::Outside));
    }

    #[test]
    fn a_cut_leaves_whole_words_then_a_torn_one_then_none() {
        for seed in 0..200 {
            let mut nor = Nor::<4, 4_096>::new(1, seed);
            nor.cut_at(0);
            assert_eq!(nor.write(0, &[0; 32]), Err(NorError::Dead));
            assert_eq!(nor.read(0, &mut [0]), Err(NorError::Dead));
            nor.power_on();
            let words: Vec<&[u8]> = nor.look(0, 32).chunks(4).collect();
            let whole = words.iter().take_while(|word| **word == [0; 4]).count();
            let blank = words.iter().rev().take_while(|word| **word == [0xff; 4]).count();
            assert!(whole + blank >= 7, "seed {seed}: {words:?}");
        }
    }
}
