//! The thread of the uplink drivers.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::thread;

use tidegate_uplink::{Action, UplinkEvent};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{
    Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel,
};
use tokio::task::LocalSet;

use crate::uplinks::Target;

/// Actions that a driver has not taken yet, beside its window.
const QUEUE: usize = 64;

/// The way to an uplink's driver.
struct Driver {
    actions: Sender<Action>,
    /// What this turn has brought and what the driver's queue had no room for: at most the uplink's window, because nothing
    /// more is sent before that is answered, and what a closed session left is taken out.
    waiting: VecDeque<Action>,
}

/// News from the drivers, with the index of the uplink. Unbounded in form; in substance each
/// session answers each message of its window once.
pub(crate) type News = UnboundedReceiver<(usize, UplinkEvent)>;

/// What a driver is started with.
pub(crate) struct Sink {
    pub(crate) target: Target,
    /// The uplink's window, in records.
    pub(crate) window: usize,
    /// Names under which its lanes go up.
    pub(crate) lanes: Vec<String>,
}

/// The drivers by the index of their uplink, and the thread that they run on: there when there is
/// one, or was.
pub(crate) struct Drivers {
    all: BTreeMap<usize, Driver>,
    news: UnboundedSender<(usize, UplinkEvent)>,
    /// To the thread. It ends when this, and the `Driver`s, are dropped.
    starts: Option<UnboundedSender<Start>>,
}

/// A driver that begins.
struct Start {
    index: usize,
    sink: Sink,
    queue: Receiver<Action>,
}

impl Drivers {
    /// Without a driver, and without a thread.
    pub(crate) fn new() -> (Drivers, News) {
        let (news, receiver) = unbounded_channel();
        (Drivers { all: BTreeMap::new(), news, starts: None }, receiver)
    }

    /// Starts the driver of this index, which is new.
    ///
    /// # Errors
    /// The system gives no thread.
    pub(crate) fn start(&mut self, index: usize, sink: Sink) -> io::Result<()> {
        let (actions, queue) = channel(sink.window + QUEUE);
        let starts = self.thread()?;
        starts
            .send(Start { index, sink, queue })
            .map_err(|_| io::Error::other("the thread of the uplinks is gone"))?;
        self.all.insert(index, Driver { actions, waiting: VecDeque::new() });
        Ok(())
    }

    /// Starts the thread, unless it runs.
    ///
    /// # Errors
    /// The system gives none.
    pub(crate) fn make_ready(&mut self) -> io::Result<()> {
        self.thread().map(drop)
    }

    fn thread(&mut self) -> io::Result<&UnboundedSender<Start>> {
        if self.starts.is_none() {
            self.starts = Some(start_thread(self.news.clone())?);
        }
        self.starts.as_ref().ok_or_else(|| io::Error::other("no thread"))
    }

    /// Ends the driver of this index: its connection is closed.
    pub(crate) fn end(&mut self, index: usize) {
        self.all.remove(&index);
    }

    /// Takes an action for the driver of this index; one for a driver that has ended is nobody's.
    pub(crate) fn submit(&mut self, index: usize, action: Action) {
        if let Some(driver) = self.all.get_mut(&index) {
            driver.submit(action);
        }
    }

    /// Hands over what waits, as far as there is room: at the end of each turn of the core, so that
    /// the drivers' thread wakes up once for all of it.
    pub(crate) fn drain(&mut self) {
        self.all.values_mut().for_each(Driver::drain);
    }
}

fn start_thread(news: UnboundedSender<(usize, UplinkEvent)>) -> io::Result<UnboundedSender<Start>> {
    let (starts, mut receiver) = unbounded_channel();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("uplinks".to_owned()).spawn(move || {
        let set = LocalSet::new();
        set.spawn_local(async move {
            while let Some(Start { index, sink, queue }) = receiver.recv().await {
                let tell = tell(news.clone(), index);
                tokio::task::spawn_local(sink.target.run(sink.lanes, queue, tell));
            }
        });
        runtime.block_on(set);
    })?;
    Ok(starts)
}

fn tell(news: UnboundedSender<(usize, UplinkEvent)>, uplink: usize) -> impl Fn(UplinkEvent) {
    move |event| {
        // A closed channel means that the core is gone and nobody needs the news.
        let _ = news.send((uplink, event));
    }
}

impl Driver {
    /// Takes an action, to be handed over in order.
    fn submit(&mut self, action: Action) {
        if let Action::Disconnect { session: ended, .. } = action {
            self.waiting
                .retain(|old| !matches!(old, Action::Send { session, .. } if *session == ended));
        }
        self.waiting.push_back(action);
    }

    /// Hands over what waits, as far as there is room.
    fn drain(&mut self) {
        while let Some(action) = self.waiting.pop_front() {
            match self.actions.try_send(action) {
                Ok(()) => {}
                Err(TrySendError::Full(action) | TrySendError::Closed(action)) => {
                    self.waiting.push_front(action);
                    return;
                }
            }
        }
    }
}
