//! Carries the bytes of a client over a TCP connection to the gateway, which is opened again, after a while,
//! when it is lost.

use mps2_an386::{Ethernet, FRAME_BYTES};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage};
use smoltcp::socket::tcp::{Socket, SocketBuffer};
use smoltcp::time::{Duration, Instant};
use smoltcp::wire::{EthernetAddress, IpAddress, IpCidr};
use tidegate_mqtt::{Client, Event, Micros, Retry};

use crate::frames::Frames;

/// The device in the network that QEMU makes up, and the gateway there. A network of yours has DHCP.
const HARDWARE: [u8; 6] = [0x52, 0x54, 0x00, 0x12, 0x34, 0x56];
const DEVICE: IpAddress = IpAddress::v4(10, 0, 2, 15);
const GATEWAY: (IpAddress, u16) = (IpAddress::v4(10, 0, 2, 100), 1883);
const FIRST_PORT: u16 = 49_152;

/// How long the other side may leave bytes, or a try to connect, unanswered.
const PATIENCE: Duration = Duration::from_secs(10);
const LEAST_WAIT: Micros = Micros::from_millis(500);
const MOST_WAIT: Micros = Micros::from_millis(30_000);

enum State {
    Rests { until: Micros },
    Opening,
    Open,
}

pub(crate) struct Connection<'b> {
    interface: Interface,
    sockets: SocketSet<'b>,
    handle: SocketHandle,
    received: [u8; FRAME_BYTES],
    state: State,
    retry: Retry,
    port: u16,
}

fn instant(now: Micros) -> Instant {
    Instant::from_micros(now.0 as i64)
}

impl<'b> Connection<'b> {
    /// None yet. `seed` should differ between starts.
    pub(crate) fn new(
        ethernet: &mut Ethernet,
        place: &'b mut [SocketStorage<'b>; 1],
        coming: &'b mut [u8],
        going: &'b mut [u8],
        seed: u32,
    ) -> Connection<'b> {
        ethernet.start(HARDWARE);
        let mut received = [0; FRAME_BYTES];
        let mut frames = Frames { ethernet, received: &mut received };
        let mut config = Config::new(EthernetAddress(HARDWARE).into());
        config.random_seed = seed.into();
        let mut interface = Interface::new(config, &mut frames, instant(Micros(0)));
        interface.update_ip_addrs(|addresses| {
            // There is room for one.
            let _ = addresses.push(IpCidr::new(DEVICE, 24));
        });
        let mut socket = Socket::new(SocketBuffer::new(coming), SocketBuffer::new(going));
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(PATIENCE));
        let mut sockets = SocketSet::new(&mut place[..]);
        let handle = sockets.add(socket);
        let (state, port) = (State::Rests { until: Micros(0) }, seed as u16);
        let retry = Retry::new(LEAST_WAIT, MOST_WAIT, seed);
        Connection { interface, sockets, handle, received, state, retry, port }
    }

    /// Carries everything that there is, both ways; hands over what has come in. To be called when something may
    /// have come in, and after something was published.
    pub(crate) fn exchange(
        &mut self,
        now: Micros,
        ethernet: &mut Ethernet,
        client: &mut Client<'_>,
        take: impl FnMut(Event<'_>),
    ) {
        self.carry(now, ethernet);
        self.look(now, client);
        self.feed(now, client, take);
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        // What is not taken now is taken later.
        while let Ok(count @ 1..) = socket.send_slice(client.output(now)) {
            client.sent(now, count);
        }
        self.carry(now, ethernet);
    }

    fn carry(&mut self, now: Micros, ethernet: &mut Ethernet) {
        let mut frames = Frames { ethernet, received: &mut self.received };
        self.interface.poll(instant(now), &mut frames, &mut self.sockets);
    }

    /// Opens the connection when it is time, and notices its end.
    fn look(&mut self, now: Micros, client: &mut Client<'_>) {
        let socket = self.sockets.get_mut::<Socket>(self.handle);
        match self.state {
            State::Rests { until } if now >= until => {
                self.port = self.port.wrapping_add(1) | FIRST_PORT;
                // What cannot be opened is not open, which is noticed next time.
                let _ = socket.connect(self.interface.context(), GATEWAY, self.port);
                self.state = State::Opening;
            }
            State::Opening if socket.may_send() => {
                self.state = State::Open;
                client.connected(now);
            }
            State::Opening if socket.is_open() => {}
            State::Open if socket.may_recv() => {}
            State::Rests { .. } => {}
            State::Opening | State::Open => {
                client.disconnected();
                self.close(now);
            }
        }
    }

    fn feed(&mut self, now: Micros, client: &mut Client<'_>, mut take: impl FnMut(Event<'_>)) {
        loop {
            let mut bytes = [0; 256];
            let socket = self.sockets.get_mut::<Socket>(self.handle);
            let count = socket.recv_slice(&mut bytes).unwrap_or(0);
            let mut came = &bytes[..count];
            // Also without bytes: a deadline of the client may have passed.
            while let Some(event) = client.handle_input(now, &mut came) {
                match event {
                    Event::Up { .. } => self.retry.succeeded(),
                    Event::Refused(_) | Event::Down(_) => self.close(now),
                    Event::Subscribed { .. } | Event::Acknowledged { .. } | Event::Message(_) => {}
                }
                take(event);
            }
            if count == 0 {
                return;
            }
        }
    }

    fn close(&mut self, now: Micros) {
        self.sockets.get_mut::<Socket>(self.handle).abort();
        self.state = State::Rests { until: self.retry.next(now) };
    }
}
