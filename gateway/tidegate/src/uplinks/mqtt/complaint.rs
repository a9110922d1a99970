//! What went wrong with a connection, as a sentence for the one who must act, and what it means
//! for the messages.

use std::io;

use tidegate_uplink::mqtt::{Broken, Version};
use tidegate_uplink::{RefuseReason, UplinkEvent};

use super::target::MqttTarget;

/// How far the connection had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// CONNACK had not arrived.
    Opening,
    /// It had.
    Open,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) enum Lost {
    /// The server cannot be reached, or not any more.
    Io(io::Error),
    /// TLS did not come about.
    Tls(String),
    /// The server closed it.
    Closed,
    /// Not opened in time.
    Unanswered,
    /// What the server said, or did not say.
    Broken(Broken),
}

impl From<Broken> for Lost {
    fn from(broken: Broken) -> Lost {
        Lost::Broken(broken)
    }
}

/// The end of a session as the core hears of it.
pub(super) fn ended(target: &MqttTarget, session: u64, stage: Stage, lost: &Lost) -> UplinkEvent {
    let why = sentence(target, stage, lost);
    match culprit(stage, lost) {
        Some(reason) => UplinkEvent::Expelled { session, reason, why },
        None => UplinkEvent::Disconnected { session, why },
    }
}

/// When the server hung up because of a message.
fn culprit(stage: Stage, lost: &Lost) -> Option<RefuseReason> {
    match lost {
        Lost::Broken(Broken::Ended { code, .. }) if stage == Stage::Open => match code {
            0x81 => Some(RefuseReason::Unencodable(
                "the server calls the packet malformed (control characters in a topic, a \
                 client id or a property?)"
                    .to_owned(),
            )),
            0x90 => Some(RefuseReason::TopicInvalid),
            0x95 => Some(RefuseReason::PacketTooLarge { bytes: None, max: None }),
            0x99 => Some(RefuseReason::PayloadFormatInvalid),
            _ => None,
        },
        Lost::Broken(_) | Lost::Io(_) | Lost::Tls(_) | Lost::Closed | Lost::Unanswered => None,
    }
}

fn sentence(target: &MqttTarget, stage: Stage, lost: &Lost) -> String {
    let at = target.address();
    match (lost, stage) {
        (Lost::Io(error), _) => unreachable_server(&at, error),
        (Lost::Tls(why), _) => {
            format!("TLS with {at} failed: {why}; check the server's certificate and ca_file")
        }
        (Lost::Unanswered, _) => {
            format!("{at} did not answer within {:?}", target.connect_timeout())
        }
        (Lost::Closed, Stage::Opening) => format!(
            "{at} closed the connection instead of answering CONNECT; does it speak {}?",
            name(target.version())
        ),
        (Lost::Closed, Stage::Open) => match target.version() {
            Version::V5 => format!("{at} closed the connection"),
            Version::V311 => {
                format!("{at} closed the connection (MQTT 3.1.1 has no reasons for that)")
            }
        },
        (Lost::Broken(broken), _) => broken_off(target, &at, stage, broken),
    }
}

fn name(version: Version) -> &'static str {
    match version {
        Version::V5 => "MQTT 5",
        Version::V311 => "MQTT 3.1.1",
    }
}

fn unreachable_server(at: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{at} refuses connections: nothing listens there, or a firewall forbids it")
        }
        io::ErrorKind::UnexpectedEof
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::BrokenPipe => {
            format!("{at} closed the connection: {error}")
        }
        // Resolver failures have no kind of their own in std.
        _ if error.to_string().contains("failed to lookup address") => {
            format!("the name in {at} cannot be resolved: {error}")
        }
        _ => format!("cannot reach {at}: {error}"),
    }
}

fn broken_off(target: &MqttTarget, at: &str, stage: Stage, broken: &Broken) -> String {
    let speaks = name(target.version());
    match broken {
        Broken::Refused { code, said } => {
            let why = match target.version() {
                Version::V5 => refused(*code),
                Version::V311 => refused_311(*code),
            };
            format!("{at} refused the connection: {why} (0x{code:02x}){}", quoted(said))
        }
        Broken::Ended { code, said } => {
            let reason = reason(*code);
            format!("{at} ended the session with {reason} (0x{code:02x}){}", quoted(said))
        }
        Broken::Unusable(why) => format!("cannot use {at}: the server {why}"),
        Broken::Silent => {
            format!("{at} did not answer a keep-alive within {:?}", target.keep_alive())
        }
        Broken::NotConnAck => {
            format!("{at} answered CONNECT with another packet; is it an {speaks} server?")
        }
        Broken::Malformed { .. } | Broken::Unexpected(_) if stage == Stage::Opening => {
            format!("{at} answered CONNECT with something that is not {speaks}: {broken}")
        }
        Broken::TooLarge { .. }
        | Broken::Unexpected(_)
        | Broken::Unsolicited { .. }
        | Broken::Malformed { .. } => format!("the connection to {at} broke: {broken}"),
    }
}

/// The server's own words behind ours.
fn quoted(said: &str) -> String {
    if said.is_empty() { String::new() } else { format!(": {said}") }
}

fn refused(code: u8) -> &'static str {
    match code {
        0x81 => "it calls our CONNECT malformed",
        0x82 => "it calls our CONNECT a protocol error",
        0x83 => "an error of its own kind",
        // 3.1.1's refusal of an unknown protocol level, which older servers give.
        0x84 | 0x01 => "it does not speak MQTT 5, which is needed",
        0x85 => "it does not accept the client id tidegate-GATEWAY-UPLINK",
        0x86 => "bad user name or password; check them in the url",
        0x87 => "not authorised; check user, password and client id",
        0x88 | 0x89 => "it is busy or unavailable",
        0x8a => "this client is banned there",
        0x8c => "it wants another authentication method",
        0x90 | 0x95 | 0x99 | 0x9a | 0x9b => "it does not accept our CONNECT's properties",
        0x97 | 0x9f => "a quota or rate limit of the account is exceeded",
        0x9c | 0x9d => "the server has moved; change the url",
        _ => "no reason that MQTT 5 knows",
    }
}

fn refused_311(code: u8) -> &'static str {
    match code {
        1 => "it does not speak MQTT 3.1.1",
        2 => "it does not accept the client id tidegate-GATEWAY-UPLINK",
        3 => "it is busy or unavailable",
        4 => "bad user name or password; check them in the url",
        5 => "not authorised; check user, password and client id",
        _ => "no reason that MQTT 3.1.1 knows",
    }
}

/// The standard's name for the reason of a DISCONNECT.
fn reason(code: u8) -> &'static str {
    match code {
        0x00 => "NormalDisconnection",
        0x80 => "UnspecifiedError",
        0x81 => "MalformedPacket",
        0x82 => "ProtocolError",
        0x83 => "ImplementationSpecificError",
        0x87 => "NotAuthorized",
        0x89 => "ServerBusy",
        0x8b => "ServerShuttingDown",
        0x8d => "KeepAliveTimeout",
        0x8e => "SessionTakenOver",
        0x90 => "TopicNameInvalid",
        0x93 => "ReceiveMaximumExceeded",
        0x94 => "TopicAliasInvalid",
        0x95 => "PacketTooLarge",
        0x96 => "MessageRateTooHigh",
        0x97 => "QuotaExceeded",
        0x98 => "AdministrativeAction",
        0x99 => "PayloadFormatInvalid",
        0x9a => "RetainNotSupported",
        0x9b => "QoSNotSupported",
        0x9c => "UseAnotherServer",
        0x9d => "ServerMoved",
        0x9f => "ConnectionRateExceeded",
        0xa0 => "MaximumConnectTime",
        _ => "a reason that MQTT 5 does not know",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplinks::TargetOptions;

    fn hear(version: Version, stage: Stage, lost: Lost) -> UplinkEvent {
        let url = "mqtt://bob:secret@cloud.example";
        let options = TargetOptions { version, ..TargetOptions::default() };
        let target = MqttTarget::parse("gw", "up", url, options).unwrap();
        ended(&target, 3, stage, &lost)
    }

    #[test]
    fn each_failure_is_a_sentence_with_the_server_and_without_the_password() {
        use Stage::{Open, Opening};
        use Version::{V5, V311};
        let io = |kind, text: &str| Lost::Io(io::Error::new(kind, text.to_owned()));
        let lookup = "failed to lookup address information: Name or service not known";
        let refused = |code| Lost::Broken(Broken::Refused { code, said: "no\n".to_owned() });
        let cases = [
            (V5, Opening, io(io::ErrorKind::ConnectionRefused, "x"), "nothing listens there"),
            (V5, Opening, io(io::ErrorKind::Other, lookup), "cannot be resolved"),
            (V5, Opening, io(io::ErrorKind::TimedOut, "timed out"), "timed out"),
            (V5, Open, io(io::ErrorKind::BrokenPipe, "x"), "closed the connection"),
            (V5, Opening, refused(0x86), "check them"),
            (V5, Opening, refused(0x84), "speak MQTT 5"),
            (V5, Opening, refused(0xfe), "(0xfe): no"),
            (V311, Opening, refused(4), "check them"),
            (V5, Opening, Lost::Closed, "does it speak MQTT 5"),
            (V311, Opening, Lost::Closed, "does it speak MQTT 3.1.1"),
            (V5, Open, Lost::Closed, "closed the connection"),
            (V311, Open, Lost::Closed, "no reasons for that"),
            (V5, Opening, Lost::Unanswered, "did not answer within 10s"),
            (V5, Open, Lost::Broken(Broken::Silent), "did not answer a keep-alive within 30s"),
            (V5, Open, Lost::Broken(Broken::Unsolicited { id: 9 }), "acknowledged packet 9"),
            (V5, Opening, Lost::Broken(Broken::NotConnAck), "is it an MQTT 5 server"),
        ];
        for (version, stage, lost, part) in cases {
            match hear(version, stage, lost) {
                UplinkEvent::Disconnected { session: 3, why } => {
                    assert!(why.contains("cloud.example:1883"), "{why}");
                    assert!(why.contains(part) && !why.contains("secret"), "{why}");
                }
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn only_a_disconnect_about_a_message_blames_one() {
        let server = |code| Lost::Broken(Broken::Ended { code, said: "because".to_owned() });
        let blamed = hear(Version::V5, Stage::Open, server(0x95));
        let why = "cloud.example:1883 ended the session with PacketTooLarge (0x95): because";
        assert_eq!(
            blamed,
            UplinkEvent::Expelled {
                session: 3,
                reason: RefuseReason::PacketTooLarge { bytes: None, max: None },
                why: why.to_owned(),
            }
        );
        for (stage, code) in [(Stage::Open, 0x8e), (Stage::Opening, 0x95)] {
            let other = hear(Version::V5, stage, server(code));
            assert!(matches!(other, UplinkEvent::Disconnected { .. }), "{other:?}");
        }
    }
}
