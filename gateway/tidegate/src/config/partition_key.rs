//! The partition key of a stream.

use tidegate_broker::TopicFilter;
use tidegate_flow::PartitionKey;
use toml::de::DeValue;

use super::document::Section;
use super::keys::stream;
use super::mistakes::Mistakes;
use super::suggestion::nearest;
use super::value::expected;

/// First words of a key.
const WORDS: [&str; 3] = ["client", "topic", "property"];

/// Reads the key of a stream with these topics. A level that none of them reaches is a mistake:
/// no record would ever have a key.
pub(super) fn read(
    section: &Section<'_>,
    topics: &[TopicFilter],
    out: &mut Mistakes,
) -> Option<PartitionKey> {
    let spot = section.spot(&stream::KEY)?;
    let allowed = stream::KEY.kind.allowed();
    let DeValue::String(text) = spot.value else {
        spot.wrong(out, &format!("{}; allowed: {allowed}", expected("text", spot.value)));
        return None;
    };
    match PartitionKey::parse(text) {
        Ok(key) => {
            if let Some(levels) = deepest(topics).filter(|levels| *levels < key.depth()) {
                let wanted = key.depth();
                let problem = format!(
                    "no topic of this stream has {wanted} levels; its filters have at most {levels}"
                );
                spot.wrong(out, &problem);
            }
            Some(key)
        }
        Err(error) => {
            let help = meant(text).map(|meant| format!("; did you mean \"{meant}\"?"));
            let help = help.unwrap_or_default();
            spot.wrong(out, &format!("{error}; allowed: {allowed}{help}"));
            None
        }
    }
}

/// Most levels of a topic that these filters let through; `None` without a bound.
fn deepest(topics: &[TopicFilter]) -> Option<usize> {
    let levels = |filter: &TopicFilter| match filter.levels().next_back() {
        Some("#") => None,
        Some(_) | None => Some(filter.levels().count()),
    };
    topics.iter().map(levels).collect::<Option<Vec<_>>>()?.into_iter().max()
}

/// The key with its first word spelt right.
fn meant(text: &str) -> Option<String> {
    let (word, rest) = text.split_at(text.find('/').unwrap_or(text.len()));
    let meant = format!("{}{rest}", nearest(word, WORDS)?);
    (meant != text && PartitionKey::parse(&meant).is_ok()).then_some(meant)
}
