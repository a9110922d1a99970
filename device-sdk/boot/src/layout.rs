//! Where things are in flash.

use core::fmt;

/// Most parts.
pub const MAX_PARTS: usize = 4;
/// Bytes of an image that are encoded together; a page holds a whole number of them.
pub const FRAME: u32 = 4_096;
/// Where the journal of a ledger begins.
pub(crate) const JOURNAL: u32 = 1_280;

/// Bytes from one offset to, not including, another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Region {
    /// The first.
    pub from: u32,
    /// The one behind the last.
    pub to: u32,
}

impl Region {
    /// How many bytes.
    #[must_use]
    pub const fn length(&self) -> u32 {
        self.to.saturating_sub(self.from)
    }

    const fn overlaps(&self, other: &Region) -> bool {
        self.from < other.to && other.from < self.to
    }
}

/// How a part gets a new image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Kind {
    /// It runs at A; images are exchanged with B.
    Swapped,
    /// It runs at either side.
    InPlace,
}

/// The places of one component.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The component's id, 0 to 3.
    pub id: u8,
    /// How it gets a new image.
    pub kind: Kind,
    /// The first place.
    pub a: Region,
    /// The second.
    pub b: Region,
}

impl Part {
    /// Largest image.
    #[must_use]
    pub const fn room(&self) -> u32 {
        self.a.length()
    }
}

/// Where everything is. [`Layout::check`] it in a test, or at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layout<'l> {
    /// Two units.
    pub state: Region,
    /// Two pages.
    pub keys: Region,
    /// Two ledgers.
    pub ledgers: [Region; 2],
    /// One to four parts; the first is the one that is started, id 0.
    pub parts: &'l [Part],
}

/// What is wrong with a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum LayoutError {
    /// A region is empty, too small, or not whole units or pages.
    Region(Region),
    /// Two regions have bytes in common.
    Overlap(Region, Region),
    /// There are no parts or too many, the first has not the id 0, or an id comes twice.
    Parts,
    /// The journal has no room for all pages of an image.
    Journal {
        /// Pages of all parts.
        pages: u32,
        /// Records that fit.
        records: u32,
    },
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LayoutError::Region(Region { from, to }) => {
                write!(f, "{from:#x} to {to:#x} has not the size that it has to have")
            }
            LayoutError::Overlap(one, other) => {
                write!(f, "{:#x} to {:#x} and ", one.from, one.to)?;
                write!(f, "{:#x} to {:#x} overlap", other.from, other.to)
            }
            LayoutError::Parts => {
                f.write_str("there have to be 1 to 4 parts with different ids, the first with id 0")
            }
            LayoutError::Journal { pages, records } => write!(
                f,
                "a ledger has room for {records} pages, and the parts have {pages}; enlarge it"
            ),
        }
    }
}

impl core::error::Error for LayoutError {}

impl<'l> Layout<'l> {
    /// Checks it against the unit and the word of a flash.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self, unit: u32, word: u32) -> Result<(), LayoutError> {
        let page = unit.max(FRAME);
        let whole = |region: &Region, size: u32, least: u32| {
            let right = region.from.is_multiple_of(unit)
                && region.length().is_multiple_of(size)
                && region.length() >= least;
            if right { Ok(()) } else { Err(LayoutError::Region(*region)) }
        };
        whole(&self.state, 2 * unit, 2 * unit)?;
        whole(&self.keys, 2 * page, 2 * page)?;
        whole(&self.ledgers[0], page, page)?;
        whole(&self.ledgers[1], page, page)?;
        self.check_ids()?;
        for part in self.parts {
            whole(&part.a, page, page)?;
            let more = match part.kind {
                Kind::Swapped => page,
                Kind::InPlace => 0,
            };
            whole(&part.b, page, part.a.length() + more)?;
        }
        self.check_overlaps()?;
        let pages = self.parts.iter().map(|part| part.room() / page).sum();
        let shortest = self.ledgers[0].length().min(self.ledgers[1].length());
        let records = (shortest - JOURNAL) / word.max(16);
        if records < pages { Err(LayoutError::Journal { pages, records }) } else { Ok(()) }
    }

    /// The part of a component.
    #[must_use]
    pub fn part(&self, id: u8) -> Option<(usize, &'l Part)> {
        self.parts.iter().enumerate().find(|(_, part)| part.id == id)
    }

    fn check_ids(&self) -> Result<(), LayoutError> {
        let first = self.parts.first().is_some_and(|part| part.id == 0);
        let twice = self.parts.iter().enumerate().any(|(n, part)| {
            self.parts.iter().take(n).any(|before| before.id == part.id) || part.id > 3
        });
        if first && !twice && self.parts.len() <= MAX_PARTS {
            Ok(())
        } else {
            Err(LayoutError::Parts)
        }
    }

    fn check_overlaps(&self) -> Result<(), LayoutError> {
        let fixed = [self.state, self.keys, self.ledgers[0], self.ledgers[1]];
        let places = self.parts.iter().flat_map(|part| [part.a, part.b]);
        let regions = || fixed.into_iter().chain(places.clone());
        for (n, one) in regions().enumerate() {
            if let Some(other) = regions().skip(n + 1).find(|other| other.overlaps(&one)) {
                return Err(LayoutError::Overlap(one, other));
            }
        }
        Ok(())
    }
}
