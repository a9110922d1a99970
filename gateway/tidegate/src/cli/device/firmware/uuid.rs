//! Vendors and classes: UUIDs, written out or made from names (RFC 4122, version 5).

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use tidegate_wire::manifest::Uuid;

use crate::hex;

/// The name space of domain names (RFC 4122, appendix C).
const DNS: Uuid = [
    0x6b, 0xa7, 0xb8, 0x10, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
];

/// A vendor: a UUID, or the vendor's domain.
pub(super) fn vendor(text: &str) -> Uuid {
    parse(text).unwrap_or_else(|| of_name(&DNS, text))
}

/// A class: a UUID, or a name among the vendor's.
pub(super) fn class(vendor: &Uuid, text: &str) -> Uuid {
    parse(text).unwrap_or_else(|| of_name(vendor, text))
}

fn parse(text: &str) -> Option<Uuid> {
    let lengths: Vec<usize> = text.split('-').map(str::len).collect();
    let bytes = hex::decode(&text.replace('-', ""))?;
    if lengths == [8, 4, 4, 4, 12] { bytes.try_into().ok() } else { None }
}

fn of_name(space: &Uuid, name: &str) -> Uuid {
    let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    hash.update(space);
    hash.update(name.as_bytes());
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&hash.finish().as_ref()[..16]);
    uuid[6] = uuid[6] & 0x0f | 0x50;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    uuid
}

#[cfg(test)]
mod tests {
    use tidegate_firmware::show_uuid as show;

    use super::*;

    /// The examples of Python's `uuid` module and of RFC 9562, A.4.
    #[test]
    fn names_become_the_uuids_that_others_make_of_them() {
        assert_eq!(show(&vendor("python.org")), "886313e1-3b8a-5372-9b90-0c9aee199e5d");
        assert_eq!(show(&vendor("www.example.com")), "2ed6657d-e927-568b-95e1-2665a8aea6a2");
    }

    #[test]
    fn a_uuid_that_is_written_out_is_taken_as_it_is() {
        let text = "2ed6657d-e927-568b-95e1-2665a8aea6a2";
        assert_eq!(show(&vendor(text)), text);
        assert_eq!(class(&vendor("a"), text), vendor(text));
        assert_ne!(class(&vendor("a"), "pump"), class(&vendor("b"), "pump"));
        let short = vendor("2ed6657de927568b95e12665a8aea6a2");
        assert_ne!(show(&short), text, "without its hyphens it is a name");
    }
}
