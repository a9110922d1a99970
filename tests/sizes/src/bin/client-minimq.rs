//! On minimq.
#![no_std]
#![no_main]

use core::task::Waker;

use minimq::{
    Buffers, ConfigBuilder, ConnectEvent, Publication, QoS, Session, SubscriptionOptions,
    TopicFilter,
};
use tidegate_sizes::board::{self, Board};
use tidegate_sizes::client::turns::{run, until};
use tidegate_sizes::client::{
    COMMANDS, DEVICE, EXPIRY, INPUT, INTERVAL, KEEP_ALIVE, Stream, TELEMETRY, WAITING, obey,
    reading,
};
use tidegate_sizes::place::Place;

static SESSION: Place<Session<'static>> = Place::new();
static OUTPUT: Place<[u8; WAITING]> = Place::of([0; WAITING]);
static BUFFER: Place<[u8; INPUT]> = Place::of([0; INPUT]);

/// Its clock. Nobody is woken: everybody is asked again and again.
struct Clock;

impl embassy_time_driver::Driver for Clock {
    fn now(&self) -> u64 {
        board::millis()
    }

    fn schedule_wake(&self, _: u64, _: &Waker) {}
}

embassy_time_driver::time_driver_impl!(static CLOCK: Clock = Clock);

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let buffers = Buffers::new(BUFFER.take(), OUTPUT.take());
    let config = ConfigBuilder::new(buffers).keepalive_interval(KEEP_ALIVE);
    if let Ok(config) = config.session_expiry_interval(EXPIRY).client_id(DEVICE) {
        let session = SESSION.build(|| Session::new(config));
        run(sensor(session));
    }
    board::restart()
}

async fn sensor(session: &mut Session<'static>) {
    let (mut due, mut count) = (0, 0);
    loop {
        let Ok(mut connection) = session.connect(Stream(Board::take().port)).await else {
            continue;
        };
        if connection.connect_event() == ConnectEvent::Connected {
            let options = SubscriptionOptions::default().maximum_qos(QoS::AtLeastOnce);
            let filter = TopicFilter::new(COMMANDS).options(options);
            if connection.subscribe(&[filter], &[]).await.is_err() {
                continue;
            }
        }
        loop {
            if board::millis() >= due {
                due = board::millis() + INTERVAL;
                let reading = reading(count);
                let publication = Publication::bytes(TELEMETRY, &reading).qos(QoS::AtLeastOnce);
                // Without room it is left out.
                let _ = connection.publish(publication).await;
                count += 1;
            }
            match until(due, connection.poll()).await {
                Some(Ok(Some(message))) => obey(message.payload()),
                Some(Ok(None)) | None => {}
                Some(Err(_)) => break,
            }
        }
    }
}
