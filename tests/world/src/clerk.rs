//! The function that the clock and requests call: it publishes each run and each request that it
//! counts, so that the streams say what was done, and how often.

use tidegate_guest::{
    Batch, Config, Error, Event, Function, Message, Out, Request, Response, State, Timer,
};

/// Runs of a schedule that are published; the others are counted only. A world with a quick schedule
/// would not come to rest.
const RUNS_TOLD: u64 = 30;

/// What the topics of its runs begin with.
pub(crate) const RUNS: &str = "runs/";
/// The same of the requests that it has counted.
pub(crate) const ANSWERS: &str = "answers/";
/// Where it counts requests.
pub(crate) const COUNT: &[u8] = b"count";

/// Where it has when the last run of a schedule was due, milliseconds since 1970.
pub(crate) fn last_key(schedule: &str) -> Vec<u8> {
    format!("last/{schedule}").into_bytes()
}

/// See the module.
pub(crate) struct Clerk;

impl Function for Clerk {
    fn new(_: &Config<'_>) -> Result<Self, Error> {
        Ok(Clerk)
    }

    fn handle(
        &mut self,
        batch: &Batch<'_>,
        _: &mut Out<'_>,
        _: &mut State<'_>,
    ) -> Result<(), Error> {
        let topics: Vec<&str> =
            batch.messages().map(|message: Message<'_>| message.topic()).collect();
        Err(Error::new(&format!("it reads no stream, and was given {topics:?}")))
    }

    fn on_timer(
        &mut self,
        timer: &Timer<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        let (name, due_ms) = (timer.name(), timer.due_ns() / 1_000_000);
        let runs = format!("runs/{name}").into_bytes();
        let before = state.get::<u64>(&runs)?.unwrap_or(0);
        state.put(&runs, &(before + 1));
        state.put(&last_key(name), &due_ms);
        if before < RUNS_TOLD {
            let run = format!("{due_ms} {}", timer.missed());
            out.emit(&format!("{RUNS}{name}"), run.as_bytes());
        }
        Ok(())
    }

    fn on_request(
        &mut self,
        request: &Request<'_>,
        out: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<Response, Error> {
        let count = state.get::<u64>(COUNT)?.unwrap_or(0) + 1;
        state.put(COUNT, &count);
        let what = String::from_utf8_lossy(request.body());
        out.emit(&format!("{ANSWERS}{what}"), count.to_string().as_bytes());
        Ok(Response::text(200, &count.to_string()))
    }

    fn on_event(
        &mut self,
        event: &Event<'_>,
        _: &mut Out<'_>,
        state: &mut State<'_>,
    ) -> Result<(), Error> {
        if event.name() != "start" {
            return Err(Error::new("it wants to be told of its starts only"));
        }
        let starts = state.get::<u64>(b"starts")?.unwrap_or(0);
        state.put(b"starts", &(starts + 1));
        Ok(())
    }
}
