//! What a function can do.

use crate::Host;
use crate::batch::{Batch, Message};
use crate::pieces::Pieces;
use alloc::vec::Vec;
use core::num::NonZeroU16;
use tidegate_abi::{Level, MetricKind, NackClass, Operation, OutputWriter, Qos, write_property};

/// The effects of a batch, in the order of the calls. None of them happens before the function
/// has returned `Ok` for the whole batch; [`log`](Self::log) is the exception.
pub struct Out<'h> {
    writer: OutputWriter,
    host: &'h Host<'h>,
    /// Something did not fit into the frame: the whole output is refused.
    overflow: bool,
    /// An older gateway would refuse the output for it.
    wants_causes: bool,
}

impl<'h> Out<'h> {
    pub(crate) fn new(host: &'h Host<'h>, batch: &Batch<'_>, spent: Vec<u8>) -> Self {
        let wants_causes = batch.wants_causes();
        Self { writer: OutputWriter::reuse(spent), host, overflow: false, wants_causes }
    }

    /// Publishes a message that comes from this record, with quality of service 1: it carries the
    /// record's trace context on.
    pub fn emit_for(&mut self, message: &Message<'_>, topic: &str, payload: &[u8]) {
        self.emit_with(&Emit::new(topic, payload).for_message(message));
    }

    /// Publishes a message that comes from no single record, with quality of service 1.
    pub fn emit(&mut self, topic: &str, payload: &[u8]) {
        self.emit_with(&Emit::new(topic, payload));
    }

    /// Publishes a message.
    pub fn emit_with(&mut self, emit: &Emit<'_>) {
        let mut props = Vec::new();
        for (key, value) in emit.properties {
            self.overflow |= write_property(&mut props, key, value).is_err();
        }
        let &Emit { topic, payload, qos, retain, cause, .. } = emit;
        let cause = cause.filter(|_| self.wants_causes);
        self.push(&Operation::Emit { topic, payload, qos, retain, props: &props, cause });
    }

    /// Publishes a message that comes from this record, with quality of service 1, whose topic and payload
    /// are written into the output piece by piece: nothing is put together elsewhere first.
    ///
    /// ```
    /// # use tidegate_guest::{Message, Out};
    /// # fn alert(message: &Message<'_>, out: &mut Out<'_>) {
    /// out.write_for(
    ///     message,
    ///     |topic| {
    ///         topic.push(b"alerts/");
    ///         topic.push(message.topic_level_bytes(1).unwrap_or(b"none"));
    ///     },
    ///     |payload| {
    ///         payload.push(b"{\"time_ns\":");
    ///         payload.push_number(message.time_ns());
    ///         payload.push(b"}");
    ///     },
    /// );
    /// # }
    /// ```
    #[inline(always)] // See OutputWriter::emit.
    pub fn write_for(
        &mut self,
        message: &Message<'_>,
        topic: impl FnOnce(&mut Pieces<'_>),
        payload: impl FnOnce(&mut Pieces<'_>),
    ) {
        let cause = cause(message).filter(|_| self.wants_causes);
        let written = self.writer.emit(
            Qos::AtLeastOnce,
            false,
            cause,
            |bytes| topic(&mut Pieces::new(bytes)),
            |bytes| payload(&mut Pieces::new(bytes)),
        );
        self.overflow |= written.is_err();
    }

    /// Refuses a record of the batch; all others still count.
    pub fn nack(&mut self, message: &Message<'_>, nack: &Nack<'_>) {
        let &Nack { class, code, text } = nack;
        self.push(&Operation::Nack { index: message.index, class, code, text });
    }

    /// Adds to a counter of the function.
    pub fn count(&mut self, name: &str, value: f64) {
        self.push(&Operation::Metric { name, kind: MetricKind::Counter, value });
    }

    /// Sets a gauge of the function.
    pub fn gauge(&mut self, name: &str, value: f64) {
        self.push(&Operation::Metric { name, kind: MetricKind::Gauge, value });
    }

    /// Starts the function's timer of that name, or replaces it: it calls
    /// [`on_timer`](crate::Function::on_timer) after so many milliseconds and, where the period is
    /// not 0, each period from then on.
    pub fn set_timer(&mut self, name: &str, delay_ms: u64, period_ms: u64) {
        self.push(&Operation::TimerSet { name, delay_ms, period_ms });
    }

    /// Stops the timer of that name, also one that is due but was not given yet; no matter whether
    /// there is one.
    pub fn cancel_timer(&mut self, name: &str) {
        self.set_timer(name, 0, 0);
    }

    /// The secret of this name, as it is now; `None` when it has no value, or is not granted to the
    /// function (`secrets` in its configuration). Read it where you use it: it may be replaced.
    pub fn secret(&self, name: &str) -> Option<Vec<u8>> {
        self.host.secret_get(name)
    }

    /// Writes a line to the function's log when the batch commits.
    pub fn log_on_commit(&mut self, level: Level, text: &str) {
        self.push(&Operation::Log { level, text });
    }

    /// Writes a line to the function's log at once: it stays when the batch fails later. The macros
    /// [`error!`](crate::error!), [`warn!`](crate::warn!), [`info!`](crate::info!) and
    /// [`debug!`](crate::debug!) do the same with a format.
    pub fn log(&mut self, level: Level, text: &str) {
        self.host.log(level, text);
    }

    /// What the log macros do.
    #[doc(hidden)]
    #[inline(always)] // A text without arguments then brings no formatting into the module.
    pub fn log_format(&mut self, level: Level, text: core::fmt::Arguments<'_>) {
        match text.as_str() {
            Some(text) => self.log(level, text),
            None => self.log(level, &alloc::fmt::format(text)),
        }
    }

    #[inline(always)] // See OutputWriter::push.
    pub(crate) fn push(&mut self, operation: &Operation<'_>) {
        self.overflow |= self.writer.push(operation).is_err();
    }

    /// The output frame; `None` when it does not hold all that was asked for.
    pub(crate) fn finish(self) -> Option<Vec<u8>> {
        (!self.overflow).then(|| self.writer.finish())
    }
}

/// A message to publish.
#[derive(Debug, Clone, Copy)]
pub struct Emit<'a> {
    /// Where to; the configuration's `publish` must allow it.
    pub topic: &'a str,
    /// What.
    pub payload: &'a [u8],
    /// Quality of service; 1 unless set.
    pub qos: Qos,
    /// Whether the broker keeps it for later subscribers.
    pub retain: bool,
    /// Properties, at most 65,535 bytes each.
    pub properties: &'a [(&'a str, &'a str)],
    /// The place in the batch of the record that it comes from, counted from 1; set by
    /// [`for_message`](Self::for_message).
    pub cause: Option<NonZeroU16>,
}

impl<'a> Emit<'a> {
    /// Quality of service 1, not retained, no properties, from no single record.
    pub fn new(topic: &'a str, payload: &'a [u8]) -> Self {
        let qos = Qos::AtLeastOnce;
        Self { topic, payload, qos, retain: false, properties: &[], cause: None }
    }

    /// The same as coming from this record. Where the record has a trace context, and `properties`
    /// none, the gateway adds that of the record: `traceparent` and `tracestate`.
    #[must_use]
    pub fn for_message(self, message: &Message<'_>) -> Self {
        Self { cause: cause(message), ..self }
    }
}

/// The place of a record in its batch, counted from 1. A batch is smaller than what has none; an output
/// without its cause would be no more than one without its trace.
fn cause(message: &Message<'_>) -> Option<NonZeroU16> {
    let place = u16::try_from(message.index).ok().and_then(|index| index.checked_add(1));
    place.and_then(NonZeroU16::new)
}

/// Why a record is refused, and what is to become of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nack<'a> {
    class: NackClass,
    code: u32,
    text: &'a str,
}

impl<'a> Nack<'a> {
    /// Give it again later.
    pub fn retry(text: &'a str) -> Self {
        Self { class: NackClass::Retry, code: 0, text }
    }

    /// Forget it; the loss ledger counts it.
    pub fn drop(text: &'a str) -> Self {
        Self { class: NackClass::Drop, code: 0, text }
    }

    /// Put it among the dead letters.
    pub fn dead(text: &'a str) -> Self {
        Self { class: NackClass::Dead, code: 0, text }
    }

    /// With a number of the author's choice, for statistics.
    pub fn with_code(self, code: u32) -> Self {
        Self { code, ..self }
    }
}
