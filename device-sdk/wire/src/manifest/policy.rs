//! How a release is taken in.

use crate::cbor::{Fields, FormError, Full, Reader, Writer};

const MINUTES_OF_A_DAY: u16 = 24 * 60;

mod key {
    pub(super) const APPLY: u64 = 0;
    pub(super) const SELF_TEST: u64 = 1;
    pub(super) const CONTACT: u64 = 2;
    pub(super) const ATTEMPTS: u64 = 3;
    pub(super) const WINDOW: u64 = 4;
}

/// When a device that has everything may start into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Apply {
    /// At once.
    Auto,
    /// When its application, or a command that its application lets through, says so.
    Ask,
    /// Between these times of day, UTC.
    Window {
        /// Minute of the day when it begins, below 1,440.
        from: u16,
        /// How many minutes it lasts, 1 to 1,440.
        minutes: u16,
    },
}

/// How a release is taken in. Times are in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// When it may be started.
    pub apply: Apply,
    /// Within this time of a start on trial the self-test has to pass.
    pub self_test: u32,
    /// Within this time of a start on trial the gateway has to be reached.
    pub contact: u32,
    /// Starts that it has to prove itself, 1 to 10.
    pub attempts: u8,
}

impl Policy {
    /// Most starts on trial.
    pub const MAX_ATTEMPTS: u8 = 10;
    /// Longest deadline: 30 days.
    pub const MAX_DEADLINE: u32 = 30 * 24 * 3_600;

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Policy, FormError> {
        let mut policy = Policy::default();
        let mut apply = 0;
        let mut window = None;
        let mut fields = Fields::of(reader)?;
        while let Some(key) = fields.next_key()? {
            match key {
                key::APPLY => apply = fields.number(0..=2u8)?,
                key::SELF_TEST => policy.self_test = fields.number(1..=Policy::MAX_DEADLINE)?,
                key::CONTACT => policy.contact = fields.number(1..=Policy::MAX_DEADLINE)?,
                key::ATTEMPTS => policy.attempts = fields.number(1..=Policy::MAX_ATTEMPTS)?,
                key::WINDOW => window = Some(read_window(fields.value())?),
                _ => fields.skip()?,
            }
        }
        policy.apply = match (apply, window) {
            (0, None) => Apply::Auto,
            (1, None) => Apply::Ask,
            (2, Some(window)) => window,
            (2, None) => return Err(FormError::Missing { key: key::WINDOW }),
            _ => return Err(FormError::Range { key: key::WINDOW }),
        };
        Ok(policy)
    }

    /// Writes it.
    ///
    /// # Errors
    /// The buffer is too small.
    pub(super) fn write(&self, writer: &mut Writer<'_>) -> Result<(), Full> {
        let (apply, window) = match self.apply {
            Apply::Auto => (0, None),
            Apply::Ask => (1, None),
            Apply::Window { from, minutes } => (2, Some((from, minutes))),
        };
        writer.map(4 + usize::from(window.is_some()))?;
        writer.uint(key::APPLY)?;
        writer.uint(apply)?;
        writer.uint(key::SELF_TEST)?;
        writer.uint(self.self_test.into())?;
        writer.uint(key::CONTACT)?;
        writer.uint(self.contact.into())?;
        writer.uint(key::ATTEMPTS)?;
        writer.uint(self.attempts.into())?;
        if let Some((from, minutes)) = window {
            writer.uint(key::WINDOW)?;
            writer.array(2)?;
            writer.uint(from.into())?;
            writer.uint(minutes.into())?;
        }
        Ok(())
    }
}

fn read_window(reader: &mut Reader<'_>) -> Result<Apply, FormError> {
    let refused = FormError::Range { key: key::WINDOW };
    let (from, minutes) = super::read_pair(reader, key::WINDOW)?;
    let from = u16::try_from(from).map_err(|_| refused)?;
    let minutes = u16::try_from(minutes).map_err(|_| refused)?;
    if from >= MINUTES_OF_A_DAY || !(1..=MINUTES_OF_A_DAY).contains(&minutes) {
        return Err(refused);
    }
    Ok(Apply::Window { from, minutes })
}

impl Default for Policy {
    /// At once, with five minutes for the self-test, a day to reach the gateway, three attempts.
    fn default() -> Policy {
        Policy { apply: Apply::Auto, self_test: 300, contact: 24 * 3_600, attempts: 3 }
    }
}
