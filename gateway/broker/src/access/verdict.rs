//! What one client may do.

use super::coverage;
use super::policy::{Effect, User};
use crate::topic::{TopicFilter, TopicName};

/// A policy compiled for one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Access {
    user: User,
    publish: Box<[Ruling]>,
    subscribe: Box<[Ruling]>,
    /// What holds for topics that no ruling matches.
    otherwise: Effect,
}

/// A rule for this client, with its variables replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ruling {
    pub(super) filter: TopicFilter,
    pub(super) effect: Effect,
}

impl Access {
    /// Everything is allowed: for a broker without security.
    pub fn everything() -> Access {
        Access {
            user: None,
            publish: Box::default(),
            subscribe: Box::default(),
            otherwise: Effect::Allow,
        }
    }

    pub(super) fn new(user: User, publish: Box<[Ruling]>, subscribe: Box<[Ruling]>) -> Access {
        Access { user, publish, subscribe, otherwise: Effect::Deny }
    }

    /// The name the client has logged in with.
    pub fn user(&self) -> Option<&std::sync::Arc<str>> {
        self.user.as_ref()
    }

    /// Whether no topic is ever denied.
    pub fn is_everything(&self) -> bool {
        self.otherwise == Effect::Allow && self.publish.is_empty() && self.subscribe.is_empty()
    }

    /// Whether the client may publish to `topic`.
    pub fn may_publish(&self, topic: &TopicName) -> bool {
        let decides = self.publish.iter().find(|ruling| ruling.filter.matches(topic));
        decides.map_or(self.otherwise, |ruling| ruling.effect) == Effect::Allow
    }

    /// Whether the client may have a message on `topic`.
    pub fn may_receive(&self, topic: &TopicName) -> bool {
        let decides = self.subscribe.iter().find(|ruling| ruling.filter.matches(topic));
        decides.map_or(self.otherwise, |ruling| ruling.effect) == Effect::Allow
    }

    /// Whether the client may subscribe with `filter`: whether it may have every message on every
    /// topic that the filter can match. A shared subscription is judged by the filter in it. What
    /// would take too long to find out (see [`MAX_STEPS`](coverage::MAX_STEPS)) is denied.
    pub fn may_subscribe(&self, filter: &TopicFilter) -> bool {
        let text = match filter.as_str().strip_prefix("$share/") {
            Some(rest) => match rest.split_once('/') {
                Some((_, filter)) if !filter.is_empty() => filter,
                Some(_) | None => return false,
            },
            None => filter.as_str(),
        };
        coverage::all_allowed(text, &self.subscribe, self.otherwise)
    }
}
