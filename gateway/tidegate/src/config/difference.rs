//! Which keys differ between two configuration files, and which of them a gateway that runs
//! cannot take.

use std::collections::{BTreeMap, BTreeSet};

use toml::de::{DeTable, DeValue};

use super::Settings;
use super::keys::{firmware, log, mqtt};

/// Keys that differ, as `stream.telemetry.max_bytes`; a list of tables (`mqtt.acl`) is one.
pub(crate) type Keys = BTreeSet<String>;

/// The keys whose values differ between the texts of two files that can be parsed. A default that
/// is written out counts as another value than one that is not.
pub(crate) fn differing_keys(before: &str, after: &str) -> Keys {
    let (before, after) = (flat(before), flat(after));
    let same = |key: &&String| before.get(*key) == after.get(*key);
    before.keys().chain(after.keys()).filter(|key| !same(key)).cloned().collect()
}

/// Of the keys that differ, those that count from a start on only. What is left is of no
/// connection that is open, or can be changed under it.
pub(crate) fn needs_restart(keys: &Keys, before: &Settings, after: &Settings) -> Keys {
    let mut found: Keys = keys.iter().filter(|key| !is_live(key)).cloned().collect();
    let (old, new) = (&before.security, &after.security);
    // Threads and questions at CONNECT that are there from the start on, or not at all.
    if old.tls.is_some() != new.tls.is_some() {
        found.insert("mqtt.tls".to_owned());
    }
    if old.users_file.is_some() != new.users_file.is_some() {
        found.insert(format!("mqtt.{}", mqtt::USERS_FILE.name));
    }
    // Without rules nothing listens for requests.
    if before.routes.listen != after.routes.listen {
        found.insert("http.route".to_owned());
    }
    if before.requires_login() != after.requires_login() {
        let cause = |key: &&String| key.starts_with("mqtt.acl") || key.starts_with("mqtt.limits.");
        found.extend(keys.iter().filter(cause).cloned());
    }
    found
}

/// Whether a change of this key can be taken while clients are connected.
fn is_live(key: &str) -> bool {
    let single = |section: &str, name: &str| key == format!("{section}.{name}");
    let live = ["stream.", "function.", "functions.", "uplink.", "mqtt.limits.", "mqtt.tls."];
    let stays = ["mqtt.tls.identity", "functions.max_package_bytes"];
    (live.iter().any(|prefix| key.starts_with(prefix)) && !stays.contains(&key))
        || key == "mqtt.acl"
        || key == "http.route"
        || single("mqtt", mqtt::USERS_FILE.name)
        || single("mqtt", mqtt::MAX_SESSION_QUEUE.name)
        || single("log", log::LEVEL.name)
        || single("firmware", firmware::CONCURRENT.name)
        || single("firmware", firmware::MAX_BYTES_PER_SECOND.name)
}

/// Every value that is no table, by its path. What cannot be parsed has none.
fn flat(text: &str) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let (root, _) = DeTable::parse_recoverable(text);
    walk("", root.get_ref(), &mut found);
    found
}

fn walk(path: &str, table: &DeTable<'_>, found: &mut BTreeMap<String, String>) {
    for (name, value) in table {
        let name = name.get_ref();
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        match value.get_ref() {
            DeValue::Table(table) => walk(&path, table, found),
            value => {
                found.insert(path, shown(value));
            }
        }
    }
}

/// A value in one way of writing it.
fn shown(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("{text:?}"),
        DeValue::Integer(number) => format!("{}/{}", number.as_str(), number.radix()),
        DeValue::Float(number) => number.as_str().to_owned(),
        DeValue::Boolean(flag) => flag.to_string(),
        DeValue::Datetime(time) => time.to_string(),
        DeValue::Array(list) => {
            let items: Vec<String> = list.iter().map(|item| shown(item.get_ref())).collect();
            format!("[{}]", items.join(","))
        }
        DeValue::Table(table) => {
            let mut flat = BTreeMap::new();
            walk("", table, &mut flat);
            format!("{flat:?}")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{parse, sections::Depth};
    use super::*;

    const MINIMAL: &str = "[gateway]\nid = \"gw\"\ndata_dir = \"d\"\n[mqtt]\nlisten = \"127.0.0.1:1883\"\n[stream.t]\ntopics = [\"t/#\"]\n";

    fn keys(before: &str, after: &str) -> Vec<String> {
        differing_keys(before, after).into_iter().collect()
    }

    /// What of a change needs a restart.
    fn restart(before: &str, after: &str) -> Vec<String> {
        let settings = |text: &str| parse(Path::new("/etc/t.toml"), text, Depth::File).unwrap();
        let keys = differing_keys(before, after);
        needs_restart(&keys, &settings(before), &settings(after)).into_iter().collect()
    }

    #[test]
    fn spaces_comments_and_order_are_no_difference() {
        let other = "# comment\n[mqtt]\nlisten='127.0.0.1:1883'\n[gateway]\ndata_dir = \"d\"\nid = \"gw\"\n[stream.t]\ntopics = [ \"t/#\", ]\n";
        assert!(keys(MINIMAL, other).is_empty());
    }

    #[test]
    fn each_value_that_differs_is_named_once_by_its_path() {
        let after =
            MINIMAL.replace("t/#", "u/#") + "max_bytes = \"1MiB\"\n[[mqtt.acl]]\nallow = []\n";
        assert_eq!(keys(MINIMAL, &after), ["mqtt.acl", "stream.t.max_bytes", "stream.t.topics"]);
        assert_eq!(keys(&after, MINIMAL), ["mqtt.acl", "stream.t.max_bytes", "stream.t.topics"]);
    }

    #[test]
    fn streams_functions_uplinks_limits_and_the_log_level_change_live() {
        let more = "max_bytes = \"1MiB\"\n[stream.more]\ntopics = [\"m/#\"]\n[uplink.cloud]\nurl = \"mqtt://127.0.0.1:1\"\nstreams = [\"more\"]\n[function.f]\nmodule = \"f.wasm\"\ninput = { stream = \"t\" }\n[mqtt.limits]\npublishes_per_second = 10\n[log]\nlevel = \"debug\"\n";
        assert!(restart(MINIMAL, &(MINIMAL.to_owned() + more)).is_empty());
    }

    #[test]
    fn what_needs_a_restart_is_named_exactly() {
        let moved = MINIMAL.replace("1883", "1884").replace("\"gw\"", "\"gw2\"")
            + "max_bytes = \"1MiB\"\n[storage]\nsegment_bytes = \"4MiB\"\n[log]\nformat = \"json\"\n";
        let expected = ["gateway.id", "log.format", "mqtt.listen", "storage.segment_bytes"];
        assert_eq!(restart(MINIMAL, &moved), expected);
    }

    #[test]
    fn who_has_to_log_in_is_settled_at_the_start() {
        let limited = MINIMAL.to_owned() + "[mqtt.limits]\nconnects_per_minute_per_client = 5\n";
        let expected = ["mqtt.limits.connects_per_minute_per_client"];
        assert_eq!(restart(MINIMAL, &limited), expected);
        let other = limited.replace("= 5", "= 6");
        assert!(restart(&limited, &other).is_empty());
    }
}
