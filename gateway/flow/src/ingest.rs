//! From a client's publish to the log: routing, identity, acknowledgement.

use std::sync::Arc;

use tidegate_broker::{Answer, BrokerEvent, Change, Message, RefuseReason, Ticket};
use tidegate_stream::{
    AppendError, CommitError, Overflow, PublisherIdentity, RecordRef, StreamId, Transaction,
};

use crate::attributes::{self, MAX_ATTRIBUTE_BYTES};
use crate::clock::Now;
use crate::gateway::{Gateway, Login, Notice, Output, PlantedBug};
use crate::hold::Held;
use crate::release::Release;

/// What became of one try to append.
enum Stored {
    /// It is in the log; its acknowledgement waits for the disk.
    Yes,
    /// The log held it before; its acknowledgement waits for the disk all the same.
    Already,
    /// Not now.
    Hold { busy: bool },
    /// Never.
    Refuse(RefuseReason, String),
}

impl Gateway {
    /// Handles everything that the broker has to say. True when there was something.
    pub(crate) fn take_broker_events(&mut self, now: Now) -> bool {
        let mut any = false;
        while let Some(event) = self.broker.poll_event() {
            any = true;
            self.tell_event(now, &event);
            self.tell_of_client(now, &event);
            match event {
                BrokerEvent::Publish { ticket, client, message, change } => {
                    self.take_publish(now, ticket, client, message, change);
                }
                BrokerEvent::Persist { changes, ticket, hurry } => {
                    self.persist(now, changes, ticket, hurry);
                }
                BrokerEvent::Spool { message, targets, change } => {
                    self.spool(now, message, targets, change);
                }
                BrokerEvent::Writable(conn) => self.emit(Output::Writable(conn)),
                BrokerEvent::Close { conn, why } => self.emit(Output::Close(conn, why)),
                BrokerEvent::Pause(conn) => self.emit(Output::Pause(conn)),
                BrokerEvent::Resume(conn) => self.emit(Output::Resume(conn)),
                BrokerEvent::Connected { client, peer, .. } => {
                    let client = client.to_string();
                    self.emit(Output::Notice(Notice::ClientConnected { client, peer }));
                }
                BrokerEvent::TakenOver { .. }
                | BrokerEvent::Subscribed { .. }
                | BrokerEvent::Unsubscribed { .. } => {}
                BrokerEvent::Authenticate { conn, client, credentials } => {
                    self.emit(Output::Authenticate(conn, Login { client, credentials }));
                }
                BrokerEvent::Denied { client, user, action, topic } => {
                    let (client, user) = (client.to_string(), user.map(|user| user.to_string()));
                    self.emit(Output::Notice(Notice::Denied { client, user, action, topic }));
                }
                BrokerEvent::Disconnected { client, why } => {
                    let (client, why) = (client.to_string(), why.to_string());
                    self.emit(Output::Notice(Notice::ClientDisconnected { client, why }));
                }
            }
        }
        any
    }

    pub(crate) fn take_publish(
        &mut self,
        now: Now,
        ticket: Option<Ticket>,
        client: Arc<str>,
        message: Arc<Message>,
        change: Option<Change>,
    ) {
        let mut streams = Vec::new();
        self.routes.streams_of(&message.topic, &mut streams);
        let spooled = self.broker.find(&message);
        if streams.is_empty() && spooled == 0 && change.is_none() && !message.retain {
            let matched = self.broker.deliver_found(now.instant, &message);
            if let Some(ticket) = ticket {
                self.counters.acknowledged += 1;
                let answer = if matched == 0 { Answer::NoSubscribers } else { Answer::Success };
                self.broker.acknowledge(now.instant, ticket, answer);
            }
            return;
        }
        if streams.is_empty() {
            // Only the log as a whole can hold it back, and then it keeps its order with others
            // of its kind. Beside streams the spool is no reason to wait: it is never full, and
            // one full stream would hold up whatever kept sessions get.
            streams.push(self.sessions.spool);
        }
        let held = Held { ticket, client, message, streams, change, spooled };
        if !self.hold.is_empty() && self.hold.is_behind(&held) {
            return self.hold_back(now, held);
        }
        self.store(now, held);
    }

    /// Tries again what was held, in order; what depends on something still held stays.
    pub(crate) fn retry_held(&mut self, now: Now) {
        if self.hold.is_empty() || self.stopping {
            return;
        }
        for mut held in self.hold.take() {
            held.spooled = self.broker.find(&held.message);
            if self.hold.is_behind(&held) {
                self.hold_back(now, held);
            } else {
                self.store(now, held);
            }
        }
    }

    fn store(&mut self, now: Now, held: Held) {
        match self.try_store(now, &held) {
            Stored::Yes => {
                self.broker.deliver_found(now.instant, &held.message);
            }
            Stored::Already => {}
            Stored::Hold { busy } => {
                if busy {
                    self.hold.set_busy();
                }
                self.hold_back(now, held);
            }
            Stored::Refuse(reason, text) => self.refuse(now, &held, reason, text),
        }
    }

    fn hold_back(&mut self, now: Now, mut held: Held) {
        if self.planted == Some(PlantedBug::HeldAcknowledged)
            && let Some(ticket) = held.ticket.take()
        {
            self.acknowledge(now, ticket);
        }
        if let Err(held) = self.hold.push(held) {
            let text = "the gateway holds as many publishes as it can while it waits for the disk";
            self.refuse(now, &held, RefuseReason::QuotaExceeded, text.to_owned());
        }
    }

    fn refuse(&mut self, now: Now, held: &Held, reason: RefuseReason, text: String) {
        self.counters.refused += 1;
        if let Some(ticket) = held.ticket {
            if let Ok(Some(publisher)) = publisher_of(&held.message) {
                self.refusals.note(&held.client, publisher);
            }
            self.broker.acknowledge(now.instant, ticket, Answer::Refused { reason, text });
        } else if let Some(change) = &held.change {
            // A will that is not accepted is none any more.
            self.write_change(now, change.clone());
        }
    }

    fn try_store(&mut self, now: Now, held: &Held) -> Stored {
        let publisher = match publisher_of(&held.message) {
            Ok(publisher) => publisher,
            Err(text) => return Stored::Refuse(RefuseReason::ImplementationSpecific, text),
        };
        if held.change.is_some() && self.sessions.is_waiting() {
            return Stored::Hold { busy: true }; // Changes made before it are to be before it.
        }
        if let Some(publisher) = publisher
            && self.already_holds(&held.client, publisher)
        {
            if let Err(error) = self.note_change(now, held) {
                return self.what_now(&held.streams, error);
            }
            self.counters.duplicates += 1;
            if self.planted == Some(PlantedBug::RepeatAcknowledgedEarly)
                && let Some(ticket) = held.ticket
            {
                self.acknowledge(now, ticket);
                return Stored::Already;
            }
            // The first copy may not be on flash yet: wait for everything taken in so far.
            self.acknowledge_when_durable(now, held.ticket);
            return Stored::Already;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        attributes::encode_message(&held.message, now.clock, &mut scratch);
        if scratch.len() > MAX_ATTRIBUTE_BYTES {
            let text = format!(
                "the properties take {} bytes, more than {MAX_ATTRIBUTE_BYTES}",
                scratch.len()
            );
            self.scratch = scratch;
            return Stored::Refuse(RefuseReason::ImplementationSpecific, text);
        }
        let record = RecordRef {
            unix_ms: now.unix_ms,
            topic: held.message.topic.as_str(),
            client: &held.client,
            publisher,
            attributes: &scratch,
            payload: &held.message.payload,
        };
        let appended = self.append(now, held, &record);
        self.scratch = scratch;
        match appended {
            Ok(()) => {
                if let Some(publisher) = publisher {
                    self.refusals.stored(&held.client, publisher);
                }
                self.acknowledge_when_durable(now, held.ticket);
                Stored::Yes
            }
            Err(error) => self.what_now(&held.streams, error),
        }
    }

    fn append(&mut self, now: Now, held: &Held, record: &RecordRef<'_>) -> Result<(), CommitError> {
        let refused = record.publisher.and_then(|own| self.refusals.changes(&held.client, own));
        let retained = self.broker.retained_change(now.instant, &held.message);
        let alone = held.spooled == 0 && held.change.is_none() && retained.is_none();
        if let ([stream], None, true) = (held.streams.as_slice(), &refused, alone)
            // The spool takes what has somebody to go to, and nothing else.
            && *stream != self.sessions.spool
        {
            self.newest_record = self.log.append(now.instant, *stream, record)?.position;
            return Ok(());
        }
        let mut transaction = refused.unwrap_or_default();
        for stream in held.streams.iter().filter(|stream| **stream != self.sessions.spool) {
            transaction.append(*stream, record.to_record());
        }
        self.stage_spool(now, &held.message, held.spooled, &mut transaction);
        if let Some(change) = retained {
            self.stage_with_message(PlantedBug::RetainedApart, change, &mut transaction);
        }
        if let Some(change) = held.change.clone() {
            self.stage_with_message(PlantedBug::ReceiptApart, change, &mut transaction);
        }
        if transaction.is_empty() {
            return Ok(()); // A retained message that changes nothing.
        }
        if held.ticket.is_some() || held.change.is_some() {
            transaction.hurry();
        }
        let committed = self.log.commit(now.instant, transaction)?;
        self.newest_record = committed.position;
        let targets = self.broker.found_targets(held.spooled);
        let staged = targets.into_iter().map(|targets| (held.message.clone(), targets));
        self.offer_when_durable(now, &committed, staged);
        Ok(())
    }

    /// The log holds the message already; what is to be put down with it is new.
    fn note_change(&mut self, now: Now, held: &Held) -> Result<(), CommitError> {
        let Some(change) = &held.change else { return Ok(()) };
        let mut transaction = Transaction::new();
        self.sessions.stage(change.clone(), &mut transaction);
        transaction.hurry();
        self.newest_record = self.log.commit(now.instant, transaction)?.position;
        Ok(())
    }

    /// Acknowledges once the newest record that a client sent, and with it every older one, is on
    /// flash: at once when it is.
    fn acknowledge_when_durable(&mut self, now: Now, ticket: Option<Ticket>) {
        let everyone_waits = self.standstill.published(now.instant, ticket);
        let Some(ticket) = ticket else { return };
        if self.newest_record <= self.log.durable() {
            self.standstill.acknowledged(ticket);
            return self.acknowledge(now, ticket);
        }
        let release = Release::Acknowledge(ticket, now.instant);
        self.waiting.push_back((self.newest_record, release));
        if everyone_waits {
            self.log.flush(now.instant);
        }
    }

    fn already_holds(&self, client: &Arc<str>, publisher: PublisherIdentity) -> bool {
        self.log
            .publisher_last(client)
            .is_some_and(|last| last.boot == publisher.boot && publisher.seq <= last.seq)
            && !self.refusals.contains(client, publisher)
    }

    fn what_now(&self, streams: &[StreamId], error: CommitError) -> Stored {
        let error = match error {
            CommitError::Append(error) => error,
            CommitError::TablesFull { .. } => {
                return Stored::Refuse(RefuseReason::QuotaExceeded, error.to_string());
            }
            CommitError::UnknownReader(_) | CommitError::UnknownTable(_) => {
                unreachable!("the tables were defined at the start: {error}")
            }
        };
        match error {
            AppendError::Busy { .. } => Stored::Hold { busy: true },
            AppendError::DiskFull => Stored::Hold { busy: false },
            AppendError::StreamFull { .. } => {
                let blocks = |id: &StreamId| self.routes.overflow(*id) == Overflow::Block;
                if streams.iter().all(blocks) {
                    Stored::Hold { busy: false }
                } else {
                    Stored::Refuse(RefuseReason::QuotaExceeded, error.to_string())
                }
            }
            AppendError::TooLarge { .. } => {
                Stored::Refuse(RefuseReason::ImplementationSpecific, error.to_string())
            }
            AppendError::UnknownStream(_) => {
                Stored::Refuse(RefuseReason::ImplementationSpecific, error.to_string())
            }
        }
    }
}

/// The identity that the publisher gave this message, if it gave one.
pub(crate) fn publisher_of(message: &Message) -> Result<Option<PublisherIdentity>, String> {
    let user = &message.properties.user;
    if user.is_empty() {
        return Ok(None);
    }
    let pairs = user.iter().map(|(name, value)| (&**name, &**value));
    tidegate_wire::PublisherIdentity::find(pairs)
        .map(|found| found.map(|one| PublisherIdentity { boot: one.boot, seq: one.seq }))
        .map_err(|error| error.to_string())
}
