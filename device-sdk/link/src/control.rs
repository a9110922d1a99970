//! What the two sides of a link say to each other about it.

/// Most bytes of a control message that is written.
pub(crate) const MAX_CONTROL: usize = 26;
/// Version of the link.
pub(crate) const VERSION: u8 = 1;

mod code {
    pub(super) const OPEN: u8 = 1;
    pub(super) const OPENED: u8 = 2;
    pub(super) const ACKNOWLEDGE: u8 = 3;
    pub(super) const PING: u8 = 4;
    pub(super) const PONG: u8 = 5;
    pub(super) const HAIL: u8 = 6;
}

/// What a side can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Terms {
    pub(crate) mtu: u16,
    pub(crate) window: u8,
}

/// One control message. Times are microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Open { nonce: u32, terms: Terms },
    Opened { device: u32, gateway: u32, terms: Terms },
    Acknowledge { bitmap: u8 },
    Ping { t1: u64 },
    Pong { t1: u64, t2: u64, t3: u64, trusted: bool },
    Hail,
}

impl Control {
    /// `None` when it is none of this version.
    pub(crate) fn read(payload: &[u8]) -> Option<Control> {
        let mut rest = Rest(payload);
        Some(match rest.byte()? {
            code::OPEN => {
                rest.version()?;
                Control::Open { nonce: rest.number()?, terms: rest.terms()? }
            }
            code::OPENED => {
                rest.version()?;
                let (device, gateway) = (rest.number()?, rest.number()?);
                Control::Opened { device, gateway, terms: rest.terms()? }
            }
            code::ACKNOWLEDGE => Control::Acknowledge { bitmap: rest.byte()? },
            code::PING => Control::Ping { t1: rest.time()? },
            code::PONG => {
                let (t1, t2, t3) = (rest.time()?, rest.time()?, rest.time()?);
                Control::Pong { t1, t2, t3, trusted: rest.byte()? == 1 }
            }
            code::HAIL => Control::Hail,
            _ => return None,
        })
    }

    /// Its bytes, and how many.
    pub(crate) fn write(&self) -> ([u8; MAX_CONTROL], usize) {
        let mut out = Out { bytes: [0; MAX_CONTROL], length: 0 };
        match *self {
            Control::Open { nonce, terms } => {
                out.put(&[code::OPEN, VERSION]);
                out.put(&nonce.to_le_bytes());
                out.terms(terms);
            }
            Control::Opened { device, gateway, terms } => {
                out.put(&[code::OPENED, VERSION]);
                out.put(&device.to_le_bytes());
                out.put(&gateway.to_le_bytes());
                out.terms(terms);
            }
            Control::Acknowledge { bitmap } => out.put(&[code::ACKNOWLEDGE, bitmap]),
            Control::Ping { t1 } => {
                out.put(&[code::PING]);
                out.put(&t1.to_le_bytes());
            }
            Control::Pong { t1, t2, t3, trusted } => {
                out.put(&[code::PONG]);
                for time in [t1, t2, t3] {
                    out.put(&time.to_le_bytes());
                }
                out.put(&[u8::from(trusted)]);
            }
            Control::Hail => out.put(&[code::HAIL]),
        }
        (out.bytes, out.length)
    }

    /// Whether it belongs to no session.
    pub(crate) fn is_outside(&self) -> bool {
        match self {
            Control::Open { .. } | Control::Opened { .. } | Control::Hail => true,
            Control::Acknowledge { .. } | Control::Ping { .. } | Control::Pong { .. } => false,
        }
    }
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take::<1>().map(|[byte]| byte)
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_le_bytes)
    }

    fn time(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// A later version has to keep what this one reads.
    fn version(&mut self) -> Option<()> {
        (self.byte()? >= VERSION).then_some(())
    }

    fn terms(&mut self) -> Option<Terms> {
        let mtu = self.take().map(u16::from_le_bytes)?;
        let window = self.byte()?;
        let right = mtu >= super::frame::MIN_MTU && window >= 1;
        right.then_some(Terms { mtu, window })
    }
}

struct Out {
    bytes: [u8; MAX_CONTROL],
    length: usize,
}

impl Out {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.length + bytes.len();
        if let Some(place) = self.bytes.get_mut(self.length..end) {
            place.copy_from_slice(bytes);
            self.length = end;
        }
    }

    fn terms(&mut self, terms: Terms) {
        self.put(&terms.mtu.to_le_bytes());
        self.put(&[terms.window]);
    }
}
