//! The operator's rules, and what they mean for one client.

use std::fmt;
use std::sync::Arc;

use super::pattern::Pattern;
use super::principal::Principal;
use super::verdict::{Access, Ruling};

/// What a rule says of the topics that it matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// They are allowed.
    Allow,
    /// They are denied.
    Deny,
}

/// What a client does with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// It publishes a message.
    Publish,
    /// It subscribes.
    Subscribe,
    /// It leaves a will.
    Will,
    /// It gets a message that has waited for it.
    Receive,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Action::Publish => "publish",
            Action::Subscribe => "subscribe",
            Action::Will => "will",
            Action::Receive => "receive",
        })
    }
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// What it says.
    pub effect: Effect,
    /// It is about publishing, wills included.
    pub publish: bool,
    /// It is about subscribing.
    pub subscribe: bool,
    /// The topics; at least one.
    pub topics: Vec<Pattern>,
    /// The users that it is for; empty for everybody, those without a name included.
    pub users: Vec<String>,
    /// The listeners that it is for; empty for all.
    pub listeners: Vec<String>,
}

/// All rules, in order. The first that matches a topic decides; the rest is denied.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Policy {
    /// The rules.
    pub rules: Vec<Rule>,
}

impl Policy {
    /// Whether a rule is for this user by name.
    pub fn names(&self, user: &str) -> bool {
        self.rules.iter().any(|rule| rule.users.iter().any(|one| one == user))
    }

    /// What this client may do.
    pub fn access(&self, principal: &Principal) -> Access {
        let rulings = |about: fn(&Rule) -> bool| -> Box<[Ruling]> {
            let rules = self.rules.iter().filter(|rule| about(rule) && rule.is_for(principal));
            rules.flat_map(|rule| rule.rulings(principal)).collect()
        };
        Access::new(principal.user.clone(), rulings(|r| r.publish), rulings(|r| r.subscribe))
    }
}

impl Rule {
    fn is_for(&self, principal: &Principal) -> bool {
        let user = principal.user.as_deref();
        let one_of = |list: &[String], name: Option<&str>| {
            list.is_empty() || name.is_some_and(|name| list.iter().any(|one| one == name))
        };
        one_of(&self.users, user) && one_of(&self.listeners, Some(&principal.listener))
    }

    fn rulings(&self, principal: &Principal) -> impl Iterator<Item = Ruling> {
        let effect = self.effect;
        let filters = self.topics.iter().flat_map(move |topic| topic.filters(principal, effect));
        filters.map(move |filter| Ruling { filter, effect })
    }
}

impl From<Vec<Rule>> for Policy {
    fn from(rules: Vec<Rule>) -> Policy {
        Policy { rules }
    }
}

/// A user's name, shared by what belongs to the user.
pub(crate) type User = Option<Arc<str>>;
