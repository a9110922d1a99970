//! Checks passwords on a thread of its own: a hash takes some 20 ms of a desktop and 100 ms of a
//! small board, on purpose.
//!
//! One is checked at a time, in 7 MiB. A password that was right before is known again at once, by
//! a keyed digest that this process alone can make, so that thousands of devices can come back
//! after an outage. What is wrong always takes the whole time, also for a user who does not exist.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use ring::hmac;
use tidegate_broker::ConnId;
use tidegate_broker::access::Secret;

use super::users::{Users, matches};

/// Logins that wait: two seconds' worth on a desktop. Beyond, clients are told to try again.
const MAX_WAITING: usize = 64;

/// The thread, as the core knows it.
pub(crate) struct Passwords {
    jobs: SyncSender<Job>,
    key: hmac::Key,
    /// Digests of the passwords that were right, by user.
    right: RefCell<BTreeMap<Arc<str>, hmac::Tag>>,
}

struct Job {
    conn: ConnId,
    user: Arc<str>,
    hash: String,
    password: Secret,
    /// The user exists.
    known: bool,
    tag: hmac::Tag,
}

/// What came of a check.
pub(crate) struct Checked {
    pub(crate) conn: ConnId,
    pub(crate) user: Arc<str>,
    pub(crate) right: bool,
    tag: hmac::Tag,
}

/// What is known at once.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The password is right.
    Right,
    /// It is being checked.
    Later,
    /// Too many are being checked.
    Busy,
    /// It was not right before, and nothing else may be tried.
    Barred,
}

impl Passwords {
    /// Starts the thread; `tell` hands over what came of each check.
    pub(crate) fn start(tell: impl Fn(Checked) + Send + 'static) -> io::Result<Passwords> {
        let (jobs, receiver) = sync_channel(MAX_WAITING);
        let random = ring::rand::SystemRandom::new();
        let key = hmac::Key::generate(hmac::HMAC_SHA256, &random)
            .map_err(|_| io::Error::other("the system gives no randomness"))?;
        thread::Builder::new()
            .name("passwords".to_owned())
            .stack_size(256 << 10)
            .spawn(move || work(&receiver, &tell))?;
        Ok(Passwords { jobs, key, right: RefCell::default() })
    }

    /// Checks a password. Without `may_try`, only one that was right before is.
    pub(crate) fn check(
        &self,
        users: &Users,
        conn: ConnId,
        user: &str,
        password: Secret,
        may_try: bool,
    ) -> Answer {
        let known = users.hash(user);
        let hash = known.unwrap_or(users.decoy()).to_owned();
        let signed = [hash.as_bytes(), &[0], password.expose()].concat();
        let before = self.right.borrow().get(user).copied();
        let tag = hmac::sign(&self.key, &signed);
        let seen =
            before.is_some_and(|before| hmac::verify(&self.key, &signed, before.as_ref()).is_ok());
        drop(Secret::from(signed));
        if seen && known.is_some() {
            return Answer::Right;
        }
        if !may_try {
            return Answer::Barred;
        }
        let job = Job { conn, user: user.into(), hash, password, known: known.is_some(), tag };
        match self.jobs.try_send(job) {
            Ok(()) => Answer::Later,
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => Answer::Busy,
        }
    }

    /// Remembers what was right.
    pub(crate) fn remember(&self, checked: &Checked) {
        if checked.right {
            self.right.borrow_mut().insert(checked.user.clone(), checked.tag);
        }
    }
}

fn work(jobs: &Receiver<Job>, tell: &impl Fn(Checked)) {
    while let Ok(Job { conn, user, hash, password, known, tag }) = jobs.recv() {
        let right = matches(&hash, password.expose()) & known;
        tell(Checked { conn, user, right, tag });
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::links::users::hash_password;
    use crate::scratch::Scratch;

    #[test]
    fn a_right_password_is_known_again_and_a_wrong_one_never() {
        let scratch = Scratch::new();
        let file = scratch.path().join("users");
        std::fs::write(&file, format!("ann:{}\n", hash_password(b"pw").unwrap())).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let users = Users::load(&file).unwrap();
        let (sender, receiver) = channel();
        let passwords = Passwords::start(move |checked| sender.send(checked).unwrap()).unwrap();
        let try_it = |user: &str, password: &str, may_try: bool| {
            let secret = Secret::from(password.as_bytes().to_vec());
            match passwords.check(&users, ConnId(1), user, secret, may_try) {
                Answer::Right => (true, true),
                Answer::Later => {
                    let checked = receiver.recv().unwrap();
                    passwords.remember(&checked);
                    (checked.right, false)
                }
                Answer::Busy => panic!("busy"),
                Answer::Barred => (false, true),
            }
        };
        let check = |user: &str, password: &str| try_it(user, password, true);
        assert_eq!(check("ann", "no"), (false, false));
        assert_eq!(check("ann", "pw"), (true, false));
        assert_eq!(check("ann", "pw"), (true, true), "known at once");
        assert_eq!(try_it("ann", "pw", false), (true, true), "even when others are barred");
        assert_eq!(try_it("ann", "no", false), (false, true));
        assert_eq!(check("ann", "no"), (false, false));
        assert_eq!(check("eve", "pw"), (false, false));
        assert_eq!(check("eve", "nobody"), (false, false), "not even what the decoy was made of");
    }
}
