//! Tells devices the time (docs/formats/time.md): who asks on `tg/{device}/time/req` is answered on
//! `tg/{device}/time/now`, with QoS 0.
//!
//! Invariants:
//! - who asks on the topic of a device is that device: the broker lets nobody else publish there;
//! - nothing is kept of a question: what waits is bounded, and one beyond that is lost, as it may be;
//! - t2 is not before the question was there, and t3 not after the answer has left: what a question waits here
//!   makes its round trip longer, and the time not wrong.

use std::sync::Arc;

use tidegate_broker::{Broker, LocalId, Message, QoS, TopicFilter, TopicName};
use tidegate_wire::time::{Answer, Question};

use crate::clock::{ClockQuality, Now};
use crate::gateway::Gateway;

/// Questions that wait to be answered, some 300 bytes each. All are answered with what else has come in at
/// the same time, so only a flood gets there.
const MAX_UNHEARD: usize = 64 * 1_024;
/// Where devices ask.
const QUESTIONS: &str = "tg/+/time/req";

/// See the module.
pub(crate) struct Time {
    heard: Option<LocalId>,
}

impl Time {
    pub(crate) fn hear(broker: &mut Broker) -> Time {
        let filter = TopicFilter::parse(QUESTIONS).ok();
        Time { heard: filter.map(|filter| broker.subscribe_local(&filter, MAX_UNHEARD)) }
    }
}

impl Gateway {
    /// Answers what devices have asked. True when there was something.
    pub(crate) fn step_time(&mut self, now: Now) -> bool {
        let mut moved = false;
        while let Some(message) = self.time.heard.and_then(|id| self.broker.take_local(id)) {
            moved = true;
            let Some(question) = Question::read(&message.payload) else { continue };
            let device = message.topic.as_str().split('/').nth(1).unwrap_or_default();
            let Ok(topic) = TopicName::parse(&format!("tg/{device}/time/now")) else { continue };
            // A moment between its coming and the answer's leaving is both.
            let time = u64::try_from(now.unix_us()).ok();
            let answer = Answer {
                sent: question.sent,
                received: time.unwrap_or(0),
                answered: time.unwrap_or(0),
                trusted: time.is_some() && now.clock == ClockQuality::Synced,
            };
            let answer = Message::new(topic, answer.write().to_vec(), QoS::AtMostOnce);
            self.broker.publish(now.instant, &Arc::new(answer));
        }
        moved
    }
}
