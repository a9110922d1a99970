//! What two versions of a function made of the same records, side by side.

use serde_json::{Value, json};
use tidegate_fixtures::{Dead, Difference, Output, aligned, differences};

/// Something that a version did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// It published this.
    Published(Output),
    /// It gave this up.
    GaveUp(Dead),
}

/// Records that were handed over together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) last: u64,
}

/// Where the versions differ.
#[derive(Debug, Clone)]
pub(super) struct Differing {
    pub(super) span: Span,
    pub(super) what: What,
    pub(super) was: Option<String>,
    pub(super) is: Option<String>,
    pub(super) paths: Vec<Difference>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Added,
    Missing,
    Changed,
}

/// Counts, and the first differences in full.
#[derive(Debug, Default)]
pub(super) struct Differ {
    pub(super) same: u64,
    pub(super) added: u64,
    pub(super) missing: u64,
    pub(super) changed: u64,
    pub(super) first: Vec<Differing>,
    /// How many are kept in full.
    pub(super) kept: usize,
    /// Numbers may differ by so much.
    pub(super) tolerance: f64,
}

impl Act {
    /// On one line.
    pub(super) fn text(&self) -> String {
        match self {
            Act::Published(output) => output.text(),
            Act::GaveUp(dead) => format!("dead letter: {}", dead.text()),
        }
    }

    /// Where they differ; `None` when they are not about the same.
    fn differs(&self, is: &Act, tolerance: f64) -> Option<Vec<Difference>> {
        match (self, is) {
            (Act::Published(was), Act::Published(is)) if was.topic == is.topic => {
                let mut found = payloads(&was.payload, &is.payload, tolerance);
                let rest = |one: &Output| format!("{} {} {:?}", one.qos, one.retain, one.user);
                different("qos, retain, user", rest(was), rest(is), &mut found);
                Some(found)
            }
            (Act::GaveUp(was), Act::GaveUp(is)) if was.topic == is.topic => {
                let mut found = payloads(&was.payload, &is.payload, tolerance);
                different("reason", was.reason.clone(), is.reason.clone(), &mut found);
                Some(found)
            }
            (Act::Published(_), _) | (Act::GaveUp(_), _) => None,
        }
    }
}

fn different(path: &str, expected: String, came: String, found: &mut Vec<Difference>) {
    if expected != came {
        found.push(Difference { path: path.to_owned(), expected, came });
    }
}

fn payloads(was: &[u8], is: &[u8], tolerance: f64) -> Vec<Difference> {
    if was == is {
        return Vec::new();
    }
    match (serde_json::from_slice::<Value>(was), serde_json::from_slice::<Value>(is)) {
        (Ok(was), Ok(is)) => differences(&was, &is, tolerance),
        _ => {
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            vec![Difference { path: "payload".to_owned(), expected: text(was), came: text(is) }]
        }
    }
}

impl Differ {
    /// Compares what both made of the same records.
    pub(super) fn compare(&mut self, span: Span, was: &[Act], is: &[Act]) {
        let tolerance = self.tolerance;
        let same = |was: &Act, is: &Act| was.differs(is, tolerance).is_some_and(|d| d.is_empty());
        for (was, is) in aligned(was, is, same) {
            match (was, is) {
                (Some(was), Some(is)) => match was.differs(is, tolerance) {
                    Some(paths) if paths.is_empty() => self.same += 1,
                    Some(paths) => self.note(span, What::Changed, Some(was), Some(is), paths),
                    None => {
                        self.note(span, What::Missing, Some(was), None, Vec::new());
                        self.note(span, What::Added, None, Some(is), Vec::new());
                    }
                },
                (Some(was), None) => self.note(span, What::Missing, Some(was), None, Vec::new()),
                (None, Some(is)) => self.note(span, What::Added, None, Some(is), Vec::new()),
                (None, None) => {}
            }
        }
    }

    /// Differences of all kinds.
    pub(super) fn count(&self) -> u64 {
        self.added + self.missing + self.changed
    }

    fn note(
        &mut self,
        span: Span,
        what: What,
        was: Option<&Act>,
        is: Option<&Act>,
        paths: Vec<Difference>,
    ) {
        match what {
            What::Added => self.added += 1,
            What::Missing => self.missing += 1,
            What::Changed => self.changed += 1,
        }
        if self.first.len() < self.kept {
            let (was, is) = (was.map(Act::text), is.map(Act::text));
            self.first.push(Differing { span, what, was, is, paths });
        }
    }
}

impl What {
    pub(super) fn text(self) -> &'static str {
        match self {
            What::Added => "added",
            What::Missing => "missing",
            What::Changed => "changed",
        }
    }
}

impl Span {
    pub(super) fn text(self) -> String {
        match self.first == self.last {
            true => format!("record {}", self.first),
            false => format!("records {} to {}", self.first, self.last),
        }
    }
}

impl Differing {
    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{}: {}\n", self.span.text(), self.what.text());
        if let Some(was) = &self.was {
            text.push_str(&format!("    was       {was}\n"));
        }
        if let Some(is) = &self.is {
            text.push_str(&format!("    is        {is}\n"));
        }
        for Difference { path, expected, came } in &self.paths {
            text.push_str(&format!("    differs   {path}: was {expected}, is {came}\n"));
        }
        text
    }

    pub(super) fn as_json(&self) -> Value {
        let paths: Vec<Value> = self
            .paths
            .iter()
            .map(|one| json!({ "path": one.path, "was": one.expected, "is": one.came }))
            .collect();
        json!({
            "first": self.span.first,
            "last": self.span.last,
            "what": self.what.text(),
            "was": self.was,
            "is": self.is,
            "differences": paths,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(topic: &str, payload: &str) -> Act {
        Act::Published(Output {
            function: "f".to_owned(),
            topic: topic.to_owned(),
            payload: payload.as_bytes().to_vec(),
            qos: 1,
            retain: false,
            user: Vec::new(),
        })
    }

    #[test]
    fn what_was_added_went_missing_or_changed_is_counted_and_the_first_are_kept() {
        let mut differ = Differ { kept: 2, ..Differ::default() };
        let was = [published("a", r#"{"v":1.0}"#), published("a", "2"), published("b", "x")];
        let is = [published("a", r#"{ "v": 1 }"#), published("a", "3"), published("c", "x")];
        differ.compare(Span { first: 7, last: 9 }, &was, &is);
        assert_eq!((differ.same, differ.changed, differ.missing, differ.added), (1, 1, 1, 1));
        assert_eq!(differ.count(), 3);
        assert_eq!(differ.first.len(), 2);
        assert_eq!(
            differ.first[0].text(),
            "records 7 to 9: changed\n    was       a 2\n    is        a 3\n    \
             differs   payload: was 2, is 3\n"
        );
        assert_eq!(differ.first[1].as_json()["what"], "missing");
    }

    #[test]
    fn an_output_too_many_does_not_make_the_others_differ() {
        let mut differ = Differ { kept: 10, ..Differ::default() };
        let was = [published("a", "1"), published("a", "2")];
        let is = [published("a", "0"), published("a", "1"), published("a", "2")];
        differ.compare(Span { first: 1, last: 1 }, &was, &is);
        assert_eq!((differ.same, differ.added, differ.count()), (2, 1, 1));
    }

    #[test]
    fn numbers_within_the_tolerance_are_the_same() {
        let mut differ = Differ { tolerance: 0.01, ..Differ::default() };
        differ.compare(
            Span { first: 1, last: 1 },
            &[published("a", "1.000")],
            &[published("a", "1.009")],
        );
        assert_eq!((differ.same, differ.count()), (1, 0));
    }
}
