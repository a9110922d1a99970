//! `tidegate status --watch`: the status again and again, drawn over the one before on a terminal,
//! as blocks one after the other in a pipe.

use std::io::{self, IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use rustix::termios::tcgetwinsize;
use tidegate_flow::status::Status;

use super::Failure;
use super::locate::Place;
use super::status::{amount, write};
use crate::utc::Utc;

/// To the top, left.
const HOME: &str = "\x1b[H";
/// What is left of a line, and of the screen.
const CLEAR_LINE: &str = "\x1b[K";
const CLEAR_BELOW: &str = "\x1b[J";

/// How it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Canvas {
    /// Columns and rows.
    Screen(usize, usize),
    Blocks,
}

/// Shows a gateway until Ctrl-C, or until nobody reads any more. One that does not run, or is
/// started again meanwhile, is waited for.
pub(super) fn watch(
    place: &Place,
    json: bool,
    every: Duration,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let mut before: Option<(Instant, Status)> = None;
    // A wrong configuration does not become right by waiting.
    place.data_dir()?;
    loop {
        let now = Instant::now();
        let asked = place.connect().and_then(|mut client| Ok(client.status()?));
        match asked {
            Ok(status) if json => writeln!(out, "{}", serde_json::to_string(&status)?)?,
            Ok(status) => {
                let mut text = Vec::new();
                write(&status, &mut text)?;
                if let Some((then, last)) = &before {
                    rates(last, &status, now.duration_since(*then), &mut text)?;
                }
                draw(canvas(), &String::from_utf8_lossy(&text), out)?;
                before = Some((now, status));
            }
            Err(Failure::Failed(error)) if json => {
                writeln!(out, "{{\"error\":{:?}}}", error.to_string())?;
            }
            Err(Failure::Failed(error)) => {
                draw(canvas(), &format!("{error:#}\n"), out)?;
                before = None;
            }
            Err(failure @ (Failure::Wrong(_) | Failure::Said)) => return Err(failure),
        }
        out.flush()?;
        thread::sleep(every.saturating_sub(now.elapsed()));
    }
}

fn canvas() -> Canvas {
    let stdout = io::stdout();
    match tcgetwinsize(&stdout) {
        Ok(size) if stdout.is_terminal() && size.ws_col > 0 && size.ws_row > 0 => {
            Canvas::Screen(size.ws_col.into(), size.ws_row.into())
        }
        Ok(_) | Err(_) => Canvas::Blocks,
    }
}

/// What happened a second, since the status before.
fn rates(last: &Status, now: &Status, over: Duration, out: &mut dyn Write) -> io::Result<()> {
    let seconds = over.as_secs_f64().max(0.001);
    #[expect(clippy::cast_precision_loss, reason = "differences of some seconds are small")]
    let rate = |then: u64, now: u64| now.saturating_sub(then) as f64 / seconds;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "of a positive rate"
    )]
    let bytes = |then: u64, now: u64| amount(rate(then, now) as u64);
    let (old, new) = (&last.broker, &now.broker);
    writeln!(
        out,
        "\na second: {:.0} received, {:.0} acknowledged, {:.0} delivered; {} written in {:.0} syncs",
        rate(old.received, new.received),
        rate(old.acknowledged, new.acknowledged),
        rate(old.delivered, new.delivered),
        bytes(last.disk.bytes_written, now.disk.bytes_written),
        rate(last.disk.groups, now.disk.groups)
    )?;
    for uplink in &now.uplinks {
        let Some(before) = last.uplinks.iter().find(|before| before.name == uplink.name) else {
            continue;
        };
        let sent = rate(before.acknowledged, uplink.acknowledged);
        writeln!(out, "a second: {sent:.0} messages acknowledged by {}", uplink.name)?;
    }
    Ok(())
}

fn draw(canvas: Canvas, text: &str, out: &mut dyn Write) -> io::Result<()> {
    match canvas {
        Canvas::Blocks => writeln!(out, "{}\n{text}", Utc::now()),
        Canvas::Screen(columns, rows) => {
            let head = format!("{}, every screen anew; Ctrl-C ends it", Utc::now());
            let lines: Vec<&str> = std::iter::once(head.as_str()).chain(text.lines()).collect();
            let shown = lines.iter().take(rows.saturating_sub(1).max(1));
            write!(out, "{HOME}")?;
            for line in shown {
                let cut: String = line.chars().take(columns).collect();
                writeln!(out, "{cut}{CLEAR_LINE}")?;
            }
            write!(out, "{CLEAR_BELOW}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;

    fn drawn(canvas: Canvas, text: &str) -> String {
        let mut out = Vec::new();
        draw(canvas, text, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_screen_is_drawn_over_and_never_wider_or_higher_than_it_is() {
        let text = drawn(Canvas::Screen(10, 3), "abcdefghijklm\nsecond\nthird\n");
        assert!(text.starts_with(HOME) && text.ends_with(CLEAR_BELOW), "{text:?}");
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1], format!("abcdefghij{CLEAR_LINE}"));
        assert_eq!(lines.len(), 3, "two lines and what clears the rest: {text:?}");
    }

    #[test]
    fn a_pipe_gets_blocks_without_escapes() {
        let text = drawn(Canvas::Blocks, "one\ntwo\n");
        assert!(!text.contains('\x1b'), "{text:?}");
        assert!(text.ends_with("Z\none\ntwo\n\n"), "{text:?}");
    }

    #[test]
    fn rates_are_what_came_between_two_looks() {
        let (last, mut now) = (sample::status(), sample::status());
        now.broker.received += 4_000;
        now.uplinks[0].acknowledged += 10;
        let mut out = Vec::new();
        rates(&last, &now, Duration::from_secs(2), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("a second: 2000 received, 0 acknowledged"), "{text}");
        assert!(text.contains("a second: 5 messages acknowledged by cloud"), "{text}");
    }
}
