//! Everything that the log knows besides the records: streams, readers, tables, the ledger, the
//! publishers. It lives in memory; sections change it, when they are committed and again when
//! they are read at recovery, and a checkpoint is a list of sections that rebuilds it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::compression;
use crate::epochs::Epochs;
use crate::expiry::Dated;
use crate::frame::{Kind, Section, put_section, sections};
use crate::ids::{Position, ReaderId, Seq, StreamId, TableId};
use crate::ledger::{Ledger, Loss};
use crate::options::{
    Compression, LogOptions, MAX_READERS, MAX_STREAMS, MAX_TABLES, Overflow, StreamConfig,
};
use crate::planted::PlantedBug;
use crate::publishers::Publishers;
use crate::record::SectionReader;
use crate::segment::Chunk;
use crate::transaction::TableChange;
use crate::varint;

/// Memory that a table entry costs besides its key and value, as counted against the limit.
const ENTRY_COST: usize = 32;

/// A stream and where its records are.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) name: String,
    pub(crate) config: StreamConfig,
    /// Oldest record kept.
    pub(crate) first: Seq,
    /// What the next record gets.
    pub(crate) next: Seq,
    /// First record that is not durable.
    pub(crate) durable: Seq,
    /// The newest commit that moved `first`, or told of damage.
    pub(crate) gone_at: Position,
    /// Where the durable records are, in order.
    pub(crate) chunks: VecDeque<Chunk>,
    /// Bytes of `chunks`.
    pub(crate) bytes: u64,
    /// Encoded bytes that are not durable yet.
    pub(crate) pending: u64,
    pub(crate) readers: Vec<ReaderId>,
    /// All that was ever lost, also what the ledger has forgotten.
    pub(crate) lost_records: u64,
    pub(crate) lost_bytes: u64,
    /// Records appended since the log was opened.
    pub(crate) appended: u64,
    pub(crate) dated: Dated,
}

impl Stream {
    fn new(name: String, config: StreamConfig) -> Stream {
        Stream {
            name,
            config,
            first: Seq(1),
            next: Seq(1),
            durable: Seq(1),
            gone_at: Position(0),
            chunks: VecDeque::new(),
            bytes: 0,
            pending: 0,
            readers: Vec::new(),
            lost_records: 0,
            lost_bytes: 0,
            appended: 0,
            dated: Dated::default(),
        }
    }
}

/// A cursor.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) name: String,
    pub(crate) stream: StreamId,
    /// First sequence not yet done.
    pub(crate) next: Seq,
    /// The same, as it is on disk.
    pub(crate) durable: Seq,
}

/// A keyed table.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: String,
    pub(crate) entries: Arc<BTreeMap<Vec<u8>, Vec<u8>>>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct State {
    pub(crate) streams: Vec<Stream>,
    pub(crate) readers: Vec<Option<Reader>>,
    pub(crate) tables: Vec<Table>,
    /// What an unknown table holds.
    pub(crate) no_entries: Arc<BTreeMap<Vec<u8>, Vec<u8>>>,
    pub(crate) table_bytes: usize,
    pub(crate) ledger: Ledger,
    pub(crate) publishers: Publishers,
    pub(crate) epochs: Epochs,
    /// Only ever by a planted bug.
    pub(crate) trims_by_fastest: bool,
}

/// A section whose checksum is right and whose content is not: written by a mistaken program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

impl State {
    pub(crate) fn stream(&self, id: StreamId) -> Option<&Stream> {
        self.streams.get(usize::from(id.0))
    }

    pub(crate) fn stream_mut(&mut self, id: StreamId) -> Option<&mut Stream> {
        self.streams.get_mut(usize::from(id.0))
    }

    pub(crate) fn reader(&self, id: ReaderId) -> Option<&Reader> {
        self.readers.get(usize::from(id.0))?.as_ref()
    }

    pub(crate) fn reader_mut(&mut self, id: ReaderId) -> Option<&mut Reader> {
        self.readers.get_mut(usize::from(id.0))?.as_mut()
    }

    pub(crate) fn table(&self, id: TableId) -> Option<&Table> {
        self.tables.get(usize::from(id.0))
    }

    /// First sequence that some reader has durably not passed; `None` without readers.
    pub(crate) fn durable_floor(&self, stream: &Stream) -> Option<Seq> {
        let floor = |id: &ReaderId| {
            let reader = self.reader(*id)?;
            // One that has just gone back wants what it had passed.
            Some(reader.durable.min(reader.next))
        };
        let floors = stream.readers.iter().filter_map(floor);
        if self.trims_by_fastest { floors.max() } else { floors.min() }
    }

    /// Whether every reader has durably passed all before `end`; not without readers.
    pub(crate) fn has_passed(&self, stream: &Stream, end: Seq) -> bool {
        self.durable_floor(stream).is_some_and(|floor| end <= floor)
    }

    pub(crate) fn define_stream(&mut self, id: StreamId, name: String, config: StreamConfig) {
        self.fill_streams(usize::from(id.0));
        if let Some(stream) = self.stream_mut(id) {
            stream.name = name;
            stream.config = config;
        } else {
            self.streams.push(Stream::new(name, config));
        }
    }

    /// Streams whose definition was lost keep their records until somebody decides.
    fn fill_streams(&mut self, len: usize) {
        while self.streams.len() < len {
            let config = StreamConfig {
                max_bytes: u64::MAX,
                retain: Duration::MAX,
                ..StreamConfig::default()
            };
            self.streams.push(Stream::new(format!("unnamed-{}", self.streams.len()), config));
        }
    }

    pub(crate) fn define_reader(&mut self, id: ReaderId, stream: StreamId, name: String, at: Seq) {
        self.drop_reader(id);
        self.fill_streams(usize::from(stream.0) + 1);
        let index = usize::from(id.0);
        if self.readers.len() <= index {
            self.readers.resize_with(index + 1, || None);
        }
        self.readers[index] = Some(Reader { name, stream, next: at, durable: at });
        if let Some(stream) = self.stream_mut(stream) {
            stream.readers.push(id);
        }
    }

    pub(crate) fn drop_reader(&mut self, id: ReaderId) {
        let Some(reader) = self.readers.get_mut(usize::from(id.0)).and_then(Option::take) else {
            return;
        };
        if let Some(stream) = self.stream_mut(reader.stream) {
            stream.readers.retain(|other| *other != id);
        }
    }

    pub(crate) fn define_table(&mut self, id: TableId, name: String) {
        let index = usize::from(id.0);
        while self.tables.len() <= index {
            let name = format!("unnamed-{}", self.tables.len());
            self.tables.push(Table { name, entries: Arc::default() });
        }
        self.tables[index].name = name;
    }

    /// What `table_bytes` would be after the changes, an upper bound.
    pub(crate) fn table_bytes_after(&self, changes: &[TableChange]) -> usize {
        let added = changes.iter().map(|change| {
            let Some(value) = &change.value else { return 0 };
            let old = self.table(change.table).and_then(|table| table.entries.get(&change.key));
            match old {
                Some(old) => value.len().saturating_sub(old.len()),
                None => change.key.len() + value.len() + ENTRY_COST,
            }
        });
        self.table_bytes + added.sum::<usize>()
    }

    pub(crate) fn change_table(&mut self, table: TableId, key: Vec<u8>, value: Option<Vec<u8>>) {
        let Some(table) = self.tables.get_mut(usize::from(table.0)) else { return };
        let key_len = key.len();
        let entries = Arc::make_mut(&mut table.entries);
        let added = value.as_ref().map_or(0, |value| key_len + value.len() + ENTRY_COST);
        let old = match value {
            Some(value) => entries.insert(key, value),
            None => entries.remove(&key),
        };
        let removed = old.map_or(0, |old| key_len + old.len() + ENTRY_COST);
        self.table_bytes = (self.table_bytes + added).saturating_sub(removed);
    }

    pub(crate) fn enter_loss(&mut self, loss: Loss, options: &LogOptions) {
        if let Some(stream) = self.stream_mut(loss.stream) {
            stream.lost_records = stream.lost_records.saturating_add(loss.records);
            stream.lost_bytes = stream.lost_bytes.saturating_add(loss.bytes);
        }
        self.ledger.add(loss, options.max_ledger_entries);
    }

    /// Does what a section of a frame, or of a checkpoint, says.
    pub(crate) fn apply(
        &mut self,
        section: &Section<'_>,
        base_ms: i64,
        options: &LogOptions,
    ) -> Result<(), Malformed> {
        self.apply_checked(section, base_ms, options).ok_or(Malformed)
    }

    fn apply_checked(&mut self, s: &Section<'_>, base_ms: i64, o: &LogOptions) -> Option<()> {
        let limit = |max: usize| (usize::from(s.id) < max).then_some(());
        match s.kind {
            Kind::StreamDef => {
                limit(MAX_STREAMS)?;
                let (name, config) = decode_stream_def(s.payload)?;
                self.define_stream(StreamId(s.id), name, config);
            }
            Kind::StreamState => {
                limit(MAX_STREAMS)?;
                self.apply_stream_state(s)?;
            }
            Kind::ReaderDef => {
                limit(MAX_READERS)?;
                if s.count == 0 {
                    self.drop_reader(ReaderId(s.id));
                } else {
                    let mut at = 0;
                    let stream = u16::try_from(varint::get(s.payload, &mut at)?).ok()?;
                    (usize::from(stream) < MAX_STREAMS).then_some(())?;
                    let name = get_name(s.payload, &mut at)?;
                    self.define_reader(ReaderId(s.id), StreamId(stream), name, s.first);
                }
            }
            Kind::TableDef => {
                limit(MAX_TABLES)?;
                self.define_table(TableId(s.id), get_name(s.payload, &mut 0)?);
            }
            Kind::Records => {
                limit(MAX_STREAMS)?;
                self.apply_records(s, base_ms, o)?;
            }
            Kind::Table => {
                limit(MAX_TABLES)?;
                self.apply_table(s)?;
            }
            Kind::Cursors => self.apply_cursors(s)?,
            Kind::Losses => self.apply_losses(s, o)?,
            Kind::Trims => self.apply_trims(s)?,
            Kind::Publishers if o.plants(PlantedBug::PublishersNotRestored) => {}
            Kind::Publishers => {
                self.publishers.decode(s.payload, s.count, o.max_publishers)?;
            }
            // Who published them was known when they were appended.
            Kind::Copied => {
                limit(MAX_STREAMS)?;
                self.note_sequences(s);
            }
            Kind::Epochs => self.epochs = Epochs::decode(s.first.0, s.count, s.payload)?,
            Kind::Checkpoint | Kind::Clean => {}
        }
        Some(())
    }

    fn note_sequences(&mut self, s: &Section<'_>) {
        self.fill_streams(usize::from(s.id) + 1);
        if let Some(stream) = self.stream_mut(StreamId(s.id)) {
            stream.next = stream.next.max(s.first.plus(u64::from(s.count)));
        }
    }

    fn apply_records(&mut self, s: &Section<'_>, base_ms: i64, o: &LogOptions) -> Option<()> {
        self.note_sequences(s);
        let body = compression::open(s.coding, s.payload)?;
        let mut reader = SectionReader::new(s.first, s.count, base_ms);
        while let Some((_, record)) = reader.read(body.bytes()) {
            if let Some(identity) = record.publisher {
                self.publishers.note(record.client, identity, o.max_publishers);
            }
        }
        Some(())
    }

    fn apply_stream_state(&mut self, s: &Section<'_>) -> Option<()> {
        let mut at = 0;
        let first = Seq(varint::get(s.payload, &mut at)?);
        let lost_records = varint::get(s.payload, &mut at)?;
        let lost_bytes = varint::get(s.payload, &mut at)?;
        self.fill_streams(usize::from(s.id) + 1);
        let stream = self.stream_mut(StreamId(s.id))?;
        stream.first = first;
        stream.next = s.first;
        stream.lost_records = lost_records;
        stream.lost_bytes = lost_bytes;
        Some(())
    }

    fn apply_table(&mut self, s: &Section<'_>) -> Option<()> {
        let mut at = 0;
        if self.table(TableId(s.id)).is_none() {
            self.define_table(TableId(s.id), format!("unnamed-{}", s.id));
        }
        for _ in 0..s.count {
            let put = *s.payload.get(at)?;
            at += 1;
            let key = varint::get_bytes(s.payload, &mut at)?.to_vec();
            let value = match put {
                0 => None,
                1 => Some(varint::get_bytes(s.payload, &mut at)?.to_vec()),
                _ => return None,
            };
            self.change_table(TableId(s.id), key, value);
        }
        Some(())
    }

    fn apply_cursors(&mut self, s: &Section<'_>) -> Option<()> {
        let mut at = 0;
        for _ in 0..s.count {
            let id = ReaderId(u16::try_from(varint::get(s.payload, &mut at)?).ok()?);
            let next = Seq(varint::get(s.payload, &mut at)?);
            // A reader may have been dropped by a later commit of the same group.
            if let Some(reader) = self.reader_mut(id) {
                reader.next = next;
                reader.durable = next;
            }
        }
        Some(())
    }

    fn apply_losses(&mut self, s: &Section<'_>, options: &LogOptions) -> Option<()> {
        let mut at = 0;
        for _ in 0..s.count {
            let loss = Loss::decode(s.payload, &mut at)?;
            self.enter_loss(loss, options);
        }
        Some(())
    }

    fn apply_trims(&mut self, s: &Section<'_>) -> Option<()> {
        let mut at = 0;
        for _ in 0..s.count {
            let id = StreamId(u16::try_from(varint::get(s.payload, &mut at)?).ok()?);
            let first = Seq(varint::get(s.payload, &mut at)?);
            if let Some(stream) = self.stream_mut(id) {
                stream.first = stream.first.max(first);
            }
        }
        Some(())
    }

    /// All of it, as sections.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        // The ledger before the streams: their totals include it.
        let mut losses = Vec::new();
        self.ledger.iter().for_each(|loss| loss.encode(&mut losses));
        let count = self.ledger.iter().count() as u32;
        put_section(&mut out, Kind::Losses, 0, count, Seq(0), &losses);
        for (id, stream) in self.streams.iter().enumerate() {
            let id = id as u16;
            let def = encode_stream_def(&stream.name, &stream.config);
            put_section(&mut out, Kind::StreamDef, id, 1, Seq(0), &def);
            let state = encode_stream_state(stream);
            put_section(&mut out, Kind::StreamState, id, 1, stream.next, &state);
        }
        for (id, reader) in self.readers.iter().enumerate() {
            if let Some(reader) = reader {
                let def = encode_reader_def(reader.stream, &reader.name);
                put_section(&mut out, Kind::ReaderDef, id as u16, 1, reader.next, &def);
            }
        }
        for (id, table) in self.tables.iter().enumerate() {
            encode_table(&mut out, id as u16, table);
        }
        let (count, publishers) = self.publishers.encode();
        put_section(&mut out, Kind::Publishers, 0, count, Seq(0), &publishers);
        if !self.epochs.is_empty() {
            let (unknown_through, epochs) = self.epochs.encode();
            let first = Seq(unknown_through);
            put_section(&mut out, Kind::Epochs, 0, self.epochs.len(), first, &epochs);
        }
        out
    }

    /// Rebuilds it from what [`State::encode`] gave; the number of sections that made no sense.
    pub(crate) fn decode(bytes: &[u8], options: &LogOptions) -> (State, usize) {
        let mut state = State::default();
        let broken =
            sections(bytes, 0).filter(|section| state.apply(section, 0, options).is_err()).count();
        (state, broken)
    }
}

pub(crate) fn encode_stream_state(stream: &Stream) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(&mut out, stream.first.0);
    varint::put(&mut out, stream.lost_records);
    varint::put(&mut out, stream.lost_bytes);
    out
}

fn encode_table(out: &mut Vec<u8>, id: u16, table: &Table) {
    let mut def = Vec::new();
    varint::put_bytes(&mut def, table.name.as_bytes());
    put_section(out, Kind::TableDef, id, 1, Seq(0), &def);
    let mut changes = Vec::new();
    for (key, value) in table.entries.iter() {
        encode_change(&mut changes, key, Some(value));
    }
    put_section(out, Kind::Table, id, table.entries.len() as u32, Seq(0), &changes);
}

/// One change of a table.
pub(crate) fn encode_change(out: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    out.push(u8::from(value.is_some()));
    varint::put_bytes(out, key);
    if let Some(value) = value {
        varint::put_bytes(out, value);
    }
}

pub(crate) fn encode_stream_def(name: &str, config: &StreamConfig) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put_bytes(&mut out, name.as_bytes());
    varint::put(&mut out, config.max_bytes);
    out.push(match config.overflow {
        Overflow::DropOldest => 0,
        Overflow::Reject => 1,
        Overflow::Block => 2,
    });
    varint::put(&mut out, whole_ms(config.retain));
    // Definitions of older programs end here; so do those that set nothing of what follows.
    let compression = match config.compression {
        Compression::None => NOT_SET,
        Compression::Lz4 => LZ4,
    };
    let more = [
        config.max_age.map_or(NOT_SET, |age| whole_ms(age).max(1)),
        config.max_records.map_or(NOT_SET, |records| records.max(1)),
        compression,
    ];
    let set = more.iter().rposition(|value| *value != NOT_SET).map_or(0, |last| last + 1);
    more[..set].iter().for_each(|value| varint::put(&mut out, *value));
    out
}

/// In a definition: the stream does not have this limit, or is not compressed.
const NOT_SET: u64 = 0;
/// In a definition: compressed in the LZ4 block format.
const LZ4: u64 = 1;

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn decode_stream_def(bytes: &[u8]) -> Option<(String, StreamConfig)> {
    let mut at = 0;
    let name = get_name(bytes, &mut at)?;
    let max_bytes = varint::get(bytes, &mut at)?;
    let overflow = match *bytes.get(at)? {
        0 => Overflow::DropOldest,
        1 => Overflow::Reject,
        2 => Overflow::Block,
        _ => return None,
    };
    at += 1;
    let retain = Duration::from_millis(varint::get(bytes, &mut at)?);
    let mut more = || if at == bytes.len() { Some(NOT_SET) } else { varint::get(bytes, &mut at) };
    let (max_age, max_records, compression) = (more()?, more()?, more()?);
    let max_age = (max_age != NOT_SET).then(|| Duration::from_millis(max_age));
    let max_records = (max_records != NOT_SET).then_some(max_records);
    let compression = match compression {
        NOT_SET => Compression::None,
        LZ4 => Compression::Lz4,
        _ => return None,
    };
    let config = StreamConfig { max_bytes, max_records, overflow, retain, max_age, compression };
    Some((name, config))
}

pub(crate) fn encode_reader_def(stream: StreamId, name: &str) -> Vec<u8> {
    let mut out = Vec::new();
    varint::put(&mut out, u64::from(stream.0));
    varint::put_bytes(&mut out, name.as_bytes());
    out
}

fn get_name(bytes: &[u8], at: &mut usize) -> Option<String> {
    let name = std::str::from_utf8(varint::get_bytes(bytes, at)?).ok()?;
    Some(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use crate::ledger::LossReason;
    use crate::record::PublisherIdentity;
    use proptest::prelude::*;

    #[test]
    fn a_state_comes_back_from_its_encoding() {
        let options = LogOptions::default();
        let mut state = State::default();
        let config = StreamConfig {
            max_bytes: 1 << 30,
            overflow: Overflow::Block,
            retain: Duration::from_secs(60),
            ..StreamConfig::default()
        };
        let aged = StreamConfig { max_age: Some(Duration::from_secs(90)), ..config };
        let counted =
            StreamConfig { max_records: Some(1_000), compression: Compression::Lz4, ..config };
        state.define_stream(StreamId(0), "a".into(), aged);
        state.define_stream(StreamId(1), "b".into(), config);
        state.define_stream(StreamId(2), "c".into(), counted);
        state.define_reader(ReaderId(2), StreamId(1), "up".into(), Seq(5));
        state.define_table(TableId(0), "t".into());
        for n in 0..50u8 {
            state.change_table(TableId(0), vec![n], Some(vec![n; usize::from(n)]));
        }
        state.change_table(TableId(0), vec![3], None);
        state.publishers.note("c", PublisherIdentity { boot: 1, seq: 2 }, 10);
        let loss = Loss {
            stream: StreamId(1),
            first: Seq(1),
            last: Seq(4),
            records: 4,
            bytes: 99,
            reason: LossReason::Quota,
            unix_ms: 7,
        };
        state.enter_loss(loss, &options);
        state.epochs.note(Epoch(1_700_000_000));
        let bytes = state.encode();
        let (again, broken) = State::decode(&bytes, &options);
        assert_eq!(broken, 0);
        assert_eq!(again.encode(), bytes);
        assert_eq!(again.table_bytes, state.table_bytes);
        assert_eq!(again.streams[1].lost_records, 4);
        let configs: Vec<_> = again.streams.iter().map(|stream| stream.config).collect();
        assert_eq!(configs, [aged, config, counted]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_applied_without_panic(kind in 0usize..14, id in 0..3u16, count: u32, payload: Vec<u8>) {
            let mut bytes = Vec::new();
            put_section(&mut bytes, Kind::ALL[kind], id, count, Seq(1), &payload);
            State::decode(&bytes, &LogOptions::default());
        }
    }
}
