//! The kinds of sinks: which one a URL means, which keys have a use with it, and the servers of
//! an uplink.

use tidegate_flow::Setback;

use super::document::{Section, Spot};
use super::keys::{Key, uplink};
use super::mistakes::Mistakes;
use super::sections::Reader;
#[cfg(any(feature = "web", feature = "sink-nats"))]
use crate::uplinks::TlsFiles;
#[cfg(feature = "sink-s3")]
use crate::uplinks::{Addressing, S3Options, S3Target};
#[cfg(feature = "sink-http")]
use crate::uplinks::{HttpOptions, HttpTarget};
use crate::uplinks::{MqttTarget, Target, TargetError, TargetOptions, Unready};
#[cfg(feature = "sink-nats")]
use crate::uplinks::{NatsOptions, NatsTarget};
#[cfg(feature = "web")]
use tidegate_uplink::BodyFormat;

/// A kind of sink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sink {
    Mqtt,
    Http,
    Nats,
    S3,
}

/// Schemes of URLs and the sinks that they mean.
const SCHEMES: &[(&str, Sink)] = &[
    ("mqtt", Sink::Mqtt),
    ("mqtts", Sink::Mqtt),
    ("https", Sink::Http),
    ("http", Sink::Http),
    ("nats", Sink::Nats),
    ("tls", Sink::Nats),
    ("s3", Sink::S3),
    ("s3+https", Sink::S3),
    ("s3+http", Sink::S3),
];

const BATCHES: &[Sink] = &[Sink::Mqtt, Sink::Http, Sink::S3];

/// Keys that have a use with some kinds only.
const OWN: &[(&Key, &[Sink])] = &[
    (&uplink::KEEP_ALIVE, &[Sink::Mqtt, Sink::Nats]),
    (&uplink::MQTT_VERSION, &[Sink::Mqtt]),
    (&uplink::MAX_MESSAGE, &[Sink::Mqtt]),
    (&uplink::TOKEN_FILE, &[Sink::Http]),
    (&uplink::REGION, &[Sink::S3]),
    (&uplink::CREDENTIALS_FILE, &[Sink::S3, Sink::Nats]),
    (&uplink::ADDRESSING, &[Sink::S3]),
    (&uplink::FORMAT, BATCHES),
    (&uplink::COMPRESSION, &[Sink::Http, Sink::S3]),
    (&uplink::BATCH_RECORDS, BATCHES),
    (&uplink::BATCH_BYTES, BATCHES),
    (&uplink::BATCH_AGE, BATCHES),
];

impl Sink {
    /// What a URL means.
    ///
    /// # Errors
    /// When its scheme is not known.
    pub(super) fn of(url: &str) -> Result<Sink, String> {
        let schemes = || SCHEMES.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
        let Some((scheme, _)) = url.split_once("://") else {
            return Err(format!("has no scheme; known: {}", schemes()));
        };
        let found = SCHEMES.iter().find(|(name, _)| *name == scheme);
        let found = found.map(|(_, sink)| *sink);
        found.ok_or_else(|| format!("scheme \"{scheme}\" is unknown; known: {}", schemes()))
    }

    fn scheme(self) -> &'static str {
        match self {
            Sink::Mqtt => "mqtt://",
            Sink::Http => "https://",
            Sink::Nats => "nats://",
            Sink::S3 => "s3://",
        }
    }

    /// Reports keys that belong to another kind.
    pub(super) fn refuse_foreign_keys(self, section: &Section<'_>, out: &mut Mistakes) {
        for (key, sinks) in OWN {
            if let Some(spot) = section.spot(key).filter(|_| !sinks.contains(&self)) {
                let theirs: Vec<_> = sinks.iter().map(|sink| sink.scheme()).collect();
                let why = if self == Sink::Nats && *sinks == BATCHES {
                    "has no use with nats://: each record is a message of its own".to_owned()
                } else {
                    format!(
                        "has no use with {}; it belongs to {}",
                        self.scheme(),
                        theirs.join(" and ")
                    )
                };
                spot.wrong(out, &why);
            }
        }
    }
}

/// What the servers of an uplink are read from.
pub(super) struct Place<'a> {
    pub(super) reader: &'a Reader<'a>,
    pub(super) gateway: &'a str,
    pub(super) uplink: &'a str,
    pub(super) section: &'a Section<'a>,
    /// Never empty.
    pub(super) urls: Vec<(Spot<'a>, String)>,
    /// For what all kinds share.
    pub(super) options: TargetOptions,
}

impl Place<'_> {
    /// The servers; `None` when a URL or a file is wrong.
    pub(super) fn target(&self, out: &mut Mistakes) -> Option<(Sink, Target)> {
        let sink = self.sink(out)?;
        sink.refuse_foreign_keys(self.section, out);
        let mut unread = Vec::new();
        let target = match sink {
            Sink::Mqtt => {
                let (gateway, uplink, options) = (self.gateway, self.uplink, &self.options);
                let parse = |url: &str| MqttTarget::parse(gateway, uplink, url, options.clone());
                self.servers(parse, &mut unread, out).map(Target::Mqtt)
            }
            Sink::Http => self.http(&mut unread, out),
            Sink::Nats => self.nats(&mut unread, out),
            Sink::S3 => self.s3(&mut unread, out),
        };
        match target {
            Some(target) => Some((sink, target)),
            None => self.unready(sink, unread).map(|unready| (sink, Target::Unready(unready))),
        }
    }

    /// An uplink of which nothing is wrong but files that cannot be read yet.
    fn unready(&self, sink: Sink, unread: Vec<TargetError>) -> Option<Unready> {
        let first = unread.first()?;
        Some(Unready {
            config: self.reader.file.to_owned(),
            uplink: self.uplink.to_owned(),
            endpoints: self.urls.len(),
            sealed: sink == Sink::S3,
            setback: match sink {
                Sink::Mqtt | Sink::S3 => Setback::Unseen,
                Sink::Http => Setback::SentAgain,
                Sink::Nats => Setback::Told,
            },
            why: first.to_string(),
        })
    }

    /// The one kind of all URLs.
    fn sink(&self, out: &mut Mistakes) -> Option<Sink> {
        let mut kind = None;
        for (spot, url) in &self.urls {
            let wrong = match (Sink::of(url), kind) {
                (Err(why), _) => why,
                (Ok(sink), Some(first)) if sink != first => {
                    "is of another kind than the URL before it; write an uplink for each".to_owned()
                }
                (Ok(sink), _) => {
                    kind = Some(sink);
                    continue;
                }
            };
            spot.wrong_shown_as(&format!("\"{}\"", crate::uplinks::masked(url)), out, &wrong);
            return None;
        }
        kind
    }

    #[cfg(feature = "sink-http")]
    fn http(&self, unread: &mut Vec<TargetError>, out: &mut Mistakes) -> Option<Target> {
        let options = HttpOptions {
            tls: self.tls(),
            token_file: self.reader.path(self.section, &uplink::TOKEN_FILE, out),
            format: self.format(BodyFormat::Cbor, out),
            gzip: self.is_compressed(out),
        };
        let parse = |url: &str| HttpTarget::parse(self.gateway, url, options.clone());
        self.servers(parse, unread, out).map(Target::Http)
    }

    #[cfg(feature = "sink-nats")]
    fn nats(&self, unread: &mut Vec<TargetError>, out: &mut Mistakes) -> Option<Target> {
        let options = NatsOptions {
            tls: self.tls(),
            credentials_file: self.reader.path(self.section, &uplink::CREDENTIALS_FILE, out),
            keep_alive: self.options.keep_alive,
            connect_timeout: self.options.connect_timeout,
        };
        let (gateway, uplink) = (self.gateway, self.uplink);
        let parse = |url: &str| NatsTarget::parse(gateway, uplink, url, options.clone());
        self.servers(parse, unread, out).map(Target::Nats)
    }

    #[cfg(feature = "sink-s3")]
    fn s3(&self, unread: &mut Vec<TargetError>, out: &mut Mistakes) -> Option<Target> {
        let addressing = match self.section.choice(&uplink::ADDRESSING, out) {
            "path" => Some(Addressing::Path),
            "virtual-host" => Some(Addressing::VirtualHost),
            _ => None,
        };
        let options = S3Options {
            tls: self.tls(),
            region: self.section.text(&uplink::REGION, out),
            credentials_file: self.reader.path(self.section, &uplink::CREDENTIALS_FILE, out),
            addressing,
            format: self.format(BodyFormat::Ndjson, out),
            gzip: self.is_compressed(out),
        };
        let parse = |url: &str| S3Target::parse(self.gateway, url, options.clone());
        self.servers(parse, unread, out).map(Target::S3)
    }

    #[cfg(not(feature = "sink-http"))]
    fn http(&self, unread: &mut Vec<TargetError>, out: &mut Mistakes) -> Option<Target> {
        unread.clear();
        self.not_built("sink-http", out)
    }

    #[cfg(not(feature = "sink-nats"))]
    fn nats(&self, unread: &mut Vec<TargetError>, out: &mut Mistakes) -> Option<Target> {
        unread.clear();
        self.not_built("sink-nats", out)
    }

    #[cfg(not(feature = "sink-s3"))]
    fn s3(&self, unread: &mut Vec<TargetError>, out: &mut Mistakes) -> Option<Target> {
        unread.clear();
        self.not_built("sink-s3", out)
    }

    #[cfg(not(all(feature = "sink-http", feature = "sink-nats", feature = "sink-s3")))]
    fn not_built(&self, feature: &str, out: &mut Mistakes) -> Option<Target> {
        let (spot, url) = self.urls.first()?;
        let why = format!("this program was built without that sink (cargo feature {feature})");
        spot.wrong_shown_as(&format!("\"{}\"", crate::uplinks::masked(url)), out, &why);
        None
    }

    #[cfg(any(feature = "web", feature = "sink-nats"))]
    fn tls(&self) -> TlsFiles {
        self.options.tls.clone()
    }

    #[cfg(feature = "web")]
    fn format(&self, default: BodyFormat, out: &mut Mistakes) -> BodyFormat {
        match self.section.choice(&uplink::FORMAT, out) {
            "cbor" => BodyFormat::Cbor,
            "ndjson" => BodyFormat::Ndjson,
            _ => default,
        }
    }

    #[cfg(feature = "web")]
    fn is_compressed(&self, out: &mut Mistakes) -> bool {
        self.section.choice(&uplink::COMPRESSION, out) != "none"
    }

    fn servers<T>(
        &self,
        parse: impl Fn(&str) -> Result<T, Vec<TargetError>>,
        unread: &mut Vec<TargetError>,
        out: &mut Mistakes,
    ) -> Option<Vec<T>> {
        let mut servers = Vec::new();
        let mut told: Vec<TargetError> = Vec::new();
        let strict = self.reader.looks_at_the_machine();
        for (spot, url) in &self.urls {
            match parse(url) {
                Ok(server) => servers.push(server),
                Err(mistakes) => {
                    for mistake in mistakes {
                        // What is wrong with a file is wrong for each server: told once.
                        if mistake.later && !strict {
                            unread.push(mistake);
                        } else if mistake.key == "url" || !told.contains(&mistake) {
                            self.report(spot, &mistake, out);
                            told.push(mistake);
                        }
                    }
                }
            }
        }
        if !told.is_empty() {
            unread.clear();
        }
        (told.is_empty() && unread.is_empty()).then_some(servers)
    }

    fn report(&self, url: &Spot<'_>, mistake: &TargetError, out: &mut Mistakes) {
        let shown = format!("\"{}\"", mistake.value);
        if mistake.key == uplink::URL.name {
            return url.wrong_shown_as(&shown, out, &mistake.why);
        }
        let key = uplink::SECTION.keys.iter().find(|key| key.name == mistake.key);
        match key.and_then(|key| self.section.spot(key)) {
            Some(spot) => spot.wrong_shown_as(&shown, out, &mistake.why),
            None => self.section.wrong_absent(mistake.key, out, &mistake.why),
        }
    }
}
