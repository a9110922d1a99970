//! The configuration as a whole: the minimal file, every mistake, and a golden of many.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::*;
use crate::scratch::Scratch;

/// A directory with the files that configurations in these tests name.
struct Place {
    scratch: Scratch,
}

impl Place {
    fn new() -> Self {
        let scratch = Scratch::new();
        let file = |name: &str, bytes: &[u8]| fs::write(scratch.path().join(name), bytes).unwrap();
        file("threshold.wasm", &smallest_function());
        file("unmarked.wasm", b"\0asm\x01\0\0\0");
        file("component.wasm", b"\0asm\x0d\0\x01\0");
        file("text.wasm", b"(module)");
        file("ca.pem", b"-----BEGIN CERTIFICATE-----\n");
        file("empty.pem", b"");
        file("server.pem", include_bytes!("../links/testdata/server.pem"));
        file("server.key", include_bytes!("../links/testdata/server.key"));
        let closed = fs::Permissions::from_mode(0o600);
        fs::set_permissions(scratch.path().join("server.key"), closed).unwrap();
        fs::write(scratch.path().join("tokens"), "").unwrap();
        fs::set_permissions(scratch.path().join("tokens"), fs::Permissions::from_mode(0o600))
            .unwrap();
        Self { scratch }
    }

    fn file(&self) -> PathBuf {
        self.scratch.path().join("tidegate.toml")
    }

    fn parse(&self, text: &str) -> Result<Settings, Mistakes> {
        parse(&self.file(), text, Depth::Machine)
    }

    /// The messages without the directory, which differs from run to run.
    fn mistakes(&self, text: &str) -> String {
        let directory = format!("{}/", self.scratch.path().display());
        self.parse(text).unwrap_err().to_string().replace(&directory, "")
    }
}

/// The smallest module that is a function of ABI `tg1`; it acknowledges everything.
fn smallest_function() -> Vec<u8> {
    let sections: [(u8, &[u8]); 5] = [
        // () -> (); (i32) -> i32; (i32, i32) -> i32; (i32, i32) -> i64
        (1, b"\x04\x60\0\0\x60\x01\x7f\x01\x7f\x60\x02\x7f\x7f\x01\x7f\x60\x02\x7f\x7f\x01\x7e"),
        (3, b"\x04\0\x01\x02\x03"),
        (5, b"\x01\0\x01"),
        (7, b"\x05\x06memory\x02\0\x08tg_abi_1\0\0\x09tg_buffer\0\x01\x07tg_init\0\x02\x09tg_handle\0\x03"),
        (10, b"\x04\x02\0\x0b\x04\0\x41\0\x0b\x04\0\x41\0\x0b\x04\0\x42\0\x0b"),
    ];
    let mut module = b"\0asm\x01\0\0\0".to_vec();
    for (id, content) in sections {
        module.extend([id, u8::try_from(content.len()).unwrap()]);
        module.extend(content);
    }
    module
}

const MINIMAL: &str = r#"
[gateway]
id = "gw-01"
data_dir = "data"

[mqtt]
listen = "127.0.0.1:1883"

[stream.telemetry]
topics = ["sensors/+/telemetry"]
max_bytes = "1GiB"
overflow = "drop-oldest"
retain = "24h"

[function.threshold]
module = "threshold.wasm"
input = { stream = "telemetry" }
publish = ["alerts/#"]
config = { limit = 30.0 }

[stream.alerts]
topics = ["alerts/#"]

[uplink.cloud]
url = "mqtt://127.0.0.1:18830"
streams = ["telemetry", "alerts"]
"#;

#[test]
fn the_minimal_file_is_read_into_meaning() {
    let place = Place::new();
    let settings = place.parse(MINIMAL).unwrap();
    assert_eq!(settings.gateway, "gw-01");
    assert_eq!(settings.data_dir, place.scratch.path().join("data"));
    assert_eq!(settings.mqtt.addresses(), ["127.0.0.1:1883".parse().unwrap()]);
    assert_eq!(settings.http, Some("127.0.0.1:8080".parse().unwrap()));
    let names: Vec<&str> = settings.streams.iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["telemetry", "alerts"], "in the order of the file");
    assert_eq!(settings.streams[0].max_bytes, 1 << 30);
    assert_eq!(settings.streams[0].retain, std::time::Duration::from_secs(86_400));
    let function = &settings.functions[0];
    assert_eq!(function.module, place.scratch.path().join("threshold.wasm"));
    assert_eq!(function.config, br#"{"limit":30.0}"#);
    assert_eq!(function.memory_bytes, 16 << 20);
    assert_eq!(settings.uplinks[0].target.to_string(), "mqtt://127.0.0.1:18830");
    assert_eq!(settings.uplinks[0].streams, ["telemetry", "alerts"]);
}

#[test]
fn a_function_may_read_several_streams_and_some_of_their_topics() {
    let input = r#"[{ stream = "alerts" }, { stream = "telemetry", topics = ["a/+/b", "c"] }]"#;
    let text = MINIMAL.replace(r#"{ stream = "telemetry" }"#, input);
    let inputs = Place::new().parse(&text).unwrap().functions.remove(0).inputs;
    let named: Vec<&str> = inputs.iter().map(|input| input.stream.as_str()).collect();
    assert_eq!(named, ["alerts", "telemetry"]);
    let topics = |at: usize| inputs[at].topics.iter().map(|topic| topic.as_str()).collect();
    let (all, some): (Vec<&str>, Vec<&str>) = (topics(0), topics(1));
    assert_eq!((all.as_slice(), some.as_slice()), (&[][..], &["a/+/b", "c"][..]));
}

#[test]
fn a_function_may_be_called_by_the_clock_and_read_nothing() {
    use tidegate_flow::{Missed, Rhythm};
    let schedules = |text: &str| {
        let text = MINIMAL.replace(r#"input = { stream = "telemetry" }"#, text);
        let function = Place::new().parse(&text).unwrap().functions.remove(0);
        (function.inputs.len(), function.schedules)
    };
    let (inputs, one) = schedules(r#"schedule = { name = "beat", every = "1.5s" }"#);
    let every = Rhythm::Every(std::time::Duration::from_millis(1_500));
    assert_eq!((inputs, &one[0].rhythm, one[0].missed), (0, &every, Missed::Once));
    let (inputs, two) = schedules(
        r#"input = { stream = "telemetry" }
           schedule = [
               { name = "beat", every = "10s", missed = "skip" },
               { name = "night", cron = "0  3 * * mon-fri", missed = "all" },
           ]"#,
    );
    let shown: Vec<String> = two.iter().map(schedules::show).collect();
    let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
    let wanted = ["beat every 10s, missed: skip", "night at 0 3 * * mon-fri, missed: all"];
    assert_eq!((inputs, shown.as_slice()), (1, &wanted[..]));
}

#[test]
fn a_function_may_work_per_key_with_several_workers() {
    let text =
        MINIMAL.replace("[stream.telemetry]", "[stream.telemetry]\nkey = \"topic/2\"").replace(
            "[function.threshold]",
            "[function.threshold]\nordering = \"per-key\"\nworkers = 4",
        );
    let function = Place::new().parse(&text).unwrap().functions.remove(0);
    assert_eq!((function.ordering, function.workers), (tidegate_flow::Ordering::PerKey, 4));
}

#[test]
fn the_defaults_are_those_of_the_cores() {
    plan::assert_defaults(&Place::new().parse(MINIMAL).unwrap());
}

#[test]
fn the_broker_is_told_the_longest_keep_alive_in_seconds() {
    let told = |time: &str| {
        let file = MINIMAL.replace("[mqtt]", &format!("[mqtt]\nmax_keep_alive = \"{time}\""));
        Place::new().parse(&file).unwrap().plan().broker.max_keep_alive
    };
    assert_eq!((told("60s"), told("1500ms"), told("65535s")), (Some(60), Some(1), Some(65_535)));
}

#[test]
fn a_gateway_may_start_without_its_module_and_its_data_directory() {
    let place = Place::new();
    fs::remove_file(place.scratch.path().join("threshold.wasm")).unwrap();
    let text = MINIMAL.replacen("\"data\"", "\"/dev/null/data\"", 1);
    assert_eq!(place.parse(&text).unwrap_err().count(), 2);
    parse(&place.file(), &text, Depth::File).unwrap();
}

#[test]
fn the_starter_configuration_works_as_it_is() {
    let settings = Place::new().parse(&starter()).unwrap();
    assert_eq!(settings.streams.len(), 1);
}

#[test]
fn the_starter_configuration_works_with_every_comment_removed() {
    let uncommented: String = starter()
        .lines()
        .map(|line| line.strip_prefix("# ").unwrap_or(line))
        .filter(|line| line.starts_with('[') || (line.contains(" = ") && !line.contains("...")))
        .filter(|line| !line.starts_with(['#', ' ']))
        .map(|line| format!("{line}\n"))
        .collect();
    let settings = Place::new().parse(&uncommented).unwrap();
    assert_eq!((settings.functions.len(), settings.uplinks.len()), (1, 1));
}

#[test]
fn the_scheme_of_the_url_says_what_the_upstream_is() {
    let place = Place::new();
    let plan = |url: &str| {
        let file = MINIMAL.replace(r#""mqtt://127.0.0.1:18830""#, url);
        place.parse(&file).unwrap().plan().uplinks.remove(0).options
    };
    let mqtt = plan(r#""mqtt://127.0.0.1:18830""#);
    assert_eq!((mqtt.batch_records, mqtt.sealed, mqtt.endpoints), (1, false, 1));
    let http = plan(r#"["http://127.0.0.1:8090", "http://127.0.0.1:8091"]"#);
    assert_eq!((http.batch_records, http.sealed, http.endpoints), (100, false, 2));
    let keys = place.scratch.path().join("keys");
    fs::write(&keys, "aws_access_key_id = A\naws_secret_access_key = B\n").unwrap();
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o600)).unwrap();
    let s3 = "\"s3+http://127.0.0.1:9000/bucket\"\ncredentials_file = \"keys\"\nformat = \"cbor\"";
    assert!(plan(s3).sealed);
}

/// What has to do with logins, in a file that has some.
#[test]
fn logins_close_every_listener_and_ask_for_rules() {
    let place = Place::new();
    let users = place.scratch.path().join("users");
    fs::write(&users, "").unwrap();
    fs::set_permissions(&users, fs::Permissions::from_mode(0o600)).unwrap();
    let file = |mqtt: &str, more: &str| {
        let mqtt = format!("[mqtt]\nusers_file = \"users\"\n{mqtt}\n");
        format!("{}\n{more}", MINIMAL.replace("[mqtt]\n", &mqtt))
    };
    let rule = "[[mqtt.acl]]\ntopics = [\"#\"]";
    let settings = place.parse(&file("", rule)).unwrap();
    assert!(!settings.mqtt.listeners[0].allow_anonymous && settings.requires_login());
    let settings = place.parse(&file("allow_anonymous = true", rule)).unwrap();
    assert!(settings.mqtt.listeners[0].allow_anonymous && settings.requires_login());
    let settings = place.parse(MINIMAL).unwrap();
    assert!(settings.mqtt.listeners[0].allow_anonymous && !settings.requires_login());
    let without = place.mistakes(&file("", ""));
    assert!(without.starts_with("tidegate.toml: mqtt.acl: missing; clients log in"), "{without}");
    fs::set_permissions(&users, fs::Permissions::from_mode(0o644)).unwrap();
    let open = place.mistakes(&file("", rule));
    assert!(open.contains("mqtt.users_file = \"users\": users has mode 0644"), "{open}");
    let named = "[mqtt.listener.a]\nlisten = \"[::]:1\"\n[mqtt.listener.b]\nlisten = \"[::]:2\"";
    let text = format!(
        "{}\n{named}\n{rule}",
        MINIMAL.replace("listen = \"127.0.0.1:1883\"", "users_file = \"users\"")
    );
    let settings = parse(&place.file(), &text, Depth::File).unwrap();
    let names: Vec<&str> = settings.mqtt.listeners.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["a", "b"], "no default listener beside named ones");
}

#[test]
fn ten_mistakes_are_reported_at_once() {
    let found = Place::new().mistakes(include_str!("golden/ten_mistakes.toml"));
    assert_eq!(format!("{found}\n"), include_str!("golden/ten_mistakes.txt"));
}

#[test]
fn the_largest_publish_fits_one_transaction_with_all_its_copies() {
    let place = Place::new();
    let largest = |from: &str, to: &str| {
        assert!(MINIMAL.contains(from));
        place.parse(&MINIMAL.replacen(from, to, 1)).unwrap().plan().log.max_frame_bytes >> 10
    };
    assert_eq!(largest("[mqtt]", "[mqtt]"), 1280);
    assert_eq!(largest("[mqtt]", "[mqtt]\nmax_packet = \"1KiB\""), 1024);
    assert_eq!(largest("[mqtt]", "[mqtt]\nmax_packet = \"512KiB\""), 2560);
    let more = "[stream.a]\ntopics = [\"a\"]\n[stream.b]\ntopics = [\"b\"]\n[stream.telemetry]";
    assert_eq!(largest("[stream.telemetry]", more), 1536);
}

/// The reference is written for people, and its tables are those of the parser.
#[test]
fn the_reference_has_exactly_the_keys_that_the_parser_knows() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/configuration.md");
    let text = fs::read_to_string(file).unwrap();
    let mut expected = String::new();
    for section in keys::SECTIONS {
        expected.push_str(&format!("## `{}`\n{TABLE_HEAD}", section.header()));
        for key in section.keys {
            expected.push_str(&format!("{}\n", reference_row(key)));
        }
    }
    let tables: String = text
        .lines()
        .filter(|line| line.starts_with("## `[") || line.starts_with('|'))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(tables, expected, "the tables that belong there:\n{expected}");
}

const TABLE_HEAD: &str = "| Key | Allowed | Default | Meaning |\n|---|---|---|---|\n";

fn reference_row(key: &keys::Key) -> String {
    let default = match &key.fallback {
        keys::Fallback::Required(example) => format!("required, e.g. `{example}`"),
        keys::Fallback::Value(literal) => format!("`{literal}`"),
        keys::Fallback::Absent(meaning) => (*meaning).to_owned(),
    };
    format!("| `{}` | {} | {default} | {} |", key.name, key.kind.allowed(), key.about)
}

/// Each row: what is replaced in the minimal file, by what, and the one mistake that makes.
#[test]
fn every_mistake_names_its_line_key_value_and_what_is_allowed() {
    let place = Place::new();
    let mut differences = String::new();
    for (from, to, expected) in MISTAKES {
        assert!(MINIMAL.contains(from), "{from}");
        let found = place.mistakes(&MINIMAL.replacen(from, to, 1));
        if found != format!("tidegate.toml:{expected}\n1 mistake") {
            differences.push_str(&format!("\n{to}\n  expected {expected}\n  found    {found}"));
        }
    }
    assert!(differences.is_empty(), "{differences}");
}

const MISTAKES: &[(&str, &str, &str)] = &[
    // serial lines
    (
        "[stream.alerts]",
        "[serial.x]\ndevice = \"/dev/x\"\ndevices = { \"a b\" = 1 }\n[stream.alerts]",
        r#"23: serial.x.devices.a b = 1: not a name; allowed: 1 to 64 of A-Z a-z 0-9 _ -"#,
    ),
    (
        "[stream.alerts]",
        "[serial.x]\ndevice = \"/dev/x\"\ndevices = { a = 255 }\n[stream.alerts]",
        "23: serial.x.devices.a = 255: must be an address, 1 to 254",
    ),
    (
        "[stream.alerts]",
        "[serial.x]\ndevice = \"/dev/x\"\ndevices = { a = 1, b = 1 }\n[stream.alerts]",
        "23: serial.x.devices.b = 1: is the address of a already",
    ),
    (
        "[stream.alerts]",
        "[serial.x]\ndevice = \"/dev/x\"\ndevices = { a = 1, b = 2 }\nshared = false\n[stream.alerts]",
        "24: serial.x.shared = false: several devices on a line have to be given turns; leave it out",
    ),
    (
        "[stream.alerts]",
        "[serial.x]\ndevice = \"/dev/x\"\ndevices = { a = 1 }\n[serial.y]\ndevice = \"/dev/x\"\ndevices = { b = 1 }\n[stream.alerts]",
        "25: serial.y.device = \"/dev/x\": is the port of [serial.x] already",
    ),
    // names
    (
        r#"id = "gw-01""#,
        r#"id = "gw 01""#,
        r#"3: gateway.id = "gw 01": not a name; allowed: 1 to 64 of A-Z a-z 0-9 _ -"#,
    ),
    (r#"id = "gw-01""#, "id = 7", "3: gateway.id = 7: must be text, not a number"),
    (r#"id = "gw-01""#, "", r#"2: gateway.id: missing; write, for example, id = "gw-01""#),
    (
        "[stream.alerts]",
        "[stream.\"a b\"]\ntopics = [\"x\"]\n[stream.alerts]",
        r#"21: stream.a b: not a name; allowed: 1 to 64 of A-Z a-z 0-9 _ -"#,
    ),
    (
        "[stream.alerts]",
        "[stream.dead-letters]\ntopics = [\"x\"]\n[stream.alerts]",
        "21: stream.dead-letters: the name is reserved: this stream always exists and takes the records that functions gave up; choose another name",
    ),
    (
        "[stream.alerts]",
        "[stream.losses]\ntopics = [\"x\"]\n[stream.alerts]",
        "21: stream.losses: the name is reserved: this stream always exists and takes what the loss ledger says; choose another name",
    ),
    // sizes
    (
        r#"max_bytes = "1GiB""#,
        "max_bytes = 1073741824",
        r#"11: stream.telemetry.max_bytes = 1073741824: a number without a unit; write text, such as "1GiB"; units: B, KiB, MiB, GiB, TiB, KB, MB, GB, TB; allowed: 1MiB to 16TiB"#,
    ),
    (
        r#""1GiB""#,
        r#""1GIB""#,
        r#"11: stream.telemetry.max_bytes = "1GIB": unknown unit "GIB"; units: B, KiB, MiB, GiB, TiB, KB, MB, GB, TB; allowed: 1MiB to 16TiB"#,
    ),
    (
        r#""1GiB""#,
        r#""1KiB""#,
        r#"11: stream.telemetry.max_bytes = "1KiB": out of range; allowed: 1MiB to 16TiB"#,
    ),
    (
        r#""1GiB""#,
        r#""many""#,
        r#"11: stream.telemetry.max_bytes = "many": does not start with a number; write a size such as "64MiB"; allowed: 1MiB to 16TiB"#,
    ),
    (
        r#""1GiB""#,
        "true",
        r#"11: stream.telemetry.max_bytes = true: must be a size such as "64MiB", not true or false; allowed: 1MiB to 16TiB"#,
    ),
    // times
    (
        r#"retain = "24h""#,
        "retain = 86400",
        r#"13: stream.telemetry.retain = 86400: a number without a unit; write text, such as "1d"; units: us, ms, s, m, h, d; allowed: 0s to 3650d"#,
    ),
    (
        r#"retain = "24h""#,
        r#"retain = "24""#,
        r#"13: stream.telemetry.retain = "24": has no unit; units: us, ms, s, m, h, d; allowed: 0s to 3650d"#,
    ),
    (
        r#"retain = "24h""#,
        r#"retain = "5000d""#,
        r#"13: stream.telemetry.retain = "5000d": out of range; allowed: 0s to 3650d"#,
    ),
    // partition keys
    (
        r#"retain = "24h""#,
        r#"key = "clients""#,
        r#"13: stream.telemetry.key = "clients": unknown value; allowed: "client", "topic", "topic/N", "topic/N-M", "property/NAME"; did you mean "client"?"#,
    ),
    (
        r#"retain = "24h""#,
        r#"key = "propery/device""#,
        r#"13: stream.telemetry.key = "propery/device": unknown value; allowed: "client", "topic", "topic/N", "topic/N-M", "property/NAME"; did you mean "property/device"?"#,
    ),
    (
        r#"retain = "24h""#,
        r#"key = "topic/0""#,
        r#"13: stream.telemetry.key = "topic/0": "0" is no level of a topic: they are counted from 1 to 128; allowed: "client", "topic", "topic/N", "topic/N-M", "property/NAME""#,
    ),
    (
        r#"retain = "24h""#,
        "key = 2",
        r#"13: stream.telemetry.key = 2: must be text, not a number; allowed: "client", "topic", "topic/N", "topic/N-M", "property/NAME""#,
    ),
    (
        r#"retain = "24h""#,
        r#"key = "topic/2-4""#,
        r#"13: stream.telemetry.key = "topic/2-4": no topic of this stream has 4 levels; its filters have at most 3"#,
    ),
    // choices, numbers, flags
    (
        r#""drop-oldest""#,
        r#""drop-oldst""#,
        r#"12: stream.telemetry.overflow = "drop-oldst": unknown value; allowed: "drop-oldest", "reject", "block"; did you mean "drop-oldest"?"#,
    ),
    (
        "[mqtt]",
        "[mqtt]\nmax_connections = 0",
        "7: mqtt.max_connections = 0: out of range; allowed: 1 to 100000",
    ),
    (
        "[mqtt]",
        "[mqtt]\nmax_connections = \"10\"",
        r#"7: mqtt.max_connections = "10": must be a number, not text; allowed: 1 to 100000"#,
    ),
    (
        "[mqtt]",
        "[mqtt]\nallow_anonymous = \"true\"",
        r#"7: mqtt.allow_anonymous = "true": must be true without quotes"#,
    ),
    // addresses
    (
        r#""127.0.0.1:1883""#,
        r#""0.0.0.0:1883""#,
        r#"7: mqtt.listen = "0.0.0.0:1883": reachable from other machines without a login; listen on 127.0.0.1, set up logins (users_file in [mqtt], client_ca_file in [mqtt.tls]), or set allow_anonymous = true in [mqtt] if everybody who reaches the port may use it"#,
    ),
    (
        r#""127.0.0.1:1883""#,
        r#""localhost:1883""#,
        r#"7: mqtt.listen = "localhost:1883": a host name is not an address; write "127.0.0.1:1883""#,
    ),
    (
        r#""127.0.0.1:1883""#,
        r#"["127.0.0.1:1", "1883"]"#,
        r#"7: mqtt.listen[1] = "1883": not an address; write an IP address and a port, such as "127.0.0.1:1883" or "[::1]:1883""#,
    ),
    (
        r#""127.0.0.1:1883""#,
        r#"["127.0.0.1:1", "127.0.0.1:1"]"#,
        r#"7: mqtt.listen[1] = "127.0.0.1:1": listed twice"#,
    ),
    (r#""127.0.0.1:1883""#, "[]", "7: mqtt.listen = []: a list of 0; allowed: 1 to 8"),
    (
        "[mqtt]",
        "[http]\nlisten = \"[::]:80\"\n[mqtt]",
        r#"7: http.listen = "[::]:80": reachable from other machines, and this version has no authentication; listen on 127.0.0.1, or set allow_anonymous = true in [http] if everybody who reaches the port may use it"#,
    ),
    (
        "[mqtt]",
        "[http]\nlisten = \"127.0.0.1:1883\"\n[mqtt]",
        r#"7: http.listen = "127.0.0.1:1883": the same as in mqtt.listen; choose another port"#,
    ),
    // routes
    (
        "publish = [\"alerts/#\"]",
        "routes = [\"GET /limit\"]",
        "18: function.threshold.routes = [\"GET /limit\"]: nobody may use /limit; write a [[http.route]] with path = \"/limit\", or with one above it",
    ),
    (
        "publish = [\"alerts/#\"]",
        "routes = [\"GET /limit\", \"get /\"]\n[[http.route]]\npath = \"/\"\nauth = \"none\"\n[function.b]\nmodule = \"threshold.wasm\"\ninput = { stream = \"telemetry\" }",
        "18: function.threshold.routes[1] = \"get /\": method \"get\" is unknown or named twice; there are: DELETE, GET, HEAD, PATCH, POST, PUT",
    ),
    (
        "publish = [\"alerts/#\"]",
        "routes = [\"GET /{a}\"]\n[[http.route]]\npath = \"/\"\nauth = \"none\"\n[function.b]\nmodule = \"threshold.wasm\"\ninput = { stream = \"telemetry\" }\nroutes = [\"PUT,GET /{b}\"]",
        "25: function.b.routes = [\"PUT,GET /{b}\"]: function \"threshold\" answers PUT,GET /{b} as well",
    ),
    (
        "[stream.alerts]",
        "[[http.route]]\npath = \"a\"\nauth = \"none\"\n[stream.alerts]",
        "22: http.route[0].path = \"a\": not a route; write methods and a path, such as \"GET,PUT /sensors/{id}/limit\"",
    ),
    (
        "[stream.alerts]",
        "[[http.route]]\npath = \"/a\"\ntokens_file = \"nowhere\"\n[stream.alerts]",
        "23: http.route[0].tokens_file = \"nowhere\": nowhere cannot be read: No such file or directory (os error 2)",
    ),
    (
        "[stream.alerts]",
        "[[http.route]]\npath = \"/a\"\nauth = \"login\"\n[stream.alerts]",
        "23: http.route[0].auth = \"login\": there are no users; set users_file in [mqtt]",
    ),
    (
        "[stream.alerts]",
        "[http]\nroutes_listen = [\"127.0.0.1:8081\", \"0.0.0.0:8081\"]\n[[http.route]]\npath = \"/a\"\nauth = \"none\"\n[stream.alerts]",
        "25: http.route[0].auth = \"none\": http.routes_listen has 0.0.0.0:8081, which other machines reach; use \"token\" or \"login\", or listen on loopback addresses only",
    ),
    (
        "[stream.alerts]",
        "[http]\nroutes_listen = \"127.0.0.1:8080\"\n[stream.alerts]",
        "22: http.routes_listen = \"127.0.0.1:8080\": listed twice",
    ),
    (
        "publish = [\"alerts/#\"]",
        "secrets = [\"api key\"]",
        "18: function.threshold.secrets = [\"api key\"]: \"api key\" is no name; allowed: 1 to 64 of A-Z a-z 0-9 _ -",
    ),
    (
        "publish = [\"alerts/#\"]",
        "secrets = [\"api-key\"]",
        "18: function.threshold.secrets = [\"api-key\"]: api-key is not set; set it with `tidegate secret set api-key`",
    ),
    // security
    (
        "[mqtt]",
        "[[mqtt.acl]]\ntopics = [\"a/${clint}\"]\n[mqtt]",
        "7: mqtt.acl[0].topics[0] = \"a/${clint}\": has the unknown variable ${clint}; known: ${client}, ${username}, ${cert.cn}, ${cert.san.dns}, ${cert.san.uri}, ${cert.san.email}, ${cert.fingerprint}",
    ),
    (
        "[mqtt]",
        "[[mqtt.acl]]\ntopics = [\"a\"]\naction = \"pub\"\n[mqtt]",
        r#"8: mqtt.acl[0].action = "pub": unknown value; allowed: "both", "publish", "subscribe""#,
    ),
    (
        "[mqtt]",
        "[[mqtt.acl]]\ntopics = [\"a\"]\nlisteners = [\"mqt\"]\n[mqtt]",
        r#"8: mqtt.acl[0].listeners[0] = "mqt": no such listener; did you mean "mqtt"?"#,
    ),
    (
        "[mqtt]",
        "[[mqtt.acl]]\ntopic = \"a\"\ntopics = [\"a\"]\n[mqtt]",
        r#"7: mqtt.acl[0].topic = "a": unknown key; did you mean topics?"#,
    ),
    (
        "[stream.alerts]",
        "[mqtt.listener.plant]\nlisten = \"127.0.0.1:8883\"\ntls = true\n[stream.alerts]",
        "23: mqtt.listener.plant.tls = true: needs a section [mqtt.tls] with cert_file and key_file",
    ),
    (
        "[stream.alerts]",
        "[mqtt.listener.plant]\nlisten = \"127.0.0.1:1883\"\n[stream.alerts]",
        r#"22: mqtt.listener.plant.listen = "127.0.0.1:1883": listed twice"#,
    ),
    (
        "[stream.alerts]",
        "[mqtt.listener.plant]\nlisten = \"0.0.0.0:8883\"\n[stream.alerts]",
        r#"22: mqtt.listener.plant.listen = "0.0.0.0:8883": reachable from other machines without a login; listen on 127.0.0.1, set up logins (users_file in [mqtt], client_ca_file in [mqtt.tls]), or set allow_anonymous = true in [mqtt.listener.plant] if everybody who reaches the port may use it"#,
    ),
    (
        "[stream.alerts]",
        "[mqtt.listener.plant]\nlisten = \"127.0.0.1:9001\"\nwebsocket = \"mqtt\"\n[stream.alerts]",
        r#"23: mqtt.listener.plant.websocket = "mqtt": no path; write, for example, websocket = "/mqtt""#,
    ),
    (
        "[stream.alerts]",
        "[mqtt.listener.plant]\nlisten = \"127.0.0.1:9001\"\norigins = [\"*\"]\n[stream.alerts]",
        r#"23: mqtt.listener.plant.origins = ["*"]: has no use without websocket"#,
    ),
    (
        "[stream.alerts]",
        "[mqtt.listener.plant]\nlisten = \"127.0.0.1:9001\"\nwebsocket = \"/mqtt\"\norigins = [\"dash.example.com\"]\n[stream.alerts]",
        r#"24: mqtt.listener.plant.origins[0] = "dash.example.com": no origin; write a scheme, a host and a port if it is not the usual one, without a path, for example "https://dash.example.com""#,
    ),
    (
        "[stream.alerts]",
        "[mqtt.listener.plant]\nlisten = \"127.0.0.1:9001\"\nproxy_from = [\"proxy\"]\n[stream.alerts]",
        r#"23: mqtt.listener.plant.proxy_from[0] = "proxy": no IP address; write, for example, "192.0.2.7""#,
    ),
    (
        "[stream.alerts]",
        "[mqtt.tls]\ncert_file = \"server.pem\"\nkey_file = \"empty.pem\"\n[stream.alerts]",
        r#"23: mqtt.tls.key_file = "empty.pem": empty.pem has mode 0644: others may read or change the secret; chmod 600 empty.pem"#,
    ),
    (
        "[stream.alerts]",
        "[mqtt.tls]\ncert_file = \"empty.pem\"\nkey_file = \"server.key\"\n[stream.alerts]",
        r#"22: mqtt.tls.cert_file = "empty.pem": empty.pem holds no certificate (no -----BEGIN CERTIFICATE-----)"#,
    ),
    (
        "[stream.alerts]",
        "[mqtt.tls]\ncert_file = \"server.pem\"\nkey_file = \"server.key\"\ncrl_file = \"x\"\n[stream.alerts]",
        r#"24: mqtt.tls.crl_file = "x": has no use without client_ca_file"#,
    ),
    // topics
    (
        r#"["sensors/+/telemetry"]"#,
        r#"["sensors/+x"]"#,
        r#"10: stream.telemetry.topics[0] = "sensors/+x": has a `+` that is not a whole level"#,
    ),
    (
        r#"publish = ["alerts/#"]"#,
        r#"publish = ["alerts#"]"#,
        r##"18: function.threshold.publish[0] = "alerts#": has a `#` that is not the whole last level"##,
    ),
    (
        r#"["sensors/+/telemetry"]"#,
        r#""sensors/+/telemetry""#,
        r#"10: stream.telemetry.topics = "sensors/+/telemetry": must be a list of topic filters, not text"#,
    ),
    (
        r#"topics = ["sensors/+/telemetry"]"#,
        "",
        r#"9: stream.telemetry.topics: missing; write, for example, topics = ["sensors/+/telemetry"]"#,
    ),
    (
        r#"["sensors/+/telemetry"]"#,
        r#"["a", "a"]"#,
        r#"10: stream.telemetry.topics[1] = "a": listed twice"#,
    ),
    // functions
    (
        r#"{ stream = "telemetry" }"#,
        r#"{ stream = "telemtry" }"#,
        r#"17: function.threshold.input.stream = "telemtry": no such stream; did you mean "telemetry"?"#,
    ),
    (
        r#"{ stream = "telemetry" }"#,
        r#"{ topic = "telemetry", stream = "alerts" }"#,
        r#"17: function.threshold.input.topic = "telemetry": unknown key; known here: stream, topics"#,
    ),
    (
        r#"{ stream = "telemetry" }"#,
        r#""telemetry""#,
        r#"17: function.threshold.input = "telemetry": must be a table; write { stream = "NAME" }"#,
    ),
    (
        r#"{ stream = "telemetry" }"#,
        r#"{ stream = "dead-letters" }"#,
        r#"17: function.threshold.input.stream = "dead-letters": a function cannot read the records that functions gave up"#,
    ),
    (
        r#"{ stream = "telemetry" }"#,
        r#"{ stream = "losses" }"#,
        r#"17: function.threshold.input.stream = "losses": a function cannot read what the loss ledger says"#,
    ),
    (
        r#"{ stream = "telemetry" }"#,
        r#"[{ stream = "telemetry" }, { stream = "telemetry", topics = ["a"] }]"#,
        r#"17: function.threshold.input[1] = { stream = "telemetry", topics = ["a"] }: this stream is listed twice; write one input with all its topics"#,
    ),
    (
        r#"{ stream = "telemetry" }"#,
        r#"{ stream = "telemetry", topics = [] }"#,
        r#"17: function.threshold.input.topics = []: a list of 0; allowed: 1 to 64"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        "",
        r#"15: function.threshold.input: missing; write, for example, input = { stream = "telemetry" }, or let something else call the function: schedule = ..., events = [...], watch = ..., routes = ..."#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = { name = "a b", every = "1s" }"#,
        r#"17: function.threshold.schedule.name = "a b": not a name; allowed: 1 to 64 of A-Z a-z 0-9 _ -"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = { every = "1s" }"#,
        r#"17: function.threshold.schedule = { every = "1s" }: has no name; write, for example, { name = "report", every = "10s" }"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = "10s""#,
        r#"17: function.threshold.schedule = "10s": must be a table; write, for example, { name = "report", every = "10s" }"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = { name = "a", every = "1ms" }"#,
        r#"17: function.threshold.schedule.every = "1ms": out of range; allowed: 10ms to 366d"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = { name = "a", every = "10" }"#,
        r#"17: function.threshold.schedule.every = "10": not a time such as "10s"; allowed: 10ms to 366d"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = { name = "a", every = 10 }"#,
        r#"17: function.threshold.schedule.every = 10: must be a time such as "10s", not a number; allowed: 10ms to 366d"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = [{ name = "a", cron = "0 25 * * *" }]"#,
        r#"17: function.threshold.schedule[0].cron = "0 25 * * *": hour "25": not a list of numbers from 0 to 23, of ranges such as 0-23, or of steps such as */2"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = { name = "a", cron = "@daily" }"#,
        r#"17: function.threshold.schedule.cron = "@daily": 1 fields; allowed: 5 (minute, hour, day of the month, month, day of the week)"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = { name = "a" }"#,
        r#"17: function.threshold.schedule = { name = "a" }: says no time: every = "10s", or cron = "0 3 * * *""#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = { name = "a", every = "1s", cron = "* * * * *" }"#,
        r#"17: function.threshold.schedule = { name = "a", every = "1s", cron = "* * * * *" }: has both every and cron; write two schedules"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = { name = "a", every = "1s", missed = "never" }"#,
        r#"17: function.threshold.schedule.missed = "never": unknown value; allowed: "skip", "once", "all""#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = { name = "a", every = "1s", jitter = "1s" }"#,
        r#"17: function.threshold.schedule.jitter = "1s": unknown key; known here: name, every, cron, missed"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"schedule = [{ name = "a", every = "1s" }, { name = "a", every = "2s" }]"#,
        r#"17: function.threshold.schedule[1] = { name = "a", every = "2s" }: another schedule of the function has this name"#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"events = ["start", "onlin"]"#,
        r#"17: function.threshold.events[1] = "onlin": unknown event; allowed: list of "start", "stop", "online", "offline", "connected", "disconnected", "disk""#,
    ),
    (
        r#"input = { stream = "telemetry" }"#,
        r#"events = ["start", "start"]"#,
        r#"17: function.threshold.events[1] = "start": listed twice"#,
    ),
    (
        "[stream.alerts]",
        "[stream.gateway-events]\ntopics = [\"x\"]\n[stream.alerts]",
        "21: stream.gateway-events: the name is reserved: this stream always exists and takes what functions are told of; choose another name",
    ),
    (
        r#"{ stream = "telemetry" }"#,
        "{ stream = \"telemetry\" }\nworkers = 2",
        r#"18: function.threshold.workers = 2: strict ordering is one call at a time; leave it at 1, or set ordering = "per-key" or "none""#,
    ),
    (
        r#"{ stream = "telemetry" }"#,
        "{ stream = \"telemetry\" }\nordering = \"per-key\"",
        r#"18: function.threshold.ordering = "per-key": stream "telemetry" has no key; set `key` in [stream.telemetry]"#,
    ),
    (
        r#""threshold.wasm""#,
        r#""missing.wasm""#,
        r#"16: function.threshold.module = "missing.wasm": missing.wasm: No such file or directory (os error 2)"#,
    ),
    (
        r#""threshold.wasm""#,
        r#""text.wasm""#,
        r#"16: function.threshold.module = "text.wasm": this is no WebAssembly module: it starts with [28, 6d, 6f, 64], not with 00 61 73 6d; it looks like the text format: translate it with wat2wasm"#,
    ),
    (
        r#""threshold.wasm""#,
        r#""component.wasm""#,
        r#"16: function.threshold.module = "component.wasm": this is a WebAssembly component; build a core module instead (Rust: --target wasm32-unknown-unknown, not wasm32-wasip2)"#,
    ),
    (
        r#""threshold.wasm""#,
        r#""unmarked.wasm""#,
        r#"16: function.threshold.module = "unmarked.wasm": the module does not export `tg_abi_1`: it was not written for this gateway, or for another version of the contract"#,
    ),
    (
        "limit = 30.0",
        "limit = inf",
        "19: function.threshold.config.limit = inf: has no JSON form; write a finite number within 64 bits, or text",
    ),
    // uplinks
    (
        r#"["telemetry", "alerts"]"#,
        r#"["telemetry", "weather"]"#,
        r#"26: uplink.cloud.streams[1] = "weather": no such stream; streams: telemetry, alerts"#,
    ),
    (
        r#"["telemetry", "alerts"]"#,
        r#"["alerts", "alerts"]"#,
        r#"26: uplink.cloud.streams[1] = "alerts": listed twice"#,
    ),
    (
        r#""mqtt://127.0.0.1:18830""#,
        r#""amqp://bob:secret@127.0.0.1:4222""#,
        r#"25: uplink.cloud.url = "amqp://bob:***@127.0.0.1:4222": scheme "amqp" is unknown; known: mqtt, mqtts, https, http, nats, tls, s3, s3+https, s3+http"#,
    ),
    (
        r#""mqtt://127.0.0.1:18830""#,
        r#"["mqtt://127.0.0.1:18830", "https://sink.example"]"#,
        r#"25: uplink.cloud.url[1] = "https://sink.example": is of another kind than the URL before it; write an uplink for each"#,
    ),
    (
        "[uplink.cloud]",
        "[uplink.cloud]\nbatch_age = \"1s\"",
        "25: uplink.cloud.batch_age = \"1s\": has no use with mqtt://: each record is a message of its own, unless batch_records is more than 1",
    ),
    (
        "[uplink.cloud]",
        "[uplink.cloud]\nregion = \"eu-central-1\"",
        r#"25: uplink.cloud.region = "eu-central-1": has no use with mqtt://; it belongs to s3://"#,
    ),
    (
        r#""mqtt://127.0.0.1:18830""#,
        "\"http://127.0.0.1:8090\"\nkeep_alive = \"10s\"",
        r#"26: uplink.cloud.keep_alive = "10s": has no use with https://; it belongs to mqtt:// and nats://"#,
    ),
    (
        r#""mqtt://127.0.0.1:18830""#,
        "\"http://sink.example/in\"\nca_file = \"empty.pem\"",
        r#"26: uplink.cloud.ca_file = "empty.pem": has no use with http://; write https:// or leave it out"#,
    ),
    (
        "[uplink.cloud]",
        "[uplink.cloud]\nbackoff_min = \"40s\"",
        r#"25: uplink.cloud.backoff_min = "40s": backoff_min must not be longer than backoff_max"#,
    ),
    (
        "[uplink.cloud]",
        "[uplink.cloud]\nca_file = \"empty.pem\"",
        r#"25: uplink.cloud.ca_file = "empty.pem": has no use with mqtt://; write mqtts:// or leave it out"#,
    ),
    (
        r#""mqtt://127.0.0.1:18830""#,
        r#""mqtt://bob:secret@cloud:0""#,
        r#"25: uplink.cloud.url = "mqtt://bob:***@cloud:0": "0" is no port; allowed: 1 to 65535"#,
    ),
    (
        r#""mqtt://127.0.0.1:18830""#,
        r#""mqtts://cloud.example""#,
        r#"24: uplink.cloud.ca_file: is needed with mqtts://: a PEM file with the certificate of the authority that signed the one of cloud.example (for a public one, often /etc/ssl/certs/ca-certificates.crt)"#,
    ),
    // keys and sections
    (
        "max_bytes =",
        "max_byte =",
        r#"11: stream.telemetry.max_byte = "1GiB": unknown key; did you mean max_bytes?"#,
    ),
    (
        "[mqtt]",
        "[mqtt]\nmax_ack_delay = \"5ms\"",
        r#"7: mqtt.max_ack_delay = "5ms": unknown key; it belongs to [storage]"#,
    ),
    (
        "[mqtt]",
        "[log]\ncolour = true\n[mqtt]",
        "7: log.colour = true: unknown key; known here: level, format",
    ),
    ("[mqtt]", "[mqqt]\n[mqtt]", "6: mqqt: unknown section; did you mean [mqtt]?"),
    (
        "[mqtt]",
        "[weather]\n[mqtt]",
        "6: weather: unknown section; known: [gateway], [mqtt], [mqtt.listener.NAME], [mqtt.tls], [[mqtt.acl]], [mqtt.limits], [serial.NAME], [firmware], [http], [[http.route]], [log], [storage], [stream.NAME], [files.NAME], [function.NAME], [functions], [functions.allow], [uplink.NAME]",
    ),
    ("[gateway]", "data_dir = 3\n[gateway]", "2: data_dir: unknown key; it belongs to [gateway]"),
    (
        "[mqtt]",
        "[firmware]\nconcurrent = 0\n[mqtt]",
        "7: firmware.concurrent = 0: out of range; allowed: 1 to 4096",
    ),
    // storage
    (
        "[mqtt]",
        "[storage]\nendurance = \"100\"\n[mqtt]",
        r#"7: storage.endurance = "100": has no unit; units: B, KiB, MiB, GiB, TiB, KB, MB, GB, TB; allowed: 1GiB to 65536TiB"#,
    ),
    (
        "[mqtt]",
        "[storage]\nquiet = \"20ms\"\n[mqtt]",
        r#"7: storage.quiet = "20ms": longer than max_ack_delay, so it would never count; make it shorter"#,
    ),
];
