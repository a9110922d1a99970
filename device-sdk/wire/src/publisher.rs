//! Publisher identity: what lets the gateway drop a message that it already holds.

use core::fmt;

use crate::decimal::{Decimal, DecimalError};
use crate::headers::{PUB_BOOT, PUB_SEQ};

/// Given by a publisher to each of its messages, together with its client id: a message sent
/// again carries the same identity, a new message a greater one. Ordered by boot, then seq.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PublisherIdentity {
    /// Rises with every start of the publisher that forgot its `seq`.
    pub boot: u64,
    /// Rises with every message of one boot.
    pub seq: u64,
}

/// Which of the two values is wrong, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdentityError {
    /// The value of `tg-pub-boot`.
    Boot(DecimalError),
    /// The value of `tg-pub-seq`.
    Seq(DecimalError),
    /// One of the two is absent; an identity is both or none.
    Missing {
        /// The name of the absent one.
        name: &'static str,
    },
    /// A name appears twice, so that nobody can say which value counts.
    Repeated {
        /// The name that is there twice.
        name: &'static str,
    },
}

impl PublisherIdentity {
    /// Reads the values of `tg-pub-boot` and `tg-pub-seq`.
    ///
    /// # Errors
    /// A value that is not the one decimal spelling of a `u64`.
    pub fn parse(boot: &str, seq: &str) -> Result<PublisherIdentity, IdentityError> {
        Ok(PublisherIdentity {
            boot: Decimal::parse(boot).map_err(IdentityError::Boot)?,
            seq: Decimal::parse(seq).map_err(IdentityError::Seq)?,
        })
    }

    /// Finds the identity among the properties of a message; `None` when it carries none.
    ///
    /// # Errors
    /// Half an identity, a repeated name, or a value that is not a decimal `u64`.
    pub fn find<'a>(
        properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Option<PublisherIdentity>, IdentityError> {
        let mut boot = None;
        let mut seq = None;
        for (name, value) in properties {
            let (found, name) = match name {
                PUB_BOOT => (&mut boot, PUB_BOOT),
                PUB_SEQ => (&mut seq, PUB_SEQ),
                _ => continue,
            };
            if found.replace(value).is_some() {
                return Err(IdentityError::Repeated { name });
            }
        }
        match (boot, seq) {
            (None, None) => Ok(None),
            (Some(boot), Some(seq)) => PublisherIdentity::parse(boot, seq).map(Some),
            (None, Some(_)) => Err(IdentityError::Missing { name: PUB_BOOT }),
            (Some(_), None) => Err(IdentityError::Missing { name: PUB_SEQ }),
        }
    }

    /// The values for `tg-pub-boot` and `tg-pub-seq`.
    #[must_use]
    pub fn decimals(&self) -> (Decimal, Decimal) {
        (Decimal::new(self.boot), Decimal::new(self.seq))
    }
}

impl fmt::Display for PublisherIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "boot {} seq {}", self.boot, self.seq)
    }
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            IdentityError::Boot(why) => write!(f, "the value of {PUB_BOOT} {why}"),
            IdentityError::Seq(why) => write!(f, "the value of {PUB_SEQ} {why}"),
            IdentityError::Missing { name } => {
                write!(f, "{name} is missing: give {PUB_BOOT} and {PUB_SEQ}, or neither")
            }
            IdentityError::Repeated { name } => write!(f, "{name} is given twice"),
        }
    }
}

impl core::error::Error for IdentityError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_found_among_other_properties() {
        let properties = [("unit", "C"), (PUB_SEQ, "41"), ("tg-pub", "9"), (PUB_BOOT, "7")];
        assert_eq!(
            PublisherIdentity::find(properties),
            Ok(Some(PublisherIdentity { boot: 7, seq: 41 }))
        );
        assert_eq!(PublisherIdentity::find([("unit", "C")]), Ok(None));
    }

    #[test]
    fn half_a_repeated_or_a_misspelt_identity_is_refused() {
        let find = |properties: &[(&'static str, &'static str)]| {
            PublisherIdentity::find(properties.iter().copied())
        };
        assert_eq!(find(&[(PUB_BOOT, "1")]), Err(IdentityError::Missing { name: PUB_SEQ }));
        assert_eq!(find(&[(PUB_SEQ, "1")]), Err(IdentityError::Missing { name: PUB_BOOT }));
        assert_eq!(
            find(&[(PUB_BOOT, "1"), (PUB_SEQ, "1"), (PUB_BOOT, "1")]),
            Err(IdentityError::Repeated { name: PUB_BOOT })
        );
        assert_eq!(
            find(&[(PUB_BOOT, "x"), (PUB_SEQ, "1")]),
            Err(IdentityError::Boot(DecimalError::NotADigit { at: 0 }))
        );
        assert_eq!(
            find(&[(PUB_BOOT, "1"), (PUB_SEQ, "01")]),
            Err(IdentityError::Seq(DecimalError::LeadingZero))
        );
    }

    #[test]
    fn a_later_boot_is_greater_whatever_its_seq() {
        assert!(PublisherIdentity { boot: 2, seq: 0 } > PublisherIdentity { boot: 1, seq: 99 });
        assert!(PublisherIdentity { boot: 2, seq: 1 } > PublisherIdentity { boot: 2, seq: 0 });
    }
}
