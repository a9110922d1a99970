//! How much stack a program may take: the deepest path of its calls, from the machine code. Each function's frame is
//! what its instructions take from the stack pointer; who calls whom is in its branches, and in the addresses
//! of functions among its constants.
//!
//! Not here: interrupts, and what an exception of the processor puts on the stack (104 bytes with floating point).

use std::collections::{BTreeMap, BTreeSet};

/// The one function that calls itself, by parts of its name: what is passed over in CBOR, and how deep at most.
const RECURSIVE: [&str; 2] = ["4cbor4read", "4skip"];
const DEPTH: u32 = 7;

#[derive(Debug, Default)]
struct Function {
    name: String,
    frame: u32,
    /// Addresses that it calls, and that it goes on to without its frame.
    calls: BTreeSet<u32>,
    tails: BTreeSet<u32>,
}

/// Bytes of the deepest path from `main`; `None` when the file is no program with symbols.
pub(super) fn deepest(file: &[u8]) -> Option<u32> {
    let program = Program::read(file)?;
    let functions = program.functions()?;
    let (main, _) = functions.iter().find(|(_, function)| function.name == "main")?;
    Some(worst(*main, &functions, &mut BTreeMap::new(), &mut Vec::new()))
}

fn worst(
    at: u32,
    functions: &BTreeMap<u32, Function>,
    known: &mut BTreeMap<u32, u32>,
    path: &mut Vec<u32>,
) -> u32 {
    let Some(function) = functions.get(&at) else { return 0 };
    if let Some(known) = known.get(&at) {
        return *known;
    }
    // Only what is left of a function that calls itself.
    if path.contains(&at) {
        return 0;
    }
    path.push(at);
    let mut most = |targets: &BTreeSet<u32>| {
        targets.iter().map(|to| worst(*to, functions, known, path)).max().unwrap_or(0)
    };
    let (below, instead) = (most(&function.calls), most(&function.tails));
    path.pop();
    let is_recursive = RECURSIVE.iter().all(|part| function.name.contains(part));
    let frames = function.frame * if is_recursive { DEPTH } else { 1 };
    let depth = (frames + below).max(instead);
    known.insert(at, depth);
    depth
}

/// A 32-bit ELF file of Thumb code.
struct Program<'a> {
    /// Address, bytes.
    text: (u32, &'a [u8]),
    symbols: &'a [u8],
    names: &'a [u8],
}

impl<'a> Program<'a> {
    const SYMBOL: usize = 16;
    const SYMBOLS: u32 = 2;
    const EXECUTABLE: u32 = 1 << 2;

    fn read(file: &'a [u8]) -> Option<Program<'a>> {
        let long = |at: usize| Some(u32::from_le_bytes(*file.get(at..)?.first_chunk()?));
        let short = |at: usize| Some(u16::from_le_bytes(*file.get(at..)?.first_chunk()?));
        let table = usize::try_from(long(0x20)?).ok()?;
        let (size, count) = (usize::from(short(0x2e)?), usize::from(short(0x30)?));
        let section = |n: usize| -> Option<(u32, u32, u32, u32, &'a [u8])> {
            let at = table + n * size;
            let from = usize::try_from(long(at + 16)?).ok()?;
            let bytes = usize::try_from(long(at + 20)?).ok()?;
            let content = file.get(from..from.checked_add(bytes)?).unwrap_or_default();
            Some((long(at + 4)?, long(at + 8)?, long(at + 12)?, long(at + 24)?, content))
        };
        let (mut text, mut symbols, mut names) = (None, None, None);
        for n in 0..count {
            let (kind, flags, address, link, content) = section(n)?;
            if kind == Program::SYMBOLS {
                symbols = Some(content);
                names = Some(section(usize::try_from(link).ok()?)?.4);
            } else if flags & Program::EXECUTABLE != 0 && text.is_none() {
                text = Some((address, content));
            }
        }
        Some(Program { text: text?, symbols: symbols?, names: names? })
    }

    /// Each function by its address.
    fn functions(&self) -> Option<BTreeMap<u32, Function>> {
        // Where constants begin, and where code begins again.
        let mut marks = BTreeMap::new();
        let mut found = BTreeMap::new();
        for symbol in self.symbols.chunks_exact(Program::SYMBOL) {
            let word = |at: usize| Some(u32::from_le_bytes(*symbol.get(at..)?.first_chunk()?));
            let (value, size, kind) = (word(4)?, word(8)?, symbol[12] & 15);
            let name = self.names.get(usize::try_from(word(0)?).ok()?..)?;
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            match (name, kind) {
                ([b'$', b'd', ..], _) => drop(marks.insert(value, false)),
                ([b'$', b't', ..], _) => drop(marks.insert(value & !1, true)),
                (_, 2) => {
                    let name = String::from_utf8_lossy(name).into_owned();
                    // Two names of one place: the longer one holds them all.
                    let place = found.entry(value & !1).or_insert((size, name.clone()));
                    if size > place.0 || name == "main" {
                        *place = (size.max(place.0), name);
                    }
                }
                _ => {}
            }
        }
        let starts: BTreeSet<u32> = found.keys().copied().collect();
        let code = |(at, (size, name)): (&u32, &(u32, String))| {
            let function = self.function(*at, *size, name.clone(), &marks, &starts)?;
            Some((*at, function))
        };
        found.iter().map(code).collect()
    }

    fn function(
        &self,
        at: u32,
        size: u32,
        name: String,
        marks: &BTreeMap<u32, bool>,
        starts: &BTreeSet<u32>,
    ) -> Option<Function> {
        let mut function = Function { name, ..Function::default() };
        let (base, text) = self.text;
        let half = |at: u32| -> Option<u16> {
            let from = usize::try_from(at.checked_sub(base)?).ok()?;
            Some(u16::from_le_bytes(*text.get(from..)?.first_chunk()?))
        };
        let end = at + size;
        let (mut pc, mut is_code) = (at, true);
        while pc < end {
            is_code = marks.get(&pc).copied().unwrap_or(is_code);
            let Some(first) = half(pc) else { break };
            let second = half(pc + 2).unwrap_or(0);
            if !is_code {
                // A function's address among the constants: it is called by a register.
                let word = u32::from(second) << 16 | u32::from(first);
                if pc.is_multiple_of(4) && word & 1 == 1 && starts.contains(&(word - 1)) {
                    function.calls.insert(word - 1);
                }
                // Tables of jumps end at any half word.
                pc += 2;
                continue;
            }
            let is_long = first >> 11 >= 0b11101;
            function.frame += if is_long { taken_long(first, second) } else { taken(first) };
            match if is_long { branch_long(first, second) } else { branch(first) } {
                Some((offset, true)) => {
                    function.calls.insert((pc + 4).wrapping_add_signed(offset));
                }
                Some((offset, false)) => {
                    let to = (pc + 4).wrapping_add_signed(offset);
                    if !(at..end).contains(&to) {
                        function.tails.insert(to);
                    }
                }
                None => {}
            }
            pc += if is_long { 4 } else { 2 };
        }
        Some(function)
    }
}

/// Bytes that an instruction of 16 bits takes from the stack pointer: `push`, `sub sp`.
fn taken(op: u16) -> u32 {
    match op >> 8 {
        0xb4 | 0xb5 => 4 * (op & 0x1ff).count_ones(),
        0xb0 if op & 0x80 != 0 => 4 * u32::from(op & 0x7f),
        _ => 0,
    }
}

/// The same of 32 bits: `push.w`, `vpush`, `str [sp, #-n]!`, `strd` of that kind, `sub.w` and `subw`.
fn taken_long(first: u16, second: u16) -> u32 {
    let low = u32::from(second & 0xff);
    let is_to_sp = second >> 8 & 15 == 13;
    let immediate = u32::from(first >> 10 & 1) << 11 | u32::from(second >> 12 & 7) << 8 | low;
    match first {
        0xe92d => 4 * second.count_ones(),
        0xf84d if second & 0x0f00 == 0x0d00 => low,
        0xe96d => 4 * low,
        _ if first & 0xffbf == 0xed2d => 4 * low,
        _ if first & 0xfbef == 0xf1ad && is_to_sp => expanded(immediate),
        _ if first & 0xfbff == 0xf2ad && is_to_sp => immediate,
        _ => 0,
    }
}

/// The constant that 12 bits of an instruction stand for (ThumbExpandImm).
fn expanded(immediate: u32) -> u32 {
    let low = immediate & 0xff;
    match immediate >> 8 {
        0 => low,
        1 => low << 16 | low,
        2 => low << 24 | low << 8,
        3 => low * 0x0101_0101,
        _ => (0x80 | low & 0x7f).rotate_right(immediate >> 7),
    }
}

/// Offset of a branch of 16 bits without a condition; it is no call.
fn branch(op: u16) -> Option<(i32, bool)> {
    (op >> 11 == 0b11100).then(|| (i32::from((op << 5).cast_signed() >> 5) * 2, false))
}

/// Offset of a branch of 32 bits without a condition, and whether it is a call.
fn branch_long(first: u16, second: u16) -> Option<(i32, bool)> {
    if first >> 11 != 0b11110 || second & 0x9000 != 0x9000 {
        return None;
    }
    let sign = u32::from(first >> 10 & 1);
    let bit = |at: u16| u32::from(second >> at & 1) ^ sign ^ 1;
    let high = sign << 24 | bit(13) << 23 | bit(11) << 22;
    let offset = high | u32::from(first & 0x3ff) << 12 | u32::from(second & 0x7ff) << 1;
    Some(((offset << 7).cast_signed() >> 7, second & 0x4000 != 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_what_instructions_take_from_the_stack_pointer() {
        assert_eq!(taken(0xb5f0), 20, "push {{r4-r7, lr}}");
        assert_eq!(taken(0xb097), 92, "sub sp, #92");
        assert_eq!(taken(0xb017), 0, "add sp, #92");
        assert_eq!(taken_long(0xe92d, 0x0f00), 16, "push.w {{r8-r11}}");
        assert_eq!(taken_long(0xf84d, 0xed04), 4, "str lr, [sp, #-4]!");
        assert_eq!(taken_long(0xed2d, 0x8b04), 16, "vpush {{d8, d9}}");
        assert_eq!(taken_long(0xf5ad, 0x7d19), 612, "sub.w sp, sp, #612");
        assert_eq!(taken_long(0xf2ad, 0x5d3c), 1_340, "subw sp, sp, #1340");
        assert_eq!(taken_long(0xf5a0, 0x7d19), 0, "of another register");
    }

    #[test]
    fn branches_lead_forward_and_back() {
        // As a disassembler has them, from the place behind the instruction after the next.
        assert_eq!(branch_long(0xf004, 0xfa9f), Some((17_726, true)), "bl");
        assert_eq!(branch_long(0xf7fe, 0xff24), Some((-4_536, true)), "bl");
        assert_eq!(branch_long(0xf000, 0xbb39), Some((1_650, false)), "b.w");
        assert_eq!(branch(0xe7f2), Some((-28, false)), "b");
        assert_eq!(branch(0xd0f2), None, "beq");
        assert_eq!(branch_long(0xf1ad, 0x0d10), None);
    }

    #[test]
    fn the_deepest_path_counts_and_who_calls_itself_counts_as_often_as_it_does() {
        let function = |frame, calls: &[u32]| Function {
            name: String::new(),
            frame,
            calls: calls.iter().copied().collect(),
            tails: BTreeSet::new(),
        };
        let mut functions = BTreeMap::from([
            (0, function(40, &[10, 20])),
            (10, function(100, &[30])),
            (20, function(120, &[0])),
            (30, function(24, &[])),
        ]);
        let depth = |functions: &BTreeMap<u32, Function>| {
            worst(0, functions, &mut BTreeMap::new(), &mut Vec::new())
        };
        assert_eq!(depth(&functions), 164);
        functions.get_mut(&20).unwrap().tails.insert(10);
        assert_eq!(depth(&functions), 164, "what goes on without its frame takes no more");
        let deep = "_RNvMs_NtNtCs_13tidegate_wire4cbor4readNtB4_6Reader4skip".to_owned();
        functions.get_mut(&30).unwrap().name = deep;
        assert_eq!(depth(&functions), 140 + 7 * 24);
    }
}
