//! `[files.NAME]`: folders whose files become records.

use std::path::PathBuf;
use std::time::Duration;

use super::document::Section;
use super::keys::folder;
use super::mistakes::Mistakes;
use super::sections::{Reader, check_name, check_stream, reserved, size};

/// Most folders of one gateway.
const MAX_FOLDERS: usize = 16;

/// One folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderSettings {
    /// NAME.
    pub name: String,
    /// The folder.
    pub directory: PathBuf,
    /// The stream whose records its files become.
    pub stream: String,
    /// Largest file, in bytes.
    pub max_file: usize,
    /// How long a file must have stood still.
    pub settle: Duration,
    /// How often it is looked into.
    pub every: Duration,
    /// Files that stay when their records are on flash.
    pub keep: usize,
}

/// Reads all folders; none is there twice.
pub(super) fn read(
    reader: &Reader<'_>,
    streams: &[&str],
    out: &mut Mistakes,
) -> Vec<FolderSettings> {
    let sections = Section::several(reader.source, reader.root, &folder::SECTION, out);
    let mut folders: Vec<FolderSettings> = Vec::new();
    for (name, section) in &sections {
        check_name(name, section, folders.len(), MAX_FOLDERS, out);
        let directory = reader.path(section, &folder::DIRECTORY, out).unwrap_or_default();
        if let Some(spot) = section.spot(&folder::DIRECTORY)
            && let Some(other) = folders.iter().find(|other| other.directory == directory)
        {
            spot.wrong(out, &format!("is the directory of [files.{}] already", other.name));
        }
        let stream = section.text(&folder::STREAM, out).unwrap_or_default();
        if let Some(spot) = section.spot(&folder::STREAM) {
            match reserved(&stream) {
                Some(what) => {
                    spot.wrong(out, &format!("this stream takes {what} and nothing else"));
                }
                None => check_stream(&spot, &stream, streams, out),
            }
        }
        folders.push(FolderSettings {
            name: (*name).to_owned(),
            directory,
            stream,
            max_file: size(section.bytes(&folder::MAX_FILE, out)),
            settle: section.time(&folder::SETTLE, out),
            every: section.time(&folder::EVERY, out),
            keep: size(section.count(&folder::KEEP, out)),
        });
    }
    folders
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::{parse, sections::Depth};
    use super::*;

    fn read(section: &str) -> Result<Vec<FolderSettings>, String> {
        let text = format!(
            "[gateway]\nid = \"gw\"\ndata_dir = \"d\"\n[stream.reports]\ntopics = [\"reports/#\"]\n\
             {section}"
        );
        let settings = parse(Path::new("/etc/t.toml"), &text, Depth::File);
        settings.map(|settings| settings.folders).map_err(|mistakes| mistakes.to_string())
    }

    #[test]
    fn a_folder_has_a_directory_and_a_stream_and_the_rest_has_defaults() {
        let folders = read("[files.in]\ndirectory = \"in\"\nstream = \"reports\"\n").unwrap();
        let expected = FolderSettings {
            name: "in".to_owned(),
            directory: "/etc/in".into(),
            stream: "reports".to_owned(),
            max_file: 256 << 10,
            settle: Duration::from_secs(2),
            every: Duration::from_secs(1),
            keep: 100,
        };
        assert_eq!(folders, [expected]);
    }

    #[test]
    fn mistakes_in_a_folder_are_told() {
        let directory = "directory = \"in\"\n";
        for (rest, why) in [
            ("stream = \"report\"", "no such stream; did you mean \"reports\"?"),
            (
                "stream = \"dead-letters\"",
                "takes the records that functions gave up and nothing else",
            ),
            ("stream = \"reports\"\nmax_file = \"2MiB\"", "allowed: 1B to 960KiB"),
            ("stream = \"reports\"\nevery = \"1ms\"", "allowed: 100ms to 1h"),
            ("", "stream: missing"),
            (
                "stream = \"reports\"\n[files.b]\ndirectory = \"in\"\nstream = \"reports\"",
                "is the directory of [files.in] already",
            ),
        ] {
            let found = read(&format!("[files.in]\n{directory}{rest}\n")).unwrap_err();
            assert!(found.contains(why), "{found}");
        }
    }
}
