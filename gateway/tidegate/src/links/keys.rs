//! Certificates, revocation lists and users as the files have them, and whether a file has changed.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use super::tls::{Tls, load_tls};
use super::users::Users;
use crate::config::SecuritySettings;

/// What the files hold at the moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Keys {
    pub(crate) tls: Option<Tls>,
    pub(crate) users: Option<Arc<Users>>,
}

impl Keys {
    /// Reads the files. What cannot be read is logged, and looked for again when it changes: a
    /// gateway whose certificate is broken still sends what it has.
    pub(crate) fn load(security: &SecuritySettings) -> Keys {
        let mut keys = Keys::default();
        keys.read_again(security);
        keys
    }

    /// What can be read replaces what was there.
    pub(super) fn read_again(&mut self, security: &SecuritySettings) {
        if let Some(tls) = &security.tls {
            match load_tls(&tls.files) {
                Ok(tls) => self.tls = Some(tls),
                Err(problems) => {
                    for problem in problems {
                        tracing::error!("{problem}; until it is right, {}", self.tls_meanwhile());
                    }
                }
            }
        }
        if let Some(file) = &security.users_file {
            match Users::load(file) {
                Ok(users) => self.users = Some(Arc::new(users)),
                Err(why) => {
                    let meanwhile = match self.users {
                        Some(_) => "the users from before count",
                        None => "no password is right",
                    };
                    tracing::error!("mqtt.users_file: {why}; until it is right, {meanwhile}");
                }
            }
        }
    }

    fn tls_meanwhile(&self) -> &'static str {
        match self.tls {
            Some(_) => "the certificates from before count",
            None => "listeners with TLS turn everybody away",
        }
    }
}

/// When each file was last changed, and how long it is.
pub(super) type Stamps = Vec<Option<(SystemTime, u64)>>;

/// What tells that a file has changed.
pub(super) fn stamps(security: &SecuritySettings) -> Stamps {
    let tls = security.tls.iter().flat_map(|tls| tls.files.paths());
    let users = security.users_file.as_deref();
    tls.chain(users).map(stamp).collect()
}

/// When a file was last changed, and how long it is: different when it has been replaced.
fn stamp(file: &Path) -> Option<(SystemTime, u64)> {
    let about = std::fs::metadata(file).ok()?;
    Some((about.modified().ok()?, about.len()))
}
