//! SUBSCRIBE and UNSUBSCRIBE in, SUBACK and UNSUBACK out.

use mqtt_protocol_core::mqtt::packet::{Property, Qos, RetainHandling, SubEntry, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{
    MqttError, SubackReasonCode, SubackReturnCode, UnsubackReasonCode,
};

use crate::message::QoS;
use crate::packet::Version;
use crate::packet::fault::{Fault, Reason, parse_all};
use crate::packet::wire::text;

/// A SUBSCRIBE.
pub(crate) struct Subscribe {
    pub(crate) id: u16,
    pub(crate) subscription_id: Option<u32>,
    pub(crate) entries: Vec<Entry>,
}

/// One wish in it. The filter is not checked yet.
pub(crate) struct Entry {
    pub(crate) filter: String,
    /// The most this broker grants of what was asked for.
    pub(crate) qos: QoS,
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) retained: SendRetained,
}

/// When a new subscription is given the retained messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SendRetained {
    Always,
    IfNew,
    Never,
}

pub(crate) fn decode(version: Version, body: &[u8]) -> Result<Subscribe, Fault> {
    let mut subscription_id = None;
    let (id, entries) = match version {
        Version::V3_1_1 => {
            let packet = parse_all(body, "SUBSCRIBE", v3_1_1::Subscribe::parse)?;
            // [MQTT-3.8.3-4]: the upper six bits are reserved.
            if packet.entries().iter().any(|entry| entry.sub_opts().to_buffer()[0] & !3 != 0) {
                return Err(Fault::malformed("reserved bits of a requested QoS are set"));
            }
            (packet.packet_id(), entries(packet.entries())?)
        }
        Version::V5 => {
            let packet = parse_all(body, "SUBSCRIBE", v5_0::Subscribe::parse)?;
            for property in packet.props() {
                if let Property::SubscriptionIdentifier(p) = property {
                    subscription_id = Some(p.val());
                }
            }
            (packet.packet_id(), entries(packet.entries())?)
        }
    };
    check_id(id)?;
    Ok(Subscribe { id, subscription_id, entries })
}

fn entries(parsed: &[SubEntry]) -> Result<Vec<Entry>, Fault> {
    parsed.iter().map(entry).collect()
}

fn entry(parsed: &SubEntry) -> Result<Entry, Fault> {
    let options = parsed.sub_opts();
    Ok(Entry {
        filter: text(parsed.topic_filter().as_bytes())?.to_owned(),
        qos: match options.qos() {
            Qos::AtMostOnce => QoS::AtMostOnce,
            Qos::AtLeastOnce | Qos::ExactlyOnce => QoS::AtLeastOnce,
        },
        no_local: options.nl(),
        retain_as_published: options.rap(),
        retained: match options.rh() {
            RetainHandling::SendRetained => SendRetained::Always,
            RetainHandling::SendRetainedIfNotExists => SendRetained::IfNew,
            RetainHandling::DoNotSendRetained => SendRetained::Never,
        },
    })
}

/// [MQTT-2.2.1-3]
fn check_id(id: u16) -> Result<(), Fault> {
    if id == 0 { Err(Fault::protocol("packet identifier 0")) } else { Ok(()) }
}

/// SUBACK: what each entry was granted, or why not, in the order of the entries
/// [MQTT-3.8.4-6].
pub(crate) fn suback(
    version: Version,
    id: u16,
    granted: &[Result<QoS, Reason>],
) -> Result<Vec<u8>, MqttError> {
    match version {
        Version::V3_1_1 => {
            let codes = granted
                .iter()
                .map(|granted| match granted {
                    Ok(QoS::AtMostOnce) => SubackReturnCode::SuccessMaximumQos0,
                    Ok(QoS::AtLeastOnce) => SubackReturnCode::SuccessMaximumQos1,
                    Err(_) => SubackReturnCode::Failure,
                })
                .collect();
            let suback = v3_1_1::Suback::builder().packet_id(id).return_codes(codes).build()?;
            Ok(suback.to_continuous_buffer())
        }
        Version::V5 => {
            let codes = granted
                .iter()
                .map(|granted| match granted {
                    Ok(QoS::AtMostOnce) => SubackReasonCode::GrantedQos0,
                    Ok(QoS::AtLeastOnce) => SubackReasonCode::GrantedQos1,
                    Err(reason) => SubackReasonCode::try_from(*reason as u8)
                        .unwrap_or(SubackReasonCode::UnspecifiedError),
                })
                .collect();
            let suback = v5_0::Suback::builder().packet_id(id).reason_codes(codes).build()?;
            Ok(suback.to_continuous_buffer())
        }
    }
}

/// An UNSUBSCRIBE: packet identifier and filters, not checked yet.
pub(crate) fn decode_unsubscribe(
    version: Version,
    body: &[u8],
) -> Result<(u16, Vec<String>), Fault> {
    let (id, entries) = match version {
        Version::V3_1_1 => {
            let packet = parse_all(body, "UNSUBSCRIBE", v3_1_1::Unsubscribe::parse)?;
            (packet.packet_id(), packet.entries().clone())
        }
        Version::V5 => {
            let packet = parse_all(body, "UNSUBSCRIBE", v5_0::Unsubscribe::parse)?;
            (packet.packet_id(), packet.entries().clone())
        }
    };
    check_id(id)?;
    let filters = entries
        .iter()
        .map(|entry| Ok(text(entry.as_str().as_bytes())?.to_owned()))
        .collect::<Result<_, _>>()?;
    Ok((id, filters))
}

/// UNSUBACK; `existed` in the order of the filters [MQTT-3.11.3-2], `None` for one that is not
/// valid.
pub(crate) fn unsuback(
    version: Version,
    id: u16,
    existed: &[Option<bool>],
) -> Result<Vec<u8>, MqttError> {
    match version {
        Version::V3_1_1 => {
            Ok(v3_1_1::Unsuback::builder().packet_id(id).build()?.to_continuous_buffer())
        }
        Version::V5 => {
            let codes = existed
                .iter()
                .map(|existed| match existed {
                    Some(true) => UnsubackReasonCode::Success,
                    Some(false) => UnsubackReasonCode::NoSubscriptionExisted,
                    None => UnsubackReasonCode::TopicFilterInvalid,
                })
                .collect();
            let unsuback = v5_0::Unsuback::builder().packet_id(id).reason_codes(codes).build()?;
            Ok(unsuback.to_continuous_buffer())
        }
    }
}
