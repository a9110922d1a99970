//! NOR flash, as bytes at offsets.

use core::fmt;
use core::num::NonZeroU32;

use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind};

/// Largest word that a flash may have.
pub const MAX_WORD: usize = 64;
/// Bytes that are copied or compared at once.
const PIECE: usize = 128;

/// The flash did not do what it should. One word, because nearly every function answers it: as an
/// enum with an offset it took devices 1.2 KB more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct FlashFailed(NonZeroU32);

#[cfg(feature = "defmt")]
impl defmt::Format for FlashFailed {
    fn format(&self, f: defmt::Formatter<'_>) {
        match self.cause() {
            Cause::Driver(_) => defmt::write!(f, "FlashFailed(driver, {=u32})", self.0.get()),
            Cause::ReadBack { at } => defmt::write!(f, "FlashFailed(read back at {=u32:x})", at),
        }
    }
}

/// Why a flash has failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its driver says so.
    Driver(NorFlashErrorKind),
    /// What was written does not read back.
    ReadBack {
        /// Where; offsets that do not fit 31 bits are shown as the greatest that does.
        at: u32,
    },
}

impl FlashFailed {
    const READ_BACK: u32 = 1 << 31;
    const NOT_ALIGNED: u32 = 1;
    const OUT_OF_BOUNDS: u32 = 2;
    const OTHER: u32 = 3;

    fn driver(error: &impl NorFlashError) -> FlashFailed {
        FlashFailed::of(match error.kind() {
            NorFlashErrorKind::NotAligned => FlashFailed::NOT_ALIGNED,
            NorFlashErrorKind::OutOfBounds => FlashFailed::OUT_OF_BOUNDS,
            _ => FlashFailed::OTHER,
        })
    }

    pub(crate) fn read_back(at: u32) -> FlashFailed {
        FlashFailed::of(FlashFailed::READ_BACK | at.min(FlashFailed::READ_BACK - 1))
    }

    /// Why.
    #[must_use]
    pub fn cause(self) -> Cause {
        match self.0.get() {
            FlashFailed::NOT_ALIGNED => Cause::Driver(NorFlashErrorKind::NotAligned),
            FlashFailed::OUT_OF_BOUNDS => Cause::Driver(NorFlashErrorKind::OutOfBounds),
            code if code & FlashFailed::READ_BACK != 0 => {
                Cause::ReadBack { at: code & !FlashFailed::READ_BACK }
            }
            _ => Cause::Driver(NorFlashErrorKind::Other),
        }
    }

    fn of(code: u32) -> FlashFailed {
        FlashFailed(NonZeroU32::new(code).unwrap_or(NonZeroU32::MIN))
    }
}

impl fmt::Debug for FlashFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause().fmt(f)
    }
}

impl fmt::Display for FlashFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause() {
            Cause::Driver(kind) => write!(f, "the flash has failed: {kind}"),
            Cause::ReadBack { at } => {
                write!(f, "the flash has not kept what was written at {at:#x}; it is worn out")
            }
        }
    }
}

impl core::error::Error for FlashFailed {}

/// A flash with the operations that are needed here.
pub struct Flash<'f, F>(&'f mut F);

impl<'f, F: NorFlash> Flash<'f, F> {
    const SIZES: () = {
        assert!(F::READ_SIZE == 1, "wrap a flash that is not read by bytes");
        assert!(
            F::WRITE_SIZE <= MAX_WORD && MAX_WORD.is_multiple_of(F::WRITE_SIZE),
            "words of 1 to 64 bytes"
        );
        assert!(F::ERASE_SIZE >= 1_024, "units of 1 KiB or more");
    };

    /// Wraps a flash.
    pub fn new(flash: &'f mut F) -> Flash<'f, F> {
        let () = Self::SIZES;
        Flash(flash)
    }

    /// Bytes of a unit of erasing.
    #[must_use]
    pub fn unit(&self) -> u32 {
        F::ERASE_SIZE as u32
    }

    /// Bytes of a page: a unit, or 4,096 where a unit is smaller.
    #[must_use]
    pub fn page(&self) -> u32 {
        (F::ERASE_SIZE as u32).max(super::FRAME)
    }

    /// Bytes of a word.
    #[must_use]
    pub fn word(&self) -> u32 {
        F::WRITE_SIZE as u32
    }

    /// Reads bytes.
    ///
    /// # Errors
    /// The driver's.
    pub fn read(&mut self, at: u32, bytes: &mut [u8]) -> Result<(), FlashFailed> {
        self.0.read(at, bytes).map_err(|error| FlashFailed::driver(&error))
    }

    /// Erases whole units.
    ///
    /// # Errors
    /// The driver's.
    pub fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashFailed> {
        self.0.erase(from, to).map_err(|error| FlashFailed::driver(&error))
    }

    /// Writes bytes from the beginning of a word on; the last word is filled up with ones.
    ///
    /// # Errors
    /// The driver's.
    pub fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), FlashFailed> {
        let whole = bytes.len() - bytes.len() % F::WRITE_SIZE;
        let (body, tail) = bytes.split_at(whole);
        if !body.is_empty() {
            self.0.write(at, body).map_err(|error| FlashFailed::driver(&error))?;
        }
        if tail.is_empty() {
            return Ok(());
        }
        let mut word = [0xff; MAX_WORD];
        word[..tail.len()].copy_from_slice(tail);
        self.0
            .write(at + whole as u32, &word[..F::WRITE_SIZE])
            .map_err(|error| FlashFailed::driver(&error))
    }

    /// Copies bytes to erased words, and reads them back.
    ///
    /// # Errors
    /// The driver's, and what does not read back.
    pub fn copy(&mut self, from: u32, to: u32, length: u32) -> Result<(), FlashFailed> {
        let mut piece = [0; PIECE];
        let mut back = [0; PIECE];
        let mut done = 0;
        while done < length {
            let part = (length - done).min(PIECE as u32) as usize;
            self.read(from + done, &mut piece[..part])?;
            self.write(to + done, &piece[..part])?;
            self.read(to + done, &mut back[..part])?;
            if piece[..part] != back[..part] {
                return Err(FlashFailed::read_back(to + done));
            }
            done += part as u32;
        }
        Ok(())
    }

    /// Hands over bytes in pieces.
    ///
    /// # Errors
    /// The driver's.
    pub fn each(
        &mut self,
        at: u32,
        length: u32,
        mut take: impl FnMut(&[u8]),
    ) -> Result<(), FlashFailed> {
        let mut piece = [0; PIECE];
        let mut done = 0;
        while done < length {
            let part = (length - done).min(PIECE as u32) as usize;
            self.read(at + done, &mut piece[..part])?;
            take(&piece[..part]);
            done += part as u32;
        }
        Ok(())
    }
}
