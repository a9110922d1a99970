//! Who may publish and subscribe where: rules in, verdicts out, without I/O.
//!
//! A [`Policy`] is the operator's list of rules, in order. For one client, a [`Principal`], it
//! compiles into an [`Access`], which its connection asks for each topic. The first rule that
//! matches a topic decides; what no rule matches is denied.
//!
//! Invariants:
//! - What a client says about itself never widens a rule. A value with `/`, `+`, `#` or U+0000,
//!   or one that would make a topic begin with `$`, stands for no topic in a rule that allows.
//!   In a rule that denies, it stands for every value of its level.
//! - A subscription is allowed only if every topic that its filter can match is allowed. So what
//!   is delivered for it, retained messages included, needs no further question.
//!
//! Deliberately not here: how it is found out who a client is. With
//! [`Broker::require_login`](crate::Broker::require_login) the owner is asked, by
//! [`BrokerEvent::Authenticate`](crate::BrokerEvent::Authenticate).

mod coverage;
mod crowd;
mod devices;
mod gate;
mod login;
mod pattern;
mod policy;
mod principal;
mod screen;
mod throttle;
mod verdict;

#[cfg(test)]
mod tests;

pub(crate) use crowd::Crowds;
pub use gate::{PUBLISH_DENIED, WILL_DENIED};
pub use login::{Credentials, LoginError, Secret};
pub use pattern::{Pattern, PatternError};
pub use policy::{Action, Effect, Policy, Rule};
pub use principal::{CertificateFields, Principal, Variable};
pub(crate) use screen::Screened;
pub(crate) use throttle::Throttle;
pub use verdict::Access;
