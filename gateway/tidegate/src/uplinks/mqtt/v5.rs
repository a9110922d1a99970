//! MQTT 5: one record a message with the envelope in user properties, or a batch as its body.

use rumqttc::Outgoing;
use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{ConnAck, Packet};
use rumqttc::v5::{AsyncClient, ConnectionError, Event, EventLoop};
use tidegate_uplink::{Batch, OutboundMessage, RefuseReason, UplinkEvent};

use super::complaint::{self, Stage};
use super::driver::{Heard, Protocol};
use super::packet;
use super::target::MqttTarget;

/// See the module.
pub(super) struct V5;

impl Protocol for V5 {
    type Client = AsyncClient;
    type EventLoop = EventLoop;
    type Error = ConnectionError;

    fn client(target: &MqttTarget, room: usize) -> (AsyncClient, EventLoop) {
        AsyncClient::new(target.mqtt_options(), room)
    }

    async fn poll(
        target: &MqttTarget,
        event_loop: &mut EventLoop,
    ) -> Result<Heard, ConnectionError> {
        Ok(match event_loop.poll().await? {
            Event::Incoming(Packet::ConnAck(connack)) => opened(target, &connack, event_loop)?,
            Event::Incoming(Packet::PubAck(puback)) => {
                Heard::Answered(puback.pkid, complaint::refusal(puback.reason))
            }
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
        let publish = packet::publish(message(target, batch)?, max_packet)?;
        // The topic was text before, and checked.
        let topic = String::from_utf8_lossy(&publish.topic).into_owned();
        let properties = publish.properties.unwrap_or_default();
        let (qos, payload) = (QoS::AtLeastOnce, publish.payload);
        // More than the window in flight: sent again like any other refused message.
        client
            .try_publish_with_properties(topic, qos, false, payload, properties)
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
        complaint::ended(target, session, stage, error)
    }
}

fn message(target: &MqttTarget, batch: &mut Batch) -> Result<OutboundMessage, RefuseReason> {
    if let Some(format) = target.packing() {
        return Ok(packet::packed(target.gateway(), batch, format));
    }
    if batch.records.len() == 1
        && let Some(record) = batch.records.pop()
    {
        return Ok(record.into_message(target.gateway(), &batch.stream, batch.epoch));
    }
    let why = format!("{} records in a message that carries one", batch.records.len());
    Err(RefuseReason::Unencodable(why))
}

fn opened(
    target: &MqttTarget,
    connack: &ConnAck,
    event_loop: &mut EventLoop,
) -> Result<Heard, ConnectionError> {
    let limits = connack.properties.as_ref();
    if limits.and_then(|limits| limits.max_qos) == Some(0) {
        return Err(unusable("takes QoS 0 only: it would acknowledge nothing"));
    }
    if limits.and_then(|limits| limits.receive_max) == Some(0) {
        return Err(unusable("announces a Receive Maximum of 0, which MQTT 5 forbids"));
    }
    if event_loop.options.keep_alive().is_zero() {
        // The server switched the keep-alive off; rumqttc would take that for "ping without
        // pause". We go on at our own pace, which a server has to bear.
        event_loop.options.set_keep_alive(target.keep_alive());
    }
    Ok(Heard::Opened { max_packet: limits.and_then(|limits| limits.max_packet_size) })
}

fn unusable(why: &str) -> ConnectionError {
    ConnectionError::Io(std::io::Error::other(format!("the server {why}")))
}
