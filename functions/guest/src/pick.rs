//! Values in the payloads of a whole batch. The gateway finds them, for many records at a time: a call for
//! each record costs an interpreter more than what most functions do with its values.
//!
//! What the gateway does not answer (no JSON, longer than it reads), and everything without a gateway, the
//! function reads for itself, with the same reader. What a mistake in the text is, only that one says.

use crate::batch::{Batch, Message};
use crate::function::Error;
use crate::host;
#[cfg(not(target_arch = "wasm32"))]
use crate::json;
use crate::json::{Json, JsonError};
use tidegate_abi::import::JSON_UNREAD;

/// Values that the gateway is asked about at a time: 1 KiB of the stack.
const VALUES: usize = 64;
/// What `json_find_each` says of a value: its place in the payload, start and end, the end 0 for one that is
/// not there; and the number, NaN where it is none. Numbers and not a type of their own, because an array of
/// zeros is one instruction.
const WORDS: usize = 2;

/// Start and end in one number.
fn place(start: usize, end: usize) -> u64 {
    // A payload is shorter than 4 GiB.
    start as u64 | (end as u64) << 32
}

/// What it says of a value.
fn words(text: &[u8], start: usize, end: usize) -> [u64; WORDS] {
    let number = Json::piece(text, start, end).as_f64().unwrap_or(f64::NAN);
    [place(start, end), number.to_bits()]
}

/// What a payload has at the paths of [`Batch::pick`].
#[derive(Debug, Clone, Copy)]
pub struct Picked<'a, 'p> {
    text: &'a [u8],
    words: &'p [u64],
}

impl<'a> Picked<'a, '_> {
    /// The value at the path of this number, counted from 0; `None` when there is none.
    pub fn value(&self, path: usize) -> Option<Json<'a>> {
        let place = *self.words.get(path * WORDS)?;
        let (start, end) = (place as u32, (place >> 32) as u32);
        (end > 0).then(|| Json::piece(self.text, start as usize, end as usize))
    }

    /// The number at that path; `None` when there is none, or something else, or when it is too large for
    /// an `f64`.
    pub fn number(&self, path: usize) -> Option<f64> {
        let number = f64::from_bits(*self.words.get(path * WORDS + 1)?);
        (!number.is_nan()).then_some(number)
    }
}

impl<'a> Batch<'a> {
    /// Goes through the records with the values at some paths of their payloads, names of members with
    /// dots between them, as [`Json::pick`] does for one text; ends with the first error of `see`.
    ///
    /// ```
    /// # use tidegate_guest::{Batch, Error, Out};
    /// # fn handle(batch: &Batch<'_>, out: &mut Out<'_>) -> Result<(), Error> {
    /// batch.pick(["at.value", "id"], |message, picked| {
    ///     match picked.ok().and_then(|picked| picked.number(0)) {
    ///         Some(value) if value > 30.0 => out.emit_for(&message, "alerts", message.payload()),
    ///         Some(_) => {}
    ///         None => out.nack(&message, &tidegate_guest::Nack::dead("no number at `at.value`")),
    ///     }
    ///     Ok(())
    /// })
    /// # }
    /// ```
    ///
    /// # Errors
    /// That of `see`.
    #[inline(always)] // In one place of a module.
    pub fn pick<const N: usize>(
        &self,
        paths: [&str; N],
        mut see: impl FnMut(Message<'a>, Result<Picked<'a, '_>, JsonError>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let table = host::table(&paths);
        let mut found = [0; VALUES * WORDS];
        // Without paths there is nothing to ask, and a chunk must not be empty.
        let each = (N * WORDS).max(1);
        let mut told = found.chunks_exact_mut(each).take(0);
        for message in self.messages() {
            let text = message.payload();
            let words = match told.next() {
                Some(words) => words,
                None => {
                    let count =
                        host::json_find_each(self.frame(), message.index, &table, &mut found);
                    if count == 0 {
                        found[0] = JSON_UNREAD.into();
                    }
                    told = found.chunks_exact_mut(each).take(count.max(1));
                    // More paths than there is room for the values of.
                    let Some(words) = told.next() else { return Err(too_many()) };
                    words
                }
            };
            let is_unread = words.first().is_some_and(|&place| place as u32 == JSON_UNREAD);
            let read = if is_unread { read(text, &paths, words) } else { Ok(()) };
            see(message, read.map(|()| Picked { text, words }))?;
        }
        Ok(())
    }
}

#[cold]
#[inline(never)]
fn too_many() -> Error {
    Error::new("more than 64 paths in one pick")
}

/// Finds the values without the gateway.
#[cold]
#[inline(never)]
fn read(text: &[u8], paths: &[&str], found: &mut [u64]) -> Result<(), JsonError> {
    let found = found.as_chunks_mut::<WORDS>().0.iter_mut();
    #[cfg(not(target_arch = "wasm32"))]
    if let Some(places) = json::places(text, paths) {
        for (found, [start, end]) in found.zip(places) {
            *found = words(text, start, end);
        }
        return Ok(());
    }
    let json = Json::parse(text)?;
    for (found, path) in found.zip(paths) {
        let value = json.path(path).map_or(&[][..], |value| value.bytes());
        let start = (value.as_ptr() as usize).wrapping_sub(text.as_ptr() as usize);
        let start = if value.is_empty() { 0 } else { start };
        *found = words(text, start, start + value.len());
    }
    Ok(())
}
