//! On rust-mqtt. It keeps no messages: that is left to who uses it, who here keeps the last one.
#![no_std]
#![no_main]

use core::num::NonZero;

use rust_mqtt::Bytes;
use rust_mqtt::buffer::BumpBuffer;
use rust_mqtt::client::Client;
use rust_mqtt::client::event::Event;
use rust_mqtt::client::options::{
    ConnectOptions, PublicationOptions, SubscriptionOptions, TopicReference,
};
use rust_mqtt::config::{KeepAlive, SessionExpiryInterval};
use rust_mqtt::types::{MqttString, PacketIdentifier, TopicFilter, TopicName};
use tidegate_sizes::board::{self, Board};
use tidegate_sizes::client::turns::{run, until};
use tidegate_sizes::client::{
    COMMANDS, DEVICE, EXPIRY, INPUT, INTERVAL, KEEP_ALIVE, Stream, TELEMETRY, obey, reading,
};
use tidegate_sizes::place::Place;

/// One SUBSCRIBE, one message each way, no properties that can be left out.
type Mqtt = Client<'static, 'static, Stream, BumpBuffer<'static>, 1, 1, 1, 0, 0, 0, 0>;

static CLIENT: Place<Mqtt> = Place::new();
static MEMORY: Place<[u8; INPUT]> = Place::of([0; INPUT]);
static BUFFER: Place<BumpBuffer<'static>> = Place::new();

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let buffer = BUFFER.build(|| BumpBuffer::new(MEMORY.take()));
    let client = CLIENT.build(|| Client::new(buffer));
    run(sensor(client));
    board::restart()
}

/// What has been measured, and was not acknowledged.
struct Waiting {
    id: PacketIdentifier,
    reading: [u8; 11],
}

struct Sensor {
    due: u64,
    count: u32,
    waiting: Option<Waiting>,
}

async fn sensor(client: &mut Mqtt) {
    let mut sensor = Sensor { due: 0, count: 0, waiting: None };
    loop {
        sensor.connection(client).await;
        // It is over in any case.
        let _ = client.abort().await;
    }
}

impl Sensor {
    /// One connection, until it is lost.
    async fn connection(&mut self, client: &mut Mqtt) -> Option<()> {
        let mut options = ConnectOptions::new();
        options = options.keep_alive(KeepAlive::Seconds(NonZero::new(KEEP_ALIVE)?));
        let expiry = SessionExpiryInterval::Seconds(NonZero::new(EXPIRY)?);
        options = options.session_expiry_interval(expiry);
        let name = MqttString::from_str(DEVICE).ok()?;
        let port = Stream(Board::take().port);
        let present = client.connect(port, &options, Some(name)).await.ok()?.session_present;
        reset(client);
        let topic = TopicName::new(MqttString::from_str(TELEMETRY).ok()?)?;
        let publication = PublicationOptions::new(TopicReference::Name(topic)).at_least_once();
        if !present {
            let filter = TopicFilter::new(MqttString::from_str(COMMANDS).ok()?)?;
            let options = SubscriptionOptions::new().at_least_once();
            client.subscribe(filter, &options).await.ok()?;
        }
        if let Some(Waiting { id, reading }) = &self.waiting {
            client.republish(*id, &publication, Bytes::from(&reading[..])).await.ok()?;
        }
        loop {
            if board::millis() >= self.due {
                self.due = board::millis() + INTERVAL;
                if self.waiting.is_none() {
                    let reading = reading(self.count);
                    let sent = client.publish(&publication, Bytes::from(&reading[..])).await;
                    self.waiting = sent.ok()?.map(|id| Waiting { id, reading });
                }
                self.count += 1;
            }
            let Some(header) = until(self.due, client.poll_header()).await else { continue };
            match client.poll_body(header.ok()?).await.ok()? {
                Event::Publish(message) => obey(message.message.as_bytes()),
                Event::PublishAcknowledged(done) => {
                    self.waiting.take_if(|waiting| waiting.id == done.packet_identifier);
                }
                Event::PublishRejected(_) => self.waiting = None,
                _ => {}
            }
            reset(client);
        }
    }
}

/// Gives the memory back.
fn reset(client: &mut Mqtt) {
    // SAFETY: nothing is left of what the client has answered.
    unsafe { client.buffer_mut().reset() }
}
