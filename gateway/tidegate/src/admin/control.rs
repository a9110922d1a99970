//! What the administration may ask about functions: pause, resume, drain, reset, dead letters, logs.

use serde::{Deserialize, Serialize};
use tidegate_flow::ResetTo;

use super::{AdminClient, AdminError, Answer, Request};
use crate::core_handle::{ControlDone, ControlOrder, CoreHandle, LetterAct};
use crate::guest_log::{GuestLog, LogPage};

/// Most dead letters of one request.
pub const MAX_LETTERS: usize = 256;
/// Most lines of one answer.
pub const MAX_LOG_PAGE: usize = 512;

/// A request about a function, named in `order`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case")]
pub enum Control {
    /// It takes up no records any more.
    Pause {
        /// Its name.
        name: String,
    },
    /// It goes on.
    Resume {
        /// Its name.
        name: String,
    },
    /// It does what is there, and pauses.
    Drain {
        /// Its name.
        name: String,
    },
    /// Its cursor moves.
    Reset {
        /// Its name.
        name: String,
        /// The stream; `None` when it reads only one.
        stream: Option<String>,
        /// Where to.
        to: ResetTo,
    },
    /// Dead letters of it are handed to it again, or purged.
    Letters {
        /// Its name.
        name: String,
        /// Their sequences, at most [`MAX_LETTERS`].
        seqs: Vec<u64>,
        /// Which of the two.
        act: LetterAct,
    },
    /// What it says, and what failed.
    Logs {
        /// Its name.
        name: String,
        /// First line wanted; `None` for the newest.
        from: Option<u64>,
        /// Most lines.
        max: usize,
    },
}

/// The answer to a [`Control`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Controlled {
    /// It is done, and on flash.
    Done(ControlDone),
    /// To [`Control::Logs`].
    Logs(LogPage),
}

/// Carries a request out.
pub(super) async fn control(
    control: Control,
    core: &CoreHandle,
    log: &GuestLog,
) -> Result<Answer, String> {
    let order = match control {
        Control::Pause { name } => ControlOrder::Pause(name),
        Control::Resume { name } => ControlOrder::Resume(name),
        Control::Drain { name } => ControlOrder::Drain(name),
        Control::Reset { name, stream, to } => ControlOrder::Reset { name, stream, to },
        Control::Letters { seqs, .. } if seqs.len() > MAX_LETTERS => {
            return Err(format!("{} dead letters at once; {MAX_LETTERS} are allowed", seqs.len()));
        }
        Control::Letters { name, seqs, act } => {
            ControlOrder::Letters { name, seqs: seqs.into(), act }
        }
        Control::Logs { name, from, max } => {
            let page = log.page(&name, from, max.min(MAX_LOG_PAGE));
            let page = match page {
                Some(page) => page,
                None => silent(&name, core).await?,
            };
            return Ok(Answer::Control(Controlled::Logs(page)));
        }
    };
    let done = core.control(order).await.map_err(|error| error.to_string())?;
    Ok(Answer::Control(Controlled::Done(done)))
}

/// The page of a function that has said nothing yet.
async fn silent(name: &str, core: &CoreHandle) -> Result<LogPage, String> {
    let functions = core.functions().await.map_err(|error| error.to_string())?;
    if functions.iter().any(|entry| entry.name == name) {
        return Ok(LogPage { lines: Vec::new(), next: 1 });
    }
    let there: Vec<String> = functions.into_iter().map(|entry| entry.name).collect();
    Err(format!("no function \"{name}\"; there are: {}", there.join(", ")))
}

impl AdminClient {
    /// Carries out an order about a function; answers when it is on flash.
    ///
    /// # Errors
    /// The daemon does not answer: it may have been carried out all the same. Or it refuses.
    pub fn control(&mut self, order: Control) -> Result<ControlDone, AdminError> {
        self.wait_for_changes()?;
        match self.ask(Request::Control(order))? {
            Answer::Control(Controlled::Done(done)) => Ok(done),
            other => Err(self.unknown(&other)),
        }
    }

    /// Log lines and failures of a function, from a number on or the newest.
    ///
    /// # Errors
    /// The daemon does not answer, or has no such function.
    pub fn logs(
        &mut self,
        name: &str,
        from: Option<u64>,
        max: usize,
    ) -> Result<LogPage, AdminError> {
        match self.ask(Request::Control(Control::Logs { name: name.to_owned(), from, max }))? {
            Answer::Control(Controlled::Logs(page)) => Ok(page),
            other => Err(self.unknown(&other)),
        }
    }
}
