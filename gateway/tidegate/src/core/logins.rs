//! Who a client is, and what it may do: the answers to the core's questions, and again for
//! everybody when certificates, users or rules have changed.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use rustls::pki_types::UnixTime;
use rustls::server::danger::ClientCertVerifier;
use tidegate_broker::ConnId;
use tidegate_broker::access::{Access, LoginError, Policy, Principal};
use tidegate_flow::Login;

use super::links::{Link, Origin};
use super::{Core, clock};
use crate::config::{ListenerSettings, SecuritySettings};
use crate::links::{
    Addresses, Answer, Checked, Identity, Keys, News, Passwords, Rates, Reason, TurnedAway, Who,
};

/// Clients judged again before others have their turn.
const TURN: usize = 16;

/// What decides who is let in.
pub(crate) struct Doorkeeper {
    pub(crate) requires_login: bool,
    pub(crate) listeners: Vec<ListenerSettings>,
    /// Serial lines, whose numbers follow those of the listeners.
    pub(crate) lines: Vec<String>,
    /// The devices on them.
    pub(crate) devices: BTreeSet<Arc<str>>,
    pub(crate) identity: Identity,
    pub(crate) addresses: Arc<Addresses>,
    /// Logins by client identifier.
    pub(crate) client_connects: Rates,
    /// Failed logins by user name.
    pub(crate) user_failures: Rates,
    pub(crate) turned_away: Arc<TurnedAway>,
    /// `None`: everybody who is in may do everything.
    pub(crate) policy: RefCell<Option<Policy>>,
    pub(crate) keys: RefCell<Keys>,
    /// There when users with passwords are configured.
    pub(crate) passwords: Option<Passwords>,
    /// Clients whose password is being checked.
    pub(crate) pending: RefCell<BTreeMap<ConnId, Arc<str>>>,
}

/// A client that is in.
#[derive(Debug, Clone)]
pub(crate) struct LoggedIn {
    principal: Principal,
    /// The hash that its password matched.
    hash: Option<String>,
}

/// Why a client is turned away, for the log and in the protocol's terms.
struct Refusal {
    reason: Reason,
    error: LoginError,
    why: &'static str,
}

/// What is known about a client at once.
enum Judgement {
    User(Option<Arc<str>>, Option<String>),
    Later,
    Refused(Refusal),
}

fn refused(reason: Reason, error: LoginError, why: &'static str) -> Judgement {
    Judgement::Refused(Refusal { reason, error, why })
}

impl Doorkeeper {
    /// The name of a listener, for the log.
    pub(crate) fn listener_name(&self, listener: usize) -> &str {
        let line = || self.lines.get(listener - self.listeners.len()).map_or("", String::as_str);
        self.listeners.get(listener).map_or_else(line, |listener| listener.name.as_str())
    }

    fn judge(&self, now: Instant, conn: ConnId, link: &Link, login: &Login) -> Judgement {
        if let Origin::Serial { device, .. } = link.origin() {
            return Judgement::User(Some(device.clone()), None);
        }
        let Some(listener) = self.listeners.get(link.listener()) else {
            return refused(Reason::NoCredentials, LoginError::NotAuthorized, "no such listener");
        };
        if let Some(certificate) = link.certificate() {
            return match self.identity.of(certificate) {
                Some(user) => Judgement::User(Some(user.into()), None),
                None => {
                    let why =
                        "its certificate has no name of the kind that mqtt.tls.identity asks for";
                    refused(Reason::NoIdentity, LoginError::NotAuthorized, why)
                }
            };
        }
        let credentials = &login.credentials;
        match (&credentials.username, &self.passwords) {
            (Some(user), Some(passwords)) => {
                let keys = self.keys.borrow();
                let wrong = |why| refused(Reason::BadCredentials, LoginError::BadCredentials, why);
                let Some(users) = &keys.users else { return wrong("the users cannot be read") };
                let Some(password) = credentials.password.clone() else {
                    return wrong("no password");
                };
                let user_may_try = !self.user_failures.is_full(now, user);
                let may_try = user_may_try && link.origin().may_log_in(now);
                match passwords.check(users, conn, user, password, may_try) {
                    Answer::Right => {
                        let hash = users.hash(user).map(str::to_owned);
                        Judgement::User(Some(user.as_str().into()), hash)
                    }
                    Answer::Later => Judgement::Later,
                    Answer::Barred if !user_may_try => {
                        let why = "too many logins under its user name have failed";
                        refused(Reason::UserFailures, LoginError::TooManyAttempts, why)
                    }
                    Answer::Barred => {
                        let why = "too many logins from its address have failed";
                        refused(Reason::ManyFailures, LoginError::TooManyAttempts, why)
                    }
                    Answer::Busy => {
                        let why = "too many passwords are being checked";
                        refused(Reason::Busy, LoginError::Unavailable, why)
                    }
                }
            }
            _ if listener.allow_anonymous => Judgement::User(None, None),
            (Some(_), None) => {
                let why = "there are no users with passwords here";
                refused(Reason::BadCredentials, LoginError::BadCredentials, why)
            }
            (None, _) => {
                let why = "it has neither a certificate nor a user name";
                refused(Reason::NoCredentials, LoginError::NotAuthorized, why)
            }
        }
    }

    /// Whether a client identifier belongs to somebody else than this user: it is the name of a
    /// device on a serial line, of a user with a password, or of one that a rule names. Where it is
    /// the client's only name it would be taken for that device, and with a session that is kept it would
    /// take over what waits for it.
    fn is_of_another(&self, client: &str, user: Option<&str>) -> bool {
        let with_password =
            || self.keys.borrow().users.as_ref().is_some_and(|users| users.hash(client).is_some());
        let in_a_rule = || self.policy.borrow().as_ref().is_some_and(|policy| policy.names(client));
        user != Some(client) && (self.devices.contains(client) || with_password() || in_a_rule())
    }

    fn access(&self, principal: &Principal) -> Access {
        let policy = self.policy.borrow();
        policy.as_ref().map_or_else(Access::everything, |policy| policy.access(principal))
    }

    /// Whether a client that is in may stay.
    fn may_stay(&self, link: &Link, login: &LoggedIn) -> Result<(), Reason> {
        if self.is_of_another(&login.principal.client, login.principal.user.as_deref()) {
            return Err(Reason::ClientId);
        }
        let keys = self.keys.borrow();
        let verifier = keys.tls.as_ref().and_then(|tls| tls.verifier.as_ref());
        if link.certificate().is_some()
            && let Some(verifier) = verifier
        {
            let chain = link.certificates();
            let stays = chain.split_first().is_some_and(|(first, rest)| {
                verifier.verify_client_cert(first, rest, UnixTime::now()).is_ok()
            });
            return if stays { Ok(()) } else { Err(Reason::RevokedCertificate) };
        }
        if let (Some(hash), Some(user)) = (&login.hash, &login.principal.user) {
            let users = keys.users.as_ref();
            let now = users.and_then(|users| users.hash(user));
            return if now == Some(hash) { Ok(()) } else { Err(Reason::BadCredentials) };
        }
        Ok(())
    }
}

impl Core {
    /// A client wants to be let in.
    pub(crate) fn log_in(&self, conn: ConnId, login: Login) {
        let Some(link) = self.link(conn) else { return };
        let now = clock::now().instant;
        match self.door.judge(now, conn, &link, &login) {
            Judgement::User(user, hash) => self.welcome(conn, &link, login.client, user, hash),
            Judgement::Later => {
                self.door.pending.borrow_mut().insert(conn, login.client);
            }
            Judgement::Refused(refusal) => {
                let user = login.credentials.username.as_deref();
                self.turn_away(conn, &link, (&login.client, user), &refusal);
            }
        }
    }

    /// A password has been checked.
    pub(crate) fn password_checked(&self, checked: &Checked) {
        let client = self.door.pending.borrow_mut().remove(&checked.conn);
        let Some(passwords) = &self.door.passwords else { return };
        passwords.remember(checked);
        let (Some(client), Some(link)) = (client, self.link(checked.conn)) else { return };
        if checked.right {
            let keys = self.door.keys.borrow();
            let hash = keys.users.as_ref().and_then(|users| users.hash(&checked.user));
            let hash = hash.map(str::to_owned);
            drop(keys);
            return self.welcome(checked.conn, &link, client, Some(checked.user.clone()), hash);
        }
        let refusal = Refusal {
            reason: Reason::BadCredentials,
            error: LoginError::BadCredentials,
            why: "the user name or the password is wrong",
        };
        self.turn_away(checked.conn, &link, (&client, Some(&checked.user)), &refusal);
    }

    fn welcome(
        &self,
        conn: ConnId,
        link: &Link,
        client: Arc<str>,
        user: Option<Arc<str>>,
        hash: Option<String>,
    ) {
        let listener = self.door.listeners.get(link.listener());
        let on_line = matches!(link.origin(), Origin::Serial { .. });
        if (on_line || listener.is_some_and(|listener| listener.client_id_is_username))
            && user.as_deref() != Some(&*client)
        {
            let refusal = Refusal {
                reason: Reason::ClientId,
                error: LoginError::ClientIdNotValid,
                why: "its client identifier is not its user name",
            };
            return self.turn_away(conn, link, (&client, user.as_deref()), &refusal);
        }
        if self.door.is_of_another(&client, user.as_deref()) {
            let refusal = Refusal {
                reason: Reason::ClientId,
                error: LoginError::ClientIdNotValid,
                why: "its client identifier is the name of a user or of a device on a serial line, \
                      which it has not logged in as",
            };
            return self.turn_away(conn, link, (&client, user.as_deref()), &refusal);
        }
        let now = clock::now().instant;
        if self.door.client_connects.is_full(now, &client) {
            let refusal = Refusal {
                reason: Reason::ClientConnects,
                error: LoginError::TooManyAttempts,
                why: "its client identifier logs in too often: is it given to two devices?",
            };
            return self.turn_away(conn, link, (&client, user.as_deref()), &refusal);
        }
        self.door.client_connects.add(now, &client);
        let listener = self.door.listener_name(link.listener()).into();
        let certificate = link.certificate().cloned();
        let principal = Principal { client, user, certificate, listener };
        let access = self.door.access(&principal);
        link.login().replace(Some(LoggedIn { principal, hash }));
        self.gateway.borrow_mut().authenticated(clock::now(), conn, Ok(access));
        self.work.notify_one();
    }

    fn turn_away(
        &self,
        conn: ConnId,
        link: &Link,
        (client, user): (&str, Option<&str>),
        refusal: &Refusal,
    ) {
        let now = clock::now();
        if refusal.error != LoginError::Unavailable && refusal.error != LoginError::TooManyAttempts
        {
            link.origin().failed(now.instant);
            if let (Some(user), Reason::BadCredentials) = (user, refusal.reason) {
                self.door.user_failures.add(now.instant, user);
            }
        }
        let listener = self.door.listener_name(link.listener());
        let peer = link.origin().to_string();
        let who = Who { peer: &peer, listener, client: Some(client), user };
        self.door.turned_away.note(now.instant, refusal.reason, who, refusal.why);
        link.turn_away();
        self.gateway.borrow_mut().authenticated(now, conn, Err(refusal.error));
        self.work.notify_one();
    }

    /// Certificates or users have changed.
    pub(crate) fn take_news(self: &Rc<Self>, news: News) {
        self.door.keys.replace(news.keys);
        tokio::task::spawn_local(judge_again(self.clone()));
    }

    /// Rules or limits have changed.
    pub(crate) fn take_security(self: &Rc<Self>, security: &SecuritySettings) {
        let limits = &security.limits;
        self.door.addresses.set_limits(limits.clone());
        self.door.client_connects.set(limits.connects_per_minute_per_client);
        self.door.user_failures.set(limits.failed_logins_per_minute_per_user);
        self.door.policy.replace(security.policy.clone());
        if self.door.requires_login {
            tokio::task::spawn_local(judge_again(self.clone()));
        }
    }
}

/// Judges all clients again that are in, a few at a time.
async fn judge_again(core: Rc<Core>) {
    let conns: Vec<ConnId> = core.links.borrow().keys().copied().collect();
    for some in conns.chunks(TURN) {
        for conn in some {
            let Some(link) = core.link(*conn) else { continue };
            let Some(login) = link.login().borrow().clone() else { continue };
            match core.door.may_stay(&link, &login) {
                Ok(()) => {
                    let access = core.door.access(&login.principal);
                    core.gateway.borrow_mut().authenticated(clock::now(), *conn, Ok(access));
                }
                Err(reason) => {
                    let why = "what it has logged in with no longer counts";
                    let refusal = Refusal { reason, error: LoginError::NotAuthorized, why };
                    let user = login.principal.user.as_deref();
                    core.turn_away(*conn, &link, (&login.principal.client, user), &refusal);
                }
            }
        }
        core.work.notify_one();
        tokio::task::yield_now().await;
    }
}
