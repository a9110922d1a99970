//! Whether everything that a filter can match is allowed.
//!
//! The topics that a filter matches are walked level by level, with all rulings at once. Words
//! that no ruling names are all alike there, so one stands for them, and the walk is finite. It
//! is exact: `+/x` is allowed by `a/#`, `+/x` in this order, and by `+/#` with a denied `a/y`,
//! but not by `a/x` and `b/x`.

use super::policy::Effect;
use super::verdict::Ruling;

/// Rulings looked at for one question; a filter that needs more is denied. Only rules with words
/// below many `+` come near it. About a millisecond.
pub(super) const MAX_STEPS: usize = 100_000;

/// A ruling under way.
#[derive(Clone, Copy)]
struct Walker<'a> {
    levels: &'a [&'a str],
    effect: Effect,
    /// Its `#` is reached: it matches whatever follows.
    open: bool,
}

/// What the next level of a topic is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Word<'a> {
    Literal(&'a str),
    /// One that no ruling names.
    Other,
}

struct Walk {
    otherwise: Effect,
    steps: usize,
}

/// True when no topic that `filter` matches is denied. The first ruling that matches a topic
/// decides about it.
pub(super) fn all_allowed(filter: &str, rulings: &[Ruling], otherwise: Effect) -> bool {
    let filter: Vec<&str> = filter.split('/').collect();
    let levels: Vec<Vec<&str>> = rulings.iter().map(|r| r.filter.levels().collect()).collect();
    let walkers: Vec<Walker<'_>> = rulings
        .iter()
        .zip(&levels)
        .map(|(ruling, levels)| Walker { levels, effect: ruling.effect, open: false })
        .collect();
    Walk { otherwise, steps: 0 }.allowed(&filter, &[], &walkers)
}

impl Walk {
    /// Whether all topics that begin with the words in `walked` and go on as the filter says are
    /// allowed.
    fn allowed(&mut self, filter: &[&str], walked: &[Word<'_>], walkers: &[Walker<'_>]) -> bool {
        let at = walked.len();
        self.steps += walkers.len() + 1;
        if self.steps > MAX_STEPS {
            return false;
        }
        let rest = filter.get(at).copied();
        let is_tail = rest == Some("#") || (at >= filter.len() && filter.last() == Some(&"#"));
        let is_end = rest.is_none() && !is_tail;
        // The empty text is no topic [MQTT-4.7.3-1].
        let is_topic = at > 0 && walked != [Word::Literal("")];
        if is_end && !is_topic {
            return true;
        }
        let decided = walkers.iter().all(|walker| walker.open);
        if decided || walkers.first().is_some_and(|walker| walker.open) {
            return self.verdict(walkers.first()) == Effect::Allow;
        }
        if is_topic && (is_end || is_tail) {
            let ends = walkers.iter().find(|walker| walker.open || walker.levels.len() == at);
            if self.verdict(ends) == Effect::Deny {
                return false;
            }
            if is_end {
                return true;
            }
        }
        let wild = is_tail || rest == Some("+");
        let words = match rest {
            Some(word) if !wild => vec![Word::Literal(word)],
            Some(_) | None => words(walkers, at),
        };
        let mut next = Vec::with_capacity(walkers.len());
        words.into_iter().all(|word| {
            next.clear();
            step(walkers, at, word, &mut next);
            let walked: Vec<Word<'_>> = walked.iter().copied().chain([word]).collect();
            self.allowed(filter, &walked, &next)
        })
    }

    fn verdict(&self, decides: Option<&Walker<'_>>) -> Effect {
        decides.map_or(self.otherwise, |walker| walker.effect)
    }
}

/// The words that make a difference at a level. A wildcard at the start reaches no `$` topic
/// [MQTT-4.7.2-1].
fn words<'a>(walkers: &[Walker<'a>], at: usize) -> Vec<Word<'a>> {
    let named = walkers.iter().filter(|walker| !walker.open);
    let named = named.filter_map(|walker| walker.levels.get(at).copied());
    let mut words: Vec<&str> = named
        .filter(|word| !matches!(*word, "+" | "#"))
        .filter(|word| at > 0 || !word.starts_with('$'))
        .collect();
    words.sort_unstable();
    words.dedup();
    words.into_iter().map(Word::Literal).chain([Word::Other]).collect()
}

/// The rulings that still match when the topic's level `at` is `word`, in their order, up to the
/// first that matches whatever follows.
fn step<'a>(walkers: &[Walker<'a>], at: usize, word: Word<'_>, next: &mut Vec<Walker<'a>>) {
    let reserved = at == 0 && matches!(word, Word::Literal(text) if text.starts_with('$'));
    for walker in walkers {
        let mut walker = *walker;
        if !walker.open {
            match walker.levels.get(at).copied() {
                Some("#" | "+") if reserved => continue,
                Some("#") => walker.open = true,
                Some("+") => {}
                Some(own) if word == Word::Literal(own) => {}
                Some(_) | None => continue,
            }
            // `a/#` matches `a` too.
            walker.open |= walker.levels.get(at + 1) == Some(&"#");
        }
        next.push(walker);
        if walker.open {
            return;
        }
    }
}
