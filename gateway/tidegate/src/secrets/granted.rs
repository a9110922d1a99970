//! The secrets of one function, as they are now.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tidegate_runtime::{SecretValue, Secrets};

use super::vault::Vault;

/// File systems note times by ticks of some milliseconds: a directory that has changed so lately
/// may have changed again since without showing it.
const UNSETTLED: Duration = Duration::from_secs(1);

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    function: String,
    vault: Vault,
    names: Vec<String>,
    /// The directory's inode and time of change when it was read last; `None`: it has to be read.
    seen: Option<Option<(u64, i64, i64)>>,
    current: Arc<Secrets>,
    /// What was told of secrets that cannot be read.
    told: BTreeMap<String, String>,
}

impl Granted {
    pub(crate) fn new(function: &str, names: &[String], vault: Vault) -> Granted {
        Granted {
            function: function.to_owned(),
            vault,
            names: names.to_vec(),
            seen: None,
            current: Arc::default(),
            told: BTreeMap::new(),
        }
    }

    /// The values, read again where something has changed. For a function that is granted none,
    /// nothing is looked at.
    pub(crate) fn now(&mut self) -> Arc<Secrets> {
        if self.names.is_empty() {
            return self.current.clone();
        }
        let about = fs::metadata(self.vault.directory()).ok();
        let look = about.as_ref().map(|m| (m.ino(), m.mtime(), m.mtime_nsec()));
        if self.seen == Some(look) {
            return self.current.clone();
        }
        let changed = about.and_then(|about| about.modified().ok());
        let age = changed.and_then(|at| SystemTime::now().duration_since(at).ok());
        let settled = look.is_none() || age.is_some_and(|age| age > UNSETTLED);
        self.seen = settled.then_some(look);
        let by_name = self.read();
        let replaced = self.current.replaced(by_name);
        if replaced != *self.current {
            self.current = Arc::new(replaced);
        }
        self.current.clone()
    }

    fn read(&mut self) -> BTreeMap<String, Option<SecretValue>> {
        let mut by_name = BTreeMap::new();
        for name in &self.names {
            let value = match self.vault.get(name) {
                Ok(value) => {
                    self.told.remove(name);
                    value
                }
                Err(error) => {
                    let (function, error) = (&self.function, error.to_string());
                    if self.told.get(name) != Some(&error) {
                        tracing::error!(function, secret = name, error, "it reads no value");
                        self.told.insert(name.clone(), error);
                    }
                    None
                }
            };
            by_name.insert(name.clone(), value);
        }
        by_name
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn value(text: &str) -> SecretValue {
        SecretValue::new(text.as_bytes().to_vec()).unwrap()
    }

    #[test]
    fn what_is_set_replaced_or_removed_counts_at_once_and_no_other_is_given() {
        let scratch = Scratch::new();
        let vault = Vault::of(scratch.path(), None);
        let names = ["key".to_owned(), "other".to_owned()];
        let mut granted = Granted::new("f", &names, vault.clone());
        let mut read = |name: &str| {
            let now = granted.now();
            assert!(!format!("{now:?}").contains("text"));
            now.value(name).map(|value| String::from_utf8(value.expose().to_vec()).unwrap())
        };
        assert_eq!((read("key"), read("other")), (None, None));
        vault.set("strange", &value("text 0")).unwrap();
        // Within one tick of the file system's clock, too.
        for at in 1..20 {
            let text = format!("text {at}");
            vault.set("key", &value(&text)).unwrap();
            assert_eq!(read("key"), Some(text));
        }
        assert_eq!((read("other"), read("strange")), (None, None));
        vault.remove("key").unwrap();
        assert_eq!(read("key"), None);
        let mut none = Granted::new("g", &[], vault);
        assert_eq!(*none.now(), Secrets::default());
    }
}
