//! CONNECT in, CONNACK out.

use mqtt_protocol_core::mqtt::packet::{
    AssignedClientIdentifier, MaximumPacketSize, MaximumQos, Property, Qos, ReasonString,
    ReceiveMaximum, ServerKeepAlive, SessionExpiryInterval, SharedSubscriptionAvailable,
    TopicAliasMaximum, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::{ConnectReasonCode, ConnectReturnCode, MqttError};

use crate::access::{Credentials, Secret};
use crate::message::{Properties, QoS};
use crate::packet::Version;
use crate::packet::fault::{Fault, Reason, parse_all};
use crate::packet::wire::text;
use crate::topic::TopicName;

/// "Never" as a session expiry interval.
pub(crate) const NEVER: u32 = u32::MAX;

/// What a client wants.
#[derive(Debug)]
pub(crate) struct Connect {
    pub(crate) version: Version,
    /// May be empty: the broker gives one then.
    pub(crate) client: String,
    pub(crate) clean_start: bool,
    /// Seconds; 0 for none.
    pub(crate) keep_alive: u16,
    /// Seconds the session outlives the connection; [`NEVER`] for always.
    pub(crate) session_expiry: u32,
    /// QoS 1 messages it takes at a time.
    pub(crate) receive_maximum: u16,
    /// The largest packet it takes.
    pub(crate) max_packet: u32,
    /// Whether it wants reason strings.
    pub(crate) problem_info: bool,
    pub(crate) will: Option<ConnectWill>,
    pub(crate) credentials: Credentials,
}

/// The will message in CONNECT.
#[derive(Debug)]
pub(crate) struct ConnectWill {
    pub(crate) topic: TopicName,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) properties: Properties,
    /// Seconds.
    pub(crate) delay: u32,
}

/// Why a CONNECT is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) fault: Fault,
    /// How to say it: which CONNACK to send before closing, if any.
    pub(crate) answer: RefusalAnswer,
}

/// The form of the negative CONNACK.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RefusalAnswer {
    /// Close without a word, as [MQTT-3.1.4-1] asks of a 3.1.1 server.
    Silent,
    /// CONNACK of 3.1.1 with this return code.
    ReturnCode(u8),
    /// CONNACK of 5 with the fault's reason, and its text if that fits in the packet size the
    /// client accepts.
    Reason {
        /// In bytes; unlimited while CONNECT has not been understood.
        max_packet: u32,
    },
}

pub(crate) const UNACCEPTABLE_VERSION: u8 = 1;
pub(crate) const IDENTIFIER_REJECTED: u8 = 2;
pub(crate) const SERVER_UNAVAILABLE: u8 = 3;

impl Refusal {
    pub(crate) const fn silent(fault: Fault) -> Refusal {
        Refusal { fault, answer: RefusalAnswer::Silent }
    }

    const fn said(fault: Fault) -> Refusal {
        Refusal { fault, answer: RefusalAnswer::Reason { max_packet: u32::MAX } }
    }

    /// The same fault said in the words of the client's version.
    pub(crate) const fn of(connect: &Connect, fault: Fault, return_code: u8) -> Refusal {
        let answer = match connect.version {
            Version::V3_1_1 => RefusalAnswer::ReturnCode(return_code),
            Version::V5 => RefusalAnswer::Reason { max_packet: connect.max_packet },
        };
        Refusal { fault, answer }
    }
}

/// Parses CONNECT; its protocol level decides the version of the connection.
pub(crate) fn decode(body: &[u8]) -> Result<Connect, Refusal> {
    const VERSION: Fault =
        Fault::new(Reason::UnsupportedVersion, "only MQTT 3.1.1 and 5 are spoken");
    match body {
        [0, 4, b'M', b'Q', b'T', b'T', level, flags, ..] => match level {
            4 => decode_v3(body, *flags).map_err(Refusal::silent),
            5 => decode_v5(body, *flags).map_err(Refusal::said),
            0..4 => Err(Refusal {
                fault: VERSION,
                answer: RefusalAnswer::ReturnCode(UNACCEPTABLE_VERSION), // [MQTT-3.1.2-2]
            }),
            6.. => Err(Refusal::said(VERSION)),
        },
        [0, 6, b'M', b'Q', b'I', b's', b'd', b'p', ..] => {
            Err(Refusal { fault: VERSION, answer: RefusalAnswer::ReturnCode(UNACCEPTABLE_VERSION) })
        }
        // [MQTT-3.1.2-1]
        _ => Err(Refusal::silent(Fault::protocol("this is no CONNECT of MQTT"))),
    }
}

/// What the library does not check in the connect flags.
fn check_flags(flags: u8) -> Result<(), Fault> {
    if flags & 1 != 0 {
        return Err(Fault::malformed("reserved connect flag is set")); // [MQTT-3.1.2-3]
    }
    if flags & 0b0000_0100 == 0 && flags & 0b0011_1000 != 0 {
        return Err(Fault::malformed("will QoS or retain without a will")); // [MQTT-3.1.2-11]
    }
    if flags & 0b0001_1000 == 0b0001_1000 {
        return Err(Fault::malformed("will QoS 3")); // [MQTT-3.1.2-12]
    }
    Ok(())
}

fn decode_v3(body: &[u8], flags: u8) -> Result<Connect, Fault> {
    check_flags(flags)?;
    let connect = parse_all(body, "CONNECT", v3_1_1::Connect::parse)?;
    let will = match (connect.will_topic(), connect.will_payload()) {
        (Some(topic), Some(payload)) => Some(ConnectWill {
            topic: will_topic(topic)?,
            payload: payload.to_vec(),
            qos: match connect.will_qos() {
                Qos::AtMostOnce => QoS::AtMostOnce,
                // 3.1.1 has no words to refuse QoS 2; nobody is granted more than QoS 1.
                Qos::AtLeastOnce | Qos::ExactlyOnce => QoS::AtLeastOnce,
            },
            retain: connect.will_retain(),
            properties: Properties::default(),
            delay: 0,
        }),
        _ => None,
    };
    let clean = connect.clean_session();
    Ok(Connect {
        version: Version::V3_1_1,
        client: text(connect.client_id().as_bytes())?.to_owned(),
        clean_start: clean,
        keep_alive: connect.keep_alive(),
        session_expiry: if clean { 0 } else { NEVER },
        receive_maximum: u16::MAX,
        max_packet: u32::MAX,
        problem_info: false,
        will,
        credentials: credentials(connect.user_name(), connect.password())?,
    })
}

fn decode_v5(body: &[u8], flags: u8) -> Result<Connect, Fault> {
    check_flags(flags)?;
    let parsed = parse_all(body, "CONNECT", v5_0::Connect::parse)?;
    let mut connect = Connect {
        version: Version::V5,
        client: text(parsed.client_id().as_bytes())?.to_owned(),
        clean_start: parsed.clean_start(),
        keep_alive: parsed.keep_alive(),
        session_expiry: 0,
        receive_maximum: u16::MAX,
        max_packet: u32::MAX,
        problem_info: true,
        will: None,
        credentials: credentials(parsed.user_name(), parsed.password())?,
    };
    for property in parsed.props() {
        match property {
            Property::SessionExpiryInterval(p) => connect.session_expiry = p.val(),
            Property::ReceiveMaximum(p) => connect.receive_maximum = p.val(),
            Property::MaximumPacketSize(p) => connect.max_packet = p.val(),
            Property::RequestProblemInformation(p) => connect.problem_info = p.val() != 0,
            // [MQTT-4.12.0-1]
            Property::AuthenticationMethod(_) | Property::AuthenticationData(_) => {
                return Err(Fault::new(
                    Reason::BadAuthenticationMethod,
                    "extended authentication is not supported",
                ));
            }
            _ => {}
        }
    }
    if connect.receive_maximum == 0 || connect.max_packet == 0 {
        return Err(Fault::protocol("a limit of 0 in CONNECT"));
    }
    connect.will = decode_will(&parsed)?;
    Ok(connect)
}

fn credentials(username: Option<&str>, password: Option<&[u8]>) -> Result<Credentials, Fault> {
    Ok(Credentials {
        username: username.map(owned).transpose()?,
        password: password.map(|bytes| Secret::from(bytes.to_vec())),
    })
}

fn decode_will(connect: &v5_0::Connect) -> Result<Option<ConnectWill>, Fault> {
    let (Some(topic), Some(payload)) = (connect.will_topic(), connect.will_payload()) else {
        return Ok(None);
    };
    let mut properties = Properties::default();
    let mut delay = 0;
    for property in connect.will_props() {
        match property {
            Property::WillDelayInterval(p) => delay = p.val(),
            Property::PayloadFormatIndicator(p) => properties.payload_format = Some(p.val() == 1),
            Property::MessageExpiryInterval(p) => properties.message_expiry = Some(p.val()),
            Property::ContentType(p) => properties.content_type = Some(owned(p.val())?),
            Property::ResponseTopic(p) => properties.response_topic = Some(owned(p.val())?),
            Property::CorrelationData(p) => properties.correlation_data = Some(p.val().to_vec()),
            Property::UserProperty(p) => properties.user.push((owned(p.key())?, owned(p.val())?)),
            _ => {}
        }
    }
    let qos = match connect.will_qos() {
        Qos::AtMostOnce => QoS::AtMostOnce,
        Qos::AtLeastOnce => QoS::AtLeastOnce,
        // [MQTT-3.2.2-12]
        Qos::ExactlyOnce => {
            return Err(Fault::new(Reason::QosNotSupported, "a will with QoS 2 is not supported"));
        }
    };
    let (topic, payload, retain) = (will_topic(topic)?, payload.to_vec(), connect.will_retain());
    Ok(Some(ConnectWill { topic, payload, qos, retain, properties, delay }))
}

fn owned(value: &str) -> Result<String, Fault> {
    Ok(text(value.as_bytes())?.to_owned())
}

fn will_topic(topic: &str) -> Result<TopicName, Fault> {
    TopicName::parse(topic)
        .map_err(|_| Fault::new(Reason::TopicNameInvalid, "the will's topic is not valid"))
}

/// What CONNACK tells a client that is let in.
#[derive(Debug)]
pub(crate) struct Welcome<'a> {
    pub(crate) session_present: bool,
    pub(crate) receive_maximum: u16,
    pub(crate) max_packet: u32,
    pub(crate) topic_alias_maximum: u16,
    /// Where they differ from what the client asked for.
    pub(crate) assigned_client: Option<&'a str>,
    pub(crate) session_expiry: Option<u32>,
    pub(crate) keep_alive: Option<u16>,
}

/// CONNACK with success.
pub(crate) fn welcome(version: Version, welcome: &Welcome<'_>) -> Result<Vec<u8>, MqttError> {
    match version {
        Version::V3_1_1 => v3_1_1::Connack::builder()
            .session_present(welcome.session_present)
            .return_code(ConnectReturnCode::Accepted)
            .build()
            .map(|connack| connack.to_continuous_buffer()),
        Version::V5 => v5_0::Connack::builder()
            .session_present(welcome.session_present)
            .reason_code(ConnectReasonCode::Success)
            .props(welcome_properties(welcome)?)
            .build()
            .map(|connack| connack.to_continuous_buffer()),
    }
}

fn welcome_properties(welcome: &Welcome<'_>) -> Result<Vec<Property>, MqttError> {
    let mut properties = vec![
        ReceiveMaximum::new(welcome.receive_maximum)?.into(),
        MaximumQos::new(1)?.into(), // [MQTT-3.2.2-9]
        MaximumPacketSize::new(welcome.max_packet)?.into(),
        TopicAliasMaximum::new(welcome.topic_alias_maximum)?.into(),
        SharedSubscriptionAvailable::new(0)?.into(),
    ];
    if let Some(seconds) = welcome.session_expiry {
        properties.push(SessionExpiryInterval::new(seconds)?.into());
    }
    if let Some(client) = welcome.assigned_client {
        properties.push(AssignedClientIdentifier::new(client)?.into()); // [MQTT-3.2.2-16]
    }
    if let Some(seconds) = welcome.keep_alive {
        properties.push(ServerKeepAlive::new(seconds)?.into());
    }
    Ok(properties)
}

/// CONNACK with a refusal; `None` where the standard wants silence.
pub(crate) fn refusal(refusal: &Refusal) -> Option<Vec<u8>> {
    match refusal.answer {
        RefusalAnswer::Silent => None,
        RefusalAnswer::ReturnCode(code) => Some(vec![0x20, 2, 0, code]),
        RefusalAnswer::Reason { max_packet } => {
            let reason = ConnectReasonCode::try_from(refusal.fault.reason as u8)
                .unwrap_or(ConnectReasonCode::UnspecifiedError);
            let connack = |properties| {
                let builder = v5_0::Connack::builder().session_present(false).reason_code(reason);
                let connack = builder.props(properties).build().ok()?;
                let bytes = connack.to_continuous_buffer();
                (bytes.len() <= max_packet as usize).then_some(bytes)
            };
            // [MQTT-3.2.2-19]: rather without the text than too large.
            let text: Property = ReasonString::new(refusal.fault.text).ok()?.into();
            connack(vec![text]).or_else(|| connack(vec![]))
        }
    }
}
