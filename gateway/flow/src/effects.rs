//! What a function asks for, operation by operation, checked before any of it counts.

use std::collections::BTreeMap;
use std::num::NonZeroU16;

use bytes::Bytes;
use tidegate_abi::{NackClass, Operation, properties};
use tidegate_broker::TopicName;

use crate::attributes::Attributes;
use crate::metric::Reported;
use crate::plan::FunctionPlan;
use crate::queue::InputRecord;
use crate::request::{Answer, Done};
use crate::timers::{Fired, MAX_NAME, MAX_SPAN_MS, TimerSet};
use crate::trace::{Carried, Room};

/// A record that has passed this many functions is dead-lettered: it runs in a circle.
pub(crate) const MAX_HOPS: u8 = 16;

/// What a valid output asks for.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) emits: Vec<Emit>,
    /// The slot of the canary that asks for it.
    pub(crate) canary: Option<usize>,
    /// Index in the batch and the reason.
    pub(crate) dead: BTreeMap<usize, String>,
    pub(crate) dropped: usize,
    /// Records that it wants to have again, and why.
    pub(crate) retry: BTreeMap<usize, String>,
    /// The last write to each key; `None` deletes.
    pub(crate) state: BTreeMap<Vec<u8>, Option<Written>>,
    pub(crate) metrics: Vec<Reported>,
    /// The last change of each timer; `None` cancels.
    pub(crate) timers: BTreeMap<String, Option<TimerSet>>,
    /// The timer that the call was for: it is done with the commit.
    pub(crate) fired: Option<Fired>,
    /// What a request is answered with; `None`: the call is for no request.
    pub(crate) reply: Option<Reply>,
    /// The request that the call was for: it is done with the commit.
    pub(crate) done: Option<Box<Done>>,
    pub(crate) logs: Vec<(u8, String)>,
    /// Functions that what comes of it has passed.
    pub(crate) hops: u8,
    /// For the trace contexts that outputs carry on.
    pub(crate) room: Room,
    pub(crate) traces_dropped: u64,
}

/// What the output to a request says of it.
#[derive(Default)]
pub(crate) struct Reply {
    pub(crate) answer: Option<Answer>,
    /// The text of a NACK that drops it.
    pub(crate) refused: Option<String>,
}

/// What a key of the state is set to.
pub(crate) struct Written {
    pub(crate) value: Vec<u8>,
    /// In milliseconds from the commit on; 0 is for ever.
    pub(crate) ttl_ms: u64,
}

/// One message that the function publishes.
pub(crate) struct Emit {
    pub(crate) topic: TopicName,
    pub(crate) payload: Bytes,
    pub(crate) attributes: Attributes,
    /// How many of its last properties are the trace context of its record.
    carried: usize,
}

impl Effects {
    /// None yet; outputs have at most so many user properties with what is copied into them.
    pub(crate) fn new(max_user_properties: usize) -> Effects {
        Effects { room: Room::new(max_user_properties), ..Effects::default() }
    }

    /// The same for the call of a request.
    pub(crate) fn of_request(max_user_properties: usize) -> Effects {
        let reply = Some(Reply::default());
        Effects { reply, ..Effects::new(max_user_properties) }
    }

    /// Adds an operation of an output frame.
    pub(crate) fn take(
        &mut self,
        plan: &FunctionPlan,
        batch: &[InputRecord],
        hops: u8,
        operation: &Operation<'_>,
    ) -> Result<(), String> {
        match operation {
            Operation::Emit { topic, payload, qos, retain, props, cause } => {
                let topic = granted(plan, topic)?;
                if hops > MAX_HOPS {
                    let why = format!("passed more than {MAX_HOPS} functions: a loop");
                    self.dead.extend((0..batch.len()).map(|record| (record, why.clone())));
                    return Ok(());
                }
                let user = user_properties(props)?;
                let mut attributes = Attributes {
                    qos: *qos as u8,
                    retain: *retain,
                    hops,
                    user,
                    ..Attributes::default()
                };
                let carried = self.carry_trace(batch, *cause, &mut attributes)?;
                let payload = Bytes::copy_from_slice(payload);
                self.emits.push(Emit { topic, payload, attributes, carried });
            }
            Operation::Nack { index, class, text, .. } => {
                self.nack(batch, *index as usize, *class, text)?;
            }
            Operation::KvPut { key, value, ttl_ms } => {
                let written = Written { value: value.to_vec(), ttl_ms: *ttl_ms };
                self.state.insert(key.to_vec(), Some(written));
            }
            Operation::KvDel { key } => {
                self.state.insert(key.to_vec(), None);
            }
            Operation::Log { level, text } => {
                self.logs.push((*level as u8, (*text).to_owned()));
            }
            Operation::Metric { name, kind, value } => {
                let (name, kind, value) = ((*name).to_owned(), *kind, *value);
                self.metrics.push(Reported { name, kind, value });
            }
            Operation::TimerSet { name, delay_ms, period_ms } => {
                let set = timer_set(plan, name, *delay_ms, *period_ms)?;
                self.timers.insert((*name).to_owned(), set);
            }
            Operation::Respond { status, content_type, body } => {
                let Some(reply) = &mut self.reply else {
                    return Err("bad output: RESPOND, though this is no request".into());
                };
                let answer = answer(*status, content_type, body)?;
                if reply.answer.replace(answer).is_some() {
                    return Err("bad output: a second RESPOND".into());
                }
            }
        }
        Ok(())
    }

    /// Adds the trace context of the record that an output comes from; answers how many
    /// properties that was.
    fn carry_trace(
        &mut self,
        batch: &[InputRecord],
        cause: Option<NonZeroU16>,
        attributes: &mut Attributes,
    ) -> Result<usize, String> {
        let Some(cause) = cause else { return Ok(0) };
        let Some(input) = batch.get(usize::from(cause.get()) - 1) else {
            let records = batch.len();
            return Err(format!("bad output: EMIT for record {cause} of {records}"));
        };
        Ok(match self.room.carry(&input.attributes.user, attributes) {
            Carried::Nothing => 0,
            Carried::Properties(added) => added,
            Carried::NoRoom => {
                self.traces_dropped += 1;
                0
            }
        })
    }

    /// Takes out what was copied into the outputs; false when nothing was.
    pub(crate) fn drop_traces(&mut self) -> bool {
        let mut dropped = 0;
        for emit in self.emits.iter_mut().filter(|emit| emit.carried > 0) {
            let user = &mut emit.attributes.user;
            user.truncate(user.len() - emit.carried);
            emit.carried = 0;
            dropped += 1;
        }
        self.traces_dropped += dropped;
        dropped > 0
    }

    fn nack(
        &mut self,
        batch: &[InputRecord],
        index: usize,
        class: NackClass,
        text: &str,
    ) -> Result<(), String> {
        if index >= batch.len() {
            return Err(format!("bad output: NACK of record {index} of {}", batch.len()));
        }
        match class {
            NackClass::Drop => {
                self.dropped += 1;
                if let Some(reply) = &mut self.reply {
                    reply.refused = Some(text.to_owned());
                }
            }
            NackClass::Dead => {
                self.dead.insert(index, text.to_owned());
            }
            NackClass::Retry => {
                self.retry.insert(index, text.to_owned());
            }
        }
        Ok(())
    }
}

/// Longest media type of an answer, in bytes.
const MAX_MEDIA_TYPE: usize = 256;

fn answer(status: u16, media_type: &str, body: &[u8]) -> Result<Answer, String> {
    if !(200..=599).contains(&status) {
        return Err(format!("bad output: RESPOND with status {status}, not 200 to 599"));
    }
    let plain = |b: u8| (b' '..=b'~').contains(&b);
    if media_type.len() > MAX_MEDIA_TYPE || !media_type.bytes().all(plain) {
        return Err("bad output: RESPOND with what is no media type".to_owned());
    }
    let (media_type, body) = (media_type.to_owned(), Bytes::copy_from_slice(body));
    Ok(Answer { media_type, body, ..Answer::bare(status) })
}

fn granted(plan: &FunctionPlan, topic: &str) -> Result<TopicName, String> {
    let name = TopicName::parse(topic)
        .map_err(|error| format!("bad output: EMIT to topic \"{topic}\": {error}"))?;
    if plan.publish.iter().any(|filter| filter.matches(&name)) {
        return Ok(name);
    }
    Err(format!("denied: publish to \"{topic}\" is not granted; add it to `publish`"))
}

/// What a TIMER_SET asks for; `None` cancels.
fn timer_set(
    plan: &FunctionPlan,
    name: &str,
    delay_ms: u64,
    period_ms: u64,
) -> Result<Option<TimerSet>, String> {
    if plan.timers == 0 {
        return Err("denied: TIMER_SET is not granted; set `timers`".to_owned());
    }
    if name.is_empty() || name.len() > MAX_NAME {
        let bytes = name.len();
        return Err(format!(
            "bad output: the name of a timer has {bytes} bytes, not 1 to {MAX_NAME}"
        ));
    }
    if plan.schedules.iter().any(|schedule| schedule.name == name) {
        return Err(format!("bad output: timer \"{name}\" has the name of a schedule"));
    }
    if delay_ms.max(period_ms) > MAX_SPAN_MS {
        return Err(format!("bad output: timer \"{name}\" is set for more than 100 years"));
    }
    Ok((delay_ms.max(period_ms) > 0).then_some(TimerSet { delay_ms, period_ms }))
}

fn user_properties(list: &[u8]) -> Result<Vec<(String, String)>, String> {
    let pairs = properties(list).map_err(|error| format!("bad output: {error}"))?;
    Ok(pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect())
}
