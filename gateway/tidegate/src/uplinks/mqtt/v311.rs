//! MQTT 3.1.1, for servers that do not speak 5: a batch as the message's body, because there are no
//! properties for an envelope.
//!
//! An acknowledgement here is never a refusal: a server that does not take a message closes the
//! connection, and does not say why.

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, NetworkOptions, Outgoing,
    Packet, QoS, StateError,
};
use tidegate_uplink::{Batch, RefuseReason, UplinkEvent};

use super::complaint::{Stage, unreachable_server};
use super::driver::{Heard, Protocol};
use super::packet;
use super::target::MqttTarget;

/// See the module.
pub(super) struct V311;

impl Protocol for V311 {
    type Client = AsyncClient;
    type EventLoop = EventLoop;
    type Error = ConnectionError;

    fn client(target: &MqttTarget, room: usize) -> (AsyncClient, EventLoop) {
        let (client, mut event_loop) = AsyncClient::new(target.mqtt_311_options(), room);
        let mut network = NetworkOptions::new();
        network.set_connection_timeout(target.connect_seconds());
        event_loop.set_network_options(network);
        (client, event_loop)
    }

    async fn poll(_: &MqttTarget, event_loop: &mut EventLoop) -> Result<Heard, ConnectionError> {
        Ok(match event_loop.poll().await? {
            Event::Incoming(Packet::ConnAck(_)) => Heard::Opened { max_packet: None },
            Event::Incoming(Packet::PubAck(puback)) => Heard::Answered(puback.pkid, None),
            Event::Outgoing(Outgoing::Publish(packet_id)) => Heard::Sent(packet_id),
            Event::Outgoing(Outgoing::Disconnect) => Heard::Left,
            Event::Incoming(_) | Event::Outgoing(_) => Heard::Other,
        })
    }

    fn publish(
        target: &MqttTarget,
        client: &AsyncClient,
        batch: &mut Batch,
        max_packet: u32,
    ) -> Result<(), RefuseReason> {
        let message = packet::packed(target.gateway(), batch, target.packing_311());
        packet::check_311(&message, max_packet)?;
        // More than the window in flight: sent again like any other refused message.
        client
            .try_publish(message.topic, QoS::AtLeastOnce, false, message.payload)
            .map_err(|_| RefuseReason::QuotaExceeded)
    }

    fn leave(client: &AsyncClient) -> bool {
        client.try_disconnect().is_ok()
    }

    fn ended(
        target: &MqttTarget,
        session: u64,
        stage: Stage,
        error: &ConnectionError,
    ) -> UplinkEvent {
        UplinkEvent::Disconnected { session, why: sentence(target, stage, error) }
    }
}

fn sentence(target: &MqttTarget, stage: Stage, error: &ConnectionError) -> String {
    let at = target.address();
    match error {
        ConnectionError::Io(error) => unreachable_server(&at, error),
        ConnectionError::NetworkTimeout | ConnectionError::FlushTimeout => {
            format!("{at} did not answer within {:?}", target.connect_timeout())
        }
        ConnectionError::Tls(error) => {
            format!("TLS with {at} failed: {error}; check the server's certificate and ca_file")
        }
        ConnectionError::ConnectionRefused(code) => {
            format!("{at} refused the connection: {}", refused(*code))
        }
        ConnectionError::MqttState(StateError::AwaitPingResp | StateError::CollisionTimeout) => {
            format!("{at} did not answer a keep-alive within {:?}", target.keep_alive())
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) if stage == Stage::Opening => {
            format!("{at} closed the connection instead of answering CONNECT; does it speak MQTT?")
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) => {
            format!("{at} closed the connection (MQTT 3.1.1 has no reasons for that)")
        }
        ConnectionError::MqttState(StateError::Io(error)) => unreachable_server(&at, error),
        ConnectionError::MqttState(_) if stage == Stage::Opening => {
            format!("{at} answered CONNECT with something that is not MQTT 3.1.1: {error}")
        }
        error => format!("the connection to {at} broke: {error}"),
    }
}

fn refused(code: ConnectReturnCode) -> &'static str {
    match code {
        ConnectReturnCode::Success => "no reason given",
        ConnectReturnCode::RefusedProtocolVersion => "it does not speak MQTT 3.1.1",
        ConnectReturnCode::BadClientId => {
            "it does not accept the client id tidegate-GATEWAY-UPLINK"
        }
        ConnectReturnCode::ServiceUnavailable => "it is busy or unavailable",
        ConnectReturnCode::BadUserNamePassword => {
            "bad user name or password; check them in the url"
        }
        ConnectReturnCode::NotAuthorized => "not authorised; check user, password and client id",
    }
}
