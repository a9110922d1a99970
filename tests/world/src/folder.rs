//! A folder whose files become records, and the shell that looks into it. A file leaves the folder
//! by a rename, which a power cut takes back unless the folder was synced since.

use std::collections::BTreeMap;

use tidegate_flow::attributes::Attributes;
use tidegate_flow::{FileDrop, FileMark, Now};
use tidegate_stream::{Position, Record};

use crate::options::Route;
use crate::plan::STREAMS;
use crate::publisher::payload;
use crate::random::Random;

/// Its name in the configuration, and where the sensor has its name in the topic of a reading.
pub(crate) const FOLDER: &str = "box";
/// Names that the files take turns with: each comes again with something else in it.
const NAMES: u64 = 4;

/// See the module.
#[derive(Debug)]
pub(crate) struct Folder {
    /// The number of each file that is in it, by name.
    inside: BTreeMap<String, u64>,
    /// Those that have left since it was synced last.
    left: Vec<(String, u64)>,
    /// Files that were put into it.
    put: u64,
    /// How many there will be.
    files: u64,
    /// How far the shell is.
    pub(crate) step: Step,
}

/// What the shell does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// It asks which files the log has.
    Begins,
    /// It looks for a file.
    Looks,
    /// It waits for a file's record to be on flash.
    Waits(String, Position),
    /// The file has left; it syncs the folder and says so.
    Forgets(String),
}

impl Folder {
    pub(crate) fn new(files: u64) -> Folder {
        Folder { inside: BTreeMap::new(), left: Vec::new(), put: 0, files, step: Step::Begins }
    }

    /// Each file is a record.
    pub(crate) fn is_done(&self) -> bool {
        let rests = self.step == Step::Looks || self.files == 0;
        self.put == self.files && self.inside.is_empty() && rests
    }

    /// Where it stands, in words.
    pub(crate) fn describe(&self) -> String {
        let Folder { inside, put, files, step, .. } = self;
        format!(
            "the folder has had {put} of {files} files and holds {inside:?}; the shell: {step:?}"
        )
    }

    /// Somebody puts the next file in, if its name is free; whether there are more.
    pub(crate) fn put(&mut self) -> bool {
        let name = format!("f{}", self.put % NAMES);
        let is_free =
            !self.inside.contains_key(&name) && !self.left.iter().any(|(left, _)| *left == name);
        if self.put < self.files && is_free {
            self.inside.insert(name, self.put);
            self.put += 1;
        }
        self.put < self.files
    }

    /// The oldest file, as the shell reads it.
    pub(crate) fn oldest(&self, now: Now, padding: u64) -> Option<FileDrop> {
        let (name, number) = self.inside.iter().min_by_key(|(_, number)| **number)?;
        let mut mark: FileMark = [0; 32];
        mark[..8].copy_from_slice(&number.to_le_bytes());
        let mut attributes = Vec::new();
        Attributes { clock: now.clock, ..Attributes::default() }.encode(&mut attributes);
        Some(FileDrop {
            folder: FOLDER.to_owned(),
            name: name.clone(),
            mark,
            stream: STREAMS[0].to_owned(),
            record: Record {
                unix_ms: now.unix_ms,
                topic: format!("files/{FOLDER}/{name}"),
                client: format!("files/{FOLDER}"),
                publisher: None,
                attributes,
                payload: payload(FOLDER, Route::Telemetry, padding, *number).into_bytes(),
            },
        })
    }

    /// Whether a file of this name is in it.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.inside.contains_key(name)
    }

    /// A file leaves it.
    pub(crate) fn take_out(&mut self, name: &str) {
        self.left.extend(self.inside.remove_entry(name));
    }

    /// What has left does not come back.
    pub(crate) fn sync(&mut self) {
        self.left.clear();
    }

    /// The shell is gone; after a power cut some of what has left is back.
    pub(crate) fn next_life(&mut self, is_power_cut: bool, random: &mut Random) {
        self.step = Step::Begins;
        if is_power_cut {
            let left = self.left.drain(..);
            self.inside.extend(left.filter(|_| random.one_in(2)));
        }
    }
}
