//! Keys of what is kept (docs/formats/firmware-campaigns.md).

use std::sync::Arc;

const DEVICE: u8 = b'd';
const CAMPAIGN: u8 = b'c';
const MEMBER: u8 = b'm';

/// What an entry is about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Key {
    Device(Arc<str>),
    Campaign(u64),
    Member(u64, Arc<str>),
}

impl Key {
    pub(crate) fn encode(&self) -> Vec<u8> {
        match self {
            Key::Device(name) => [&[DEVICE], name.as_bytes()].concat(),
            Key::Campaign(id) => [&[CAMPAIGN][..], &id.to_be_bytes()].concat(),
            Key::Member(id, name) => [&[MEMBER][..], &id.to_be_bytes(), name.as_bytes()].concat(),
        }
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Key> {
        let (kind, rest) = bytes.split_first()?;
        let name = |bytes| std::str::from_utf8(bytes).ok().map(Arc::from);
        match *kind {
            DEVICE => name(rest).map(Key::Device),
            CAMPAIGN => rest.try_into().ok().map(|id| Key::Campaign(u64::from_be_bytes(id))),
            MEMBER => {
                let (id, rest) = rest.split_first_chunk()?;
                Some(Key::Member(u64::from_be_bytes(*id), name(rest)?))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_as_they_were_written_and_nothing_else_is_one() {
        for key in [Key::Device("a".into()), Key::Campaign(7), Key::Member(1 << 40, "p".into())] {
            assert_eq!(Key::decode(&key.encode()), Some(key));
        }
        for wrong in [&b""[..], b"x", b"c1234567", b"m1234567", b"d\xff"] {
            assert_eq!(Key::decode(wrong), None, "{wrong:?}");
        }
    }
}
