//! Reads a batch, CBOR or NDJSON: `docs/formats/batch.md`.

use anyhow::{Context, Result, bail, ensure};
use ciborium::Value;

/// Records of one stream and one epoch.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Whose they are.
    pub gateway: String,
    /// Epoch of all of them.
    pub epoch: u32,
    /// Name of the stream.
    pub stream: String,
    /// By rising sequence, never empty.
    pub records: Vec<Record>,
}

/// What the table has columns for, and the rest as JSON.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// Number in the stream.
    pub seq: u64,
    /// Time of receipt.
    pub unix_ms: i64,
    /// Topic at the gateway.
    pub topic: String,
    /// Client id of the publisher.
    pub client: String,
    /// Partition key, when the record has one.
    pub key: Option<String>,
    /// The bytes as published.
    pub payload: Vec<u8>,
    /// Everything else that the batch says about it, with the names of NDJSON.
    pub more: serde_json::Value,
}

impl Batch {
    /// Reads the body, by its content type.
    ///
    /// # Errors
    /// Says what is not as the document wants it.
    pub fn read(content_type: &str, body: &[u8]) -> Result<Batch> {
        let batch = match content_type {
            "application/cbor" => from_cbor(body)?,
            "application/x-ndjson" => from_ndjson(body)?,
            other => bail!("content type {other} is not one of this sink"),
        };
        ensure!(!batch.records.is_empty(), "the batch has no records");
        let rises = batch.records.is_sorted_by(|a, b| a.seq < b.seq);
        ensure!(rises, "the sequences do not rise");
        Ok(batch)
    }
}

/// The values of a map by their keys, which must be numbers.
struct Fields(Vec<(u64, Value)>);

impl Fields {
    fn of(value: Value) -> Result<Fields> {
        let Value::Map(pairs) = value else { bail!("not a map") };
        let pairs = pairs.into_iter().map(|(key, value)| match key {
            Value::Integer(key) => Ok((u64::try_from(key)?, value)),
            _ => bail!("a key is not a number"),
        });
        Ok(Fields(pairs.collect::<Result<_>>()?))
    }

    fn take(&mut self, key: u64) -> Option<Value> {
        let at = self.0.iter().position(|(found, _)| *found == key)?;
        Some(self.0.swap_remove(at).1)
    }

    fn required(&mut self, key: u64) -> Result<Value> {
        self.take(key).with_context(|| format!("field {key} is missing"))
    }

    fn text(&mut self, key: u64) -> Result<String> {
        text(self.required(key)?).with_context(|| format!("field {key}"))
    }

    fn number(&mut self, key: u64) -> Result<u64> {
        number(&self.required(key)?).with_context(|| format!("field {key}"))
    }
}

fn from_cbor(body: &[u8]) -> Result<Batch> {
    let mut rest = body;
    let value: Value = ciborium::from_reader(&mut rest).context("not CBOR")?;
    ensure!(rest.is_empty(), "{} bytes follow the batch", rest.len());
    let mut fields = Fields::of(value)?;
    let version = fields.number(0)?;
    ensure!(version == 1, "version {version} is not known here");
    let gateway = fields.text(1)?;
    let epoch = u32::try_from(fields.number(2)?).context("epoch")?;
    let stream = fields.text(3)?;
    let Value::Array(records) = fields.required(4)? else { bail!("field 4 is no list") };
    let records = records.into_iter().map(cbor_record).collect::<Result<_>>()?;
    Ok(Batch { gateway, epoch, stream, records })
}

fn cbor_record(value: Value) -> Result<Record> {
    let mut fields = Fields::of(value)?;
    let seq = fields.number(0)?;
    let Value::Integer(unix_ms) = fields.required(1)? else { bail!("field 1 is no number") };
    let unix_ms = i64::try_from(unix_ms).context("field 1")?;
    let (topic, client) = (fields.text(2)?, fields.text(3)?);
    let Value::Bytes(payload) = fields.required(4)? else { bail!("field 4 is no byte string") };
    let key = fields.take(14).map(text).transpose().context("field 14")?;
    let mut more = serde_json::Map::new();
    let names = [
        (5, "clock"),
        (6, "publisher"),
        (7, "retain"),
        (8, "expiry_s"),
        (9, "response_topic"),
        (10, "correlation_base64"),
        (11, "user"),
        (12, "content_type"),
        (13, "text"),
    ];
    for (key, name) in names {
        let Some(value) = fields.take(key) else { continue };
        let json = match (key, value) {
            (5, Value::Bool(true)) => "unsynced".into(),
            (6, Value::Array(pair)) if pair.len() == 2 => {
                serde_json::json!({ "boot": number(&pair[0])?, "seq": number(&pair[1])? })
            }
            (7 | 13, Value::Bool(true)) => true.into(),
            (8, seconds) => u32::try_from(number(&seconds)?).context("field 8")?.into(),
            (9 | 12, value) => text(value)?.into(),
            (10, Value::Bytes(bytes)) => base64(&bytes).into(),
            (11, Value::Array(pairs)) => user(pairs)?,
            (key, _) => bail!("field {key} is not what the document says"),
        };
        more.insert(name.to_owned(), json);
    }
    Ok(Record { seq, unix_ms, topic, client, key, payload, more: more.into() })
}

fn user(pairs: Vec<Value>) -> Result<serde_json::Value> {
    let pair = |pair: Value| match pair {
        Value::Array(pair) => Ok(serde_json::Value::Array(
            pair.into_iter().map(|part| Ok(text(part)?.into())).collect::<Result<_>>()?,
        )),
        _ => bail!("field 11 holds something other than pairs"),
    };
    Ok(serde_json::Value::Array(pairs.into_iter().map(pair).collect::<Result<_>>()?))
}

fn text(value: Value) -> Result<String> {
    let Value::Text(text) = value else { bail!("not text") };
    Ok(text)
}

fn number(value: &Value) -> Result<u64> {
    let Value::Integer(number) = value else { bail!("not a number") };
    Ok(u64::try_from(*number)?)
}

fn from_ndjson(body: &[u8]) -> Result<Batch> {
    let text = std::str::from_utf8(body).context("not UTF-8")?;
    let mut batch: Option<Batch> = None;
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).context("a line is not JSON")?;
        let serde_json::Value::Object(mut line) = line else { bail!("a line is no object") };
        let version = line.remove("v").and_then(|version| version.as_u64());
        ensure!(version == Some(1), "version {version:?} is not known here");
        let mut string = |name: &str| match line.remove(name) {
            Some(serde_json::Value::String(text)) => Ok(text),
            _ => bail!("a line has no text {name}"),
        };
        let (gateway, stream) = (string("gateway")?, string("stream")?);
        let (topic, client) = (string("topic")?, string("client")?);
        let key = string("key").ok();
        let payload = match string("payload") {
            Ok(text) => text.into_bytes(),
            Err(_) => unbase64(&string("payload_base64")?)?,
        };
        let mut whole = |name: &str| line.remove(name).with_context(|| format!("no {name}"));
        let epoch = whole("epoch")?.as_u64().context("epoch")?;
        let seq = whole("seq")?.as_u64().context("seq")?;
        let unix_ms = whole("time_ms")?.as_i64().context("time_ms")?;
        let record = Record { seq, unix_ms, topic, client, key, payload, more: line.into() };
        let epoch = u32::try_from(epoch).context("epoch")?;
        let batch = batch.get_or_insert_with(|| Batch {
            gateway: gateway.clone(),
            epoch,
            stream: stream.clone(),
            records: Vec::new(),
        });
        let same = (&batch.gateway, batch.epoch, &batch.stream) == (&gateway, epoch, &stream);
        ensure!(same, "lines of different streams in one batch");
        batch.records.push(record);
    }
    batch.context("the body is empty")
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64(bytes: &[u8]) -> String {
    let mut text = String::new();
    for group in bytes.chunks(3) {
        let bits = group.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte));
        let bits = bits << (8 * (3 - group.len()));
        for at in 0..4 {
            let digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
            text.push(if at > group.len() { '=' } else { char::from(digit) });
        }
    }
    text
}

fn unbase64(text: &str) -> Result<Vec<u8>> {
    let digits = text.trim_end_matches('=').as_bytes();
    let mut bytes = Vec::with_capacity(digits.len());
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits {
        let value = DIGITS.iter().position(|known| known == digit).context("not base64")?;
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count & 255) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_golden_batches_say_the_same() {
        let golden = [
            (
                &include_bytes!("../../golden/batch/v1/minimal.cbor")[..],
                &include_bytes!("../../golden/batch/v1/minimal.ndjson")[..],
            ),
            (
                include_bytes!("../../golden/batch/v1/full.cbor"),
                include_bytes!("../../golden/batch/v1/full.ndjson"),
            ),
            (
                include_bytes!("../../golden/batch/v1/keyed.cbor"),
                include_bytes!("../../golden/batch/v1/keyed.ndjson"),
            ),
        ];
        for (cbor, lines) in golden {
            let cbor = Batch::read("application/cbor", cbor).unwrap();
            assert_eq!(cbor, Batch::read("application/x-ndjson", lines).unwrap());
        }
    }

    #[test]
    fn a_cut_or_lengthened_body_is_refused() {
        let golden = include_bytes!("../../golden/batch/v1/full.cbor");
        for cut in 0..golden.len() {
            assert!(Batch::read("application/cbor", &golden[..cut]).is_err(), "{cut}");
        }
        let longer = [&golden[..], &[0]].concat();
        assert!(Batch::read("application/cbor", &longer).is_err());
    }
}
