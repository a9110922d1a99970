//! What the daemon writes to standard error: text for people, or JSON for machines.
//!
//! Under systemd (`JOURNAL_STREAM` is set) each line begins with the priority that `sd-daemon(3)` describes, so that
//! the journal can filter by it and takes it away; text has no time of its own there. Further lines of a message
//! are set in: none can be taken for a message of its own, whoever wrote the text.

use std::fmt;
use std::io;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::fmt::time::FormatTime;
use tracing_subscriber::fmt::{FmtContext, MakeWriter};
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::{LookupSpan, Registry};
use tracing_subscriber::reload::{self, Handle};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogFormat, LogLevel, LogSettings};
use crate::utc::Utc;

/// The target of messages that functions write.
pub const FUNCTION_TARGET: &str = "function";

/// How much is written; it can be changed while the daemon runs.
#[derive(Debug, Clone)]
pub struct Volume(Handle<Targets, Registry>);

impl Volume {
    /// From now on messages of this level and above are written.
    pub fn set(&self, level: LogLevel) {
        // It fails only when nothing is written any more.
        let _ = self.0.reload(filter(level));
    }
}

/// Sends the messages of this process to standard error. Called once, by `tidegate run`.
///
/// # Errors
/// Something in this process has set up logging before.
pub fn start(settings: LogSettings) -> anyhow::Result<Volume> {
    let journal = goes_to_journal(std::env::var("JOURNAL_STREAM").ok().as_deref());
    let (subscriber, volume) = subscriber(settings, journal, io::stderr);
    subscriber.try_init()?;
    Ok(volume)
}

/// Whether standard error is the connection to the journal that `JOURNAL_STREAM` names by device
/// and inode: a process started from a service inherits the variable with other files.
fn goes_to_journal(variable: Option<&str>) -> bool {
    let Some((device, inode)) = variable.and_then(|text| text.split_once(':')) else {
        return false;
    };
    rustix::fs::fstat(io::stderr())
        .is_ok_and(|stat| device.parse() == Ok(stat.st_dev) && inode.parse() == Ok(stat.st_ino))
}

fn subscriber<W>(
    settings: LogSettings,
    journal: bool,
    writer: W,
) -> (impl Subscriber + Send + Sync, Volume)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let plain = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(false);
    let layer = match settings.format {
        LogFormat::Text => plain.event_format(Text { journal }).boxed(),
        LogFormat::Json => {
            let json = plain.json().flatten_event(true).with_timer(Clock);
            json.map_event_format(|format| Json { format, journal }).boxed()
        }
    };
    let (filter, handle) = reload::Layer::new(filter(settings.level));
    (tracing_subscriber::registry().with(layer.with_filter(filter)), Volume(handle))
}

/// Our own messages and those of functions from the level on; those of libraries when they are warnings, or when
/// everything is wanted.
fn filter(level: LogLevel) -> Targets {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
        LogLevel::Trace => LevelFilter::TRACE,
    };
    let libraries = if level == LevelFilter::TRACE { level } else { level.min(LevelFilter::WARN) };
    let ours = ["tidegate", FUNCTION_TARGET].map(|target| (target, level));
    Targets::new().with_default(libraries).with_targets(ours)
}

/// The time of a message.
struct Clock;

impl FormatTime for Clock {
    fn format_time(&self, writer: &mut Writer<'_>) -> fmt::Result {
        write!(writer, "{}", Utc::now())
    }
}

/// `2026-11-21T06:45:16.123Z INFO  target: message key=value`
struct Text {
    journal: bool,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let level = *event.metadata().level();
        let mut text = format!("{}: ", event.metadata().target());
        context.field_format().format_fields(Writer::new(&mut text), event)?;
        let start = if self.journal { marked(level) } else { format!("{} {level:5} ", Utc::now()) };
        let further = if self.journal { marked(level) } else { String::new() };
        for (at, line) in text.lines().enumerate() {
            match at {
                0 => writeln!(writer, "{start}{line}")?,
                _ => writeln!(writer, "{further}  {line}")?,
            }
        }
        Ok(())
    }
}

/// One object a line.
struct Json<F> {
    format: F,
    journal: bool,
}

impl<S, N, F> FormatEvent<S, N> for Json<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        if self.journal {
            writer.write_str(&marked(*event.metadata().level()))?;
        }
        self.format.format_event(context, writer, event)
    }
}

/// Says why the program ends: each line for itself, where the journal reads them.
pub(crate) fn last_words(text: &str) -> String {
    if !goes_to_journal(std::env::var("JOURNAL_STREAM").ok().as_deref()) {
        return text.to_owned();
    }
    mark_lines(text)
}

fn mark_lines(text: &str) -> String {
    let lines: Vec<String> =
        text.lines().map(|line| format!("{}{line}", marked(Level::ERROR))).collect();
    lines.join("\n")
}

/// What the journal takes for the priority of a line.
fn marked(level: Level) -> String {
    format!("<{}>", priority(level))
}

/// The priority of `syslog(3)`.
fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn written(format: LogFormat, level: LogLevel, journal: bool) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let make = move || writer.clone();
        let (subscriber, _) = subscriber(LogSettings { level, format }, journal, make);
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!(target: "tidegate::disk", bytes = 7, "opened \"x\"");
            tracing::debug!(target: "tidegate::disk", "detail");
            tracing::info!(target: "rumqttc", "chatter");
            tracing::info!(target: "function", function = "threshold", "started");
            tracing::warn!(target: "rumqttc", "trouble");
            tracing::error!(target: "tidegate::reload", keys = "a\nb", "two mistakes:\none\n<0>other");
        });
        let bytes = lines.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn text_has_a_time_a_level_and_the_source() {
        let text = written(LogFormat::Text, LogLevel::Info, false);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 6, "{text}");
        assert!(lines[0].ends_with("Z INFO  tidegate::disk: opened \"x\" bytes=7"), "{text}");
        assert!(lines[1].ends_with("Z INFO  function: started function=\"threshold\""), "{text}");
        assert!(lines[2].ends_with("Z WARN  rumqttc: trouble"), "{text}");
        assert!(lines[3].ends_with("Z ERROR tidegate::reload: two mistakes:"), "{text}");
        assert_eq!(lines[4..], ["  one", "  <0>other keys=\"a\\nb\""], "{text}");
    }

    #[test]
    fn the_level_changes_while_the_daemon_runs() {
        let lines = Lines::default();
        let writer = lines.clone();
        let settings = LogSettings { level: LogLevel::Warn, format: LogFormat::Text };
        let (subscriber, volume) = subscriber(settings, true, move || writer.clone());
        tracing::subscriber::with_default(subscriber, || {
            let say = |text: &str| tracing::info!(target: "tidegate::disk", "{text}");
            say("one");
            volume.set(LogLevel::Info);
            say("two");
            volume.set(LogLevel::Error);
            say("three");
        });
        let bytes = lines.0.lock().unwrap().clone();
        assert_eq!(String::from_utf8(bytes).unwrap(), "<6>tidegate::disk: two\n");
    }

    #[test]
    fn the_journal_gets_a_priority_on_each_line_and_no_time() {
        let text = written(LogFormat::Text, LogLevel::Debug, true);
        assert_eq!(
            text,
            "<6>tidegate::disk: opened \"x\" bytes=7\n<7>tidegate::disk: detail\n\
             <6>function: started function=\"threshold\"\n<4>rumqttc: trouble\n\
             <3>tidegate::reload: two mistakes:\n<3>  one\n<3>  <0>other keys=\"a\\nb\"\n"
        );
        assert_eq!(mark_lines("wrong:\n a"), "<3>wrong:\n<3> a");
    }

    #[test]
    fn an_inherited_variable_does_not_make_a_journal() {
        assert!(!goes_to_journal(None));
        assert!(!goes_to_journal(Some("0:0")));
        assert!(!goes_to_journal(Some("x")));
        let stat = rustix::fs::fstat(io::stderr()).unwrap();
        assert!(goes_to_journal(Some(&format!("{}:{}", stat.st_dev, stat.st_ino))));
    }

    #[test]
    fn json_is_one_object_a_line() {
        let text = written(LogFormat::Json, LogLevel::Info, false);
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["level"], "INFO");
        assert_eq!(first["target"], "tidegate::disk");
        assert_eq!(first["message"], "opened \"x\"");
        assert_eq!(first["bytes"], 7);
        assert!(first["timestamp"].as_str().unwrap().ends_with('Z'));
        assert_eq!(text.lines().count(), 4);
        let journal = written(LogFormat::Json, LogLevel::Info, true);
        let lines: Vec<&str> = journal.lines().collect();
        assert!(lines[0].starts_with("<6>{") && lines[2].starts_with("<4>{"), "{journal}");
        let last: serde_json::Value =
            serde_json::from_str(lines[3].strip_prefix("<3>").unwrap()).unwrap();
        assert_eq!(last["message"], "two mistakes:\none\n<0>other");
    }
}
