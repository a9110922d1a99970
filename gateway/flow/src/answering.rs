//! From a request to a call, and from the call's end to the answer.
//!
//! A request is given in a call of its own, once: what fails is told to its client, who may ask
//! again. Its effects are one commit, with the answer where that is to be kept; the answer leaves
//! when the commit is durable. One that changes nothing waits for what it may have read.

use tidegate_abi::{BatchWriter, FrameTooLarge, InputFlags, Kind, MessageRef, write_property};
use tidegate_stream::{AppendError, CommitError, Position, Transaction};

use crate::answers::{AnswerChange, MAX_ANSWER_BYTES};
use crate::attributes::DeadLetter;
use crate::call::CallVerdict;
use crate::calling::nanoseconds;
use crate::clock::Now;
use crate::control::Mode;
use crate::effects::{Effects, Reply};
use crate::function::FunctionRun;
use crate::gateway::{Gateway, Notice, Output, PlantedBug};
use crate::http_route::HttpRoute;
use crate::origin::Origin;
use crate::plan::DEAD_LETTER_STREAM;
use crate::release::Release;
use crate::request::{Answer, Asked, Done, Once, Request, RequestId};
use crate::verdict::shortened;

/// In a batch's id: of a request, not of a record. Records have their input there.
const REQUEST_ID: u64 = 0x81 << 56;

/// What a dead letter of a request has for its stream: no stream can be called so.
pub(crate) const REQUEST_STREAM: &str = ":http";

impl Gateway {
    /// The routes of all functions that there are, with their indices and names.
    pub fn http_routes(&self) -> impl Iterator<Item = (usize, &str, &HttpRoute)> {
        self.present().flat_map(|(index, run)| {
            run.plan.routes.iter().map(move |route| (index, run.plan.name.as_str(), route))
        })
    }

    /// A client asks. It is answered once, by [`Output::Answer`], within its patience.
    pub fn handle_request(&mut self, now: Now, request: Request) {
        let id = request.id;
        self.open.insert(id, now.instant + request.patience, request.function);
        if let Some(answer) = self.take_in(now, request) {
            self.answer_when_durable(now, id, answer);
        }
    }

    /// Puts it behind the others that wait, or says why not.
    fn take_in(&mut self, now: Now, request: Request) -> Option<Answer> {
        let gone = self.stopping || !self.functions.contains(request.function);
        let Some(run) = self.functions.get_mut(request.function).filter(|_| !gone) else {
            return Some(Answer::later("the function is not there now"));
        };
        if run.parked || run.mode != Mode::Running || run.last.is_some() {
            run.tally.requests_refused += 1;
            return Some(Answer::later("the function does not run now"));
        }
        if let Some(once) = &request.once {
            if let Some(kept) = run.answers.kept(&self.log, once) {
                return Some(match kept.fingerprint == once.fingerprint {
                    true => kept.answer(),
                    false => Answer::text(422, "this Idempotency-Key came with another request"),
                });
            }
            if run.is_answering(once) {
                let text = "a request with this Idempotency-Key is under way";
                return Some(Answer { status: 409, ..Answer::later(text) });
            }
        }
        if run.requests.is_full() {
            run.tally.requests_refused += 1;
            return Some(Answer::later("too many requests wait for the function"));
        }
        run.requests.push(now.unix_ms, request);
        run.wake();
        None
    }

    /// Begins the call of a request of this function, when one waits and a worker is free.
    pub(crate) fn take_up_request(&mut self, now: Now, index: usize) -> bool {
        let run = &mut self.functions[index];
        let runs = !run.parked && run.mode == Mode::Running && run.has_started();
        if !runs || !run.may_begin() {
            return false;
        }
        let Some(asked) = run.requests.take() else { return false };
        match request_frame(&asked) {
            Ok(frame) => self.begin_call(index, Origin::Request(Box::new(asked)), frame),
            Err(error) => self.request_failed(now, index, &asked, 500, error.to_string()),
        }
        true
    }

    /// Decides what the end of a request's call means.
    pub(crate) fn judge_request(
        &mut self,
        now: Now,
        index: usize,
        asked: Asked,
        verdict: CallVerdict,
    ) {
        match verdict {
            CallVerdict::Done(frame) => {
                let effects = Effects::of_request(self.max_user_properties);
                let entry = [asked.stand_in()];
                let read = self.read_effects(now, index, &entry, &frame, effects);
                match read.and_then(|effects| replied(&asked, effects)) {
                    Ok(Replied::Done(effects, answer, dead)) => {
                        self.apply_request(now, index, *effects, Done { asked, answer, dead });
                    }
                    Ok(Replied::Later) => self.put_off(now, asked.request.id),
                    Err(failure) => self.request_failed(now, index, &asked, 500, failure),
                }
            }
            CallVerdict::Failed(failure) => self.request_failed(now, index, &asked, 500, failure),
            CallVerdict::Late(failure) => self.request_failed(now, index, &asked, 504, failure),
            CallVerdict::RetryBatch => self.put_off(now, asked.request.id),
            CallVerdict::DeadLetterBatch => {
                let (answer, dead) = given_up("the function gave the request up".to_owned());
                let done = Done { asked, answer, dead };
                self.apply_request(now, index, Effects::default(), done);
            }
        }
    }

    fn put_off(&mut self, now: Now, id: RequestId) {
        self.answer_when_durable(now, id, Answer::later("not now"));
    }

    /// Commits what there is to be committed. Without effects and without a key there is nothing.
    fn apply_request(&mut self, now: Now, index: usize, mut effects: Effects, done: Done) {
        let idle = effects.emits.is_empty()
            && effects.state.is_empty()
            && effects.timers.is_empty()
            && done.dead.is_none()
            && done.asked.request.once.is_none();
        if idle {
            let (id, answer) = (done.asked.request.id, done.answer);
            self.functions[index].tally.requests += 1;
            self.committed(now, index, Vec::new(), effects);
            return self.answer_when_durable(now, id, answer);
        }
        effects.done = Some(Box::new(done));
        self.commit(now, index, Vec::new(), effects);
    }

    /// Stages what a request's call adds to the commit of its effects.
    pub(crate) fn stage_request(
        &self,
        index: usize,
        done: &Done,
        into: &mut Transaction,
    ) -> AnswerChange {
        let run = &self.functions[index];
        let once = done.asked.request.once.as_ref();
        if let (Some(reason), Some(stream)) = (&done.dead, self.routes.id(DEAD_LETTER_STREAM)) {
            let attributes = done.asked.stand_in().attributes.encode_dead(DeadLetter {
                function: run.plan.name.clone(),
                stream: REQUEST_STREAM.to_owned(),
                seq: done.asked.seq,
                attempts: 1,
                reason: shortened(reason),
            });
            into.append(stream, done.asked.record(attributes));
        }
        into.hurry();
        let kept = once.filter(|_| self.planted != Some(PlantedBug::AnswerNotKept));
        run.answers.stage(done.asked.seq, kept.map(|once| (once, &done.answer)), into)
    }

    /// It is committed: its client hears of it when that is durable.
    pub(crate) fn request_committed(&mut self, index: usize, done: &Done, position: Position) {
        let tally = &mut self.functions[index].tally;
        tally.requests += 1;
        tally.dead_letters += u64::from(done.dead.is_some());
        if self.planted == Some(PlantedBug::AnswerNotAwaited) {
            return self.answer(done.asked.request.id, done.answer.clone());
        }
        let release = Release::Answer(done.asked.request.id, Box::new(done.answer.clone()));
        self.waiting.push_back((position, release));
    }

    /// What a request's call did could not be committed, and does not count.
    pub(crate) fn request_not_committed(
        &mut self,
        now: Now,
        index: usize,
        effects: Effects,
        error: &CommitError,
    ) {
        let Some(done) = effects.done else { return };
        match error {
            CommitError::Append(
                AppendError::StreamFull { .. } | AppendError::Busy { .. } | AppendError::DiskFull,
            ) => {
                let run = &mut self.functions[index];
                run.tally.last_failure = Some(error.to_string());
                run.tally.requests_refused += 1;
                let answer = Answer::later("the gateway has no room for what this would store");
                self.answer_when_durable(now, done.asked.request.id, answer);
            }
            CommitError::Append(AppendError::TooLarge { .. } | AppendError::UnknownStream(_))
            | CommitError::TablesFull { .. }
            | CommitError::UnknownReader(_)
            | CommitError::UnknownTable(_) => {
                self.request_failed(now, index, &done.asked, 500, error.to_string());
            }
        }
    }

    fn request_failed(
        &mut self,
        now: Now,
        index: usize,
        asked: &Asked,
        status: u16,
        failure: String,
    ) {
        let text = if status == 504 { "the function took too long" } else { "the function failed" };
        self.answer_when_durable(now, asked.request.id, Answer::text(status, text));
        let run = &mut self.functions[index];
        run.tally.failures += 1;
        run.tally.last_failure = Some(failure.clone());
        let (function, route) = (run.plan.name.clone(), asked.request.route.clone());
        if !self.failed_on_trial(now, index, &failure) {
            self.emit(Output::Notice(Notice::RequestFailed { function, route, failure }));
        }
    }

    /// Answers when everything that the log has now is durable: the function, or the answer that
    /// was kept, may tell of it.
    fn answer_when_durable(&mut self, now: Now, id: RequestId, answer: Answer) {
        let end = self.log.end();
        if self.log.durable() >= end {
            return self.answer(id, answer);
        }
        self.log.flush(now.instant);
        self.waiting.push_back((end, Release::Answer(id, Box::new(answer))));
    }

    /// Tells the client, unless it has been told something already.
    pub(crate) fn answer(&mut self, id: RequestId, answer: Answer) {
        if self.open.remove(id) {
            self.emit(Output::Answer(id, answer));
        }
    }

    /// Clients that have waited long enough are told so. What is in a call may count all the same.
    pub(crate) fn answer_late(&mut self, now: Now) {
        for (id, function) in self.open.late(now.instant) {
            let run = self.functions.get_mut(function);
            let answer = match run.and_then(|run| run.requests.remove(id).then_some(run)) {
                Some(run) => {
                    run.tally.requests_refused += 1;
                    Answer::later("the function is busy; nothing was done")
                }
                None => Answer::text(504, "no answer in time; it may have been done"),
            };
            self.answer(id, answer);
        }
    }

    /// The function of this index is gone, and nothing of its requests will count.
    pub(crate) fn dismiss_requests(&mut self, index: usize) {
        for id in self.open.of(index) {
            let waits = |(_, release): &(Position, Release)| matches!(release, Release::Answer(waiting, _) if *waiting == id);
            // What is committed is answered as it was meant.
            if !self.waiting.iter().any(waits) {
                self.answer(id, Answer::later("the function was replaced; nothing was done"));
            }
        }
    }
}

impl FunctionRun {
    /// Whether a request with this key waits, or is in a call.
    fn is_answering(&self, once: &Once) -> bool {
        let running = self.workers.iter().filter_map(|worker| worker.running.as_ref());
        let in_calls = running.filter_map(|running| running.origin.request());
        let keys = self.requests.iter().chain(in_calls).filter_map(|asked| asked.request.once);
        keys.into_iter().any(|other| other.key == once.key)
    }
}

/// What an output frame means for its request.
enum Replied {
    /// An answer, and why the request is dead-lettered, if it is.
    Done(Box<Effects>, Answer, Option<String>),
    /// Nothing counts.
    Later,
}

fn given_up(why: String) -> (Answer, Option<String>) {
    (Answer::text(500, "the function gave the request up"), Some(why))
}

fn replied(asked: &Asked, mut effects: Effects) -> Result<Replied, String> {
    let Reply { answer, refused } = effects.reply.take().unwrap_or_default();
    let dead = std::mem::take(&mut effects.dead).into_values().next();
    let retry = std::mem::take(&mut effects.retry);
    let nacked = dead.is_some() || refused.is_some() || !retry.is_empty();
    if nacked && answer.is_some() {
        return Err("bad output: RESPOND beside a NACK".to_owned());
    }
    if !retry.is_empty() {
        return Ok(Replied::Later);
    }
    let (answer, dead) = match (answer, refused, dead) {
        (_, _, Some(why)) => given_up(why),
        (_, Some(text), None) => (Answer::text(422, &text), None),
        (Some(answer), None, None) => (answer, None),
        (None, None, None) => (Answer::bare(204), None),
    };
    let bytes = answer.body.len() + answer.media_type.len();
    if asked.request.once.is_some() && bytes > MAX_ANSWER_BYTES {
        return Err(format!(
            "the answer to a request with an Idempotency-Key has {bytes} bytes; allowed: \
             {MAX_ANSWER_BYTES}"
        ));
    }
    Ok(Replied::Done(Box::new(effects), answer, dead))
}

fn request_frame(asked: &Asked) -> Result<Vec<u8>, FrameTooLarge> {
    let time = nanoseconds(asked.unix_ms);
    let mut props = Vec::new();
    for (key, value) in &asked.request.properties {
        write_property(&mut props, key, value)?;
    }
    let writer = BatchWriter::new(Kind::Request, time, asked.seq | REQUEST_ID);
    let mut writer = writer.with_flags(InputFlags::CAUSES);
    writer.push(&MessageRef {
        seq: asked.seq,
        ts_ns: time,
        topic: &asked.request.route,
        payload: &asked.request.body,
        props: &props,
        ..MessageRef::default()
    })?;
    Ok(writer.finish())
}
