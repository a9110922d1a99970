//! Filters and topics, by the text of section 4.7.

/// Whether `filter`, which is not shared, matches `topic`.
pub(super) fn matches(filter: &str, topic: &str) -> bool {
    if topic.starts_with('$') && (filter.starts_with('+') || filter.starts_with('#')) {
        return false;
    }
    let filter: Vec<&str> = filter.split('/').collect();
    let topic: Vec<&str> = topic.split('/').collect();
    levels(&filter, &topic)
}

fn levels(filter: &[&str], topic: &[&str]) -> bool {
    match (filter, topic) {
        (["#"], _) => true,
        ([], []) => true,
        (["+", filter @ ..], [_, topic @ ..]) => levels(filter, topic),
        ([level, filter @ ..], [name, topic @ ..]) => level == name && levels(filter, topic),
        ([_, ..], []) | ([], [_, ..]) => false,
    }
}

/// The filter of a shared subscription.
pub(super) fn shared(filter: &str) -> Option<&str> {
    filter.strip_prefix("$share/")?.split_once('/').map(|(_, filter)| filter)
}
