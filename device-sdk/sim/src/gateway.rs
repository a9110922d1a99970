//! A gateway that serves one release to one device, as it should.

use std::collections::VecDeque;

use tidegate_wire::message::{
    Answer, Block, MAX_MESSAGE, Message, Offer, Received, Report, Request, Verdict, Welcome,
};

/// What travels for each entry of a release.
#[derive(Debug, Clone)]
pub struct Served {
    /// The rollout.
    pub campaign: u64,
    /// The manifest in its envelope.
    pub envelope: Vec<u8>,
    /// A second signature.
    pub second: Option<Vec<u8>>,
    /// A key set.
    pub key_set: Option<Vec<u8>>,
    /// What travels, by entry.
    pub entries: Vec<Vec<u8>>,
}

/// One side of a conversation.
#[derive(Debug, Default)]
pub struct Gateway {
    /// What it offers.
    pub served: Option<Served>,
    /// Seconds since 1970, if it trusts its clock.
    pub time: Option<u64>,
    /// Bytes of a block, as the device said.
    block: usize,
    asked: VecDeque<(u8, u8, u32)>,
    tag: Option<u8>,
    out: VecDeque<Vec<u8>>,
    /// Answers to its offers.
    pub answers: Vec<Verdict>,
    /// Reports, each once.
    pub reports: Vec<Report>,
    /// Bytes of blocks that it has sent, and requests that came.
    pub sent: usize,
    /// See [`Gateway::sent`].
    pub requests: usize,
    /// Whether it still has to offer to this device.
    offered: bool,
}

impl Gateway {
    /// A gateway with a release.
    #[must_use]
    pub fn new(served: Served) -> Gateway {
        Gateway { served: Some(served), block: 224, ..Gateway::default() }
    }

    /// Offers once more.
    pub fn offer(&mut self) {
        let Some(served) = &self.served else { return };
        let offer = Offer {
            campaign: served.campaign,
            envelope: &served.envelope,
            second: served.second.as_deref(),
            key_set: served.key_set.as_deref(),
        };
        let message = written(&Message::Offer(offer));
        self.offered = true;
        self.out.push_back(message);
    }

    /// Says something.
    pub fn say(&mut self, message: &Message<'_>) {
        self.out.push_back(written(message));
    }

    /// A message of the device.
    pub fn take(&mut self, bytes: &[u8]) {
        match Message::read(bytes) {
            Ok(Message::Hello(hello)) => {
                self.block = hello.block.into();
                let welcome = Welcome { protocol: 1, time: self.time };
                self.say(&Message::Welcome(welcome));
                if hello.trial.is_none() && !self.ended() {
                    self.offer();
                }
            }
            Ok(Message::Answer(Answer { verdict, .. })) => self.answers.push(verdict),
            Ok(Message::Request(request)) => self.ask(request),
            Ok(Message::Report(report)) => {
                self.say(&Message::Received(Received { number: report.number }));
                if self.reports.last() != Some(&report) {
                    self.reports.push(report);
                }
            }
            Ok(_) | Err(_) => {}
        }
    }

    fn ended(&self) -> bool {
        let last = self.reports.last().map(|report| report.phase.code());
        last.is_some_and(|code| (4..=6).contains(&code))
    }

    fn ask(&mut self, request: Request) {
        self.requests += 1;
        if self.tag != Some(request.tag) {
            self.asked.clear();
            self.tag = Some(request.tag);
        }
        for n in (0..32).filter(|n| request.bitmap >> n & 1 == 1) {
            self.asked.push_back((request.tag, request.entry, request.base + n));
        }
    }

    /// The next message for the device.
    pub fn give(&mut self) -> Option<Vec<u8>> {
        if let Some(message) = self.out.pop_front() {
            return Some(message);
        }
        let (tag, entry, index) = self.asked.pop_front()?;
        let entry = self.served.as_ref()?.entries.get(usize::from(entry))?;
        let from = index as usize * self.block;
        let data = entry.get(from..(from + self.block).min(entry.len()))?;
        self.sent += data.len();
        Some(written(&Message::Block(Block { tag, index, data })))
    }
}

/// The bytes of a message.
///
/// # Panics
/// It is longer than messages are.
#[must_use]
pub fn written(message: &Message<'_>) -> Vec<u8> {
    let mut out = [0; MAX_MESSAGE];
    let length = message.write(&mut out).expect("a message that fits");
    out[..length].to_vec()
}
