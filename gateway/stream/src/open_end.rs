//! How much stands of a segment file that a log may be writing to: for copies of a store that is in
//! use.
//!
//! Frames follow each other without gaps, so what was read up to the first that is not whole is
//! what the file was at a moment. Behind it pieces of later frames may have been read, and others
//! not: they are no part of a copy.

use crate::frame::{Frame, Seed};
use crate::segment::{FIRST_FRAME, FileName, HEADER, HeaderFound, SegmentHeader, segment_name};

/// Where the frames of a segment end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SegmentEnd {
    /// Nothing was written to it yet, or its header is damaged: it is no part of a copy.
    Unused,
    /// Behind its last whole frame, at this offset.
    At(usize),
}

/// Whether a file of this name is a segment; those after it in the log have greater names.
#[must_use]
pub fn is_segment(name: &str) -> bool {
    matches!(FileName::parse(name), FileName::Segment(_))
}

/// The format of a segment that a newer version of this program wrote: nothing of it may be left out or changed.
#[must_use]
pub fn newer_format(bytes: &[u8]) -> Option<u16> {
    match bytes.get(..HEADER).map(SegmentHeader::decode) {
        Some(HeaderFound::Newer(version)) => Some(version),
        _ => None,
    }
}

/// Where the frames of a segment end, from the bytes of its file.
#[must_use]
pub fn segment_end(name: &str, bytes: &[u8]) -> SegmentEnd {
    let header = bytes.get(..HEADER).map(SegmentHeader::decode);
    let Some(HeaderFound::Valid(header)) = header else { return SegmentEnd::Unused };
    // What a recycled file was before.
    if segment_name(header.segment) != name {
        return SegmentEnd::Unused;
    }
    let seed = Seed::new(header.store, header.segment);
    let (mut at, mut last) = (FIRST_FRAME as usize, 0);
    while let Some(frame) = bytes.get(at..).and_then(|rest| Frame::verify(rest, seed).ok()) {
        if frame.commit <= last {
            break;
        }
        last = frame.commit;
        at += frame.padded;
    }
    SegmentEnd::At(at)
}
