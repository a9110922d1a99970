//! The commands as they are typed, against a daemon of which only the core is a stand-in.

use std::fs;
use std::path::PathBuf;

use clap::CommandFactory;
use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::*;
use crate::admin::AdminSocket;
use crate::sample;
use crate::scratch::Scratch;
use crate::serving::{Answers, REFUSED, serve_watched_core};
use crate::shutdown::Shutdown;

pub(super) fn type_in(words: &[&str]) -> (String, Result<(), Failure>) {
    let mut out = Vec::new();
    let result = typed(words, &mut out);
    (String::from_utf8(out).unwrap(), result)
}

pub(super) fn wrong(result: Result<(), Failure>) -> String {
    match result {
        Err(Failure::Wrong(text)) => text,
        other => panic!("{other:?}"),
    }
}

pub(super) fn failed(result: Result<(), Failure>) -> String {
    match result {
        Err(Failure::Failed(error)) => format!("{error:#}"),
        other => panic!("{other:?}"),
    }
}

pub(super) fn path(scratch: &Scratch, name: &str) -> String {
    scratch.path().join(name).to_str().unwrap().to_owned()
}

#[test]
fn every_command_has_help_with_an_example() {
    fn walk(command: &mut clap::Command) {
        let subcommands: Vec<&mut clap::Command> = command.get_subcommands_mut().collect();
        let leaf = subcommands.is_empty();
        for subcommand in subcommands {
            walk(subcommand);
        }
        let help = command.render_help().to_string();
        assert!(!leaf || command.get_name() == "help" || help.contains("Example"), "{help}");
    }
    Cli::command().debug_assert();
    walk(&mut Cli::command());
}

#[test]
fn a_wrong_word_is_wrong_usage() {
    let text = wrong(type_in(&["stats"]).1);
    assert!(text.contains("unrecognized subcommand 'stats'"), "{text}");
    assert!(text.contains("status"), "{text}");
}

#[test]
fn init_writes_a_configuration_that_check_accepts_and_never_overwrites() {
    let scratch = Scratch::new();
    let dir = path(&scratch, "new/gateway");
    let file = path(&scratch, "new/gateway/tidegate.toml");
    let (text, result) = type_in(&["init", &dir]);
    result.unwrap();
    assert!(text.contains(&format!("tidegate run --config {file}")), "{text}");
    let (text, result) = type_in(&["check", "--config", &file]);
    result.unwrap();
    assert!(text.contains("is correct: gateway gw-01"), "{text}");
    assert!(text.contains("stream  telemetry  sensors/+/telemetry, 256MiB, drop-oldest"), "{text}");
    let before = fs::read(&file).unwrap();
    let text = failed(type_in(&["init", &dir]).1);
    assert!(text.ends_with("is there already; remove it first, or name another place"), "{text}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn check_reports_all_mistakes_as_wrong_configuration() {
    let scratch = Scratch::new();
    let file = path(&scratch, "tidegate.toml");
    fs::write(&file, "[gateway]\nid = 7\n[mqtt]\nlistn = 3\n").unwrap();
    let text = wrong(type_in(&["check", "--config", &file]).1);
    assert!(text.ends_with("\n3 mistakes"), "{text}");
    let text = wrong(type_in(&["run", "--config", &file]).1);
    assert!(text.ends_with("\n3 mistakes"), "{text}");
}

#[test]
fn a_file_that_is_not_there_is_a_wrong_configuration() {
    let scratch = Scratch::new();
    let text = wrong(type_in(&["check", "-c", &path(&scratch, "no.toml")]).1);
    assert!(text.contains("cannot be read: No such file or directory"), "{text}");
    assert!(text.contains("`tidegate init`"), "{text}");
}

#[test]
fn without_a_gateway_the_commands_say_how_to_start_one() {
    let scratch = Scratch::new();
    for words in [
        &["status"][..],
        &["stream", "ls"],
        &["stream", "tail", "x"],
        &["stream", "losses", "x"],
        &["stream", "export", "x"],
    ] {
        let dir = path(&scratch, "");
        let words: Vec<&str> = words.iter().copied().chain(["--data-dir", &dir]).collect();
        let text = failed(type_in(&words).1);
        assert!(text.starts_with("no gateway runs on "), "{text}");
    }
}

struct Daemon {
    scratch: Scratch,
    shutdown: Shutdown,
    served: JoinHandle<io::Result<()>>,
    asked: watch::Receiver<Option<u64>>,
}

impl Daemon {
    fn start() -> Self {
        let scratch = Scratch::new();
        let socket = AdminSocket::bind(&scratch.path().join("admin.sock")).unwrap();
        let shutdown = Shutdown::default();
        let (core, asked) = serve_watched_core(Answers::Status(sample::status()));
        let served = tokio::spawn(socket.serve(core, shutdown.clone()));
        Self { scratch, shutdown, served, asked }
    }

    async fn type_in(&self, words: &[&str]) -> (String, Result<(), Failure>) {
        let dir = self.scratch.path().to_str().unwrap();
        let words: Vec<String> =
            words.iter().copied().chain(["--data-dir", dir]).map(str::to_owned).collect();
        let act = move || type_in(&words.iter().map(String::as_str).collect::<Vec<_>>());
        spawn_blocking(act).await.unwrap()
    }

    async fn shown(&self, words: &[&str]) -> String {
        let (text, result) = self.type_in(words).await;
        result.unwrap();
        text
    }
}

#[tokio::test]
async fn status_is_shown_for_people_and_for_machines() {
    let daemon = Daemon::start();
    let text = daemon.shown(&["status"]).await;
    assert!(text.starts_with("gateway gw-01, epoch 1, up 1 min 1 s\n"), "{text}");
    let text = daemon.shown(&["status", "--json"]).await;
    let json: tidegate_flow::status::Status = serde_json::from_str(&text).unwrap();
    assert_eq!(json, sample::status());
    let text = daemon.shown(&["stream", "ls", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json[0]["name"], "telemetry");
}

#[tokio::test]
async fn the_data_directory_is_found_by_a_configuration_with_mistakes() {
    let daemon = Daemon::start();
    let file = daemon.scratch.path().join("tidegate.toml");
    fs::write(&file, "[gateway]\ndata_dir = \".\"\n[mqtt]\nlisten = 1\n").unwrap();
    let file = file.to_str().unwrap().to_owned();
    let act = move || type_in(&["stream", "ls", "--config", &file]);
    let (text, result) = spawn_blocking(act).await.unwrap();
    result.unwrap();
    assert!(text.contains("uplink/cloud (100 behind)"), "{text}");
}

#[tokio::test]
async fn tail_shows_the_newest_records_text_or_hex() {
    let daemon = Daemon::start();
    let text = daemon.shown(&["stream", "tail", "telemetry", "-n", "2"]).await;
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(
        lines,
        [
            "     999  2023-11-14T22:13:20.999Z  sensors/1/telemetry  sensor-1  999",
            "    1000  2023-11-14T22:13:21.000Z  sensors/1/telemetry  sensor-1  0xff00",
        ]
    );
    let text = daemon.shown(&["stream", "tail", "telemetry"]).await;
    assert_eq!(text.lines().count(), 10);
}

#[tokio::test]
async fn tail_shows_everything_from_a_sequence_on() {
    let daemon = Daemon::start();
    let words = ["stream", "tail", "telemetry", "--from", "3", "--json"];
    let text = daemon.shown(&words).await;
    let seqs: Vec<u64> = text
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|record| record["seq"].as_u64().unwrap())
        .collect();
    assert_eq!(seqs, (3..=1000).collect::<Vec<u64>>());
    let words = ["stream", "tail", "telemetry", "--from", "3", "-n", "4", "--json"];
    assert_eq!(daemon.shown(&words).await.lines().count(), 4);
}

#[tokio::test]
async fn tail_of_an_unknown_stream_names_those_there_are() {
    let daemon = Daemon::start();
    let text = failed(daemon.type_in(&["stream", "tail", "weather"]).await.1);
    assert_eq!(text, "no stream \"weather\"; there is: telemetry");
}

#[tokio::test]
async fn losses_are_shown_for_machines_with_their_time() {
    let daemon = Daemon::start();
    let text = daemon.shown(&["stream", "losses", "telemetry", "--json"]).await;
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&json["records"], &json["forgotten_records"]), (&71.into(), &30.into()));
    let range = &json["ranges"][1];
    assert_eq!((&range["first"], &range["reason"]), (&90.into(), &"refused".into()));
    assert_eq!(range["time"], "2023-11-14T22:13:20.000Z");
    let text = failed(daemon.type_in(&["stream", "losses", "weather"]).await.1);
    assert_eq!(text, "no stream \"weather\"");
}

#[tokio::test]
async fn an_export_has_the_records_asked_for_and_an_end() {
    let daemon = Daemon::start();
    let words = ["stream", "export", "telemetry", "--from", "3", "--to", "5"];
    let text = daemon.shown(&words).await;
    let items: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((&items[0]["gateway"], &items[0]["stream"]), (&"gw-01".into(), &"telemetry".into()));
    let seqs: Vec<_> = items[1..4].iter().map(|item| item["seq"].as_u64().unwrap()).collect();
    assert_eq!(seqs, [3, 4, 5]);
    assert_eq!((&items[4]["item"], &items[4]["records"]), (&"end".into(), &3.into()));
    assert_eq!((&items[4]["next"], items.len()), (&6.into(), 5));
    let all = daemon.shown(&["stream", "export", "telemetry"]).await;
    assert_eq!(all.lines().count(), 1002);
    let none = daemon.shown(&["stream", "export", "telemetry", "--from", "2000"]).await;
    assert_eq!(none.lines().count(), 2, "{none}");
    let words = ["stream", "export", "telemetry", "--from", "9", "--to", "8"];
    assert_eq!(wrong(daemon.type_in(&words).await.1), "--from 9 is behind --to 8");
    let text = failed(daemon.type_in(&["stream", "export", "weather"]).await.1);
    assert_eq!(text, "no stream \"weather\"");
}

#[tokio::test]
async fn an_import_takes_everything_once_and_goes_on_where_it_ended() {
    let daemon = Daemon::start();
    for format in ["ndjson", "cbor"] {
        let file = path(&daemon.scratch, format);
        let words = ["stream", "export", "telemetry", "--format", format, "-o", &file];
        let text = daemon.shown(&words).await;
        assert_eq!(text, format!("1000 records of telemetry in {file}\n"));
        assert!(!PathBuf::from(format!("{file}.partial")).exists());
        let text = daemon.shown(&["stream", "import", "copy", &file]).await;
        assert_eq!(text, "1000 records imported into copy\n");
        let text = daemon.shown(&["stream", "import", "copy", &file]).await;
        assert_eq!(text, "0 records imported into copy, 1000 were in already\n");
    }
}

#[tokio::test]
async fn a_damaged_export_is_refused_at_the_record_and_what_is_before_is_in() {
    let daemon = Daemon::start();
    let file = path(&daemon.scratch, "file");
    daemon.shown(&["stream", "export", "telemetry", "-o", &file]).await;
    let whole = fs::read_to_string(&file).unwrap();
    let damaged = whole.replace(r#""seq":701,"#, r#""seq":702,"#);
    fs::write(&file, damaged).unwrap();
    let text = failed(daemon.type_in(&["stream", "import", "copy", &file]).await.1);
    assert_eq!(
        text,
        format!(
            "{file}: 700 records are in copy; to go on, run the same command again: record 701: \
             its checksum is wrong: it was damaged or changed"
        )
    );
    fs::write(&file, whole).unwrap();
    let text = daemon.shown(&["stream", "import", "copy", &file]).await;
    assert_eq!(text, "300 records imported into copy, 700 were in already\n");
}

#[tokio::test]
async fn an_import_that_the_gateway_refuses_says_how_far_it_came() {
    use crate::export::{Blob, CarriedRecord, End, Format, Header, Item, encode};
    let daemon = Daemon::start();
    let file = path(&daemon.scratch, "file");
    let (id, gateway, stream) = ("mine".into(), "g".into(), "s".into());
    let header = Header { version: 1, id, gateway, stream, unix_ms: 0 };
    let record = |seq| CarriedRecord {
        seq,
        topic: "a".into(),
        payload: Blob(if seq == 600 { REFUSED.to_vec() } else { b"x".to_vec() }),
        ..CarriedRecord::default()
    };
    let items = std::iter::once(Item::Header(header))
        .chain((1..=700).map(|seq| Item::Record(Box::new(record(seq)))))
        .chain([Item::End(End { records: 700, next: 701 })]);
    let bytes: Vec<u8> = items.flat_map(|item| encode(Format::Cbor, &item).unwrap()).collect();
    fs::write(&file, bytes).unwrap();
    let text = failed(daemon.type_in(&["stream", "import", "copy", &file]).await.1);
    let ending =
        "512 records are in copy; to go on, run the same command again: the stream is full";
    assert!(text.ends_with(ending), "{text}");
}

#[tokio::test]
async fn a_replay_reads_the_records_of_a_gateway_that_runs() {
    let daemon = Daemon::start();
    fs::write(daemon.scratch.path().join("f.wasm"), crate::rehearsal::tests::guest()).unwrap();
    let manifest = "name = \"f\"\nversion = \"1\"\nmodule = \"f.wasm\"\n\
                    input = { stream = \"telemetry\" }\npublish = [\"out\"]\n";
    fs::write(daemon.scratch.path().join("function.toml"), manifest).unwrap();
    let dir = path(&daemon.scratch, "");
    let words = ["fn", "replay", &dir, "--from", "3", "--to", "99", "--show", "1"];
    let text = daemon.shown(&words).await;
    assert_eq!(text, "record 3: out {\"first\":true}\n97 records, 97 outputs, 0 dead letters\n");
    let words = ["fn", "replay", &dir, "--stream", "weather"];
    assert_eq!(failed(daemon.type_in(&words).await.1), "no stream \"weather\"");
}

#[test]
fn an_offline_export_without_the_gateways_id_says_how_to_give_it() {
    let scratch = Scratch::new();
    let dir = path(&scratch, "");
    let words = ["stream", "export", "a", "--offline", "--data-dir", &dir];
    let text = wrong(type_in(&words).1);
    assert!(text.contains("name it with --gateway"), "{text}");
}

#[tokio::test]
async fn follow_goes_on_until_the_gateway_stops() {
    let daemon = Daemon::start();
    let words = ["stream", "tail", "telemetry", "-n", "1", "--follow"];
    let stop = async {
        // It asks for what is not there yet: everything that is there has been shown.
        let mut asked = daemon.asked.clone();
        asked.wait_for(|from| *from == Some(1001)).await.unwrap();
        daemon.shutdown.request();
    };
    let ((text, result), ()) = tokio::join!(daemon.type_in(&words), stop);
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(failed(result).contains("cannot ask the gateway at "));
    assert!(daemon.served.is_finished());
}

#[test]
fn the_default_configuration_is_explained_when_there_is_none() {
    // The test runs in the crate's directory, which has no configuration.
    assert!(!PathBuf::from("tidegate.toml").exists());
    if !PathBuf::from("/etc/tidegate/tidegate.toml").exists() {
        let text = wrong(type_in(&["check"]).1);
        assert!(text.starts_with("no configuration: "), "{text}");
    }
}

/// The command lines of this program in a document's blocks for shells, as words; a variable is a word.
fn command_lines(text: &str) -> Vec<Vec<String>> {
    let (mut inside, mut joined, mut found) = (false, String::new(), Vec::new());
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside && ["```", "```sh", "```console"].contains(&line.trim_end());
            continue;
        }
        joined.push_str(line.strip_suffix('\\').unwrap_or(line));
        if inside && !line.ends_with('\\') {
            let words = words_of(&joined);
            found.extend(words.into_iter().filter_map(|words| {
                let at = words.iter().position(|word| !BEFORE.contains(&word.as_str()))?;
                (words[at] == "tidegate").then(|| words[at..].to_vec())
            }));
        }
        if !line.ends_with('\\') {
            joined.clear();
        }
    }
    found
}

/// What stands before a command on its line.
const BEFORE: [&str; 7] = ["$", "#", "sudo", "until", "if", "!", "do"];

/// The simple commands of a line, without what is redirected and what is a comment.
fn words_of(line: &str) -> Vec<Vec<String>> {
    let (mut commands, mut word, mut quote) = (vec![Vec::new()], String::new(), None);
    let mut redirected = false;
    for letter in line.trim_start_matches("# ").chars().chain([' ']) {
        match (letter, quote) {
            (_, Some(end)) if letter == end => quote = None,
            (_, Some(_)) => word.push(letter),
            ('\'' | '"', None) => quote = Some(letter),
            ('#', None) if word.is_empty() => break,
            ('>' | '<', None) => {
                // `2>` belongs to it.
                word.clear();
                redirected = true;
            }
            (' ' | '|' | ';' | '&', None) => {
                let word = std::mem::take(&mut word);
                if !word.is_empty() && !std::mem::take(&mut redirected) {
                    commands.last_mut().unwrap().push(word);
                }
                if letter != ' ' {
                    commands.push(Vec::new());
                    redirected = false;
                }
            }
            (letter, None) => word.push(letter),
        }
    }
    commands
}

#[test]
fn every_command_line_of_the_documents_is_one_that_the_program_takes() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut open = vec![root.join("docs")];
    let mut pages = vec![root.join("README.md"), root.join("functions/examples/README.md")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|ending| ending == "md") {
                pages.push(path);
            }
        }
    }
    let (mut lines, mut wrong) = (0, Vec::new());
    for page in pages {
        for words in command_lines(&std::fs::read_to_string(&page).unwrap()) {
            lines += 1;
            if let Err(error) = Cli::try_parse_from(&words)
                && error.use_stderr()
            {
                let first = error.to_string().lines().next().unwrap_or_default().to_owned();
                wrong.push(format!("{}: {}: {first}", page.display(), words.join(" ")));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(lines > 50, "{lines}");
}

#[test]
fn command_lines_are_found_where_a_shell_finds_them() {
    let text = "```sh\nuntil tidegate run -c \"a b\" 2> log& sleep 1  # tidegate x\n```\ntidegate y\n\
                ```console\n$ sudo tidegate check; tidegate \\\n  status\n```\n```toml\ntidegate = 1\n```";
    let words = |line: &str| line.split(' ').map(|word| word.replace('_', " ")).collect();
    let expected: Vec<Vec<String>> =
        vec![words("tidegate run -c a_b"), words("tidegate check"), words("tidegate status")];
    assert_eq!(command_lines(text), expected);
}
