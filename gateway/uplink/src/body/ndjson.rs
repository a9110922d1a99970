//! The batch as one JSON object a line. Each line names gateway, epoch and stream, so that lines
//! of many batches may be put together, cut apart and sorted.

use std::fmt::Write;

use super::{BODY_VERSION, capacity};
use crate::batch::Batch;
use crate::envelope::Clock;
use crate::record::OutboundRecord;

/// Names, quotes and numbers of a line, rounded up.
const AROUND: usize = 256;

pub(super) fn encode(gateway: &str, batch: &Batch) -> Vec<u8> {
    let mut out = String::with_capacity(capacity(batch, AROUND));
    let mut source = String::new();
    source.push_str("{\"v\":");
    number(&mut source, BODY_VERSION);
    member(&mut source, "gateway", gateway);
    source.push_str(",\"epoch\":");
    number(&mut source, batch.epoch.0);
    member(&mut source, "stream", &batch.stream);
    for record in &batch.records {
        out.push_str(&source);
        line(&mut out, record);
    }
    out.into_bytes()
}

fn line(out: &mut String, record: &OutboundRecord) {
    out.push_str(",\"seq\":");
    number(out, record.seq.0);
    out.push_str(",\"time_ms\":");
    number(out, record.unix_ms);
    if record.clock == Clock::Unsynced {
        out.push_str(",\"clock\":\"unsynced\"");
    }
    member(out, "topic", &record.topic);
    member(out, "client", &record.client);
    if let Some(key) = &record.key {
        member(out, "key", key);
    }
    if let Some(publisher) = record.publisher {
        out.push_str(",\"publisher\":{\"boot\":");
        number(out, publisher.boot);
        out.push_str(",\"seq\":");
        number(out, publisher.seq);
        out.push('}');
    }
    if record.retain {
        out.push_str(",\"retain\":true");
    }
    if let Some(seconds) = record.expiry_s {
        out.push_str(",\"expiry_s\":");
        number(out, seconds);
    }
    if let Some(topic) = &record.response_topic {
        member(out, "response_topic", topic);
    }
    if let Some(correlation) = &record.correlation {
        out.push_str(",\"correlation_base64\":");
        base64(out, correlation);
    }
    if !record.user.is_empty() {
        user(out, &record.user);
    }
    if let Some(kind) = &record.content_type {
        member(out, "content_type", kind);
    }
    if record.payload_is_text {
        out.push_str(",\"text\":true");
    }
    payload(out, &record.payload);
    out.push_str("}\n");
}

fn user(out: &mut String, properties: &[(String, String)]) {
    out.push_str(",\"user\":[");
    for (at, (name, value)) in properties.iter().enumerate() {
        out.push_str(if at == 0 { "[" } else { ",[" });
        string(out, name);
        out.push(',');
        string(out, value);
        out.push(']');
    }
    out.push(']');
}

/// Text where the bytes are text, else base64: the bytes come back either way.
fn payload(out: &mut String, payload: &[u8]) {
    match std::str::from_utf8(payload) {
        Ok(text) => member(out, "payload", text),
        Err(_) => {
            out.push_str(",\"payload_base64\":");
            base64(out, payload);
        }
    }
}

fn member(out: &mut String, name: &str, value: &str) {
    out.push_str(",\"");
    out.push_str(name);
    out.push_str("\":");
    string(out, value);
}

fn number(out: &mut String, number: impl Into<i128>) {
    // Writing to a String cannot fail.
    let _ = write!(out, "{}", number.into());
}

/// A JSON string (RFC 8259): quotes, backslashes and control characters are escaped, nothing else.
fn string(out: &mut String, text: &str) {
    out.push('"');
    let mut plain = 0;
    for (at, byte) in text.bytes().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.push_str(&text[plain..at]);
        plain = at + 1;
        match byte {
            b'"' => out.push_str("\\\""),
            b'\\' => out.push_str("\\\\"),
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            0x08 => out.push_str("\\b"),
            0x0c => out.push_str("\\f"),
            // Writing to a String cannot fail.
            control => drop(write!(out, "\\u{control:04x}")),
        }
    }
    out.push_str(&text[plain..]);
    out.push('"');
}

/// Base64 (RFC 4648, section 4) with padding, in quotes.
fn base64(out: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    out.push('"');
    for group in bytes.chunks(3) {
        let mut three = [0; 3];
        three[..group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes([0, three[0], three[1], three[2]]);
        for digit in 0..4 {
            if digit > group.len() {
                out.push('=');
            } else {
                let value = bits >> (18 - 6 * digit) & 63;
                out.push(char::from(DIGITS[value as usize]));
            }
        }
    }
    out.push('"');
}
