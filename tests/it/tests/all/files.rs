//! Files that become records while the gateway is killed again and again.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use tidegate_rig::gateway::Gateway;
use tidegate_rig::sensors::Random;

use crate::setup::{beside_others, explain, gateway, number, wait};

const KILLS: u64 = 15;

fn config(options: &str) -> String {
    format!(
        r#"[gateway]
id = "gw-it"
data_dir = "{{data}}"

[mqtt]
listen = "{{mqtt}}"

[http]
listen = "{{http}}"

[stream.reports]
topics = ["reports/#"]
retain = "1h"

[files.in]
directory = "in"
stream = "reports"
every = "100ms"
settle = "0s"
{options}
"#
    )
}

/// Payloads of the stream, in order.
fn payloads(gateway: &Gateway) -> Vec<String> {
    let text = gateway.command(&["stream", "export", "reports"]).unwrap();
    let lines =
        text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    lines.filter_map(|record| Some(record.get("payload")?.as_str()?.to_owned())).collect()
}

fn files(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let files = entries.map_while(Result::ok).filter(|one| one.file_type().unwrap().is_file());
    files.map(|one| one.file_name().into_string().unwrap()).collect()
}

/// Drops a file by renaming it into the folder.
fn drop_file(folder: &Path, name: &str, content: &str) {
    let partial = folder.join(format!(".{name}"));
    fs::write(&partial, content).unwrap();
    fs::rename(partial, folder.join(name)).unwrap();
}

#[test]
fn each_file_becomes_one_record_over_fifteen_kills() {
    let _machine = beside_others();
    let mut gateway = gateway(&config("keep = 3"));
    let folder = gateway.directory().join("in");
    fs::create_dir(&folder).unwrap();
    let (stop, dropped) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let producer = {
        let (folder, stop, dropped) = (folder.clone(), stop.clone(), dropped.clone());
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let number = dropped.load(Ordering::Relaxed);
                // A few names, again and again; none before it has left.
                let name = format!("report-{}.csv", number % 5);
                if folder.join(&name).exists() {
                    thread::sleep(Duration::from_millis(2));
                    continue;
                }
                drop_file(&folder, &name, &format!("report {number}"));
                dropped.fetch_add(1, Ordering::Relaxed);
            }
        })
    };
    let mut random = Random::new(std::process::id().into());
    for _ in 0..KILLS {
        let after = dropped.load(Ordering::Relaxed) + random.integer(3, 25);
        wait(&gateway, "files are taken", || dropped.load(Ordering::Relaxed) >= after);
        gateway.kill().unwrap();
        gateway.start().unwrap();
    }
    stop.store(true, Ordering::Relaxed);
    producer.join().unwrap();
    wait(&gateway, "all files are taken", || files(&folder).is_empty());
    let mut times: BTreeMap<String, u64> = BTreeMap::new();
    payloads(&gateway).into_iter().for_each(|one| *times.entry(one).or_default() += 1);
    let dropped = dropped.load(Ordering::Relaxed);
    for number in 0..dropped {
        let name = format!("report {number}");
        assert_eq!(times.get(&name), Some(&1), "{name} of {dropped}\n{}", explain(&gateway));
    }
    assert_eq!(times.len() as u64, dropped);
    assert_eq!(files(&folder.join("done")).len(), 3, "no more stay than `keep` says");
    assert!(files(&folder.join("failed")).is_empty());
}

#[test]
fn what_cannot_become_a_record_is_put_aside_and_counted() {
    let _machine = beside_others();
    let gateway = gateway(&config("max_file = \"1KiB\"\nkeep = 0"));
    let folder = gateway.directory().join("in");
    fs::create_dir(&folder).unwrap();
    fs::write(gateway.directory().join("secret"), "not for anybody").unwrap();
    std::os::unix::fs::symlink("../secret", folder.join("link")).unwrap();
    drop_file(&folder, "large", &"x".repeat(2_000));
    drop_file(&folder, "a+b", "x");
    drop_file(&folder, "good", "y");
    fs::write(folder.join("growing.part"), "z").unwrap();
    wait(&gateway, "all are dealt with", || {
        let count = |what: &str| number(&gateway, &format!("/folders/0/{what}"));
        (count("taken"), count("refused")) == (Some(1), Some(3))
    });
    assert_eq!(payloads(&gateway), ["y"]);
    assert_eq!(files(&folder), ["growing.part"]);
    let mut failed = files(&folder.join("failed"));
    failed.sort();
    assert_eq!(failed, ["a+b", "large"], "and the link");
    assert!(folder.join("failed/link").symlink_metadata().unwrap().is_symlink());
    assert!(files(&folder.join("done")).is_empty());
    assert!(gateway.log_tail().contains("max_file allows 1024"), "{}", gateway.log_tail());
}
