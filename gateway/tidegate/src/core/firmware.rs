//! What the administration asks about firmware, and the way to devices on serial lines.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use tidegate_firmware::Letter;
use tidegate_flow::Gateway;
use tidegate_stream::Position;
use tokio::sync::oneshot::Sender;

use super::{Core, clock};
use crate::core_handle::{FirmwareAnswer, FirmwareAsk};

/// Messages that wait for one device on a serial line, of at most 1.7 KB; a further one is lost, and
/// asked for again.
const MAX_LETTERS: usize = 64;

type Reply = Sender<Result<FirmwareAnswer, String>>;

/// Answers that wait until what they tell is on flash: as many as the administration has clients.
#[derive(Default)]
pub(crate) struct FirmwareDesk {
    waiting: Vec<Waiting>,
}

/// An answer, and from where on what it tells is on flash; `None` while the log has not taken it.
struct Waiting {
    through: Option<Position>,
    answer: FirmwareAnswer,
    reply: Reply,
}

impl FirmwareDesk {
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Does what is asked, and answers when it is on flash.
    pub(crate) fn take(&mut self, gateway: &mut Gateway, ask: FirmwareAsk, reply: Reply) {
        match done(gateway, ask) {
            Ok((answer, position)) => {
                let changes = matches!(answer, FirmwareAnswer::Started(_) | FirmwareAnswer::Done);
                let through = (!changes || gateway.firmware_is_put_down()).then_some(position);
                self.waiting.push(Waiting { through, answer, reply });
            }
            // Who asked may have given up.
            Err(why) => drop(reply.send(Err(why))),
        }
        self.go_on(gateway);
    }

    /// Answers what is on flash.
    pub(crate) fn go_on(&mut self, gateway: &Gateway) {
        let durable = gateway.log().durable();
        let end = gateway.firmware_is_put_down().then(|| gateway.log().end());
        for mut waiting in std::mem::take(&mut self.waiting) {
            waiting.through = waiting.through.or(end);
            if waiting.through.is_some_and(|position| position <= durable) {
                drop(waiting.reply.send(Ok(waiting.answer)));
            } else if !waiting.reply.is_closed() {
                self.waiting.push(waiting);
            }
        }
    }
}

fn done(gateway: &mut Gateway, ask: FirmwareAsk) -> Result<(FirmwareAnswer, Position), String> {
    let (now, durable) = (clock::now(), gateway.log().durable());
    let told = |error: tidegate_firmware::DeskError| error.to_string();
    Ok(match ask {
        FirmwareAsk::Start { bundle, release, terms } => {
            let started = gateway.start_campaign(now, bundle, *release, terms);
            let (id, position) = started.map_err(told)?;
            (FirmwareAnswer::Started(id), position)
        }
        FirmwareAsk::Cancel(id) => {
            (FirmwareAnswer::Done, gateway.cancel_campaign(now, id).map_err(told)?)
        }
        FirmwareAsk::Forget(device) => (FirmwareAnswer::Done, gateway.forget_device(now, &device)?),
        FirmwareAsk::Twin(device) => (FirmwareAnswer::Twin(gateway.twin(now, &device)?), durable),
        FirmwareAsk::ChangeTwin(device, changes) => {
            let (twin, position) = gateway.change_twin(now, &device, &changes)?;
            (FirmwareAnswer::Twin(twin), position)
        }
        FirmwareAsk::Campaigns => (FirmwareAnswer::Campaigns(gateway.campaigns()), durable),
        FirmwareAsk::Devices => (FirmwareAnswer::Devices(gateway.devices()), durable),
        FirmwareAsk::Needed => (FirmwareAnswer::Needed(gateway.needed_bundles()), durable),
    })
}

/// The mailboxes of devices on serial lines.
#[derive(Default)]
pub(crate) struct Mailboxes(RefCell<BTreeMap<Arc<str>, Rc<Mailbox>>>);

/// What is to be said to a device on a serial line.
#[derive(Default)]
pub(crate) struct Mailbox {
    letters: RefCell<VecDeque<Vec<u8>>>,
    /// Something has come since the line looked.
    fresh: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Mailboxes {
    /// The mailbox of a device.
    pub(crate) fn of(&self, device: &Arc<str>) -> Rc<Mailbox> {
        self.0.borrow_mut().entry(device.clone()).or_default().clone()
    }

    /// Puts a message in.
    pub(crate) fn post(&self, letter: Letter) {
        if let Some(mailbox) = self.0.borrow().get(&letter.device) {
            mailbox.put(letter.bytes);
        }
    }
}

impl Mailbox {
    fn put(&self, bytes: Vec<u8>) {
        let mut letters = self.letters.borrow_mut();
        if letters.len() < MAX_LETTERS {
            letters.push_back(bytes);
        }
        self.fresh.set(true);
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }

    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        self.fresh.set(false);
        self.letters.borrow_mut().pop_front()
    }

    pub(crate) fn clear(&self) {
        self.fresh.set(false);
        self.letters.borrow_mut().clear();
    }

    /// Ready when something has come since the last look.
    pub(crate) fn poll_fresh(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.fresh.get() {
            return Poll::Ready(());
        }
        *self.waker.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Core {
    /// A device on a serial line has said something about firmware.
    pub(crate) fn firmware_said(&self, device: &str, message: &[u8]) {
        self.gateway.borrow_mut().handle_firmware(clock::now(), device, message);
        self.work.notify_one();
    }
}
