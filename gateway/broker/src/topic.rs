//! Topic names and topic filters, checked once where they enter [MQTT-4.7].

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The most levels a topic or filter may have; it bounds the depth of every walk over them.
pub const MAX_LEVELS: usize = 128;

/// The most bytes of a topic or filter: what a length prefix of the wire can say.
pub const MAX_TOPIC_BYTES: usize = 65_535;

/// Why a text is no topic name or no topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// [MQTT-4.7.3-1]: at least one character.
    #[error("is empty: a topic has at least one character")]
    Empty,
    /// [MQTT-4.7.3-3]: the wire cannot say more.
    #[error("is {bytes} bytes long: at most 65535 fit")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// [MQTT-4.7.3-2]: no null character.
    #[error("contains the character U+0000")]
    Null,
    /// [MQTT-4.7.1-1]: wildcards are for filters only.
    #[error("contains a wildcard: `+` and `#` belong in filters, not in topics published to")]
    WildcardInName,
    /// [MQTT-4.7.1-1]: `#` is the whole last level.
    #[error("has a `#` that is not the whole last level")]
    MisplacedHash,
    /// [MQTT-4.7.1-2]: `+` is a whole level.
    #[error("has a `+` that is not a whole level")]
    MisplacedPlus,
    /// Deeper than this broker walks.
    #[error("has {levels} levels: at most {MAX_LEVELS} are allowed")]
    TooManyLevels {
        /// Its number of levels.
        levels: usize,
    },
}

/// A topic a message is published to. Cloning is cheap: the text is shared.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// Checks `text` against [MQTT-4.7.1-1] and [MQTT-4.7.3-1] to [MQTT-4.7.3-3].
    pub fn parse(text: &str) -> Result<TopicName, TopicError> {
        check_length(text)?;
        let mut levels = 1;
        for byte in text.bytes() {
            match byte {
                0 => return Err(TopicError::Null),
                b'+' | b'#' => return Err(TopicError::WildcardInName),
                b'/' => levels += 1,
                _ => {}
            }
        }
        if levels > MAX_LEVELS {
            return Err(TopicError::TooManyLevels { levels });
        }
        Ok(TopicName(text.into()))
    }

    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its levels; `a//b` has three, the second of them empty.
    pub fn levels(&self) -> std::str::Split<'_, char> {
        self.0.split('/')
    }

    /// Whether it begins with `$`: such topics are out of reach of a leading wildcard
    /// [MQTT-4.7.2-1].
    pub fn is_reserved(&self) -> bool {
        self.0.starts_with('$')
    }
}

/// What a subscription or a route asks for: a topic with wildcards. Cloning is cheap.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter(Arc<str>);

impl TopicFilter {
    /// Checks `text` against [MQTT-4.7.1-1], [MQTT-4.7.1-2] and [MQTT-4.7.3-1] to
    /// [MQTT-4.7.3-3].
    pub fn parse(text: &str) -> Result<TopicFilter, TopicError> {
        check_length(text)?;
        if text.bytes().any(|byte| byte == 0) {
            return Err(TopicError::Null);
        }
        let mut levels = 0;
        let mut ended = false;
        for level in text.split('/') {
            if ended || (level.contains('#') && level != "#") {
                return Err(TopicError::MisplacedHash);
            }
            if level.contains('+') && level != "+" {
                return Err(TopicError::MisplacedPlus);
            }
            ended = level == "#";
            levels += 1;
        }
        if levels > MAX_LEVELS {
            return Err(TopicError::TooManyLevels { levels });
        }
        Ok(TopicFilter(text.into()))
    }

    /// The filter as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its levels, `+` and `#` included.
    pub fn levels(&self) -> std::str::Split<'_, char> {
        self.0.split('/')
    }

    /// Whether it matches exactly one topic: itself.
    pub fn is_literal(&self) -> bool {
        !self.0.contains(['+', '#'])
    }

    /// Whether it asks for a shared subscription (`$share/NAME/filter`).
    pub fn is_shared(&self) -> bool {
        self.0.starts_with("$share/")
    }

    /// The two parts of a shared subscription: a name of at least one character without
    /// wildcards [MQTT-4.8.2-1] and a filter behind it [MQTT-4.8.2-2]. `None` if it is not one.
    pub fn shared(&self) -> Option<SharedFilter> {
        let (name, filter) = self.0.strip_prefix("$share/")?.split_once('/')?;
        if name.is_empty() || name.contains(['+', '#']) {
            return None;
        }
        Some(SharedFilter { name: name.into(), filter: TopicFilter::parse(filter).ok()? })
    }

    /// The text every matching topic begins with. Empty for a leading wildcard.
    pub(crate) fn literal_prefix(&self) -> &str {
        let Some(at) = self.0.find(['+', '#']) else {
            return &self.0;
        };
        let prefix = &self.0[..at];
        // `a/#` matches `a` too, `a/+` does not.
        if self.0.as_bytes()[at] == b'#' {
            prefix.strip_suffix('/').unwrap_or(prefix)
        } else {
            prefix
        }
    }

    /// Whether a message on `topic` is asked for. A leading wildcard does not reach topics that
    /// begin with `$` [MQTT-4.7.2-1].
    pub fn matches(&self, topic: &TopicName) -> bool {
        if topic.is_reserved() && self.0.starts_with(['+', '#']) {
            return false;
        }
        let mut names = topic.levels();
        for level in self.levels() {
            if level == "#" {
                return true;
            }
            match names.next() {
                Some(name) if level == "+" || level == name => {}
                Some(_) | None => return false,
            }
        }
        names.next().is_none()
    }
}

/// What a shared subscription says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedFilter {
    /// The group's name.
    pub name: Arc<str>,
    /// What its members share.
    pub filter: TopicFilter,
}

fn check_length(text: &str) -> Result<(), TopicError> {
    match text.len() {
        0 => Err(TopicError::Empty),
        bytes if bytes > MAX_TOPIC_BYTES => Err(TopicError::TooLong { bytes }),
        _ => Ok(()),
    }
}

macro_rules! texts {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $name {
            type Err = TopicError;

            fn from_str(text: &str) -> Result<$name, TopicError> {
                $name::parse(text)
            }
        }
    )*};
}
texts!(TopicName TopicFilter);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        let deep = "/".repeat(MAX_LEVELS);
        let long = "x".repeat(MAX_TOPIC_BYTES + 1);
        let cases: &[(&str, Option<TopicError>)] = &[
            ("a", None),
            ("/", None),
            ("//", None),
            ("a/b c/ä", None),
            ("$SYS/uptime", None),
            ("", Some(TopicError::Empty)),    // [MQTT-4.7.3-1]
            ("a\0b", Some(TopicError::Null)), // [MQTT-4.7.3-2]
            (&long, Some(TopicError::TooLong { bytes: 65_536 })), // [MQTT-4.7.3-3]
            ("a/+", Some(TopicError::WildcardInName)), // [MQTT-4.7.1-1]
            ("a#", Some(TopicError::WildcardInName)),
            (&deep, Some(TopicError::TooManyLevels { levels: MAX_LEVELS + 1 })),
        ];
        for (text, expected) in cases {
            assert_eq!(TopicName::parse(text).err(), *expected, "{text:.20}");
        }
    }

    #[test]
    fn filters_are_checked() {
        let cases: &[(&str, Option<TopicError>)] = &[
            ("#", None),
            ("+", None),
            ("+/+/#", None),
            ("/+", None),
            ("a/#", None),
            ("a/+/b", None),
            ("", Some(TopicError::Empty)),
            ("a\0", Some(TopicError::Null)),
            ("a/#/b", Some(TopicError::MisplacedHash)), // [MQTT-4.7.1-1]
            ("a#", Some(TopicError::MisplacedHash)),
            ("a/b#", Some(TopicError::MisplacedHash)),
            ("#/", Some(TopicError::MisplacedHash)),
            ("a+", Some(TopicError::MisplacedPlus)), // [MQTT-4.7.1-2]
            ("a/+b/c", Some(TopicError::MisplacedPlus)),
        ];
        for (text, expected) in cases {
            assert_eq!(TopicFilter::parse(text).err(), *expected, "{text}");
        }
    }

    pub(crate) const MATCHES: &[(&str, &str, bool)] = &[
        ("a/b", "a/b", true),
        ("a/b", "a", false),
        ("a", "a/b", false),
        ("a/b", "a/B", false),
        ("sport/#", "sport", true), // the parent level too
        ("sport/#", "sport/tennis/p1", true),
        ("sport/tennis/+", "sport/tennis/p1", true),
        ("sport/tennis/+", "sport/tennis/p1/rank", false),
        ("sport/+", "sport", false),
        ("sport/+", "sport/", true),
        ("+/+", "/finance", true),
        ("/+", "/finance", true),
        ("+", "/finance", false),
        ("#", "a/b/c", true),
        ("#", "$SYS/x", false), // [MQTT-4.7.2-1]
        ("+/x", "$SYS/x", false),
        ("$SYS/#", "$SYS/x", true),
        ("$SYS/+", "$SYS/x", true),
        ("a/#", "a/$x", true), // only the first level is special
        ("+/#", "a", true),
        ("a//b", "a//b", true),
        ("a/+/b", "a//b", true),
        ("a/#", "ab", false),
    ];

    #[test]
    fn filters_match_as_the_standard_says() {
        for (filter, topic, expected) in MATCHES {
            let matched =
                TopicFilter::parse(filter).unwrap().matches(&TopicName::parse(topic).unwrap());
            assert_eq!(matched, *expected, "{filter} {topic}");
        }
    }

    #[test]
    fn a_shared_subscription_has_a_name_and_a_filter() {
        let shared = |text: &str| {
            let shared = TopicFilter::parse(text).unwrap().shared()?;
            Some((shared.name.to_string(), shared.filter.to_string()))
        };
        let parts = |name: &str, filter: &str| Some((name.to_owned(), filter.to_owned()));
        assert_eq!(shared("$share/g/a/#"), parts("g", "a/#"));
        assert_eq!(shared("$share/g//a"), parts("g", "/a"));
        for text in ["$share/g", "$share/g/", "$share//a", "$share/+/a", "a/b"] {
            assert_eq!(shared(text), None, "{text}");
        }
    }

    #[test]
    fn every_matching_topic_begins_with_the_literal_prefix() {
        for (filter, topic, matched) in MATCHES {
            let filter = TopicFilter::parse(filter).unwrap();
            assert!(!matched || topic.starts_with(filter.literal_prefix()), "{filter} {topic}");
        }
    }
}
