//! The imports `json_find` and `json_find_each`: find values in JSON for a function, which an interpreter
//! does slowly; in one text, and in the payloads of a frame. They read with the function's own reader, so
//! that both find the same.
//!
//! Bounded, because they run beyond the guest's fuel: [`import::JSON_TEXT_BYTES`] are read once, and once
//! more for each path and each dot in one, at most 17 times, and at most [`import::JSON_ENTRIES`] entries
//! are looked at: less than a slice of fuel takes.

use std::ops::Range;

use tidegate_abi::{ENTRY_BYTES, Errno, HEADER_BYTES, import};
use tidegate_guest::json;

/// Bytes of a path in the table, and of a place: two numbers of 4 bytes.
const PAIR: usize = 8;
/// Bytes read for one unit of fuel, beside the base.
const BYTES_PER_FUEL: u64 = 8;
/// Fuel for each entry, beside its bytes.
const ENTRY_FUEL: u64 = 20;
/// Where an input frame has the number of its entries, and an entry the offset of its payload.
const COUNT_AT: usize = 8;
const PAYLOAD_AT: usize = 24;

/// Where everything is in the guest's memory.
pub(crate) struct Question {
    pub(crate) text: Option<Range<usize>>,
    /// Address and length of each path.
    pub(crate) paths: usize,
    pub(crate) count: usize,
    /// Where the places go.
    pub(crate) found: usize,
}

/// Answers it, with what it costs; an error has changed nothing.
pub(crate) fn find(memory: &mut [u8], question: &Question) -> (Result<(), Errno>, u64) {
    let mut fuel = 0;
    let places = places(memory, question, &mut fuel);
    let answered = places.and_then(|places| {
        let bytes = question.count * PAIR;
        let target = span(question.found, bytes).and_then(|range| memory.get_mut(range));
        let pairs = target.ok_or(Errno::Fault)?.as_chunks_mut::<PAIR>().0;
        for (place, pair) in places.iter().zip(pairs) {
            // Both are below the longest text.
            let [start, end] = place.map(|at| at as u64);
            *pair = (start | end << 32).to_le_bytes();
        }
        Ok(())
    });
    (answered, fuel)
}

fn places(
    memory: &[u8],
    question: &Question,
    fuel: &mut u64,
) -> Result<[[usize; 2]; import::JSON_PATHS], Errno> {
    let text = read(memory, question.text.clone())?;
    if text.len() > import::JSON_TEXT_BYTES {
        return Err(Errno::Invalid);
    }
    let paths = Paths::read(memory, question.paths, question.count, (question.found, PAIR))?;
    *fuel = paths.fuel(text);
    json::places(text, paths.known()).ok_or(Errno::Invalid)
}

/// Where everything is in the guest's memory, for the payloads of many entries.
pub(crate) struct QuestionForEach {
    /// The input frame.
    pub(crate) frame: Option<Range<usize>>,
    /// The first entry that is asked about.
    pub(crate) first: usize,
    /// Address and length of each path.
    pub(crate) paths: usize,
    pub(crate) count: usize,
    /// Where the places go, of at most so many entries.
    pub(crate) found: usize,
    pub(crate) entries: usize,
}

/// Answers it for as many entries as it can, and says for how many, with what it costs; an error has
/// changed nothing.
pub(crate) fn find_each(
    memory: &mut [u8],
    question: &QuestionForEach,
) -> (Result<usize, Errno>, u64) {
    let mut fuel = 0;
    let answered = each(memory, question, &mut fuel).map(|(entries, found)| {
        // `each` has looked whether there is room.
        if let Some(target) = memory.get_mut(question.found..question.found + found.len()) {
            target.copy_from_slice(&found);
        }
        entries
    });
    (answered, fuel)
}

/// For how many entries the answer is, and the answer.
fn each(
    memory: &[u8],
    question: &QuestionForEach,
    fuel: &mut u64,
) -> Result<(usize, Vec<u8>), Errno> {
    let frame = read(memory, question.frame.clone())?;
    let most = question.entries.min(import::JSON_ENTRIES);
    let each = most * import::JSON_PLACE_BYTES;
    let paths = Paths::read(memory, question.paths, question.count, (question.found, each))?;
    let room = paths.count * each;
    let count = number_at(frame, COUNT_AT).ok_or(Errno::Invalid)?;
    let (mut found, mut entries, mut bytes) = (Vec::with_capacity(room), 0, 0);
    for index in (question.first..count).take(most) {
        let text = payload(frame, index).ok_or(Errno::Invalid)?;
        let is_short = text.len() <= import::JSON_TEXT_BYTES;
        if is_short && bytes + text.len() > import::JSON_TEXT_BYTES {
            break;
        }
        *fuel += ENTRY_FUEL;
        let mut places = None;
        if is_short {
            bytes += text.len();
            *fuel += paths.fuel(text);
            places = json::places(text, paths.known());
        }
        for path in 0..question.count {
            let place = match &places {
                Some(places) => place(text, places[path]),
                None => (u64::from(import::JSON_UNREAD), f64::NAN),
            };
            found.extend_from_slice(&place.0.to_le_bytes());
            found.extend_from_slice(&place.1.to_le_bytes());
        }
        entries += 1;
    }
    Ok((entries, found))
}

/// Start and end of a value in one number, and the number that it is.
fn place(text: &[u8], [start, end]: [usize; 2]) -> (u64, f64) {
    let number = text.get(start..end).and_then(json::number).unwrap_or(f64::NAN);
    // Both are below the longest text.
    (start as u64 | (end as u64) << 32, number)
}

/// The payload of an entry of an input frame: what the guest has made of it, so anything.
fn payload(frame: &[u8], index: usize) -> Option<&[u8]> {
    let row = HEADER_BYTES + index.checked_mul(ENTRY_BYTES)?;
    let (at, len) = (number_at(frame, row + PAYLOAD_AT)?, number_at(frame, row + PAYLOAD_AT + 4)?);
    frame.get(span(at, len)?)
}

fn number_at(bytes: &[u8], at: usize) -> Option<usize> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u32::from_le_bytes(*bytes) as usize)
}

/// The paths of a question.
struct Paths<'a> {
    paths: [&'a str; import::JSON_PATHS],
    count: usize,
    dots: usize,
}

impl<'a> Paths<'a> {
    /// Reads the table, when there is room for the answer: from `found` on, so many bytes for each path.
    // Once in the binary, whose size has a bar.
    #[inline(never)]
    fn read(
        memory: &'a [u8],
        table: usize,
        count: usize,
        (found, each): (usize, usize),
    ) -> Result<Self, Errno> {
        if count > import::JSON_PATHS {
            return Err(Errno::Invalid);
        }
        let table = read(memory, span(table, count * PAIR))?;
        read(memory, span(found, count * each))?;
        let mut this = Self { paths: [""; import::JSON_PATHS], count, dots: 0 };
        for (path, pair) in this.paths.iter_mut().zip(table.as_chunks::<PAIR>().0) {
            let [a, b, c, d, e, f, g, h] = *pair;
            let [at, len] = [[a, b, c, d], [e, f, g, h]].map(|n| u32::from_le_bytes(n) as usize);
            let bytes = read(memory, span(at, len))?;
            if len > import::JSON_PATH_BYTES {
                return Err(Errno::Invalid);
            }
            *path = std::str::from_utf8(bytes).map_err(|_| Errno::Invalid)?;
            this.dots += path.bytes().filter(|byte| *byte == b'.').count();
        }
        if this.dots > import::JSON_DOTS {
            return Err(Errno::Invalid);
        }
        Ok(this)
    }

    fn known(&self) -> &[&'a str] {
        &self.paths[..self.count]
    }

    /// What it costs to look for all of them.
    fn fuel(&self, text: &[u8]) -> u64 {
        (text.len() * (1 + self.count + self.dots)) as u64 / BYTES_PER_FUEL
    }
}

fn read(memory: &[u8], range: Option<Range<usize>>) -> Result<&[u8], Errno> {
    range.and_then(|range| memory.get(range)).ok_or(Errno::Fault)
}

fn span(at: usize, len: usize) -> Option<Range<usize>> {
    Some(at..at.checked_add(len)?)
}
