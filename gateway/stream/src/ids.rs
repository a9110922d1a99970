//! Names of things in the log: small copyable numbers that cannot be mixed up.

use std::fmt;

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A stream. Given once by name, kept for ever.
    StreamId(u16)
}
number! {
    /// A cursor over one stream.
    ReaderId(u16)
}
number! {
    /// A keyed table.
    TableId(u16)
}
number! {
    /// Sequence of a record in its stream. The first record is 1.
    Seq(u64)
}
number! {
    /// How many commits came before, since the log was opened. Not stored.
    Position(u64)
}
number! {
    /// Part of every record's identity: changes whenever a sequence might be used a second time.
    Epoch(u32)
}
number! {
    /// A segment file. Later segments have greater numbers; numbers may be skipped.
    SegmentId(u64)
}

impl Seq {
    /// The sequence `records` further on.
    #[must_use]
    pub fn plus(self, records: u64) -> Seq {
        Seq(self.0.saturating_add(records))
    }
}
