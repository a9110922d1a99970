//! The thread of the uplink drivers.

use std::collections::VecDeque;
use std::io;
use std::thread;

use tidegate_uplink::{Action, UplinkEvent};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel};
use tokio::task::LocalSet;

use crate::uplinks::Target;

/// Actions that a driver has not taken yet, beside its window.
const QUEUE: usize = 64;

/// The way to an uplink's driver.
pub(crate) struct Driver {
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

/// Starts the drivers on a thread of their own; they end when the `Driver`s are dropped.
pub(crate) fn start(sinks: Vec<Sink>) -> io::Result<(Vec<Driver>, News)> {
    let (news, receiver) = unbounded_channel();
    let (drivers, queues): (Vec<_>, Vec<_>) = sinks
        .into_iter()
        .map(|sink| {
            let (actions, queue) = channel(sink.window + QUEUE);
            (Driver { actions, waiting: VecDeque::new() }, (sink, queue))
        })
        .unzip();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    thread::Builder::new().name("uplinks".to_owned()).spawn(move || {
        let set = LocalSet::new();
        for (index, (sink, queue)) in queues.into_iter().enumerate() {
            set.spawn_local(sink.target.run(sink.lanes, queue, tell(news.clone(), index)));
        }
        drop(news);
        runtime.block_on(set);
    })?;
    Ok((drivers, receiver))
}

fn tell(news: UnboundedSender<(usize, UplinkEvent)>, uplink: usize) -> impl Fn(UplinkEvent) {
    move |event| {
        // A closed channel means that the core is gone and nobody needs the news.
        let _ = news.send((uplink, event));
    }
}

impl Driver {
    /// Takes an action, to be handed over in order by [`drain`](Self::drain).
    pub(crate) fn submit(&mut self, action: Action) {
        if let Action::Disconnect { session: ended, .. } = action {
            self.waiting
                .retain(|old| !matches!(old, Action::Send { session, .. } if *session == ended));
        }
        self.waiting.push_back(action);
    }

    /// Hands over what waits, as far as there is room: at the end of each turn of the core, so that
    /// the drivers' thread wakes up once for all of it.
    pub(crate) fn drain(&mut self) {
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
