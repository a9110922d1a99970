//! Where the broker asks: who is it, and may it do that?

use std::time::Instant;

use super::devices::may_speak;
use super::{Access, Action, LoginError, Screened};
use crate::broker::Broker;
use crate::connection::{Candidate, Open, Phase};
use crate::event::{Answer, BrokerEvent, ConnId, RefuseReason};
use crate::message::QoS;
use crate::packet::connect::Refusal;
use crate::packet::fault::{Fault, Reason};
use crate::topic::{TopicFilter, TopicName};

/// The text of a refused publish.
pub const PUBLISH_DENIED: &str = "this client may not publish to this topic";
/// The text of a CONNECT that is refused for its will.
pub const WILL_DENIED: &str = "the will's topic is not allowed";

impl Broker {
    /// From now on each CONNECT becomes [`BrokerEvent::Authenticate`] and waits for
    /// [`authenticated`](Broker::authenticated). Without it everybody may do everything.
    pub fn require_login(&mut self) {
        self.requires_login = true;
    }

    /// The owner's answer to [`BrokerEvent::Authenticate`]. For a connection that is open already
    /// it replaces what the client may do, or ends the connection; subscriptions that are no
    /// longer allowed end, and what waits on topics that it may not read any more is dropped.
    pub fn authenticated(
        &mut self,
        now: Instant,
        conn: ConnId,
        outcome: Result<Access, LoginError>,
    ) {
        self.now = Some(now);
        let Some(&slot) = self.by_id.get(&conn) else { return };
        let Some(connection) = self.connections.get_mut(slot) else { return };
        match &connection.phase {
            Phase::AwaitingConnect | Phase::Settling(_) | Phase::Closing => return,
            Phase::Open(_) => return self.authorise_again(now, slot, outcome),
            Phase::Authenticating(_) => {}
        }
        let phase = std::mem::replace(&mut connection.phase, Phase::AwaitingConnect);
        let Phase::Authenticating(candidate) = phase else { return };
        connection.paused = false;
        connection.heard = now;
        self.events.push_back(BrokerEvent::Resume(conn));
        let admitted = match outcome {
            Ok(access) => self.admit(now, slot, *candidate, access),
            Err(error) => {
                let (reason, code, text) = error.answer();
                Err(Refusal::of(&candidate.connect, Fault::new(reason, text), code))
            }
        };
        match admitted {
            Ok(()) => self.read_unread(now, slot),
            // [MQTT-3.1.4-6] (5): what came behind the CONNECT is not looked at.
            Err(refusal) => self.refuse(now, slot, &refusal),
        }
    }

    /// Asks the owner who a client is. Its login does not stay here.
    pub(crate) fn ask_who(&mut self, slot: u32, mut candidate: Candidate) {
        let Some(connection) = self.connections.get_mut(slot) else { return };
        let credentials = std::mem::take(&mut candidate.connect.credentials);
        let (conn, client) = (connection.id, candidate.client.clone());
        connection.phase = Phase::Authenticating(Box::new(candidate));
        connection.paused = true;
        self.events.push_back(BrokerEvent::Pause(conn));
        self.events.push_back(BrokerEvent::Authenticate { conn, client, credentials });
    }

    fn authorise_again(&mut self, now: Instant, slot: u32, outcome: Result<Access, LoginError>) {
        let access = match outcome {
            Ok(access) => access,
            Err(error) => {
                let (reason, _, text) = error.answer();
                return self.close_for(now, slot, Fault::new(reason, text));
            }
        };
        let Some(open) = self.connections.get_mut(slot).and_then(|c| c.open_mut()) else { return };
        let withdrawn = open.will.take_if(|will| !access.may_publish(&will.message.topic));
        open.allowed_topic = None;
        open.access = access.clone();
        let session = open.session;
        self.discard_will(withdrawn.and_then(|will| will.key));
        self.drop_denied_subscriptions(session, &access);
        self.screen(session, &access, Screened::Unsent);
    }

    /// Ends the subscriptions of a session that its client may not have.
    pub(crate) fn drop_denied_subscriptions(&mut self, slot: u32, access: &Access) {
        let Some(session) = self.sessions.get(slot).filter(|_| !access.is_everything()) else {
            return;
        };
        let client = session.client.clone();
        let filters = session.subscriptions.keys();
        let denied: Vec<_> = filters.filter(|f| !access.may_subscribe(f)).cloned().collect();
        for filter in denied {
            self.unsubscribe(slot, filter.as_str());
            self.counters.denied_subscriptions += 1;
            self.events.push_back(BrokerEvent::Denied {
                client: client.clone(),
                user: access.user().cloned(),
                action: Action::Subscribe,
                topic: filter.to_string(),
            });
        }
    }

    /// A client publishes where it may not. With QoS 1 and 2 it is told, in its turn; 3.1.1 has no words
    /// for it, so that connection ends [MQTT-3.3.5-2]: an acknowledgement would be a lie.
    pub(crate) fn deny_publish(
        &mut self,
        now: Instant,
        slot: u32,
        publish: (QoS, u16),
        topic: &TopicName,
    ) -> Result<(), Fault> {
        let Some(open) = self.connections.get_mut(slot).and_then(|c| c.open_mut()) else {
            return Ok(());
        };
        self.counters.denied_publishes += 1;
        self.events.push_back(denied(open, Action::Publish, topic.as_str()));
        let text = PUBLISH_DENIED.to_owned();
        let answer = Answer::Refused { reason: RefuseReason::NotAuthorized, text };
        self.answer_publish(now, slot, publish, answer)
    }

    /// Whether the client of a session may subscribe with a filter.
    pub(crate) fn check_subscription(
        &mut self,
        session: u32,
        filter: &TopicFilter,
    ) -> Result<(), Fault> {
        let connection = self.sessions.get(session).and_then(|session| session.connection);
        let connection = connection.and_then(|slot| self.connections.get(slot));
        let gone = Fault::new(Reason::ImplementationSpecific, "the connection is gone");
        let open = connection.and_then(|c| c.open()).ok_or(gone)?;
        if open.access.may_subscribe(filter) {
            return Ok(());
        }
        self.counters.denied_subscriptions += 1;
        self.events.push_back(denied(open, Action::Subscribe, filter.as_str()));
        Err(Fault::new(Reason::NotAuthorized, "this client may not subscribe to this"))
    }

    /// Whether a client may leave its will.
    pub(crate) fn check_will(
        &mut self,
        candidate: &Candidate,
        access: &Access,
    ) -> Result<(), Refusal> {
        let Some(will) = &candidate.connect.will else { return Ok(()) };
        let name = access.user().unwrap_or(&candidate.client);
        if access.may_publish(&will.topic) && may_speak(will.topic.as_str(), name) {
            return Ok(());
        }
        self.counters.denied_publishes += 1;
        self.events.push_back(BrokerEvent::Denied {
            client: candidate.client.clone(),
            user: access.user().cloned(),
            action: Action::Will,
            topic: will.topic.to_string(),
        });
        let fault = Fault::new(Reason::NotAuthorized, WILL_DENIED);
        let (_, code, _) = LoginError::NotAuthorized.answer();
        Err(Refusal::of(&candidate.connect, fault, code))
    }
}

fn denied(open: &Open, action: Action, topic: &str) -> BrokerEvent {
    BrokerEvent::Denied {
        client: open.client.clone(),
        user: open.access.user().cloned(),
        action,
        topic: topic.to_owned(),
    }
}

impl Open {
    /// Whether the client may publish to `topic`. Publishers tend to stay with their topic, whose
    /// verdict is remembered.
    pub(crate) fn may_publish(&mut self, topic: &TopicName) -> bool {
        if self.allowed_topic.as_ref() == Some(topic) {
            return true;
        }
        if !may_speak(topic.as_str(), self.access.user().unwrap_or(&self.client)) {
            return false;
        }
        if self.access.is_everything() {
            return true;
        }
        let allowed = self.access.may_publish(topic);
        if allowed {
            self.allowed_topic = Some(topic.clone());
        }
        allowed
    }
}
