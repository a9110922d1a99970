//! Operations of a delta.

/// Bytes that are there when `next` says `None`: the operation needs more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    /// The first byte of an operation.
    First,
    /// The low and the high byte of a count of 64 and more.
    Low(Kind),
    High(Kind, u8),
    /// Bytes of a difference or of an extra.
    Given(Kind, u32),
    /// The place of a seek: bytes so far, and their value.
    Place(u8, u32),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Copy,
    Difference,
    Extra,
}

/// No operation.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown;

/// A byte of the image: this much more than that byte of the base, if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Made {
    pub(super) base: Option<u32>,
    pub(super) plus: u8,
}

pub(super) struct Operations {
    reading: Reading,
    /// The place in the base.
    place: u32,
    copies: u32,
    given: Option<Made>,
}

impl Operations {
    pub(super) const fn new() -> Operations {
        Operations { reading: Reading::First, place: 0, copies: 0, given: None }
    }

    /// A frame begins, with this place in the image.
    pub(super) fn begin(&mut self, place: u32) {
        *self = Operations { place, ..Operations::new() };
    }

    /// Whether no operation is under way.
    pub(super) fn is_at_end(&self) -> bool {
        self.reading == Reading::First && self.copies == 0
    }

    /// More of the operations. Everything that they make has to be taken before.
    pub(super) fn push(&mut self, byte: u8) -> Result<(), Unknown> {
        self.reading = match self.reading {
            Reading::First => {
                let kind = match byte >> 6 {
                    0 => Kind::Copy,
                    1 => Kind::Difference,
                    2 => Kind::Extra,
                    _ if byte == 0b11 << 6 => {
                        self.reading = Reading::Place(0, 0);
                        return Ok(());
                    }
                    _ => return Err(Unknown),
                };
                match byte & 0x3f {
                    63 => Reading::Low(kind),
                    count => self.counted(kind, u32::from(count) + 1),
                }
            }
            Reading::Low(kind) => Reading::High(kind, byte),
            Reading::High(kind, low) => {
                let count = u32::from(u16::from_le_bytes([low, byte])) + 64;
                self.counted(kind, count)
            }
            Reading::Given(kind, left) => {
                self.given = Some(match kind {
                    Kind::Extra => Made { base: None, plus: byte },
                    Kind::Copy | Kind::Difference => Made { base: Some(self.go_on()), plus: byte },
                });
                if left > 1 { Reading::Given(kind, left - 1) } else { Reading::First }
            }
            Reading::Place(bytes, value) => {
                let value = value | u32::from(byte) << (8 * bytes);
                if bytes < 2 {
                    Reading::Place(bytes + 1, value)
                } else {
                    self.place = value;
                    Reading::First
                }
            }
        };
        Ok(())
    }

    /// The next byte that they make.
    pub(super) fn next(&mut self) -> Option<Made> {
        if let Some(given) = self.given.take() {
            return Some(given);
        }
        self.copies = self.copies.checked_sub(1)?;
        Some(Made { base: Some(self.go_on()), plus: 0 })
    }

    fn counted(&mut self, kind: Kind, count: u32) -> Reading {
        match kind {
            Kind::Copy => {
                self.copies = count;
                Reading::First
            }
            Kind::Difference | Kind::Extra => Reading::Given(kind, count),
        }
    }

    /// The place, which goes on by one.
    fn go_on(&mut self) -> u32 {
        let place = self.place;
        self.place = self.place.saturating_add(1);
        place
    }
}
