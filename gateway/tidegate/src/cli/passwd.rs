//! `tidegate mqtt passwd`

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, bail};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};

use super::Failure;
use crate::links::{Users, hash_password, is_user_name};

/// Longest password; MQTT itself allows 65,535 bytes.
const MAX_PASSWORD: usize = 1024;

/// Hashes a password, and prints the line or puts it into a file.
pub(super) fn passwd(user: &str, file: Option<&Path>, out: &mut dyn Write) -> Result<(), Failure> {
    check_name(user)?;
    let password = read_password(user)?;
    let hash = hash_password(password.as_bytes()).map_err(anyhow::Error::msg)?;
    let line = format!("{user}:{hash}");
    let Some(file) = file else {
        writeln!(out, "{line}")?;
        return Ok(());
    };
    let replaced = rewrite(file, user, Some(&line), check_users)?;
    let done = if replaced { "has a new password" } else { "is added" };
    writeln!(out, "{user} {done}; a running gateway notices within seconds")?;
    Ok(())
}

/// Takes a user out of a file.
pub(super) fn remove(user: &str, file: &Path, out: &mut dyn Write) -> Result<(), Failure> {
    check_name(user)?;
    if !rewrite(file, user, None, check_users)? {
        return Err(anyhow::anyhow!("{}: there is no user {user}", file.display()).into());
    }
    writeln!(out, "{user} is removed; a running gateway notices within seconds")?;
    Ok(())
}

fn check_name(user: &str) -> Result<(), Failure> {
    if is_user_name(user) {
        return Ok(());
    }
    let allowed = "1 to 256 bytes, no colon, no control characters, not beginning with #";
    Err(Failure::Wrong(format!("\"{user}\" is no user name; allowed: {allowed}")))
}

fn check_users(file: &Path) -> Result<(), String> {
    Users::load(file).map(drop)
}

/// Replaces the line of a name in a file of lines `NAME:...`, or adds it, or takes it out, so that
/// the file is always whole, closed to others, and passes the check. True when the name was there.
pub(super) fn rewrite(
    file: &Path,
    user: &str,
    line: Option<&str>,
    check: impl Fn(&Path) -> Result<(), String>,
) -> anyhow::Result<bool> {
    let shown = file.display();
    let before = match fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error).with_context(|| format!("cannot read {shown}")),
    };
    let is_user = |text: &str| text.split_once(':').is_some_and(|(name, _)| name.trim() == user);
    let mut found = false;
    let mut after = String::new();
    for old in before.lines() {
        let own = is_user(old);
        let kept = if own { line.filter(|_| !found) } else { Some(old) };
        found |= own;
        if let Some(kept) = kept {
            after.push_str(kept);
            after.push('\n');
        }
    }
    if let Some(line) = line.filter(|_| !found) {
        after.push_str(line);
        after.push('\n');
    }
    let mut name = file.file_name().context("the file has no name")?.to_owned();
    name.push(".new");
    let new = file.with_file_name(name);
    write_closed(&new, file, &after).with_context(|| format!("cannot write {}", new.display()))?;
    if !after.is_empty() {
        check(&new).map_err(|why| anyhow::anyhow!("nothing is changed: {why}"))?;
    }
    fs::rename(&new, file).with_context(|| format!("cannot replace {shown}"))?;
    Ok(found)
}

/// Writes a file with the mode and the owner of the one it will replace, or closed to others.
fn write_closed(new: &Path, old: &Path, text: &str) -> io::Result<()> {
    let _ = fs::remove_file(new);
    let mut open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(new)?;
    open.write_all(text.as_bytes())?;
    if let Ok(about) = fs::metadata(old) {
        use std::os::unix::fs::MetadataExt;
        open.set_permissions(about.permissions())?;
        // Only root may give a file away; then a daemon of another user can still read it.
        let _ = std::os::unix::fs::fchown(&open, Some(about.uid()), Some(about.gid()));
    }
    open.sync_all()
}

/// A password from the terminal, asked twice and not shown, or the first line of standard input.
fn read_password(user: &str) -> anyhow::Result<String> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let first = hidden(&format!("Password of {user}: "))?;
        if hidden("The same again: ")? != first {
            bail!("the two are not the same");
        }
        first
    } else {
        line(&mut stdin.lock())?
    };
    if password.is_empty() || password.len() > MAX_PASSWORD {
        bail!("a password of {} bytes; allowed: 1 to {MAX_PASSWORD}", password.len());
    }
    Ok(password)
}

fn line(input: &mut impl BufRead) -> anyhow::Result<String> {
    let mut text = String::new();
    let mut limited = Read::by_ref(input).take(MAX_PASSWORD as u64 + 2);
    limited.read_line(&mut text).context("cannot read a password")?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

/// Asks on the terminal, without showing what is typed.
pub(super) fn hidden(question: &str) -> anyhow::Result<String> {
    let terminal = File::open("/dev/tty").context("cannot open the terminal")?;
    let mut out = io::stderr();
    write!(out, "{question}")?;
    out.flush()?;
    let shown = tcgetattr(&terminal)?;
    let mut silent = shown.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    tcsetattr(&terminal, OptionalActions::Flush, &silent)?;
    let text = line(&mut io::BufReader::new(&terminal));
    tcsetattr(&terminal, OptionalActions::Flush, &shown)?;
    writeln!(out)?;
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn users_are_added_changed_and_removed_in_a_closed_file() {
        let scratch = Scratch::new();
        let file = scratch.path().join("users");
        let line = |user: &str| format!("{user}:{}", hash_password(b"pw").unwrap());
        let (ann, bob, other) = (line("ann"), line("bob"), line("ann"));
        assert!(!rewrite(&file, "ann", Some(&ann), check_users).unwrap());
        assert!(!rewrite(&file, "bob", Some(&bob), check_users).unwrap());
        assert!(rewrite(&file, "ann", Some(&other), check_users).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{other}\n{bob}\n"));
        assert!(rewrite(&file, "ann", None, check_users).unwrap());
        assert!(!rewrite(&file, "ann", None, check_users).unwrap());
        assert_eq!(fs::read_to_string(&file).unwrap(), format!("{bob}\n"));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_file_with_mistakes_stays_as_it_is() {
        let scratch = Scratch::new();
        let file = scratch.path().join("users");
        fs::write(&file, "eve:secret\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        let line = format!("ann:{}", hash_password(b"pw").unwrap());
        let error = rewrite(&file, "ann", Some(&line), check_users).unwrap_err().to_string();
        assert!(error.contains("user eve") && !error.contains("secret"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "eve:secret\n");
    }

    #[test]
    fn a_password_is_one_line() {
        assert_eq!(line(&mut &b"pw with space \nmore"[..]).unwrap(), "pw with space ");
        assert_eq!(line(&mut &b"pw"[..]).unwrap(), "pw");
    }
}
