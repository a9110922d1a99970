//! Where a replay has its records from: a gateway that runs, the store of one that does not, or an
//! exported file. One page in memory at a time.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

use anyhow::Context;
use tidegate_fixtures::parse_moment;

use super::super::Failure;
use crate::core_handle::{ExportPage, MAX_PAGE_RECORDS};
use crate::export::{CarriedRecord, ItemReader};

/// One end of a range of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// A sequence.
    Seq(u64),
    /// A time of receipt, milliseconds since 1970.
    Time(i64),
}

impl std::str::FromStr for End {
    type Err = String;

    fn from_str(text: &str) -> Result<End, String> {
        if let Ok(seq) = text.parse() {
            return Ok(End::Seq(seq));
        }
        parse_moment(text)
            .map(End::Time)
            .ok_or_else(|| "neither a sequence nor a time such as 2026-01-01T00:00:00Z".to_owned())
    }
}

/// Which records are wanted, both ends included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    pub(super) from: Option<End>,
    pub(super) to: Option<End>,
}

impl Range {
    fn has(&self, record: &CarriedRecord) -> bool {
        let after = match self.from {
            Some(End::Seq(seq)) => record.seq >= seq,
            Some(End::Time(ms)) => record.unix_ms >= ms,
            None => true,
        };
        let before = match self.to {
            Some(End::Seq(seq)) => record.seq <= seq,
            Some(End::Time(ms)) => record.unix_ms <= ms,
            None => true,
        };
        after && before
    }

    /// Nothing that follows is in it. Times may go back where a clock was set; sequences do not.
    fn is_over(&self, record: &CarriedRecord) -> bool {
        matches!(self.to, Some(End::Seq(seq)) if record.seq > seq)
    }

    fn first_seq(&self) -> u64 {
        match self.from {
            Some(End::Seq(seq)) => seq.max(1),
            Some(End::Time(_)) | None => 1,
        }
    }
}

/// Gives the records from a sequence on, at most so many.
pub(super) type Pages<'p> = Box<dyn FnMut(u64, usize) -> Result<ExportPage, Failure> + 'p>;

/// Records in order.
pub(super) struct Records<'p> {
    from: From<'p>,
    range: Range,
    over: bool,
}

enum From<'p> {
    File(Box<ItemReader<BufReader<File>>>),
    Pages {
        pages: Pages<'p>,
        page: VecDeque<CarriedRecord>,
        next: u64,
        /// What came in since the first page does not count, or a busy stream would never end.
        end: Option<u64>,
    },
}

impl<'p> Records<'p> {
    /// Reads an exported file.
    pub(super) fn of_file(file: &Path, range: Range) -> Result<Self, Failure> {
        let opened = File::open(file).with_context(|| format!("cannot open {}", file.display()))?;
        let reader = ItemReader::open(BufReader::new(opened))
            .with_context(|| format!("{} is no export", file.display()))?;
        Ok(Self { from: From::File(Box::new(reader)), range, over: false })
    }

    /// Asks for a page after the other.
    pub(super) fn of_pages(pages: Pages<'p>, range: Range) -> Self {
        let (page, next) = (VecDeque::new(), range.first_seq());
        Self { from: From::Pages { pages, page, next, end: None }, range, over: false }
    }

    /// The next record that is wanted; `None` behind the last one.
    pub(super) fn next(&mut self) -> Result<Option<CarriedRecord>, Failure> {
        while !self.over {
            let Some(record) = self.from.next()? else { break };
            if self.range.is_over(&record) {
                break;
            }
            if self.range.has(&record) {
                return Ok(Some(record));
            }
        }
        self.over = true;
        Ok(None)
    }
}

impl From<'_> {
    fn next(&mut self) -> Result<Option<CarriedRecord>, Failure> {
        match self {
            From::File(reader) => Ok(reader.next_record().map_err(anyhow::Error::from)?),
            From::Pages { pages, page, next, end } => loop {
                let end_now = end.unwrap_or(u64::MAX);
                if let Some(record) = page.pop_front() {
                    return Ok((record.seq < end_now).then_some(record));
                }
                if *next >= end_now {
                    return Ok(None);
                }
                let found = pages(*next, MAX_PAGE_RECORDS)?;
                end.get_or_insert(found.end);
                if found.next <= *next {
                    return Ok(None);
                }
                *next = found.next;
                page.extend(found.records);
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_sequences_or_times() {
        assert_eq!("17".parse(), Ok(End::Seq(17)));
        assert_eq!("2026-01-01T00:00:00Z".parse(), Ok(End::Time(1_767_225_600_000)));
        assert!("yesterday".parse::<End>().is_err());
    }

    #[test]
    fn pages_are_read_to_the_end_that_the_first_one_names() {
        let pages = |from: u64, _: usize| {
            let record =
                |seq| CarriedRecord { seq, unix_ms: seq as i64, ..CarriedRecord::default() };
            let records = (from..from + 3).filter(|seq| seq % 5 != 0).map(record).collect();
            let end = if from < 4 { 12 } else { 1000 };
            Ok(ExportPage { gateway: "g".to_owned(), records, next: from + 3, end })
        };
        let seqs = |from: Option<End>, to: Option<End>| {
            let mut records = Records::of_pages(Box::new(pages), Range { from, to });
            std::iter::from_fn(|| records.next().unwrap()).map(|record| record.seq).collect()
        };
        let found: Vec<u64> = seqs(None, None);
        assert_eq!(found, [1, 2, 3, 4, 6, 7, 8, 9, 11]);
        let found: Vec<u64> = seqs(Some(End::Seq(3)), Some(End::Seq(6)));
        assert_eq!(found, [3, 4, 6]);
        let found: Vec<u64> = seqs(Some(End::Time(7)), Some(End::Time(9)));
        assert_eq!(found, [7, 8, 9]);
    }
}
