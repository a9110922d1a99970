//! What an author writes.

use crate::Host;
use crate::batch::Batch;
use crate::json::Json;
use crate::out::Out;
use crate::state::State;
use crate::text::{append, concat};
use crate::trigger::{Event, Request, Response, Timer};
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use tidegate_abi::{HandleResult, Kind, Level, Operation};

/// A function.
pub trait Function: Sized {
    /// Takes the configuration. Called once, before any batch.
    ///
    /// # Errors
    /// A configuration that makes no sense; the text goes to the operator.
    fn new(config: &Config<'_>) -> Result<Self, Error>;

    /// Handles a batch: emits by `out`, remembers by `state`. Records that are not refused with
    /// [`Out::nack`] count as handled.
    ///
    /// # Errors
    /// When nothing of the batch is to count: [`Error::Retry`] to get it again later,
    /// [`Error::DeadLetter`] to give it up.
    fn handle(
        &mut self,
        batch: &Batch<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error>;

    /// A timer is due: one of [`Out::set_timer`], or one of the configuration.
    ///
    /// # Errors
    /// As for [`handle`](Self::handle). So does a function that does not say what to do.
    fn on_timer(
        &mut self,
        _timer: &Timer<'_>,
        _out: &mut Out<'_>,
        _state: &mut State<'_>,
    ) -> Result<(), Error> {
        Err(no_use())
    }

    /// Somebody asks over HTTP. The answer leaves when the effects are on flash.
    ///
    /// # Errors
    /// As for [`handle`](Self::handle): who asks is told 503 for [`Error::Retry`], else 500, and
    /// nothing of the reason. So does a function that does not say what to do.
    fn on_request(
        &mut self,
        _request: &Request<'_>,
        _out: &mut Out<'_>,
        _state: &mut State<'_>,
    ) -> Result<Response, Error> {
        Err(no_use())
    }

    /// Something has happened: the function starts, an uplink is lost, a device has connected.
    ///
    /// # Errors
    /// As for [`handle`](Self::handle). So does a function that does not say what to do.
    fn on_event(
        &mut self,
        _event: &Event<'_>,
        _out: &mut Out<'_>,
        _state: &mut State<'_>,
    ) -> Result<(), Error> {
        Err(no_use())
    }
}

/// Why a function gives up; the text is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Give the batch again later.
    Retry(String),
    /// The batch cannot be handled, now or later.
    DeadLetter(String),
}

impl Error {
    /// An error that another attempt will not mend.
    #[inline(never)] // Half the size of a function that refuses this and that.
    pub fn new(text: &str) -> Self {
        Self::DeadLetter(text.to_string())
    }

    /// What is wrong.
    pub fn text(&self) -> &str {
        match self {
            Self::Retry(text) | Self::DeadLetter(text) => text,
        }
    }
}

/// The function's configuration: a JSON object.
#[derive(Debug, Clone, Copy)]
pub struct Config<'a> {
    json: Json<'a>,
}

impl<'a> Config<'a> {
    /// Checks that it is one. No bytes at all mean an empty object.
    ///
    /// # Errors
    /// Says where it stops being JSON.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let bytes = if bytes.trim_ascii().is_empty() { b"{}" } else { bytes };
        let json = Json::parse(bytes).map_err(|error| {
            Error::DeadLetter(concat(&["the configuration is not JSON: ", &error.text()]))
        })?;
        if json.is_object() {
            Ok(Self { json })
        } else {
            Err(Error::new("the configuration must be a JSON object"))
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<Json<'a>> {
        self.json.get(key)
    }

    /// Refuses keys that the function does not know: most are spelling mistakes.
    ///
    /// # Errors
    /// Names the first unknown key and the known ones.
    pub fn only(&self, known: &[&str]) -> Result<(), Error> {
        for key in self.json.names() {
            if !known.iter().any(|name| key.is_string(name)) {
                let key = core::str::from_utf8(key.inside().unwrap_or(&[])).unwrap_or("");
                let mut text = concat(&["unknown key `", key, "` in the configuration; known are"]);
                for name in known {
                    append(&mut text, &[" ", name]);
                }
                return Err(Error::DeadLetter(text));
            }
        }
        Ok(())
    }

    /// The number at `key`, or `default` when there is none.
    ///
    /// # Errors
    /// When there is something else.
    pub fn number(&self, key: &str, default: f64) -> Result<f64, Error> {
        let Some(found) = self.get(key) else { return Ok(default) };
        found.as_f64().ok_or_else(|| mistyped(key, found, "a number"))
    }

    /// The string at `key`, or `default` when there is none.
    ///
    /// # Errors
    /// When there is something else.
    pub fn string(&self, key: &str, default: &str) -> Result<String, Error> {
        let Some(found) = self.get(key) else { return Ok(String::from(default)) };
        match found.as_str() {
            Some(text) => Ok(text.into_owned()),
            None => Err(mistyped(key, found, "a string")),
        }
    }

    /// The boolean at `key`, or `default` when there is none.
    ///
    /// # Errors
    /// When there is something else.
    pub fn flag(&self, key: &str, default: bool) -> Result<bool, Error> {
        let Some(found) = self.get(key) else { return Ok(default) };
        found.as_bool().ok_or_else(|| mistyped(key, found, "true or false"))
    }
}

#[inline(never)]
fn mistyped(key: &str, found: Json<'_>, expected: &str) -> Error {
    let pieces = ["`", key, "` in the configuration is ", found.text(), ", it must be ", expected];
    Error::DeadLetter(concat(&pieces))
}

/// How a call ended, with the output frame where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) result: HandleResult,
    pub(crate) frame: Vec<u8>,
}

/// Runs one call. The same on both sides of the border. The output takes the room of `spent`, an
/// earlier one.
pub(crate) fn call<F: Function>(
    function: &mut F,
    frame: &[u8],
    host: &Host<'_>,
    spent: Vec<u8>,
) -> Reply {
    let ended = |result| Reply { result, frame: Vec::new() };
    let Ok(batch) = Batch::open(frame) else {
        host.log(Level::Error, "the input frame is malformed");
        return ended(HandleResult::Failed(BAD_FRAME));
    };
    let mut out = Out::new(host, &batch, spent);
    let mut state = State::new(host);
    if let Err(error) = give(function, &batch, &mut out, &mut state) {
        host.log(Level::Error, error.text());
        return ended(match error {
            Error::Retry(_) => HandleResult::Retry,
            Error::DeadLetter(_) => HandleResult::DeadLetter,
        });
    }
    state.write_to(&mut out);
    match out.finish() {
        Some(frame) => Reply { result: HandleResult::Done, frame },
        None => {
            host.log(Level::Error, "the output is too large");
            ended(HandleResult::Failed(OUTPUT_TOO_LARGE))
        }
    }
}

#[inline(never)]
fn no_use() -> Error {
    Error::new("no use for timers, requests or events")
}

/// Gives the entries to the method for their kind.
fn give<F: Function>(
    function: &mut F,
    batch: &Batch<'_>,
    out: &mut Out<'_>,
    state: &mut State<'_>,
) -> Result<(), Error> {
    let kind = batch.kind();
    if kind == Kind::Messages {
        return function.handle(batch, out, state);
    }
    for entry in batch.entries() {
        let batch = *batch;
        match kind {
            Kind::Messages => {}
            Kind::Timer => function.on_timer(&Timer { entry, batch }, out, state)?,
            Kind::Event => function.on_event(&Event { entry, batch }, out, state)?,
            Kind::Request => {
                let answer = function.on_request(&Request { entry, batch }, out, state)?;
                let Response { status, media_type: content_type, ref body } = answer;
                out.push(&Operation::Respond { status, content_type, body });
            }
        }
    }
    Ok(())
}

/// `tg_handle` could not read its frame.
const BAD_FRAME: i64 = -3;
/// `tg_handle` has more output than a frame can hold.
const OUTPUT_TOO_LARGE: i64 = -4;
