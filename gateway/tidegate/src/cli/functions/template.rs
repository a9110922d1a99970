//! The templates that `build.rs` has packed into the binary.

use std::io::Read;

use anyhow::{Context, bail};
use flate2::read::DeflateDecoder;

/// See `build.rs` for the format.
const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/templates.deflate"));

/// A file of a template: the path below the function's folder, and its text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct File {
    pub(super) path: String,
    pub(super) text: String,
}

/// The files of the template in this folder, and those that all templates have.
pub(super) fn files(folder: &str) -> anyhow::Result<Vec<File>> {
    let mut bytes = Vec::new();
    DeflateDecoder::new(PACKED).read_to_end(&mut bytes).context("the templates are damaged")?;
    let mut rest = bytes.as_slice();
    let mut files = Vec::new();
    while !rest.is_empty() {
        let (path, text) = next(&mut rest)?;
        let below = |folder: &str| path.strip_prefix(folder)?.strip_prefix('/');
        if let Some(path) = below(folder).or_else(|| below("common")) {
            // A file of that name in the repository would count there.
            let path = if path == "ignored" { ".gitignore" } else { path };
            files.push(File { path: path.to_owned(), text: text.to_owned() });
        }
    }
    Ok(files)
}

fn next<'a>(rest: &mut &'a [u8]) -> anyhow::Result<(&'a str, &'a str)> {
    let damaged = "the templates in this binary are damaged";
    let (&path_len, after) = rest.split_first_chunk::<2>().context(damaged)?;
    let (&text_len, after) = after.split_first_chunk::<4>().context(damaged)?;
    let path_len = usize::from(u16::from_le_bytes(path_len));
    let text_len = u32::from_le_bytes(text_len) as usize;
    if path_len + text_len > after.len() {
        bail!(damaged);
    }
    let (path, after) = after.split_at(path_len);
    let (text, after) = after.split_at(text_len);
    *rest = after;
    Ok((std::str::from_utf8(path)?, std::str::from_utf8(text)?))
}
