//! CONNECT in, CONNACK out.

use crate::access::Credentials;
use crate::message::{Properties, QoS};
use crate::packet::Version;
use crate::packet::fault::{Fault, Reason};
use crate::packet::properties::{self, Block, Value};
use crate::packet::wire::Reader;
use crate::topic::{TopicError, TopicName};

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
    /// Messages with QoS 1 or 2 it takes at a time.
    pub(crate) receive_maximum: u16,
    /// The largest packet it takes.
    pub(crate) max_packet: u32,
    /// Topic aliases it takes.
    pub(crate) topic_alias_maximum: u16,
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
pub(crate) const NOT_AUTHORIZED: u8 = 5;

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
        [0, 4, b'M', b'Q', b'T', b'T', level, flags, rest @ ..] => match level {
            4 => decode_v3(*flags, rest).map_err(Refusal::silent),
            5 => decode_v5(*flags, rest),
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

const CLEAN_START: u8 = 0b0000_0010;
const WILL: u8 = 0b0000_0100;
const WILL_RETAIN: u8 = 0b0010_0000;
const PASSWORD: u8 = 0b0100_0000;
const USERNAME: u8 = 0b1000_0000;

fn check_flags(flags: u8) -> Result<(), Fault> {
    if flags & 1 != 0 {
        return Err(Fault::malformed("reserved connect flag is set")); // [MQTT-3.1.2-3]
    }
    if flags & WILL == 0 && flags & 0b0011_1000 != 0 {
        // [MQTT-3.1.2-11], [MQTT-3.1.2-13]
        return Err(Fault::malformed("will QoS or retain without a will"));
    }
    if flags & 0b0001_1000 == 0b0001_1000 {
        return Err(Fault::malformed("will QoS 3")); // [MQTT-3.1.2-12]
    }
    Ok(())
}

fn decode_v3(flags: u8, rest: &[u8]) -> Result<Connect, Fault> {
    check_flags(flags)?;
    if flags & USERNAME == 0 && flags & PASSWORD != 0 {
        return Err(Fault::malformed("a password without a user name")); // [MQTT-3.1.2-22]
    }
    let mut reader = Reader::new(rest);
    let mut connect = Connect::new(Version::V3_1_1, flags, reader.u16()?);
    connect.session_expiry = if connect.clean_start { 0 } else { NEVER };
    connect.problem_info = false;
    connect.payload(flags, reader)?;
    Ok(connect)
}

/// What is wrong is said in no more bytes than the client takes, as far as that is known by then
/// [MQTT-3.1.2-24].
fn decode_v5(flags: u8, rest: &[u8]) -> Result<Connect, Refusal> {
    let mut connect = Connect::new(Version::V5, flags, 0);
    match connect.read_v5(flags, rest) {
        Ok(()) => Ok(connect),
        Err(fault) => Err(Refusal::of(&connect, fault, SERVER_UNAVAILABLE)),
    }
}

impl Connect {
    fn new(version: Version, flags: u8, keep_alive: u16) -> Connect {
        Connect {
            version,
            client: String::new(),
            clean_start: flags & CLEAN_START != 0,
            keep_alive,
            session_expiry: 0,
            receive_maximum: u16::MAX,
            max_packet: u32::MAX,
            topic_alias_maximum: 0,
            problem_info: true,
            will: None,
            credentials: Credentials::default(),
        }
    }

    fn read_v5(&mut self, flags: u8, rest: &[u8]) -> Result<(), Fault> {
        check_flags(flags)?;
        let mut reader = Reader::new(rest);
        self.keep_alive = reader.u16()?;
        let (mut method, mut data) = (false, false);
        let allowed = [
            properties::SESSION_EXPIRY,
            properties::AUTHENTICATION_METHOD,
            properties::AUTHENTICATION_DATA,
            properties::REQUEST_PROBLEM_INFO,
            properties::REQUEST_RESPONSE_INFO,
            properties::RECEIVE_MAXIMUM,
            properties::TOPIC_ALIAS_MAXIMUM,
            properties::USER_PROPERTY,
            properties::MAXIMUM_PACKET,
        ];
        properties::read(&mut reader, &allowed, |id, value| {
            match (id, value) {
                (properties::RECEIVE_MAXIMUM | properties::MAXIMUM_PACKET, Value::Number(0)) => {
                    return Err(Fault::protocol("a limit of 0 in CONNECT"));
                }
                (properties::SESSION_EXPIRY, Value::Number(n)) => self.session_expiry = n,
                (properties::RECEIVE_MAXIMUM, Value::Number(n)) => self.receive_maximum = n as u16,
                (properties::MAXIMUM_PACKET, Value::Number(n)) => self.max_packet = n,
                (properties::TOPIC_ALIAS_MAXIMUM, Value::Number(n)) => {
                    self.topic_alias_maximum = n as u16;
                }
                (properties::REQUEST_PROBLEM_INFO, Value::Number(n)) => self.problem_info = n != 0,
                (properties::AUTHENTICATION_METHOD, _) => method = true,
                (properties::AUTHENTICATION_DATA, _) => data = true,
                _ => {}
            }
            Ok(())
        })?;
        self.payload(flags, reader)?;
        if data && !method {
            // Section 3.1.2.11.10
            return Err(Fault::protocol("authentication data without a method"));
        }
        if method {
            // [MQTT-4.12.0-1]
            let text = "extended authentication is not supported";
            return Err(Fault::new(Reason::BadAuthenticationMethod, text));
        }
        Ok(())
    }

    /// The fields in their order [MQTT-3.1.3-1].
    fn payload(&mut self, flags: u8, mut reader: Reader<'_>) -> Result<(), Fault> {
        self.client = reader.text()?.to_owned(); // [MQTT-3.1.3-4]
        if flags & WILL != 0 {
            self.will = Some(decode_will(self.version, flags, &mut reader)?);
        }
        if flags & USERNAME != 0 {
            self.credentials.username = Some(reader.text()?.to_owned()); // [MQTT-3.1.3-12]
        }
        if flags & PASSWORD != 0 {
            self.credentials.password = Some(reader.binary()?.to_vec().into());
        }
        if reader.is_empty() {
            Ok(())
        } else {
            Err(Fault::malformed("bytes after the end of CONNECT"))
        }
    }
}

fn decode_will(version: Version, flags: u8, reader: &mut Reader<'_>) -> Result<ConnectWill, Fault> {
    let mut properties = Properties::default();
    let mut delay = 0;
    if version == Version::V5 {
        let allowed = [
            properties::WILL_DELAY,
            properties::PAYLOAD_FORMAT,
            properties::MESSAGE_EXPIRY,
            properties::CONTENT_TYPE,
            properties::RESPONSE_TOPIC,
            properties::CORRELATION_DATA,
            properties::USER_PROPERTY,
        ];
        properties::read(reader, &allowed, |id, value| {
            match (id, value) {
                (properties::WILL_DELAY, Value::Number(n)) => delay = n,
                (id, value) => will_property(&mut properties, id, value)?,
            }
            Ok(())
        })?;
    }
    let topic = TopicName::parse(reader.text()?).map_err(|error| match error {
        TopicError::Null => Fault::malformed("the will's topic contains the character U+0000"),
        TopicError::Empty
        | TopicError::TooLong { .. }
        | TopicError::WildcardInName
        | TopicError::MisplacedHash
        | TopicError::MisplacedPlus
        | TopicError::TooManyLevels { .. } => {
            Fault::new(Reason::TopicNameInvalid, "the will's topic is not valid")
        }
    })?;
    let payload = reader.binary()?.to_vec();
    let qos = QoS::from_bits(flags >> 3 & 3).ok_or(Fault::malformed("will QoS 3"))?;
    let retain = flags & WILL_RETAIN != 0;
    Ok(ConnectWill { topic, payload, qos, retain, properties, delay })
}

fn will_property(properties: &mut Properties, id: u8, value: Value<'_>) -> Result<(), Fault> {
    match (id, value) {
        (properties::PAYLOAD_FORMAT, Value::Number(n)) => properties.payload_format = Some(n == 1),
        (properties::MESSAGE_EXPIRY, Value::Number(n)) => properties.message_expiry = Some(n),
        (properties::CONTENT_TYPE, Value::Text(text)) => {
            properties.content_type = Some(text.to_owned());
        }
        (properties::RESPONSE_TOPIC, Value::Text(text)) => {
            if text.contains(['+', '#']) {
                return Err(Fault::protocol("wildcard in a response topic")); // [MQTT-3.3.2-14]
            }
            properties.response_topic = Some(text.to_owned());
        }
        (properties::CORRELATION_DATA, Value::Binary(bytes)) => {
            properties.correlation_data = Some(bytes.to_vec());
        }
        (_, Value::Pair(key, value)) => properties.user.push((key.to_owned(), value.to_owned())),
        _ => {}
    }
    Ok(())
}

/// What CONNACK tells a client that is let in. Shared and wildcard subscriptions, subscription
/// identifiers, retained messages and QoS 2 are there; that is what silence says of them.
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
pub(crate) fn welcome(version: Version, welcome: &Welcome<'_>) -> Vec<u8> {
    let mut block = Block::default();
    block.u16(properties::RECEIVE_MAXIMUM, welcome.receive_maximum);
    block.u32(properties::MAXIMUM_PACKET, welcome.max_packet);
    block.u16(properties::TOPIC_ALIAS_MAXIMUM, welcome.topic_alias_maximum);
    if let Some(seconds) = welcome.session_expiry {
        block.u32(properties::SESSION_EXPIRY, seconds);
    }
    if let Some(client) = welcome.assigned_client {
        block.text(properties::ASSIGNED_CLIENT, client); // [MQTT-3.2.2-16]
    }
    if let Some(seconds) = welcome.keep_alive {
        block.u16(properties::SERVER_KEEP_ALIVE, seconds); // [MQTT-3.2.2-21]
    }
    properties::packet(version, 0x20, &[u8::from(welcome.session_present), 0], &block, &[])
}

/// CONNACK with a refusal; `None` where the standard wants silence.
pub(crate) fn refusal(refusal: &Refusal) -> Option<Vec<u8>> {
    match refusal.answer {
        RefusalAnswer::Silent => None,
        RefusalAnswer::ReturnCode(code) => Some(vec![0x20, 2, 0, code]),
        RefusalAnswer::Reason { max_packet } => {
            let head = [0, refusal.fault.reason as u8]; // [MQTT-3.2.2-6]
            let connack = |text| {
                let block = Block::reason(text);
                let bytes = properties::packet(Version::V5, 0x20, &head, &block, &[]);
                (bytes.len() <= max_packet as usize).then_some(bytes)
            };
            // [MQTT-3.2.2-19]: rather without the text than too large.
            connack(refusal.fault.text).or_else(|| connack(""))
        }
    }
}
