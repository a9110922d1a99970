//! A parsed file as the reader walks it: every value knows its line and its key path, so that
//! each mistake can name both.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{Fallback, Form, Key, SECTIONS, SectionKeys};
use super::mistakes::Mistakes;
use super::suggestion::nearest;

/// Longer values are cut in messages.
const MAX_SHOWN: usize = 60;

/// The text of the file and where its lines begin.
pub(super) struct Source<'a> {
    pub(super) text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let starts = std::iter::once(0)
            .chain(text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(at, _)| at + 1))
            .collect();
        Self { text, starts }
    }

    /// The line, from 1, of a byte offset.
    pub(super) fn line(&self, offset: usize) -> usize {
        self.starts.partition_point(|start| *start <= offset)
    }

    /// The text at `span`, on one line and cut to a readable length.
    fn shown(&self, span: Range<usize>) -> String {
        let text = self.text.get(span).unwrap_or_default();
        let line = text.lines().next().unwrap_or_default();
        let mut shown: String = line.chars().filter(|c| !c.is_control()).take(MAX_SHOWN).collect();
        if shown.len() < text.len() {
            shown.push_str("...");
        }
        shown
    }
}

/// A value with the place that it came from.
pub(super) struct Spot<'a> {
    source: &'a Source<'a>,
    /// `stream.telemetry.topics[1]`
    pub(super) path: String,
    pub(super) value: &'a DeValue<'a>,
    span: Range<usize>,
}

impl<'a> Spot<'a> {
    /// Enters a mistake about this value.
    pub(super) fn wrong(&self, out: &mut Mistakes, problem: &str) {
        let shown = self.source.shown(self.span.clone());
        self.wrong_shown_as(&shown, out, problem);
    }

    /// Enters a mistake about this value, which is secret in part and shown as `shown`.
    pub(super) fn wrong_shown_as(&self, shown: &str, out: &mut Mistakes, problem: &str) {
        let line = self.source.line(self.span.start);
        out.add(Some(line), format!("{} = {shown}: {problem}", self.path));
    }

    /// The elements of a list.
    pub(super) fn elements(&self) -> Option<Vec<Spot<'a>>> {
        let DeValue::Array(array) = self.value else { return None };
        let spot = |(index, element): (usize, &'a Spanned<DeValue<'a>>)| Spot {
            source: self.source,
            path: format!("{}[{index}]", self.path),
            value: element.get_ref(),
            span: element.span(),
        };
        Some(array.iter().enumerate().map(spot).collect())
    }

    /// The entries of a table, in the order of the file.
    pub(super) fn entries(&self) -> Option<Vec<(&'a str, Spot<'a>)>> {
        let DeValue::Table(table) = self.value else { return None };
        Some(entries(self.source, &self.path, table))
    }
}

/// A table that is a section of the file.
pub(super) struct Section<'a> {
    source: &'a Source<'a>,
    /// `mqtt`, `stream.telemetry`
    pub(super) path: String,
    /// Line of its header; `None` when the file has no such section.
    line: Option<usize>,
    table: Option<&'a DeTable<'a>>,
}

impl<'a> Section<'a> {
    /// The file itself, where it is no configuration but has keys of its own.
    pub(super) fn whole(
        source: &'a Source<'a>,
        root: &'a DeTable<'a>,
        keys: &SectionKeys,
        out: &mut Mistakes,
    ) -> Self {
        let section = Self { source, path: String::new(), line: None, table: Some(root) };
        section.report_unknown_keys(keys, out);
        section
    }

    /// The section called `keys.name`, with its unknown keys reported.
    pub(super) fn single(
        source: &'a Source<'a>,
        root: &'a DeTable<'a>,
        keys: &SectionKeys,
        out: &mut Mistakes,
    ) -> Self {
        let absent = Self { source, path: keys.name.to_owned(), line: None, table: None };
        let Some((key, value)) = lookup(root, keys.name) else { return absent };
        let line = Some(source.line(key.span().start));
        let DeValue::Table(table) = value.get_ref() else {
            out.add(line, format!("{}: must be a section, [{}]", keys.name, keys.name));
            return absent;
        };
        let section = Self { source, path: keys.name.to_owned(), line, table: Some(table) };
        section.report_unknown_keys(keys, out);
        section
    }

    /// The sections `[keys.name.NAME]` in the order of the file, with their names.
    pub(super) fn several(
        source: &'a Source<'a>,
        root: &'a DeTable<'a>,
        keys: &SectionKeys,
        out: &mut Mistakes,
    ) -> Vec<(&'a str, Self)> {
        let Some((key, value)) = lookup(root, keys.name) else { return Vec::new() };
        let kind = keys.name;
        let DeValue::Table(table) = value.get_ref() else {
            let line = source.line(key.span().start);
            out.add(Some(line), format!("{kind}: must be sections, [{kind}.NAME]"));
            return Vec::new();
        };
        let mut found: Vec<_> = table.iter().collect();
        found.sort_by_key(|(name, _)| name.span().start);
        let mut sections = Vec::new();
        for (name, value) in found {
            let path = format!("{kind}.{}", name.get_ref());
            let line = Some(source.line(name.span().start));
            let DeValue::Table(table) = value.get_ref() else {
                let hint = format!("write [{kind}.NAME] with a name of your choice above it");
                out.add(line, format!("{path}: must be a section; {hint}"));
                continue;
            };
            let section = Self { source, path, line, table: Some(table) };
            section.report_unknown_keys(keys, out);
            sections.push((name.get_ref().as_ref(), section));
        }
        sections
    }

    /// The sections `[[keys.name]]`, in the order of the file.
    pub(super) fn list(
        source: &'a Source<'a>,
        root: &'a DeTable<'a>,
        keys: &SectionKeys,
        out: &mut Mistakes,
    ) -> Vec<Self> {
        let Some((key, value)) = lookup(root, keys.name) else { return Vec::new() };
        let mut sections = Vec::new();
        let wrong = |offset: usize, out: &mut Mistakes| {
            let line = source.line(offset);
            out.add(Some(line), format!("{}: must be sections, {}", keys.name, keys.header()));
        };
        let DeValue::Array(array) = value.get_ref() else {
            wrong(key.span().start, out);
            return sections;
        };
        for (index, element) in array.iter().enumerate() {
            let DeValue::Table(table) = element.get_ref() else {
                wrong(element.span().start, out);
                continue;
            };
            let line = Some(source.line(element.span().start));
            let path = format!("{}[{index}]", keys.name);
            let section = Self { source, path, line, table: Some(table) };
            section.report_unknown_keys(keys, out);
            sections.push(section);
        }
        sections
    }

    /// Whether the file has it.
    pub(super) fn is_there(&self) -> bool {
        self.table.is_some()
    }

    /// The value of `key`, when the file has it.
    pub(super) fn spot(&self, key: &Key) -> Option<Spot<'a>> {
        let value = self.table?.get(key.name)?;
        Some(Spot {
            source: self.source,
            path: inside(&self.path, key.name),
            value: value.get_ref(),
            span: value.span(),
        })
    }

    /// Reports a required key that is absent.
    pub(super) fn missing(&self, key: &Key, out: &mut Mistakes) {
        let Fallback::Required(example) = key.fallback else { return };
        let at = match self.line {
            None if !self.path.is_empty() => format!(" below [{}]", self.path),
            Some(_) | None => String::new(),
        };
        let path = inside(&self.path, key.name);
        let text = format!("{path}: missing; write, for example, {example}{at}");
        out.add(self.line, text);
    }

    /// Enters a mistake about a key that is not there.
    pub(super) fn wrong_absent(&self, key: &str, out: &mut Mistakes, problem: &str) {
        out.add(self.line, format!("{}: {problem}", inside(&self.path, key)));
    }

    /// Enters a mistake about the section as a whole.
    pub(super) fn wrong(&self, out: &mut Mistakes, problem: &str) {
        out.add(self.line, format!("{}: {problem}", self.path));
    }

    fn report_unknown_keys(&self, keys: &SectionKeys, out: &mut Mistakes) {
        let Some(table) = self.table else { return };
        for (key, spot) in entries(self.source, &self.path, table) {
            let inner = format!("{}.{key}", keys.name);
            if keys.keys.iter().any(|known| known.name == key)
                || (keys.form == Form::Single && SECTIONS.iter().any(|known| known.name == inner))
            {
                continue;
            }
            let known: Vec<&str> = keys.keys.iter().map(|known| known.name).collect();
            let help = match nearest(key, known.iter().copied()) {
                Some(meant) => format!("did you mean {meant}?"),
                None => {
                    elsewhere(key).unwrap_or_else(|| format!("known here: {}", known.join(", ")))
                }
            };
            spot.wrong(out, &format!("unknown key; {help}"));
        }
    }
}

/// The path of a key in a section; the file itself has none.
fn inside(section: &str, key: &str) -> String {
    if section.is_empty() { key.to_owned() } else { format!("{section}.{key}") }
}

/// Reports sections that are not known.
pub(super) fn report_unknown_sections<'a>(
    source: &'a Source<'a>,
    root: &'a DeTable<'a>,
    out: &mut Mistakes,
) {
    let outer = SECTIONS.iter().filter(|section| !section.name.contains('.'));
    let known: Vec<&str> = outer.map(|section| section.name).collect();
    for (key, value) in root {
        let name = key.get_ref().as_ref();
        if known.contains(&name) {
            continue;
        }
        let noun = if matches!(value.get_ref(), DeValue::Table(_)) { "section" } else { "key" };
        let help = match nearest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean {}?", header(meant)),
            None => elsewhere(name).unwrap_or_else(|| format!("known: {}", headers())),
        };
        let line = source.line(key.span().start);
        out.add(Some(line), format!("{name}: unknown {noun}; {help}"));
    }
}

/// Says where a key is known that stands in the wrong section.
fn elsewhere(key: &str) -> Option<String> {
    let section = SECTIONS.iter().find(|s| s.keys.iter().any(|known| known.name == key))?;
    Some(format!("it belongs to {}", header(section.name)))
}

fn header(name: &str) -> String {
    let section = SECTIONS.iter().find(|section| section.name == name);
    section.map_or_else(|| format!("[{name}]"), |section| section.header())
}

fn headers() -> String {
    SECTIONS.iter().map(|section| section.header()).collect::<Vec<_>>().join(", ")
}

/// What the file has under a name such as `mqtt` or `mqtt.tls`.
fn lookup<'a>(
    root: &'a DeTable<'a>,
    name: &str,
) -> Option<(&'a Spanned<toml::de::DeString<'a>>, &'a Spanned<DeValue<'a>>)> {
    let Some((outer, inner)) = name.split_once('.') else { return root.get_key_value(name) };
    match root.get(outer)?.get_ref() {
        DeValue::Table(table) => lookup(table, inner),
        _ => None,
    }
}

fn entries<'a>(
    source: &'a Source<'a>,
    path: &str,
    table: &'a DeTable<'a>,
) -> Vec<(&'a str, Spot<'a>)> {
    let mut entries: Vec<_> = table.iter().collect();
    entries.sort_by_key(|(key, _)| key.span().start);
    let spot = |(key, value): (&'a Spanned<toml::de::DeString<'a>>, &'a Spanned<DeValue<'a>>)| {
        let name: &'a str = key.get_ref().as_ref();
        let path = inside(path, name);
        (name, Spot { source, path, value: value.get_ref(), span: value.span() })
    };
    entries.into_iter().map(spot).collect()
}
