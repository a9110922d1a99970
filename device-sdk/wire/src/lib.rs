//! Names and small values that the gateway, the devices, the simulator and the consumers of
//! what the gateway sends share. `no_std`, no allocation, no dependencies.
//!
//! ```
//! use tidegate_wire::{Decimal, PublisherIdentity, headers};
//!
//! // A device gives its message an identity, the gateway reads it back.
//! let identity = PublisherIdentity { boot: 7, seq: 41 };
//! let (boot, seq) = identity.decimals();
//! let properties = [(headers::PUB_BOOT, boot.as_str()), (headers::PUB_SEQ, seq.as_str())];
//! assert_eq!(PublisherIdentity::parse(properties[0].1, properties[1].1), Ok(identity));
//! assert_eq!(Decimal::new(u64::MAX).as_str(), "18446744073709551615");
//! ```
//!
//! Also what both sides sign and verify: deterministic CBOR ([`cbor`]) in signed envelopes
//! ([`sign1`]); firmware releases ([`manifest`]), the keys that sign them ([`key_set`]), and what
//! gateway and device say about them ([`message`]); what a device should be like, and is ([`twin`]); what
//! time it is ([`time`]).
//!
//! Not here: the rules of the envelope that goes upstream (they live with the uplink), packets, the
//! curve and the hash of the signatures ([`crypto`] says what they have to do).
#![no_std]

#[cfg(test)]
extern crate std;

pub mod cbor;
pub mod crc32c;
pub mod crypto;
pub mod decimal;
pub mod digest;
mod division;
pub mod ed25519;
pub mod headers;
pub mod key_set;
pub mod manifest;
pub mod message;
pub mod publisher;
pub mod sign1;
pub mod time;
pub mod topics;
pub mod twin;

pub use decimal::{Decimal, DecimalError};
pub use digest::Digest;
pub use division::divided;
pub use headers::{PUB_BOOT, PUB_SEQ};
pub use publisher::{IdentityError, PublisherIdentity};

/// Version of the envelope that this code writes, the value of [`headers::VERSION`].
pub const ENVELOPE_VERSION: u64 = 1;
