//! Filters to values: the tree that finds whom a topic concerns without allocating.

use std::collections::BTreeMap;

use crate::topic::{TopicFilter, TopicName};

const ROOT: u32 = 0;

/// A map from topic filters to values, asked by topic. Several values may sit under one filter.
///
/// Values come out in an order that depends only on the calls made before. A look-up visits at
/// most the nodes that lie on a path matching the topic and allocates nothing.
///
/// ```
/// use tidegate_broker::{FilterTree, TopicFilter, TopicName};
///
/// let mut routes = FilterTree::new();
/// routes.insert(&TopicFilter::parse("sensors/+/telemetry")?, "telemetry");
/// routes.insert(&TopicFilter::parse("sensors/#")?, "everything");
/// let mut found = Vec::new();
/// routes.matches(&TopicName::parse("sensors/7/telemetry")?, |stream| found.push(*stream));
/// assert_eq!(found, ["everything", "telemetry"]);
/// # Ok::<(), tidegate_broker::TopicError>(())
/// ```
#[derive(Debug, Clone)]
pub struct FilterTree<T> {
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Node<T> {
    /// The next level by its text.
    children: BTreeMap<Box<str>, u32>,
    /// The next level under `+`.
    any: Option<u32>,
    /// Values of filters that end here.
    here: Vec<T>,
    /// Values of filters that end with `#` below here.
    below: Vec<T>,
}

impl<T> Node<T> {
    fn new() -> Node<T> {
        Node { children: BTreeMap::new(), any: None, here: Vec::new(), below: Vec::new() }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty()
            && self.any.is_none()
            && self.here.is_empty()
            && self.below.is_empty()
    }

    fn child(&self, level: &str) -> Option<u32> {
        if level == "+" { self.any } else { self.children.get(level).copied() }
    }
}

impl<T> Default for FilterTree<T> {
    fn default() -> FilterTree<T> {
        FilterTree::new()
    }
}

impl<T> FilterTree<T> {
    /// An empty tree.
    pub fn new() -> FilterTree<T> {
        FilterTree { nodes: vec![Node::new()], free: Vec::new(), len: 0 }
    }

    /// The number of values in the tree.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds `value` under `filter`, after those already there.
    pub fn insert(&mut self, filter: &TopicFilter, value: T) {
        let mut at = ROOT;
        for level in filter.levels() {
            if level == "#" {
                break;
            }
            at = match self.nodes[at as usize].child(level) {
                Some(child) => child,
                None => self.grow(at, level),
            };
        }
        let node = &mut self.nodes[at as usize];
        let values = if ends_with_hash(filter) { &mut node.below } else { &mut node.here };
        values.push(value);
        self.len += 1;
    }

    fn grow(&mut self, parent: u32, level: &str) -> u32 {
        let child = match self.free.pop() {
            Some(child) => child,
            None => {
                self.nodes.push(Node::new());
                // A tree of 2^32 nodes does not fit in memory.
                (self.nodes.len() - 1) as u32
            }
        };
        let parent = &mut self.nodes[parent as usize];
        if level == "+" {
            parent.any = Some(child);
        } else {
            parent.children.insert(level.into(), child);
        }
        child
    }

    /// The values under exactly this filter.
    pub fn values(&self, filter: &TopicFilter) -> &[T] {
        let mut at = ROOT;
        for level in filter.levels() {
            if level == "#" {
                break;
            }
            match self.nodes[at as usize].child(level) {
                Some(child) => at = child,
                None => return &[],
            }
        }
        let node = &self.nodes[at as usize];
        if ends_with_hash(filter) { &node.below } else { &node.here }
    }

    /// Removes the values under exactly this filter for which `gone` says so, and returns how
    /// many there were.
    pub fn remove(&mut self, filter: &TopicFilter, mut gone: impl FnMut(&T) -> bool) -> usize {
        let mut path = vec![ROOT];
        let mut at = ROOT;
        for level in filter.levels() {
            if level == "#" {
                break;
            }
            match self.nodes[at as usize].child(level) {
                Some(child) => at = child,
                None => return 0,
            }
            path.push(at);
        }
        let node = &mut self.nodes[at as usize];
        let values = if ends_with_hash(filter) { &mut node.below } else { &mut node.here };
        let before = values.len();
        values.retain(|value| !gone(value));
        let removed = before - values.len();
        if values.is_empty() {
            *values = Vec::new();
        }
        self.len -= removed;
        self.prune(&path, filter);
        removed
    }

    /// Gives back the nodes at the end of `path` that hold nothing any more.
    fn prune(&mut self, path: &[u32], filter: &TopicFilter) {
        let levels: Vec<&str> = filter.levels().take(path.len() - 1).collect();
        for depth in (1..path.len()).rev() {
            if !self.nodes[path[depth] as usize].is_empty() {
                return;
            }
            let parent = &mut self.nodes[path[depth - 1] as usize];
            if levels[depth - 1] == "+" {
                parent.any = None;
            } else {
                parent.children.remove(levels[depth - 1]);
            }
            self.free.push(path[depth]);
        }
    }

    /// Calls `visit` with the value of every filter that matches `topic`, once for each filter
    /// and value. A leading wildcard does not reach topics beginning with `$` [MQTT-4.7.2-1].
    pub fn matches<'a>(&'a self, topic: &TopicName, mut visit: impl FnMut(&'a T)) {
        if self.len == 0 {
            return;
        }
        let root = &self.nodes[ROOT as usize];
        let text = topic.as_str();
        if topic.is_reserved() {
            let (level, rest) = split_level(text);
            if let Some(child) = root.children.get(level) {
                self.descend(*child, rest, &mut visit);
            }
        } else {
            self.descend(ROOT, Some(text), &mut visit);
        }
    }

    /// `rest` is the topic below node `at`; `None` when it ends there. The depth is bounded by
    /// the levels of the filters, hence by [`MAX_LEVELS`](crate::topic::MAX_LEVELS).
    fn descend<'a>(&'a self, at: u32, rest: Option<&str>, visit: &mut impl FnMut(&'a T)) {
        let node = &self.nodes[at as usize];
        node.below.iter().for_each(&mut *visit);
        let Some(rest) = rest else {
            node.here.iter().for_each(&mut *visit);
            return;
        };
        let (level, rest) = split_level(rest);
        if let Some(child) = node.children.get(level) {
            self.descend(*child, rest, visit);
        }
        if let Some(child) = node.any {
            self.descend(child, rest, visit);
        }
    }
}

fn ends_with_hash(filter: &TopicFilter) -> bool {
    filter.as_str().ends_with('#')
}

fn split_level(text: &str) -> (&str, Option<&str>) {
    // Levels are short: a plain loop beats the general search.
    match text.bytes().position(|byte| byte == b'/') {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn filter(text: &str) -> TopicFilter {
        TopicFilter::parse(text).unwrap()
    }

    fn found(tree: &FilterTree<u32>, topic: &str) -> Vec<u32> {
        let mut values = Vec::new();
        tree.matches(&TopicName::parse(topic).unwrap(), |value| values.push(*value));
        values
    }

    #[test]
    fn several_values_sit_under_one_filter_in_order_of_insertion() {
        let mut tree = FilterTree::new();
        tree.insert(&filter("a/+"), 1);
        tree.insert(&filter("a/+"), 2);
        assert_eq!(found(&tree, "a/b"), [1, 2]);
        assert_eq!(tree.values(&filter("a/+")), [1, 2]);
        assert_eq!(tree.remove(&filter("a/+"), |value| *value == 1), 1);
        assert_eq!(found(&tree, "a/b"), [2]);
        assert_eq!(tree.len(), 1);
    }

    #[test]
    fn removing_all_filters_gives_every_node_back() {
        let mut tree = FilterTree::new();
        for text in ["a/b/c", "a/b/#", "a/+/c", "#", "+", "a"] {
            tree.insert(&filter(text), 0);
        }
        let nodes = tree.nodes.len();
        for text in ["a/b/c", "a/b/#", "a/+/c", "#", "+", "a", "absent/x"] {
            tree.remove(&filter(text), |_| true);
        }
        assert!(tree.is_empty());
        assert_eq!(tree.free.len(), nodes - 1);
        assert_eq!(tree.nodes[0].children.len(), 0);
        assert!(tree.nodes[0].any.is_none());
    }

    fn level() -> impl Strategy<Value = String> {
        prop::sample::select(vec!["a", "b", "", "$x"]).prop_map(str::to_owned)
    }

    fn any_filter() -> impl Strategy<Value = String> {
        let level = prop_oneof![3 => level(), 2 => Just("+".to_owned())];
        (prop::collection::vec(level, 1..4), any::<bool>()).prop_map(|(mut levels, hash)| {
            if hash {
                levels.push("#".to_owned());
            }
            levels.join("/")
        })
    }

    proptest! {
        #[test]
        fn the_tree_agrees_with_matching_one_filter_at_a_time(
            filters in prop::collection::vec(any_filter(), 0..12),
            gone in prop::collection::vec(any::<bool>(), 12),
            topic in prop::collection::vec(level(), 1..5),
        ) {
            let filters: Vec<_> =
                filters.iter().filter_map(|text| TopicFilter::parse(text).ok()).collect();
            let mut tree = FilterTree::new();
            for (i, filter) in filters.iter().enumerate() {
                tree.insert(filter, i);
            }
            for (i, filter) in filters.iter().enumerate() {
                if gone[i] {
                    prop_assert_eq!(tree.remove(filter, |value| *value == i), 1);
                }
            }
            if let Ok(topic) = TopicName::parse(&topic.join("/")) {
                let mut values = Vec::new();
                tree.matches(&topic, |value| values.push(*value));
                values.sort_unstable();
                let expected: Vec<_> = (0..filters.len())
                    .filter(|i| !gone[*i] && filters[*i].matches(&topic))
                    .collect();
                prop_assert_eq!(values, expected);
            }
        }
    }
}
