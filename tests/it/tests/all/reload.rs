//! Another configuration for a gateway that runs, under load.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tidegate_rig::consumer::Consumer;
use tidegate_rig::gateway::Gateway;
use tidegate_rig::mosquitto::Mosquitto;
use tidegate_rig::mqtt::Version;

use crate::binaries;
use crate::setup::{
    PATIENCE, Readings, beside_others, config, explain, gateway, publisher, threshold, wait,
};

const READINGS: u64 = 6_000;

fn rewrite(gateway: &Gateway, change: impl FnOnce(String) -> String) {
    let file = gateway.config_file();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file, change(text)).unwrap();
}

fn log(gateway: &Gateway) -> String {
    fs::read_to_string(gateway.log_file()).unwrap()
}

/// Exit code and standard error of `tidegate reload`.
fn reload(gateway: &Gateway) -> (Option<i32>, String) {
    let command = Command::new(binaries::tidegate())
        .args(["reload", "--config"])
        .arg(gateway.config_file())
        .output()
        .unwrap();
    (command.status.code(), String::from_utf8(command.stderr).unwrap())
}

#[test]
fn clients_stay_while_a_stream_a_function_and_an_uplink_come_and_one_goes() {
    let _machine = beside_others();
    let (cloud, second) = (Mosquitto::start().unwrap(), Mosquitto::start().unwrap());
    let consumer = Consumer::start(cloud.address()).unwrap();
    let other = Consumer::start(second.address()).unwrap();
    let gateway = gateway(&config(cloud.address(), ""));
    let source = Readings::paced("p0", READINGS, Duration::from_millis(1));
    let publisher = publisher(gateway.mqtt(), "p0", Version::V5, None, source);
    let after = |share: u64| {
        wait(&gateway, "readings are acknowledged", || {
            publisher.progress().acknowledged >= READINGS * share / 10
        });
    };
    after(1);
    let before = fs::read_to_string(gateway.config_file()).unwrap();
    let added = format!(
        "{}\n[stream.copy]\ntopics = [\"sensors/+/telemetry\"]\n[uplink.second]\nurl = \"mqtt://{}\"\n\
         streams = [\"copy\"]\n",
        threshold(", every = true"),
        second.address()
    );
    rewrite(&gateway, |text| text + &added);
    let told = gateway.command(&["reload"]).unwrap();
    assert!(told.contains("stream.copy.topics") && told.contains("uplink.second.url"), "{told}");
    after(4);
    // The function gets another configuration and the stream another quota; the uplink stays.
    rewrite(&gateway, |text| text.replace("every = true }", "every = true }\nattempts = 7"));
    let told = gateway.command(&["reload"]).unwrap();
    assert_eq!(told, "reloaded: what differed counts now\n  function.threshold.attempts\n");
    after(6);
    wait(&gateway, "the second cloud has some", || other.arrivals().distinct("copy") > 100);
    // The uplink and its stream go; the function stays.
    let stays = format!("{before}\n{}", threshold(", every = true"));
    rewrite(&gateway, |_| stays);
    gateway.command(&["reload"]).unwrap();
    let gone = other.arrivals().distinct("copy");
    assert!(gone > 100 && gone < READINGS, "{gone}");
    let report = publisher.finish(Instant::now() + PATIENCE).unwrap();
    assert_eq!(report.acknowledged.len() as u64, READINGS, "{:?}", report.last_error);
    assert_eq!((report.progress.connections, report.progress.resent), (1, 0), "it stayed");
    let all = consumer.wait_until(Instant::now() + PATIENCE, |arrivals| {
        arrivals.distinct("telemetry") == READINGS && arrivals.distinct("alerts") == READINGS / 10
    });
    assert!(all, "{}", explain(&gateway));
    let arrivals = consumer.arrivals();
    assert!(arrivals.oddities.is_empty(), "{:?}", arrivals.oddities);
    assert_eq!((arrivals.repeated("telemetry"), arrivals.repeated("alerts")), (0, 0));
    assert_eq!(arrivals.discarded, 0, "the uplink that stayed sent everything once");
    assert_eq!(other.arrivals().repeated("copy"), 0);
    let status = gateway.status().unwrap();
    let names = |member: &str| -> Vec<String> {
        let all = status[member].as_array().unwrap().iter();
        all.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("uplinks"), ["cloud"]);
    assert!(!names("streams").contains(&"copy".to_owned()));
    assert!(!log(&gateway).contains(" ERROR "), "{}", log(&gateway));
}

#[test]
fn a_configuration_with_mistakes_is_told_whole_and_changes_nothing() {
    let _machine = beside_others();
    let upstream = Mosquitto::start().unwrap();
    let gateway = gateway(&config(upstream.address(), ""));
    let right = fs::read_to_string(gateway.config_file()).unwrap();
    rewrite(&gateway, |text| {
        text.replace("retain = \"1h\"", "retain = \"1 hour\"")
            + "[stream.more]\ntopics = [\"more/#\"]\n[function.f]\nmodule = \"missing.wasm\"\ninput = { stream = \"more\" }\n"
    });
    let (code, text) = reload(&gateway);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("3 mistakes") && text.contains("missing.wasm"), "{text}");
    assert!(text.contains("nothing was changed"), "{text}");
    // A key that needs a restart holds up everything, and is named.
    let moved = right.replace("id = \"gw-it\"", "id = \"gw-other\"");
    rewrite(&gateway, |_| {
        moved + "[storage]\nquiet = \"1ms\"\n[stream.more]\ntopics = [\"more/#\"]\n"
    });
    let (code, text) = reload(&gateway);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("\n  gateway.id\n  storage.quiet\n"), "{text}");
    assert!(!text.contains("stream.more"), "{text}");
    let status = gateway.status().unwrap();
    assert_eq!(status["gateway"], "gw-it");
    let streams = status["streams"].as_array().unwrap();
    assert!(streams.iter().all(|stream| stream["name"] != "more"));
    // By the signal, and with the mistakes mended.
    rewrite(&gateway, |_| {
        right + "[stream.more]\ntopics = [\"more/#\"]\n[log]\nlevel = \"debug\"\n"
    });
    let pid = Pid::from_raw(gateway.pid().unwrap().cast_signed()).unwrap();
    kill_process(pid, Signal::HUP).unwrap();
    wait(&gateway, "the stream is there", || {
        let status = gateway.status().unwrap();
        status["streams"].as_array().unwrap().iter().any(|stream| stream["name"] == "more")
    });
    let publisher = publisher(gateway.mqtt(), "p0", Version::V311, None, Readings::new("p0", 1));
    publisher.finish(Instant::now() + PATIENCE).unwrap();
    wait(&gateway, "the log is chatty", || log(&gateway).contains("DEBUG"));
}
