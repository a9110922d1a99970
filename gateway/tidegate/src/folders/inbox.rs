//! One folder over time: which of its files have stood still for long enough, and what becomes of
//! them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::time::Instant;

use tidegate_flow::attributes::Attributes;
use tidegate_flow::{FileDrop, FileError};
use tidegate_stream::Record;

use super::folder::{Folder, Found, Left, Shape, Shelf, Unread};
use super::{Gone, Taker};
use crate::config::FolderSettings;
use crate::core::clock;

/// Longest name of a file that becomes a record, in bytes.
const MAX_FILE_NAME: usize = 200;
/// Files that could not become records are kept at least so many: what was wrong with them is to be
/// found.
const LEAST_FAILED: usize = 100;

/// See the module.
pub(super) struct Inbox {
    settings: FolderSettings,
    next_look: Instant,
    /// What the last look saw, and since when it has been so.
    seen: BTreeMap<OsString, (Shape, Instant)>,
    /// The log was asked which of its files it has.
    knows_left: bool,
    /// What was said of it last.
    said: String,
}

/// Why a look ended early.
#[derive(Debug)]
enum Stopped {
    /// The core has ended.
    Gone,
    /// In words; the next look tries again.
    Because(String),
}

impl From<Gone> for Stopped {
    fn from(_: Gone) -> Stopped {
        Stopped::Gone
    }
}

impl From<std::io::Error> for Stopped {
    fn from(error: std::io::Error) -> Stopped {
        Stopped::Because(error.to_string())
    }
}

impl Inbox {
    pub(super) fn new(settings: FolderSettings) -> Inbox {
        let next_look = Instant::now();
        Inbox { settings, next_look, seen: BTreeMap::new(), knows_left: false, said: String::new() }
    }

    /// When it is to be looked into.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Looks into it, when the time has come.
    pub(super) fn look_when_due(&mut self, now: Instant, core: &impl Taker) {
        if now < self.next_look {
            return;
        }
        self.next_look = now + self.settings.every;
        match self.look(now, core) {
            Ok(()) => self.said.clear(),
            Err(Stopped::Gone) => {}
            Err(Stopped::Because(why)) if why == self.said => {}
            Err(Stopped::Because(why)) => {
                let folder = &self.settings.name;
                let path = self.settings.directory.display();
                tracing::warn!(folder, %path, why, "files wait in their folder; trying again");
                self.said = why;
            }
        }
    }

    fn look(&mut self, now: Instant, core: &impl Taker) -> Result<(), Stopped> {
        let folder = Folder::open(&self.settings.directory)?;
        if !self.knows_left {
            self.forget_gone(&folder, core)?;
            self.knows_left = true;
        }
        let found = folder.list()?;
        self.seen.retain(|name, _| found.iter().any(|found| found.name == *name));
        for found in found {
            let (shape, since) = self.seen.entry(found.name.clone()).or_insert((found.shape, now));
            if *shape != found.shape {
                (*shape, *since) = (found.shape, now);
            }
            if now.saturating_duration_since(*since) < self.settings.settle {
                continue;
            }
            self.take(&folder, &found, core)?;
        }
        Ok(())
    }

    /// The log forgets files that have left the folder while the gateway was off.
    fn forget_gone(&self, folder: &Folder, core: &impl Taker) -> Result<(), Stopped> {
        let left = core.left(&self.settings.name)?;
        if !left.is_empty() {
            folder.sync()?;
        }
        for name in left {
            if !folder.has(OsStr::new(&name))? {
                core.forget(&self.settings.name, &name)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, folder: &Folder, found: &Found, core: &impl Taker) -> Result<(), Stopped> {
        let name = match topic_level(&found.name) {
            Ok(name) => name,
            Err(why) => return self.put_aside(folder, found, why, core),
        };
        let content = match folder.read(found, self.settings.max_file) {
            Ok(content) => content,
            Err(Unread::Changed) => {
                self.seen.remove(&found.name);
                return Ok(());
            }
            Err(Unread::Refused(why)) => return self.put_aside(folder, found, why, core),
            Err(Unread::Failed(error)) => {
                return Err(Stopped::Because(format!("{name}: {error}")));
            }
        };
        let file = FileDrop {
            folder: self.settings.name.clone(),
            name: name.to_owned(),
            mark: content.mark,
            stream: self.settings.stream.clone(),
            record: record(&self.settings.name, name, &found.shape, content.bytes),
        };
        match core.take(file)? {
            Ok(()) => {}
            Err(FileError::Never(why)) => return self.put_aside(folder, found, why, core),
            Err(error @ (FileError::Later | FileError::Waits(_))) => {
                return Err(Stopped::Because(format!("{name}: {error}")));
            }
        }
        self.seen.remove(&found.name);
        // Until that has succeeded nobody knows whether it has left.
        self.knows_left = false;
        let left = folder.put_away(found, Shelf::Done, self.settings.keep)?;
        self.knows_left = true;
        tracing::info!(folder = self.settings.name, file = name, "file taken in");
        if left == Left::Same {
            core.forget(&self.settings.name, name)?;
        }
        Ok(())
    }

    /// What cannot become a record goes out of the way.
    fn put_aside(
        &mut self,
        folder: &Folder,
        found: &Found,
        why: String,
        core: &impl Taker,
    ) -> Result<(), Stopped> {
        let name = found.name.to_string_lossy().into_owned();
        self.seen.remove(&found.name);
        let keep = self.settings.keep.max(LEAST_FAILED);
        if folder.put_away(found, Shelf::Failed, keep)? == Left::Another {
            return Ok(());
        }
        tracing::error!(
            folder = self.settings.name,
            file = name,
            why,
            "file cannot become a record; it is in failed/"
        );
        core.refused(&self.settings.name, format!("{name}: {why}"))?;
        Ok(())
    }
}

/// The name as the last level of a topic.
fn topic_level(name: &OsStr) -> Result<&str, String> {
    let Some(name) = name.to_str() else { return Err("its name is not UTF-8".to_owned()) };
    if name.len() > MAX_FILE_NAME {
        return Err(format!("its name has {} bytes; allowed: {MAX_FILE_NAME}", name.len()));
    }
    match name.chars().find(|c| matches!(c, '+' | '#') || c.is_control()) {
        Some(bad) => Err(format!("its name has the character {bad:?}, which no topic may have")),
        None => Ok(name),
    }
}

fn record(folder: &str, name: &str, shape: &Shape, payload: Vec<u8>) -> Record {
    let now = clock::now();
    let user = vec![
        ("file".to_owned(), name.to_owned()),
        ("modified_ms".to_owned(), shape.modified_ms().to_string()),
    ];
    let attributes = Attributes { clock: now.clock, qos: 1, user, ..Attributes::default() };
    let mut bytes = Vec::new();
    attributes.encode(&mut bytes);
    Record {
        unix_ms: now.unix_ms,
        topic: format!("files/{folder}/{name}"),
        client: format!("files/{folder}"),
        publisher: None,
        attributes: bytes,
        payload,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::fs;
    use std::time::Duration;

    use super::*;
    use crate::scratch::Scratch;

    /// A log that takes what it does not have, and answers what the test says.
    #[derive(Default)]
    struct Log {
        records: RefCell<Vec<(String, String)>>,
        notes: RefCell<BTreeMap<String, [u8; 32]>>,
        refused: RefCell<Vec<String>>,
        answer: RefCell<Option<FileError>>,
        /// It ends after so many answers.
        ends_after: RefCell<Option<usize>>,
    }

    impl Log {
        fn answers(&self) -> Result<(), Gone> {
            match &mut *self.ends_after.borrow_mut() {
                Some(0) => Err(Gone),
                Some(left) => {
                    *left -= 1;
                    Ok(())
                }
                None => Ok(()),
            }
        }
    }

    impl Taker for Log {
        fn left(&self, _: &str) -> Result<Vec<String>, Gone> {
            self.answers()?;
            Ok(self.notes.borrow().keys().cloned().collect())
        }

        fn take(&self, file: FileDrop) -> Result<Result<(), FileError>, Gone> {
            if let Some(error) = self.answer.borrow().clone() {
                return Ok(Err(error));
            }
            let known = self.notes.borrow_mut().insert(file.name.clone(), file.mark);
            if known != Some(file.mark) {
                let payload = String::from_utf8(file.record.payload).unwrap();
                self.records.borrow_mut().push((file.record.topic, payload));
            }
            // It is in, whether or not the one who asked hears of it.
            self.answers()?;
            Ok(Ok(()))
        }

        fn forget(&self, _: &str, name: &str) -> Result<(), Gone> {
            self.answers()?;
            self.notes.borrow_mut().remove(name);
            Ok(())
        }

        fn refused(&self, _: &str, why: String) -> Result<(), Gone> {
            self.refused.borrow_mut().push(why);
            Ok(())
        }
    }

    fn settings(scratch: &Scratch) -> FolderSettings {
        FolderSettings {
            name: "in".to_owned(),
            directory: scratch.path().to_owned(),
            stream: "reports".to_owned(),
            max_file: 10,
            settle: Duration::from_secs(2),
            every: Duration::from_secs(1),
            keep: 5,
        }
    }

    fn payloads(log: &Log) -> Vec<String> {
        log.records.borrow().iter().map(|(_, payload)| payload.clone()).collect()
    }

    #[test]
    fn a_file_is_taken_when_it_has_stood_still_and_is_gone_then() {
        let scratch = Scratch::new();
        let file = scratch.path().join("a.csv");
        let (mut inbox, log) = (Inbox::new(settings(&scratch)), Log::default());
        let begin = inbox.next_look();
        let mut look = |seconds| inbox.look_when_due(begin + Duration::from_secs(seconds), &log);
        fs::write(&file, "1").unwrap();
        look(0);
        look(1);
        fs::write(&file, "12").unwrap();
        look(2);
        look(3);
        assert!(payloads(&log).is_empty(), "it is still being written");
        look(4);
        let taken = ("files/in/a.csv".to_owned(), "12".to_owned());
        assert_eq!(*log.records.borrow(), [taken]);
        assert!(!file.exists() && scratch.path().join("done/a.csv").exists());
        assert!(log.notes.borrow().is_empty(), "forgotten when it has left");
        // The same name again is another file.
        fs::write(&file, "12").unwrap();
        look(5);
        look(7);
        assert_eq!(payloads(&log), ["12", "12"]);
    }

    #[test]
    fn the_oldest_goes_first_and_what_cannot_be_a_record_is_put_aside_with_a_reason() {
        let scratch = Scratch::new();
        let at = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (age, name, content) in [(3, "new", "n"), (1, "old", "o"), (2, "large", "12345678901")]
        {
            let path = scratch.path().join(name);
            fs::write(&path, content).unwrap();
            let file = fs::File::options().write(true).open(&path).unwrap();
            file.set_modified(at + Duration::from_secs(age)).unwrap();
        }
        fs::write(scratch.path().join("a+b"), "x").unwrap();
        std::os::unix::fs::symlink("old", scratch.path().join("link")).unwrap();
        let settings = FolderSettings { settle: Duration::ZERO, ..settings(&scratch) };
        let (mut inbox, log) = (Inbox::new(settings), Log::default());
        inbox.look_when_due(inbox.next_look(), &log);
        assert_eq!(payloads(&log), ["o", "n"]);
        let mut refused = log.refused.borrow().clone();
        refused.sort();
        assert_eq!(
            refused,
            [
                "a+b: its name has the character '+', which no topic may have",
                "large: has 11 bytes; max_file allows 10",
                "link: is no regular file",
            ]
        );
        for name in ["a+b", "large", "link"] {
            let path = scratch.path().join("failed").join(name);
            assert!(path.symlink_metadata().is_ok(), "{name}");
        }
    }

    #[test]
    fn what_the_log_has_no_room_for_waits_where_it_is() {
        let scratch = Scratch::new();
        fs::write(scratch.path().join("a"), "x").unwrap();
        let settings = FolderSettings { settle: Duration::ZERO, ..settings(&scratch) };
        let (mut inbox, log) = (Inbox::new(settings), Log::default());
        *log.answer.borrow_mut() = Some(FileError::Waits("the stream is full".to_owned()));
        inbox.look_when_due(inbox.next_look(), &log);
        assert_eq!(inbox.said, "a: the stream is full");
        assert!(scratch.path().join("a").exists());
        *log.answer.borrow_mut() = None;
        inbox.look_when_due(inbox.next_look(), &log);
        assert_eq!((payloads(&log).len(), inbox.said.as_str()), (1, ""));
    }

    #[test]
    fn a_gateway_that_ends_at_any_moment_takes_each_file_once() {
        for ends_after in 0..8 {
            let scratch = Scratch::new();
            for name in ["a", "b"] {
                fs::write(scratch.path().join(name), name).unwrap();
            }
            let settings = FolderSettings { settle: Duration::ZERO, ..settings(&scratch) };
            let log = Log { ends_after: RefCell::new(Some(ends_after)), ..Log::default() };
            let mut inbox = Inbox::new(settings.clone());
            inbox.look_when_due(inbox.next_look(), &log);
            *log.ends_after.borrow_mut() = None;
            let mut inbox = Inbox::new(settings);
            inbox.look_when_due(inbox.next_look(), &log);
            let mut found = payloads(&log);
            found.sort();
            assert_eq!(found, ["a", "b"], "ended after {ends_after} answers");
            assert!(log.notes.borrow().is_empty(), "ended after {ends_after} answers");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_yet_is_waited_for() {
        let scratch = Scratch::new();
        let directory = scratch.path().join("later");
        let directory = FolderSettings { directory, settle: Duration::ZERO, ..settings(&scratch) };
        let (path, log) = (directory.directory.clone(), Log::default());
        let mut inbox = Inbox::new(directory);
        inbox.look_when_due(inbox.next_look(), &log);
        assert!(inbox.said.contains("No such file"), "{}", inbox.said);
        fs::create_dir(&path).unwrap();
        fs::write(path.join("a"), "x").unwrap();
        inbox.look_when_due(inbox.next_look(), &log);
        assert_eq!(payloads(&log), ["x"]);
    }
}
