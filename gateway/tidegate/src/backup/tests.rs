use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use tidegate_stream::verify::verify;
use tidegate_stream::{Log, LogOptions, RecordRef, StreamConfig, StreamId};

use super::*;
use crate::disk::FileDisk;
use crate::scratch::Scratch;

/// A store that is written to.
struct Store {
    disk: FileDisk,
    log: Log,
    stream: StreamId,
}

impl Store {
    fn new(data: &Path, max_bytes: u64) -> Store {
        let disk = FileDisk::open(&data.join(STORE_DIR)).unwrap();
        let options = LogOptions {
            segment_bytes: 256 << 10,
            max_frame_bytes: 16 << 10,
            ..LogOptions::default()
        };
        let (mut log, _) = Log::open(&disk, options, Instant::now(), 1_800_000_000_000, 7).unwrap();
        let config = StreamConfig { max_bytes, ..StreamConfig::default() };
        let stream = log.stream("s", config).unwrap();
        Store { disk, log, stream }
    }

    fn append(&mut self, payload: &[u8]) {
        let record = RecordRef {
            unix_ms: 1_800_000_000_000,
            topic: "t",
            client: "c",
            publisher: None,
            attributes: &[],
            payload,
        };
        self.log.append(Instant::now(), self.stream, &record).unwrap();
        self.log.flush(Instant::now());
        while let Some(request) = self.log.poll_disk(Instant::now()) {
            let reply = request.perform(&self.disk);
            self.log.handle_disk(Instant::now(), reply);
        }
    }
}

fn data(scratch: &Scratch) -> PathBuf {
    let data = scratch.path().join("data");
    fs::create_dir_all(data.join("packages")).unwrap();
    fs::write(data.join("packages/ab.tgpkg"), "package").unwrap();
    fs::write(data.join(LOCK_FILE), "1\n").unwrap();
    data
}

#[test]
fn a_backup_of_a_store_at_rest_comes_back_as_it_was_in_a_new_epoch() {
    let scratch = Scratch::new();
    let data = data(&scratch);
    let mut store = Store::new(&data, 1 << 30);
    (0..500_u32).for_each(|number| store.append(&number.to_le_bytes()));
    let (epoch, config) = (store.log.epoch().0, scratch.path().join("my.toml"));
    fs::write(&config, "[gateway]\n").unwrap();
    let backup = scratch.path().join("backup");
    let made = back_up(&data, Some(&config), &backup).unwrap();
    assert!(made.files >= 3, "{made:?}");
    assert!(!backup.join(LOCK_FILE).exists());
    // The original goes on, under numbers that the copy has not.
    (0..10_u32).for_each(|number| store.append(&number.to_le_bytes()));
    let to = scratch.path().join("restored");
    let restored = restore(&backup, &to).unwrap();
    assert_eq!(restored.streams, [("s".to_owned(), 1, 501)]);
    assert!(restored.epoch > epoch, "{restored:?}");
    assert!(restored.notes.is_empty(), "{restored:?}");
    assert_eq!(fs::read(to.join("packages/ab.tgpkg")).unwrap(), b"package");
    assert_eq!(fs::read(to.join("tidegate.toml")).unwrap(), b"[gateway]\n");
    let report = verify(&FileDisk::open_read_only(&to.join(STORE_DIR)).unwrap(), Instant::now());
    let report = report.unwrap();
    assert!(report.is_sound(), "{report:?}");
}

#[test]
fn what_root_restores_belongs_to_the_gateways_user() {
    const USER: u32 = 64_064;
    let scratch = Scratch::new();
    if chown(scratch.path(), Some(USER), None).is_err() {
        eprintln!("skipped: only root can give files to others");
        return;
    }
    let data = data(&scratch);
    Store::new(&data, 1 << 30).append(b"record");
    let backup = scratch.path().join("backup");
    back_up(&data, None, &backup).unwrap();
    let to = scratch.path().join("restored");
    fs::create_dir(&to).unwrap();
    chown(&to, Some(USER), Some(USER)).unwrap();
    restore(&backup, &to).unwrap();
    for path in ["packages", "packages/ab.tgpkg", STORE_DIR] {
        let about = fs::metadata(to.join(path)).unwrap();
        assert_eq!((about.uid(), about.gid()), (USER, USER), "{path}");
    }
    let mut segments = 0;
    for entry in fs::read_dir(to.join(STORE_DIR)).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().uid(), USER);
        segments += 1;
    }
    assert!(segments > 0);
}

#[test]
fn backups_of_a_store_that_is_written_to_and_gives_segments_back_hold_no_damage() {
    let scratch = Scratch::new();
    let data = data(&scratch);
    let mut store = Store::new(&data, 1 << 20);
    store.append(b"first");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let writer = thread::spawn(move || {
        let payload = [7; 8000];
        while !stopped.load(Ordering::Relaxed) {
            store.append(&payload);
        }
        store.log.next_seq(store.stream).0
    });
    let mut last = 0;
    for round in 0..6 {
        let backup = scratch.path().join(format!("backup{round}"));
        back_up(&data, None, &backup).unwrap();
        let to = scratch.path().join(format!("restored{round}"));
        let restored = restore(&backup, &to).unwrap();
        assert!(restored.notes.is_empty(), "{restored:?}");
        let (_, first, next) = restored.streams[0].clone();
        assert!(next > first && next >= last, "{restored:?}");
        last = next;
        let disk = FileDisk::open_read_only(&to.join(STORE_DIR)).unwrap();
        let report = verify(&disk, Instant::now()).unwrap();
        assert!(report.is_sound(), "{report:?}");
    }
    stop.store(true, Ordering::Relaxed);
    assert!(writer.join().unwrap() > last);
}

#[test]
fn nothing_is_written_over_and_nothing_incomplete_or_changed_comes_back() {
    let scratch = Scratch::new();
    let data = data(&scratch);
    let mut store = Store::new(&data, 1 << 30);
    store.append(b"x");
    let backup = scratch.path().join("backup");
    back_up(&data, None, &backup).unwrap();
    let error = back_up(&data, None, &backup).unwrap_err().to_string();
    assert!(error.contains("holds something already"), "{error}");
    let error = back_up(scratch.path(), None, &scratch.path().join("b")).unwrap_err().to_string();
    assert!(error.contains("no data directory"), "{error}");
    let to = scratch.path().join("to");
    fs::write(backup.join("packages/ab.tgpkg"), "packagf").unwrap();
    let error = restore(&backup, &to).unwrap_err().to_string();
    assert!(error.contains("ab.tgpkg is not what was backed up"), "{error}");
    fs::remove_file(backup.join(LIST)).unwrap();
    let error = format!("{:#}", restore(&backup, &scratch.path().join("other")).unwrap_err());
    assert!(error.contains("no complete backup"), "{error}");
    fs::write(backup.join(LIST), r#"{"v":2}"#).unwrap();
    let error = restore(&backup, &scratch.path().join("third")).unwrap_err().to_string();
    assert!(error.contains("has version Some(2)"), "{error}");
}
