//! Logins of the broker's users, by its password file: checked on a thread of its own.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tidegate_broker::ConnId;
use tidegate_broker::access::Secret;
use tokio::sync::oneshot;

use super::watched::Watched;
use crate::links::{Answer, Checked, Passwords, Rates, Users};

/// See the module.
pub(crate) struct Logins {
    users: Watched<Users>,
    passwords: Mutex<Passwords>,
    checks: Arc<Mutex<Checks>>,
    /// Failures of each user, from wherever; apart from those over MQTT.
    failures: Mutex<Rates>,
}

/// Logins whose password is being checked.
#[derive(Default)]
struct Checks {
    next: u64,
    waiting: BTreeMap<ConnId, oneshot::Sender<Checked>>,
}

/// What came of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LoggedIn {
    Yes,
    No,
    /// Too many are being checked.
    Busy,
    /// Too many from there have failed.
    Barred,
}

impl Logins {
    /// For the users of this file; so many logins of each may fail in a minute.
    pub(crate) fn start(file: &Path, failures: Option<u64>) -> io::Result<Logins> {
        let checks = Arc::new(Mutex::new(Checks::default()));
        let waiting = checks.clone();
        let tell = move |checked: Checked| {
            if let Some(waits) = lock(&waiting).waiting.remove(&checked.conn) {
                // Who asked may be gone.
                drop(waits.send(checked));
            }
        };
        let passwords = Mutex::new(Passwords::start(tell)?);
        let failures = Mutex::new(Rates::new(failures));
        Ok(Logins { users: Watched::new(file, Users::load), passwords, checks, failures })
    }

    /// Whether it is the user's password. Without `may_try`, only one that was right before is.
    pub(crate) async fn check(&self, user: &str, password: Secret, may_try: bool) -> LoggedIn {
        let Some(users) = self.users.current() else { return LoggedIn::No };
        let (sender, receiver) = oneshot::channel();
        let id = {
            let mut checks = lock(&self.checks);
            checks.next += 1;
            let id = ConnId(checks.next);
            checks.waiting.insert(id, sender);
            id
        };
        let may_try = may_try && !lock(&self.failures).is_full(Instant::now(), user);
        let answer = lock(&self.passwords).check(&users, id, user, password, may_try);
        match answer {
            Answer::Later => match receiver.await {
                Ok(checked) => {
                    lock(&self.passwords).remember(&checked);
                    if checked.right {
                        return LoggedIn::Yes;
                    }
                    lock(&self.failures).add(Instant::now(), user);
                    LoggedIn::No
                }
                Err(_) => LoggedIn::Busy,
            },
            Answer::Right | Answer::Busy | Answer::Barred => {
                lock(&self.checks).waiting.remove(&id);
                match answer {
                    Answer::Right => LoggedIn::Yes,
                    Answer::Barred => LoggedIn::Barred,
                    Answer::Busy | Answer::Later => LoggedIn::Busy,
                }
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
