//! Topic filters with variables in them.

use std::fmt;

use super::policy::Effect;
use super::principal::{Principal, Variable};
use crate::topic::{TopicError, TopicFilter};

/// Filters that one pattern may become for one client. A rule that would allow more allows these;
/// one that would deny more denies every value.
const MAX_FILTERS: usize = 64;

/// A topic filter with variables, such as `sensors/${client}/#`.
#[derive(Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    levels: Vec<Level>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Level {
    /// Literal or wildcard.
    Plain(String),
    Mixed(Vec<Part>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Variable(Variable),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It is no topic filter.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A `${` without its `}`.
    #[error("has a `${{` without a `}}` in the same level")]
    Unterminated,
    /// A variable that does not exist.
    #[error("has the unknown variable ${{{name}}}; known: {}", known())]
    UnknownVariable {
        /// Its name.
        name: String,
    },
    /// Rules speak of topics; a shared subscription is judged by the filter in it.
    #[error("begins with `$share/`; write the filter behind the group's name alone")]
    Shared,
}

fn known() -> String {
    Variable::ALL.map(|variable| variable.to_string()).join(", ")
}

impl Pattern {
    /// Checks `text`.
    ///
    /// # Errors
    /// It is no topic filter, or has an unknown variable in it.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        if text.starts_with("$share/") {
            return Err(PatternError::Shared);
        }
        let levels = text.split('/').map(Level::parse).collect::<Result<Vec<_>, _>>()?;
        let sample: Vec<String> = levels.iter().map(Level::sample).collect();
        TopicFilter::parse(&sample.join("/"))?;
        Ok(Pattern { text: text.to_owned(), levels })
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The filters that it stands for. What the client says never makes a rule allow more or deny
    /// less than for an ordinary value.
    pub(super) fn filters(&self, principal: &Principal, effect: Effect) -> Vec<TopicFilter> {
        let mut choices = Vec::with_capacity(self.levels.len());
        for (at, level) in self.levels.iter().enumerate() {
            choices.push(level.values(principal, at == 0, effect));
        }
        let count = choices.iter().try_fold(1_usize, |all, level| all.checked_mul(level.len()));
        if effect == Effect::Deny && count.is_none_or(|count| count > MAX_FILTERS) {
            choices.iter_mut().filter(|level| level.len() > 1).for_each(|level| {
                *level = vec!["+".to_owned()];
            });
        }
        let mut texts = vec![String::new()];
        for (at, level) in choices.iter().enumerate() {
            let joint = if at == 0 { "" } else { "/" };
            texts = texts
                .iter()
                .flat_map(|text| level.iter().map(move |value| format!("{text}{joint}{value}")))
                .take(MAX_FILTERS)
                .collect();
        }
        texts.iter().filter_map(|text| TopicFilter::parse(text).ok()).collect()
    }
}

impl Level {
    fn parse(text: &str) -> Result<Level, PatternError> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            let (name, behind) = after.split_once('}').ok_or(PatternError::Unterminated)?;
            let variable = Variable::ALL.into_iter().find(|variable| variable.name() == name);
            let unknown = || PatternError::UnknownVariable { name: name.to_owned() };
            parts.push(Part::Text(before.to_owned()));
            parts.push(Part::Variable(variable.ok_or_else(unknown)?));
            rest = behind;
        }
        if parts.is_empty() {
            return Ok(Level::Plain(text.to_owned()));
        }
        parts.push(Part::Text(rest.to_owned()));
        Ok(Level::Mixed(parts))
    }

    /// The level with something harmless for its variables.
    fn sample(&self) -> String {
        match self {
            Level::Plain(text) => text.clone(),
            Level::Mixed(parts) => parts
                .iter()
                .map(|part| match part {
                    Part::Text(text) => text.as_str(),
                    Part::Variable(_) => "x",
                })
                .collect(),
        }
    }

    /// What the level may be for this client; nothing at all for a rule that allows and has no
    /// usable value.
    fn values(&self, principal: &Principal, first: bool, effect: Effect) -> Vec<String> {
        let parts = match self {
            Level::Plain(text) => return vec![text.clone()],
            Level::Mixed(parts) => parts,
        };
        let mut found = vec![String::new()];
        let mut all_usable = true;
        for part in parts {
            let texts = match part {
                Part::Text(text) => vec![text.as_str()],
                Part::Variable(variable) => variable.values(principal),
            };
            let usable: Vec<&str> = match part {
                Part::Text(_) => texts.clone(),
                Part::Variable(_) => texts.iter().copied().filter(|v| is_usable(v)).collect(),
            };
            all_usable &= !usable.is_empty() && usable.len() == texts.len();
            found = found
                .iter()
                .flat_map(|text| usable.iter().map(move |value| format!("{text}{value}")))
                .take(MAX_FILTERS + 1)
                .collect();
        }
        let before = found.len();
        found.retain(|value| !(first && value.starts_with('$')));
        all_usable &= found.len() == before;
        match effect {
            Effect::Allow => found,
            Effect::Deny if all_usable => found,
            Effect::Deny => vec!["+".to_owned()],
        }
    }
}

/// Whether a value stays within its level and is no wildcard.
fn is_usable(value: &str) -> bool {
    !value.is_empty() && !value.contains(['/', '+', '#', '\0'])
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
