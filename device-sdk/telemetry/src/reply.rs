//! Commands with a reply: request and response of MQTT 5. A command is a message with a response topic; the
//! reply goes there, with the command's correlation data.

use tidegate_mqtt::{Client, Message, Publish, PublishError};

/// Longest response topic and correlation data.
const MOST_TOPIC: usize = 96;
const MOST_CORRELATION: usize = 32;

/// Where the reply to a command goes; kept while the command is carried out. 136 bytes.
#[derive(Clone, Copy, Debug)]
pub struct ReplyTo {
    topic: [u8; MOST_TOPIC],
    topic_length: u8,
    correlation: [u8; MOST_CORRELATION],
    correlation_length: Option<u8>,
}

impl ReplyTo {
    /// Of a message; `None` when it wants no reply, or names a place that is too long.
    #[must_use]
    pub fn of(message: &Message<'_>) -> Option<ReplyTo> {
        let mut reply = ReplyTo {
            topic: [0; MOST_TOPIC],
            topic_length: 0,
            correlation: [0; MOST_CORRELATION],
            correlation_length: None,
        };
        let topic = message.response_topic?;
        reply.topic.get_mut(..topic.len())?.copy_from_slice(topic.as_bytes());
        reply.topic_length = topic.len() as u8;
        if let Some(data) = message.correlation {
            reply.correlation.get_mut(..data.len())?.copy_from_slice(data);
            reply.correlation_length = Some(data.len() as u8);
        }
        Some(reply)
    }

    /// Gives the reply.
    ///
    /// # Errors
    /// The client does not take it (now).
    pub fn give(&self, client: &mut Client<'_>, payload: &[u8]) -> Result<u16, PublishError> {
        let topic = self.topic.get(..self.topic_length.into()).unwrap_or_default();
        let topic = core::str::from_utf8(topic).map_err(|_| PublishError::Topic)?;
        let correlation =
            self.correlation_length.and_then(|length| self.correlation.get(..length.into()));
        client.publish(&Publish { correlation, ..Publish::new(topic, payload) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    use tidegate_mqtt::{Config, Micros};

    fn command<'a>(response_topic: Option<&'a str>, correlation: Option<&'a [u8]>) -> Message<'a> {
        Message { topic: "c", payload: b"", retain: false, response_topic, correlation }
    }

    #[test]
    fn a_reply_goes_where_the_command_says_with_its_correlation() {
        let (mut shelf, mut input) = ([0; 64], [0; 32]);
        let mut client = Client::new(Config::new("d"), &mut shelf, &mut input);
        let reply = ReplyTo::of(&command(Some("r/7"), Some(b"\x01\x02"))).unwrap();
        assert_eq!(reply.give(&mut client, b"ok"), Ok(1));
        let now = Micros(0);
        client.connected(now);
        loop {
            let count = client.output(now).len();
            if count == 0 {
                break;
            }
            client.sent(now, count);
        }
        assert!(client.handle_input(now, &mut &b"\x20\x03\0\0\0"[..]).is_some());
        assert_eq!(client.output(now), b"\x32\x0f\0\x03r/7\0\x01\x05\x09\0\x02\x01\x02ok");
    }

    #[test]
    fn no_reply_is_wanted_or_the_place_is_too_long() {
        assert!(ReplyTo::of(&command(None, Some(b"x"))).is_none());
        let long = "x".repeat(MOST_TOPIC + 1);
        assert!(ReplyTo::of(&command(Some(&long), None)).is_none());
        assert!(ReplyTo::of(&command(Some("r"), Some(&[0; MOST_CORRELATION + 1]))).is_none());
    }

    #[test]
    fn a_full_client_says_so() {
        let (mut shelf, mut input) = ([0; 8], [0; 8]);
        let mut client = Client::new(Config::new("d"), &mut shelf, &mut input);
        let reply = ReplyTo::of(&command(Some("r/7"), None)).unwrap();
        let error = reply.give(&mut client, b"ok").unwrap_err();
        assert_eq!(error, PublishError::TooLong);
        assert!(error.to_string().contains("too long"));
    }
}
