//! An MQTT client over TCP, one connection at a time.

use core::net::SocketAddr;

use embedded_nal_async::TcpConnect;
use tidegate_mqtt::{Client, Event, Why};

use crate::Error;
use crate::carrying::carry_client;
use crate::timer::Timer;

/// Why a connection is over. Wait for a while ([`tidegate_mqtt::Retry`]) before the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Ended<E> {
    /// There was none.
    Unreachable(E),
    /// The stream has ended.
    Stream(Error<E>),
    /// The client says so.
    Client(Why),
    /// The server does not let it in, for this reason code of MQTT 5.
    Refused(u8),
    /// `work` has said so, and the server was told; what was not acknowledged stays for the next connection.
    Left,
}

/// What `work` wants.
enum Wish {
    Stay,
    Leave,
}

/// Connects to `server` and carries bytes until the connection is over. `work` is called at the start, after
/// each event and when `every` so many microseconds have passed: it publishes what there is, and answers whether
/// the connection is still wanted. `take` is handed what has come in.
pub async fn serve<S: TcpConnect>(
    stack: &S,
    server: SocketAddr,
    timer: &impl Timer,
    client: &mut Client<'_>,
    every: tidegate_link::Micros,
    mut work: impl FnMut(&mut Client<'_>) -> bool,
    mut take: impl FnMut(Event<'_>),
) -> Ended<S::Error> {
    let mut stream = match stack.connect(server).await {
        Ok(stream) => stream,
        Err(error) => return Ended::Unreachable(error),
    };
    client.connected(timer.now());
    let mut wish = Wish::Stay;
    let ended = loop {
        if let Wish::Stay = wish
            && !work(client)
        {
            client.leave();
            wish = Wish::Leave;
        }
        let mut over = None;
        // Once it leaves, what is left to say is all.
        let pause = if let Wish::Leave = wish { timer.now() } else { timer.now().after(every) };
        let wake = timer.wait_until(pause);
        let carried = carry_client(&mut stream, timer, client, wake, |event| {
            match event {
                Event::Down(why) => over = Some(Ended::Client(why)),
                Event::Refused(reason) => over = Some(Ended::Refused(reason)),
                Event::Up { .. }
                | Event::Subscribed { .. }
                | Event::Acknowledged { .. }
                | Event::Message(_) => {}
            }
            take(event);
        });
        match (carried.await, over, &wish) {
            (Err(error), _, _) => break Ended::Stream(error),
            (Ok(()), Some(over), _) => break over,
            (Ok(()), None, Wish::Leave) => break Ended::Left,
            (Ok(()), None, Wish::Stay) => {}
        }
    };
    client.disconnected();
    ended
}
