//! What went wrong with a connection, as a sentence for the one who must act, and what it means
//! for the messages.
//!
//! Two limits of rumqttc 0.25.1 show here. It gives up the connection over a PUBACK code that
//! the standard does not list for PUBACK, as mosquitto's 0x95 "packet too large": that counts as
//! blaming a message. And it cannot read a DISCONNECT that ends after the reason code, which is
//! legal and what mosquitto sends: then only the closed connection is seen, without the reason.

use std::io;

use rumqttc::v5::mqttbytes::Error as MqttError;
use rumqttc::v5::mqttbytes::v5::{ConnectReturnCode, DisconnectReasonCode, PubAckReason};
use rumqttc::v5::{ConnectionError, StateError};
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

/// The end of a session as the core hears of it.
pub(super) fn ended(
    target: &MqttTarget,
    session: u64,
    stage: Stage,
    error: &ConnectionError,
) -> UplinkEvent {
    let why = sentence(target, stage, error);
    match culprit(stage, error) {
        Some(reason) => UplinkEvent::Expelled { session, reason, why },
        None => UplinkEvent::Disconnected { session, why },
    }
}

/// What a PUBACK says; `None` when the server has the message.
pub(super) fn refusal(reason: PubAckReason) -> Option<RefuseReason> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => None,
        PubAckReason::QuotaExceeded => Some(RefuseReason::QuotaExceeded),
        PubAckReason::NotAuthorized => Some(RefuseReason::NotAuthorized),
        PubAckReason::TopicNameInvalid => Some(RefuseReason::TopicInvalid),
        PubAckReason::PayloadFormatInvalid => Some(RefuseReason::PayloadFormatInvalid),
        PubAckReason::UnspecifiedError => Some(RefuseReason::Other { code: 0x80 }),
        PubAckReason::ImplementationSpecificError => Some(RefuseReason::Other { code: 0x83 }),
        PubAckReason::PacketIdentifierInUse => Some(RefuseReason::Other { code: 0x91 }),
    }
}

/// When the server hung up because of a message.
fn culprit(stage: Stage, error: &ConnectionError) -> Option<RefuseReason> {
    match error {
        ConnectionError::MqttState(StateError::OutgoingPacketTooLarge { pkt_size, max }) => {
            let (bytes, max) = (Some(u64::from(*pkt_size)), Some(u64::from(*max)));
            Some(RefuseReason::PacketTooLarge { bytes, max })
        }
        // The name is rumqttc's; once the connection stands, only PUBACK has such a code.
        ConnectionError::MqttState(StateError::Deserialization(
            MqttError::InvalidConnectReturnCode(code),
        )) if stage == Stage::Open => Some(match code {
            0x95 => RefuseReason::PacketTooLarge { bytes: None, max: None },
            code => RefuseReason::Unencodable(format!(
                "the server answered a message with code 0x{code:02x}, unknown in MQTT 5"
            )),
        }),
        ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, .. }) => {
            match reason_code {
                DisconnectReasonCode::PacketTooLarge => {
                    Some(RefuseReason::PacketTooLarge { bytes: None, max: None })
                }
                DisconnectReasonCode::TopicNameInvalid => Some(RefuseReason::TopicInvalid),
                DisconnectReasonCode::PayloadFormatInvalid => {
                    Some(RefuseReason::PayloadFormatInvalid)
                }
                DisconnectReasonCode::MalformedPacket => Some(RefuseReason::Unencodable(
                    "the server calls the packet malformed (control characters in a topic, a \
                     client id or a property?)"
                        .to_owned(),
                )),
                _ => None,
            }
        }
        _ => None,
    }
}

fn sentence(target: &MqttTarget, stage: Stage, error: &ConnectionError) -> String {
    let at = target.address();
    match error {
        ConnectionError::Io(error) => unreachable_server(&at, error),
        ConnectionError::Timeout(_) => {
            format!("{at} did not answer within {:?}", target.connect_timeout())
        }
        ConnectionError::Tls(error) => {
            format!("TLS with {at} failed: {error}; check the server's certificate and ca_file")
        }
        ConnectionError::ConnectionRefused(code) => {
            format!("{at} refused the connection: {}", refused(*code))
        }
        ConnectionError::NotConnAck(_) => {
            format!("{at} answered CONNECT with another packet; is it an MQTT 5 server?")
        }
        ConnectionError::RequestsDone => format!("the connection to {at} was given up"),
        ConnectionError::MqttState(error) => broken(target, &at, stage, error),
    }
}

pub(super) fn unreachable_server(at: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            format!("{at} refuses connections: nothing listens there, or a firewall forbids it")
        }
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => {
            format!("{at} closed the connection: {error}")
        }
        // Resolver failures have no kind of their own in std.
        _ if error.to_string().contains("failed to lookup address") => {
            format!("the name in {at} cannot be resolved: {error}")
        }
        _ => format!("cannot reach {at}: {error}"),
    }
}

fn refused(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::BadUserNamePassword => {
            "bad user name or password; check them in the url"
        }
        ConnectReturnCode::NotAuthorized => "not authorised; check user, password and client id",
        ConnectReturnCode::Banned => "this client is banned there",
        ConnectReturnCode::BadClientId | ConnectReturnCode::ClientIdentifierNotValid => {
            "it does not accept the client id tidegate-GATEWAY-UPLINK"
        }
        ConnectReturnCode::RefusedProtocolVersion
        | ConnectReturnCode::UnsupportedProtocolVersion => {
            "it does not speak MQTT 5, which is needed"
        }
        ConnectReturnCode::ServerBusy
        | ConnectReturnCode::ServerUnavailable
        | ConnectReturnCode::ServiceUnavailable => "it is busy or unavailable",
        ConnectReturnCode::QuotaExceeded | ConnectReturnCode::ConnectionRateExceeded => {
            "a quota or rate limit of the account is exceeded"
        }
        ConnectReturnCode::UseAnotherServer | ConnectReturnCode::ServerMoved => {
            "the server has moved; change the url"
        }
        ConnectReturnCode::Success => "no reason given",
        ConnectReturnCode::UnspecifiedError => "unspecified error",
        ConnectReturnCode::MalformedPacket => "it calls our CONNECT malformed",
        ConnectReturnCode::ProtocolError => "it calls our CONNECT a protocol error",
        ConnectReturnCode::ImplementationSpecificError => "an error of its own kind",
        ConnectReturnCode::BadAuthenticationMethod => "it wants another authentication method",
        ConnectReturnCode::TopicNameInvalid
        | ConnectReturnCode::PacketTooLarge
        | ConnectReturnCode::PayloadFormatInvalid
        | ConnectReturnCode::RetainNotSupported
        | ConnectReturnCode::QoSNotSupported => "it does not accept our CONNECT's properties",
    }
}

fn broken(target: &MqttTarget, at: &str, stage: Stage, error: &StateError) -> String {
    match error {
        StateError::ServerDisconnect { reason_code, reason_string } => {
            let code = *reason_code as u8;
            let said = reason_string.as_deref().unwrap_or("");
            let said: String = said.chars().filter(|c| !c.is_control()).take(200).collect();
            let colon = if said.is_empty() { "" } else { ": " };
            format!("{at} ended the session with {reason_code:?} (0x{code:02x}){colon}{said}")
        }
        StateError::AwaitPingResp | StateError::CollisionTimeout => {
            format!("{at} did not answer a keep-alive within {:?}", target.keep_alive())
        }
        StateError::ConnectionAborted if stage == Stage::Opening => {
            format!(
                "{at} closed the connection instead of answering CONNECT; does it speak MQTT 5?"
            )
        }
        StateError::ConnectionAborted => format!("{at} closed the connection"),
        StateError::Io(error) | StateError::Deserialization(MqttError::Io(error)) => {
            unreachable_server(at, error)
        }
        StateError::Deserialization(error) if stage == Stage::Opening => {
            format!("{at} answered CONNECT with something that is not MQTT 5: {error}")
        }
        error => format!("the connection to {at} broke: {error}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::uplinks::TargetOptions;

    fn hear(stage: Stage, error: ConnectionError) -> UplinkEvent {
        let url = "mqtt://bob:secret@cloud.example";
        let target = MqttTarget::parse("gw", "up", url, TargetOptions::default()).unwrap();
        ended(&target, 3, stage, &error)
    }

    #[test]
    fn each_failure_is_a_sentence_with_the_server_and_without_the_password() {
        let io = |kind, text: &str| ConnectionError::Io(io::Error::new(kind, text.to_owned()));
        let lookup = "failed to lookup address information: Name or service not known";
        let refused = ConnectionError::ConnectionRefused;
        let aborted = || ConnectionError::MqttState(StateError::ConnectionAborted);
        let cases = [
            (Stage::Opening, io(io::ErrorKind::ConnectionRefused, "x"), "nothing listens there"),
            (Stage::Opening, io(io::ErrorKind::Other, lookup), "cannot be resolved"),
            (Stage::Opening, io(io::ErrorKind::TimedOut, "timed out"), "timed out"),
            (Stage::Opening, refused(ConnectReturnCode::BadUserNamePassword), "check them"),
            (Stage::Opening, refused(ConnectReturnCode::RefusedProtocolVersion), "speak MQTT 5"),
            (Stage::Opening, aborted(), "does it speak MQTT 5"),
            (Stage::Open, aborted(), "closed the connection"),
            (
                Stage::Open,
                ConnectionError::MqttState(StateError::AwaitPingResp),
                "did not answer a keep-alive within 30s",
            ),
        ];
        for (stage, error, part) in cases {
            match hear(stage, error) {
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
        let server = |reason_code| {
            let reason_string = Some("because\n".to_owned());
            ConnectionError::MqttState(StateError::ServerDisconnect { reason_code, reason_string })
        };
        let blamed = hear(Stage::Open, server(DisconnectReasonCode::PacketTooLarge));
        let why = "cloud.example:1883 ended the session with PacketTooLarge (0x95): because";
        assert_eq!(
            blamed,
            UplinkEvent::Expelled {
                session: 3,
                reason: RefuseReason::PacketTooLarge { bytes: None, max: None },
                why: why.to_owned(),
            }
        );
        let moved = hear(Stage::Open, server(DisconnectReasonCode::SessionTakenOver));
        assert!(matches!(moved, UplinkEvent::Disconnected { .. }), "{moved:?}");
    }
}
