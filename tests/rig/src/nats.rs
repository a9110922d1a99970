//! Debian's nats-server with JetStream as an upstream of the process tests, and a small client to
//! make streams and read them back.
//!
//! The client shares no line with the gateway's: it is blocking, and knows just what the tests ask.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cloud::wait_for_listener;
use crate::consumer::Identity;
use crate::nkeys::Nkey;
use crate::scratch::Scratch;

/// No answer takes longer.
const ANSWER: Duration = Duration::from_secs(30);
/// Requests under way while a stream is read back.
const PIPELINE: u64 = 500;

/// Whether nats-server can be started here; if not, says on standard error how to get it.
pub fn is_installed() -> bool {
    let runs = Command::new("nats-server").arg("--version").output().is_ok();
    if !runs {
        eprintln!("skipped: nats-server is not installed (apt-get install nats-server)");
    }
    runs
}

/// A nats-server process on a port of its own, with its store in a scratch directory. Killed when
/// dropped; may be killed and started again on the same store.
#[derive(Debug)]
pub struct NatsServer {
    child: Option<Child>,
    address: SocketAddr,
    scratch: Scratch,
}

impl NatsServer {
    /// Starts it. `more` is added to its configuration.
    ///
    /// # Errors
    /// When nats-server is not installed or does not start.
    pub fn start(more: &str) -> Result<NatsServer> {
        Self::start_with("", more)
    }

    /// The same with more for its JetStream.
    ///
    /// # Errors
    /// As [`NatsServer::start`].
    pub fn start_with(jetstream: &str, more: &str) -> Result<NatsServer> {
        let scratch = Scratch::new("nats")?;
        let address = crate::ports::free()?;
        let mut server = NatsServer { child: None, address, scratch };
        server.configure(jetstream, more)?;
        server.restart()?;
        Ok(server)
    }

    /// Another configuration for its next start.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn configure(&mut self, jetstream: &str, more: &str) -> Result<()> {
        let text = format!(
            "listen: \"{}\"\njetstream {{ store_dir: \"{}\", {jetstream} }}\n{more}\n",
            self.address,
            self.scratch.path().join("store").display()
        );
        std::fs::write(self.scratch.path().join("nats.conf"), text)?;
        Ok(())
    }

    /// Starts it (again) and waits until JetStream answers.
    ///
    /// # Errors
    /// When it runs already, or does not start.
    pub fn restart(&mut self) -> Result<()> {
        ensure!(self.child.is_none(), "nats-server runs already");
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let child = Command::new("nats-server")
            .arg("-c")
            .arg(self.scratch.path().join("nats.conf"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start nats-server: apt-get install nats-server")?;
        self.child = Some(child);
        let listening = wait_for_listener(self.address);
        if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            bail!("nats-server ended at once: {status}; {}", self.log());
        }
        listening
    }

    /// `kill -9`, and waits until the process is gone.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else { bail!("nats-server does not run") };
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// Its directory.
    pub fn directory(&self) -> &std::path::Path {
        self.scratch.path()
    }

    fn log_file(&self) -> std::path::PathBuf {
        self.scratch.path().join("nats.log")
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended already; then there is nothing to kill.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A message as a stream holds it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored {
    /// Its sequence in the stream.
    pub at: u64,
    /// Its subject.
    pub subject: String,
    /// Its headers, in order, as sent.
    pub headers: Vec<(String, String)>,
    /// Its payload.
    pub payload: Vec<u8>,
}

impl Stored {
    /// Whose record it is.
    ///
    /// # Errors
    /// Names the header that is missing or malformed.
    pub fn identity(&self) -> Result<Identity> {
        Identity::parse(&self.headers)
    }

    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| &**value)
    }
}

/// A blocking connection.
#[derive(Debug)]
pub struct NatsClient {
    reader: BufReader<TcpStream>,
    inbox: u64,
}

/// An answer: its headers block and its body.
struct Reply {
    subject: String,
    headers: String,
    payload: Vec<u8>,
}

impl NatsClient {
    /// Connects.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses.
    pub fn connect(address: SocketAddr) -> Result<NatsClient> {
        Self::log_in(address, |_| json!({}))
    }

    /// Connects as a user whom an account has signed.
    ///
    /// # Errors
    /// As [`NatsClient::connect`].
    pub fn connect_as(address: SocketAddr, jwt: &str, user: &Nkey) -> Result<NatsClient> {
        Self::log_in(address, |nonce| json!({ "jwt": jwt, "sig": user.sign(nonce) }))
    }

    /// `login` has the fields that answer the server's nonce.
    fn log_in(address: SocketAddr, login: impl FnOnce(&str) -> Value) -> Result<NatsClient> {
        let stream = TcpStream::connect_timeout(&address, ANSWER)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER))?;
        let mut client = NatsClient { reader: BufReader::new(stream), inbox: 0 };
        let greeting = client.line()?;
        let info = greeting.strip_prefix("INFO ");
        let info = info.with_context(|| format!("{address} greeted with {greeting:?}"))?;
        let info: Value = serde_json::from_str(info)?;
        let mut options = json!({ "verbose": false, "pedantic": false, "lang": "rust",
            "name": "rig", "version": "1", "protocol": 1, "headers": true, "no_responders": true });
        let login = login(info["nonce"].as_str().unwrap_or_default());
        if let (Some(options), Value::Object(login)) = (options.as_object_mut(), login) {
            options.extend(login);
        }
        client.say(format!("CONNECT {options}\r\nSUB _rig.* 1\r\nPING\r\n").as_bytes())?;
        let pong = client.line()?;
        ensure!(pong == "PONG", "{address} answered CONNECT with {pong:?}");
        Ok(client)
    }

    /// Makes a stream; `more` is added to a configuration of name and subjects.
    ///
    /// # Errors
    /// When JetStream refuses.
    pub fn create_stream(&mut self, name: &str, subjects: &[&str], more: Value) -> Result<()> {
        let mut config = json!({ "name": name, "subjects": subjects, "storage": "file",
            "allow_direct": true });
        if let (Some(config), Value::Object(more)) = (config.as_object_mut(), more) {
            config.extend(more);
        }
        self.api(&format!("STREAM.CREATE.{name}"), &config).map(drop)
    }

    /// A request to JetStream's API.
    ///
    /// # Errors
    /// When it is refused; with what the server said.
    pub fn api(&mut self, path: &str, body: &Value) -> Result<Value> {
        let reply = self.request(&format!("$JS.API.{path}"), "", body.to_string().as_bytes())?;
        let answer: Value = serde_json::from_slice(&reply.payload)
            .with_context(|| format!("{path}: answered {:?}", reply.headers))?;
        match answer.get("error") {
            Some(error) => bail!("{path}: {error}"),
            None => Ok(answer),
        }
    }

    /// Publishes to a stream as anybody could; returns its acknowledgement.
    ///
    /// # Errors
    /// When no stream takes it.
    pub fn publish(&mut self, subject: &str, headers: &str, payload: &[u8]) -> Result<Value> {
        let reply = self.request(subject, headers, payload)?;
        serde_json::from_slice(&reply.payload)
            .with_context(|| format!("{subject}: answered {:?}", reply.headers))
    }

    /// How many messages a stream holds.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn count(&mut self, stream: &str) -> Result<u64> {
        let info = self.api(&format!("STREAM.INFO.{stream}"), &json!({}))?;
        info.pointer("/state/messages").and_then(Value::as_u64).context("no count of messages")
    }

    /// Everything that a stream holds, in its order.
    ///
    /// # Errors
    /// When there is no such stream.
    pub fn read(&mut self, stream: &str) -> Result<Vec<Stored>> {
        let info = self.api(&format!("STREAM.INFO.{stream}"), &json!({}))?;
        let at = |name: &str| {
            let value = info.pointer(&format!("/state/{name}")).and_then(Value::as_u64);
            value.with_context(|| format!("the stream's {name} is missing"))
        };
        let (first, last) = (at("first_seq")?, at("last_seq")?);
        let mut found = BTreeMap::new();
        let mut next = first.max(1);
        while next <= last {
            let end = last.min(next + PIPELINE - 1);
            let mut bytes = Vec::new();
            for at in next..=end {
                let body = json!({ "seq": at }).to_string();
                let path = format!("$JS.API.DIRECT.GET.{stream} _rig.read{at}");
                write!(bytes, "PUB {path} {}\r\n{body}\r\n", body.len())?;
            }
            self.say(&bytes)?;
            for _ in next..=end {
                let reply = self.reply()?;
                // 404: deleted, or never there.
                if !reply.headers.starts_with("NATS/1.0 404") {
                    let stored = stored(reply)?;
                    found.insert(stored.at, stored);
                }
            }
            next = end + 1;
        }
        Ok(found.into_values().collect())
    }

    fn request(&mut self, subject: &str, headers: &str, payload: &[u8]) -> Result<Reply> {
        self.inbox += 1;
        let answer = format!("_rig.{}", self.inbox);
        let block = format!("NATS/1.0\r\n{headers}\r\n");
        let mut bytes = Vec::new();
        write!(bytes, "HPUB {subject} {answer} {} ", block.len())?;
        write!(bytes, "{}\r\n{block}", block.len() + payload.len())?;
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(b"\r\n");
        self.say(&bytes)?;
        loop {
            let reply = self.reply()?;
            if reply.subject == answer {
                return Ok(reply);
            }
        }
    }

    fn say(&mut self, bytes: &[u8]) -> Result<()> {
        self.reader.get_mut().write_all(bytes).context("nats-server takes no more bytes")
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        let count = self.reader.read_line(&mut line).context("nats-server does not answer")?;
        ensure!(count > 0, "nats-server closed the connection");
        Ok(line.trim_end().to_owned())
    }

    /// The next message; answers PING.
    fn reply(&mut self) -> Result<Reply> {
        loop {
            let line = self.line()?;
            let words: Vec<&str> = line.split(' ').collect();
            let lengths = match words[..] {
                ["MSG", _, _, total] | ["MSG", _, _, _, total] => Some(("0", total)),
                ["HMSG", _, _, headers, total] | ["HMSG", _, _, _, headers, total] => {
                    Some((headers, total))
                }
                ["PING"] => {
                    self.say(b"PONG\r\n")?;
                    None
                }
                ["INFO", ..] | ["PONG"] | ["+OK"] => None,
                _ => bail!("nats-server said {line:?}"),
            };
            let Some((headers, total)) = lengths else { continue };
            let (headers, total): (usize, usize) = (headers.parse()?, total.parse()?);
            let mut body = vec![0; total + 2];
            self.reader.read_exact(&mut body)?;
            body.truncate(total);
            let payload = body.split_off(headers);
            let headers = String::from_utf8(body)?;
            return Ok(Reply { subject: words[1].to_owned(), headers, payload });
        }
    }
}

/// What a direct get answers: the message's own headers, and the server's about it.
fn stored(reply: Reply) -> Result<Stored> {
    let mut headers: Vec<(String, String)> = Vec::new();
    for line in reply.headers.split("\r\n").skip(1).filter(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').with_context(|| format!("header {line:?}"))?;
        headers.push((name.to_owned(), value.trim().to_owned()));
    }
    let mut servers = |name: &str| {
        let at = headers.iter().rposition(|(key, _)| key == name);
        at.map(|at| headers.remove(at).1)
            .with_context(|| format!("no {name} in {:?}", reply.headers))
    };
    let at = servers("Nats-Sequence")?.parse()?;
    let subject = servers("Nats-Subject")?;
    servers("Nats-Stream")?;
    servers("Nats-Time-Stamp")?;
    Ok(Stored { at, subject, headers, payload: reply.payload })
}
