//! What can be told of a module before the engine reads it: its sections, and how much of
//! everything it has.
//!
//! A few bytes of a module can cost many times their number in the engine: a million types or
//! exports in tables, 50,000 locals for four bytes, which are also cleared by each call of their
//! function for the fuel of one instruction. The bounds here are far above what compilers make of
//! real sources, and keep the cost of a module near that of its bytes.
//!
//! Whatever cannot be followed here is refused, so that nothing passes by uncounted.

use crate::install::InstallError;
use crate::limits::Limits;

/// Function types. Each costs about 100 bytes and a look-up.
const MAX_TYPES: usize = 1_000;
/// Imports: there are five, and each may be named more than once.
const MAX_IMPORTS: usize = 100;
/// Exports. Each costs about 100 bytes beside its name.
const MAX_EXPORTS: usize = 1_000;
/// Bytes of the section of elements: 10,000 of the longest kind. Each costs 40 bytes.
const MAX_ELEMENT_BYTES: usize = 64 << 10;
/// Locals of one function. A call clears them, 8 bytes each, for the fuel of one instruction:
/// with 1,000 of them, 0.1 us.
pub(crate) const MAX_LOCALS: usize = 1_000;

const TYPES: u8 = 1;
const IMPORTS: u8 = 2;
const EXPORTS: u8 = 7;
const START: u8 = 8;
const ELEMENTS: u8 = 9;
const CODE: u8 = 10;

/// Walks over the sections, which are all that follows the header: `id, size, bytes`.
pub(crate) fn check(mut sections: &[u8], limits: &Limits) -> Result<(), InstallError> {
    while let Some((&id, rest)) = sections.split_first() {
        let (body, rest) = sized(rest).ok_or_else(|| broken(id))?;
        sections = rest;
        match id {
            TYPES => at_most(MAX_TYPES, "types", count(id, body)?)?,
            IMPORTS => at_most(MAX_IMPORTS, "imports", count(id, body)?)?,
            EXPORTS => at_most(MAX_EXPORTS, "exports", count(id, body)?)?,
            START => return Err(InstallError::StartFunction),
            ELEMENTS => at_most(MAX_ELEMENT_BYTES, "bytes of elements", body.len())?,
            CODE => {
                at_most(limits.code_bytes, "bytes of code (code_bytes)", body.len())?;
                check_locals(body)?;
            }
            // Memories, tables, globals and data have limits in the engine, or cost what they
            // weigh; nothing of a custom section is kept.
            _ => {}
        }
    }
    Ok(())
}

/// Walks over the bodies: `size, groups of locals, instructions`; a group: `count, type`.
fn check_locals(body: &[u8]) -> Result<(), InstallError> {
    let (functions, mut rest) = leb128(body).ok_or_else(|| broken(CODE))?;
    for _ in 0..functions {
        let (function, next) = sized(rest).ok_or_else(|| broken(CODE))?;
        rest = next;
        let (groups, mut groups_left) = leb128(function).ok_or_else(|| broken(CODE))?;
        let mut locals = 0usize;
        for _ in 0..groups {
            let (more, next) = leb128(groups_left).ok_or_else(|| broken(CODE))?;
            // Types of more than one byte belong to features that are switched off.
            let [0x6f | 0x70 | 0x7b..=0x7f, next @ ..] = next else { return Err(broken(CODE)) };
            groups_left = next;
            locals = locals.saturating_add(more);
            at_most(MAX_LOCALS, "locals in one function", locals)?;
        }
    }
    Ok(())
}

fn at_most(max: usize, what: &'static str, count: usize) -> Result<(), InstallError> {
    if count > max { Err(InstallError::TooMany { what, count, max }) } else { Ok(()) }
}

fn count(id: u8, body: &[u8]) -> Result<usize, InstallError> {
    leb128(body).map(|(count, _)| count).ok_or_else(|| broken(id))
}

fn broken(id: u8) -> InstallError {
    InstallError::Invalid { text: format!("its section {id} is cut off or malformed") }
}

/// What stands behind its own length, and the rest.
fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (size, rest) = leb128(bytes)?;
    rest.split_at_checked(size)
}

/// A number of at most 32 bits, and the rest.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (index, &byte) in bytes.iter().enumerate().take(5) {
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).ok()?;
            return Some((usize::try_from(value).ok()?, &bytes[index + 1..]));
        }
    }
    None
}
