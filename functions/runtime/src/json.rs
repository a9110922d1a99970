//! The import `json_find`: finds values in a JSON text for a function, which an interpreter does
//! slowly. It reads with the function's own reader, so that both find the same.
//!
//! Bounded, because it runs beyond the guest's fuel: [`import::JSON_TEXT_BYTES`] are read once, and
//! once more for each path and each dot in one, at most 17 times: less than a slice of fuel takes.

use std::ops::Range;

use tidegate_abi::{Errno, import};
use tidegate_guest::json;

/// Bytes of a path in the table, and of a place: two numbers of 4 bytes.
const PAIR: usize = 8;
/// Bytes read for one unit of fuel, beside the base.
const BYTES_PER_FUEL: u64 = 8;

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
    let read =
        |range: Option<Range<usize>>| range.and_then(|range| memory.get(range)).ok_or(Errno::Fault);
    let text = read(question.text.clone())?;
    if text.len() > import::JSON_TEXT_BYTES || question.count > import::JSON_PATHS {
        return Err(Errno::Invalid);
    }
    let table = read(span(question.paths, question.count * PAIR))?;
    read(span(question.found, question.count * PAIR))?;
    let mut paths = [""; import::JSON_PATHS];
    let mut dots = 0;
    for (path, pair) in paths.iter_mut().zip(table.as_chunks::<PAIR>().0) {
        let [a, b, c, d, e, f, g, h] = *pair;
        let [at, len] = [[a, b, c, d], [e, f, g, h]].map(|n| u32::from_le_bytes(n) as usize);
        let bytes = read(span(at, len))?;
        if len > import::JSON_PATH_BYTES {
            return Err(Errno::Invalid);
        }
        *path = std::str::from_utf8(bytes).map_err(|_| Errno::Invalid)?;
        dots += path.bytes().filter(|byte| *byte == b'.').count();
    }
    if dots > import::JSON_DOTS {
        return Err(Errno::Invalid);
    }
    *fuel = (text.len() * (1 + question.count + dots)) as u64 / BYTES_PER_FUEL;
    json::places(text, &paths[..question.count]).ok_or(Errno::Invalid)
}

fn span(at: usize, len: usize) -> Option<Range<usize>> {
    Some(at..at.checked_add(len)?)
}
