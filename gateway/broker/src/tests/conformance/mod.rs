//! Every normative statement of MQTT 3.1.1 and 5 that binds a server, and the tests that show it.
//!
//! `statements.tsv` lists the statements. A test names those it shows in comments right above its
//! `#[test]`, one or more lines for each version:
//!
//! ```text
//! // 5: MQTT-3.1.0-2, MQTT-3.2.0-2
//! // 3.1.1: MQTT-3.1.0-2
//! #[test]
//! fn a_second_connect_is_a_protocol_error() {
//! ```
//!
//! `table` reads both: a statement that has neither a test nor a reason fails the build's tests,
//! and `docs/mqtt-conformance.md` is what it writes. The clients are `tidegate-peer`: they speak
//! bytes of their own making, and take nothing from the server that the specifications do not
//! allow it to send.

mod at_least_once;
mod auth;
mod bench;
mod connect;
mod disconnect;
mod exactly_once;
mod faults;
mod flow_control;
mod keep_alive;
mod properties;
mod publish;
mod retained;
mod sessions;
mod shared;
mod subscriptions;
mod table;
mod texts;
mod topics;
mod unsubscribe;
mod wills;
