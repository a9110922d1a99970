//! The partition key of a record: a piece of what the record says already, so it costs no byte
//! on flash and is derived anew wherever it is wanted.

use tidegate_broker::topic::MAX_LEVELS;

/// Where a stream's records have their key (`key` of the configuration).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionKey(Source);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Source {
    Client,
    Topic,
    /// Levels of the topic, counted from 1, both ends included.
    Levels {
        first: usize,
        last: usize,
    },
    /// Name of a user property.
    Property(String),
}

/// Why a text is no partition key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It begins with no known word.
    #[error("unknown value")]
    Unknown,
    /// What follows `topic/` is neither a level nor a range of levels.
    #[error("\"{0}\" is no level of a topic: they are counted from 1 to {MAX_LEVELS}")]
    Level(String),
    /// A range whose end is in front of its beginning.
    #[error("levels {first} to {last} run backwards")]
    Backwards {
        /// Where it begins.
        first: usize,
        /// Where it ends.
        last: usize,
    },
    /// Nothing follows `property/`.
    #[error("names no property")]
    NoProperty,
}

impl PartitionKey {
    /// Reads `client`, `topic`, `topic/N`, `topic/N-M` or `property/NAME`.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn parse(text: &str) -> Result<PartitionKey, KeyError> {
        let source = match (text, text.split_once('/')) {
            ("client", _) => Source::Client,
            ("topic", _) => Source::Topic,
            ("property", _) | (_, Some(("property", ""))) => return Err(KeyError::NoProperty),
            (_, Some(("topic", range))) => levels_of(range)?,
            (_, Some(("property", name))) => Source::Property(name.to_owned()),
            _ => return Err(KeyError::Unknown),
        };
        Ok(PartitionKey(source))
    }

    /// The key of a record with this topic, client and user properties. `None` when it has no
    /// such level or property, or nothing in it: an empty text is no key.
    #[must_use]
    pub fn of<'r>(
        &self,
        topic: &'r str,
        client: &'r str,
        user: &'r [(String, String)],
    ) -> Option<&'r str> {
        let found = match &self.0 {
            Source::Client => Some(client),
            Source::Topic => Some(topic),
            Source::Levels { first, last } => levels(topic, *first, *last),
            Source::Property(name) => {
                user.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
            }
        };
        found.filter(|key| !key.is_empty())
    }

    /// The deepest level that a topic must have for a record to have a key.
    #[must_use]
    pub fn depth(&self) -> usize {
        match self.0 {
            Source::Levels { last, .. } => last,
            Source::Client | Source::Topic | Source::Property(_) => 1,
        }
    }
}

/// `N` or `N-M`
fn levels_of(range: &str) -> Result<Source, KeyError> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    let (first, last) = (level(first)?, level(last)?);
    if last < first {
        Err(KeyError::Backwards { first, last })
    } else {
        Ok(Source::Levels { first, last })
    }
}

fn level(text: &str) -> Result<usize, KeyError> {
    // The standard library would read a sign too.
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.parse().ok().filter(|level| digits && (1..=MAX_LEVELS).contains(level));
    number.ok_or_else(|| KeyError::Level(text.to_owned()))
}

/// These levels of the topic with the slashes between them, when it has all of them.
fn levels(topic: &str, first: usize, last: usize) -> Option<&str> {
    let mut starts = std::iter::once(0).chain(topic.match_indices('/').map(|(at, _)| at + 1));
    let start = starts.nth(first.checked_sub(1)?)?;
    let last = match last.checked_sub(first)? {
        0 => start,
        further => starts.nth(further - 1)?,
    };
    let end = topic[last..].find('/').map_or(topic.len(), |length| last + length);
    topic.get(start..end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key<'r>(of: &str, topic: &'r str, user: &'r [(String, String)]) -> Option<&'r str> {
        PartitionKey::parse(of).unwrap().of(topic, "pump", user)
    }

    #[test]
    fn each_source_gives_its_piece_of_the_record() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let user = [pair("unit", "C"), pair("a/b", "x"), pair("unit", "K"), pair("empty", "")];
        for (of, topic, found) in [
            ("client", "a/b/c", Some("pump")),
            ("topic", "a/b/c", Some("a/b/c")),
            ("topic/1", "a/b/c", Some("a")),
            ("topic/2", "a/b/c", Some("b")),
            ("topic/3", "a/b/c", Some("c")),
            ("topic/4", "a/b/c", None),
            ("topic/1-2", "a/b/c", Some("a/b")),
            ("topic/2-3", "a/b/c", Some("b/c")),
            ("topic/2-4", "a/b/c", None),
            ("topic/2-2", "a/b/c", Some("b")),
            ("topic/2", "Werk/Süd", Some("Süd")),
            // A level may be empty, a key not.
            ("topic/2", "a//c", None),
            ("topic/2-3", "a//c", Some("/c")),
            ("topic/1", "/a", None),
            ("property/unit", "a", Some("C")),
            ("property/a/b", "a", Some("x")),
            ("property/Unit", "a", None),
            ("property/empty", "a", None),
        ] {
            assert_eq!(key(of, topic, &user), found, "{of} of {topic}");
        }
        assert_eq!(PartitionKey::parse("client").unwrap().of("a", "", &[]), None);
    }

    #[test]
    fn what_is_no_key_says_why() {
        let level = |text: &str| KeyError::Level(text.to_owned());
        for (text, error) in [
            ("", KeyError::Unknown),
            ("Client", KeyError::Unknown),
            ("client/1", KeyError::Unknown),
            ("clients", KeyError::Unknown),
            ("topic/", level("")),
            ("topic/0", level("0")),
            ("topic/+1", level("+1")),
            ("topic/b", level("b")),
            ("topic/129", level("129")),
            ("topic/99999999999999999999", level("99999999999999999999")),
            ("topic/1-", level("")),
            ("topic/1-2-3", level("2-3")),
            ("topic/3-1", KeyError::Backwards { first: 3, last: 1 }),
            ("property", KeyError::NoProperty),
            ("property/", KeyError::NoProperty),
        ] {
            assert_eq!(PartitionKey::parse(text), Err(error), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn levels_are_those_between_the_slashes_of_any_topic(
            topic in "[a-bü/]{0,12}",
            first in 1..8_usize,
            more in 0..4_usize,
        ) {
            let of = format!("topic/{first}-{}", first + more);
            let all: Vec<&str> = topic.split('/').collect();
            let expected = all.get(first - 1..first + more).map(|levels| levels.join("/"));
            let expected = expected.filter(|key| !key.is_empty());
            prop_assert_eq!(key(&of, &topic, &[]).map(str::to_owned), expected);
        }

        #[test]
        fn a_property_gives_the_first_value_of_its_name(
            name in "[ab/]{1,2}",
            user in prop::collection::vec(("[ab/]{0,2}", "[x ]{0,2}"), 0..6),
        ) {
            let first = user.iter().find(|(found, _)| *found == name).map(|(_, value)| &**value);
            let found = key(&format!("property/{name}"), "a", &user);
            prop_assert_eq!(found, first.filter(|value| !value.is_empty()));
        }

        #[test]
        fn any_text_is_a_key_or_refused_without_a_panic(
            text in "(client|topic|property)?/?[0-9/-]{0,6}\\PC{0,3}",
            topic in "\\PC{0,8}",
        ) {
            if let Ok(key) = PartitionKey::parse(&text) {
                let found = key.of(&topic, "c", &[]);
                prop_assert!(found.is_none_or(|key| !key.is_empty()));
            }
        }
    }
}
