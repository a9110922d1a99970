//! Where an uplink goes: the kind of sink, by the scheme of its URL, and its servers.

use std::fmt;

use tidegate_flow::Setback;
use tidegate_uplink::{Action, UplinkEvent};
use tokio::sync::mpsc::Receiver;

#[cfg(feature = "sink-http")]
use super::http::{self, HttpTarget};
use super::mqtt::{self, MqttTarget};
#[cfg(feature = "sink-nats")]
use super::nats::{self, NatsTarget};
#[cfg(feature = "sink-s3")]
use super::s3::{self, S3Target};
use super::unready::Unready;

/// One mistake in the settings of an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetError {
    /// Key below `[uplink.NAME]`.
    pub key: &'static str,
    /// Its value, passwords masked.
    pub value: String,
    /// What is wrong, and what is allowed.
    pub why: String,
    /// It lies in a file beside the configuration, and may be right later: a gateway starts all
    /// the same.
    pub later: bool,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = \"{}\": {}", self.key, self.value, self.why)
    }
}

impl std::error::Error for TargetError {}

/// The servers of one uplink, all of one kind, in the order in which they are tried.
#[derive(Clone, Debug)]
pub enum Target {
    /// MQTT 5 brokers.
    Mqtt(Vec<MqttTarget>),
    /// Servers of the HTTPS sink.
    #[cfg(feature = "sink-http")]
    Http(Vec<HttpTarget>),
    /// Servers of S3.
    #[cfg(feature = "sink-s3")]
    S3(Vec<S3Target>),
    /// A certificate, key or credential cannot be read yet.
    Unready(Unready),
    /// NATS servers with JetStream.
    #[cfg(feature = "sink-nats")]
    Nats(Vec<NatsTarget>),
}

impl Target {
    /// How many servers.
    #[must_use]
    pub fn endpoints(&self) -> usize {
        match self {
            Target::Unready(unready) => unready.endpoints,
            Target::Mqtt(servers) => servers.len(),
            #[cfg(feature = "sink-http")]
            Target::Http(servers) => servers.len(),
            #[cfg(feature = "sink-s3")]
            Target::S3(servers) => servers.len(),
            #[cfg(feature = "sink-nats")]
            Target::Nats(servers) => servers.len(),
        }
    }

    /// Whether the boundaries of a batch must be durable before it is sent.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        match self {
            Target::Unready(unready) => unready.sealed,
            Target::Mqtt(_) => false,
            #[cfg(feature = "sink-http")]
            Target::Http(_) => false,
            #[cfg(feature = "sink-s3")]
            Target::S3(_) => true,
            #[cfg(feature = "sink-nats")]
            Target::Nats(_) => false,
        }
    }

    /// What follows when a server holds less than it acknowledged.
    #[must_use]
    pub fn setback(&self) -> Setback {
        match self {
            Target::Unready(unready) => unready.setback,
            Target::Mqtt(_) => Setback::Unseen,
            #[cfg(feature = "sink-http")]
            Target::Http(_) => Setback::SentAgain,
            #[cfg(feature = "sink-s3")]
            Target::S3(_) => Setback::Unseen,
            #[cfg(feature = "sink-nats")]
            Target::Nats(_) => Setback::Told,
        }
    }

    /// Carries out the actions of one uplink core until their channel closes, then says goodbye
    /// to the server. `lanes` are the names under which the uplink's lanes go up, in their order.
    /// `events` must not block, and must not lose anything: per session at most
    /// one answer for each batch sent, and two for the connection.
    ///
    /// Actions are taken at all times, also while connecting and while a write is stuck; a
    /// session that ends, ends at once, with its socket.
    pub async fn run(
        self,
        lanes: Vec<String>,
        actions: Receiver<Action>,
        events: impl Fn(UplinkEvent),
    ) {
        match self {
            Target::Unready(unready) => Box::pin(unready.run(lanes, actions, events)).await,
            // MQTT cannot say what it holds: the lanes' names come with the batches.
            Target::Mqtt(servers) => {
                drop(lanes);
                mqtt::run(servers, actions, events).await;
            }
            #[cfg(feature = "sink-http")]
            Target::Http(servers) => http::run(servers, &lanes, actions, events).await,
            // Nor can S3.
            #[cfg(feature = "sink-s3")]
            Target::S3(servers) => {
                drop(lanes);
                s3::run(servers, actions, events).await;
            }
            #[cfg(feature = "sink-nats")]
            Target::Nats(servers) => nats::run(servers, lanes, actions, events).await,
        }
    }
}

/// As in messages: the servers without their passwords.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown: Vec<String> = match self {
            Target::Unready(unready) => return f.write_str(&unready.why),
            Target::Mqtt(servers) => servers.iter().map(ToString::to_string).collect(),
            #[cfg(feature = "sink-http")]
            Target::Http(servers) => servers.iter().map(ToString::to_string).collect(),
            #[cfg(feature = "sink-s3")]
            Target::S3(servers) => servers.iter().map(ToString::to_string).collect(),
            #[cfg(feature = "sink-nats")]
            Target::Nats(servers) => servers.iter().map(ToString::to_string).collect(),
        };
        f.write_str(&shown.join(", "))
    }
}
