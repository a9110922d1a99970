//! Giant modules, written as bytes: what translation costs.

/// The limits' 8 MiB, less room for what every module has.
const MODULE_BYTES: usize = (8 << 20) - 4_096;
/// The limits' 2 MiB of code, less the lengths.
const CODE_BYTES: usize = (2 << 20) - 4_096;
/// A long body of a function, less its length and declarations.
const BODY_BYTES: usize = 128 * 1024 - 16;

/// A module that does nothing, and what it has beyond that.
#[derive(Default)]
pub(crate) struct Giant {
    /// Further types `() -> ()`.
    pub(crate) types: usize,
    /// Further exports of the function 0.
    pub(crate) exports: usize,
    /// Bodies of further functions of the type `() -> ()`, declarations of locals included.
    pub(crate) bodies: Vec<Vec<u8>>,
    /// Items of a passive element segment.
    pub(crate) elements: usize,
    /// Bytes of a data segment.
    pub(crate) data: usize,
    /// Bytes of a custom section.
    pub(crate) custom: usize,
}

impl Giant {
    /// The module.
    pub(crate) fn module(&self) -> Vec<u8> {
        let mut module = b"\0asm\x01\0\0\0".to_vec();
        let mut types: Vec<Vec<u8>> = [
            &b"\x60\x00\x00"[..],
            b"\x60\x01\x7f\x01\x7f",
            b"\x60\x02\x7f\x7f\x01\x7f",
            b"\x60\x02\x7f\x7f\x01\x7e",
        ]
        .map(<[u8]>::to_vec)
        .to_vec();
        types.resize(4 + self.types, types[0].clone());
        section(&mut module, 1, &list(&types));
        let mut functions: Vec<Vec<u8>> = (0..4).map(|index| vec![index]).collect();
        functions.resize(4 + self.bodies.len(), vec![0]);
        section(&mut module, 3, &list(&functions));
        // Memory 0: 16 MiB.
        section(&mut module, 5, b"\x01\x00\x80\x02");
        section(&mut module, 7, &list(&self.export_items()));
        if self.elements > 0 {
            let mut segment = vec![1, 1, 0];
            segment.extend(leb(self.elements));
            segment.resize(segment.len() + self.elements, 0);
            section(&mut module, 9, &segment);
        }
        let mut bodies: Vec<Vec<u8>> =
            [&b"\x00\x0b"[..], b"\x00\x41\x80\x08\x0b", b"\x00\x41\x00\x0b", b"\x00\x42\x00\x0b"]
                .map(<[u8]>::to_vec)
                .to_vec();
        bodies.extend(self.bodies.iter().cloned());
        let sized: Vec<Vec<u8>> =
            bodies.iter().map(|body| [leb(body.len()), body.clone()].concat()).collect();
        section(&mut module, 10, &list(&sized));
        if self.data > 0 {
            let mut segment = b"\x01\x00\x41\x00\x0b".to_vec();
            segment.extend(leb(self.data));
            segment.resize(segment.len() + self.data, b'x');
            section(&mut module, 11, &segment);
        }
        if self.custom > 0 {
            section(&mut module, 0, &[&b"\x04junk"[..], &vec![0; self.custom]].concat());
        }
        module
    }

    fn export_items(&self) -> Vec<Vec<u8>> {
        let export = |name: &str, kind, index| {
            [leb(name.len()), name.as_bytes().to_vec(), vec![kind, index]].concat()
        };
        let mut items = vec![export("memory", 2, 0)];
        for (index, name) in ["tg_abi_1", "tg_buffer", "tg_init", "tg_handle"].iter().enumerate() {
            items.push(export(name, 0, index as u8));
        }
        items.extend((0..self.exports).map(|number| export(&format!("{number:x}"), 0, 0)));
        items
    }
}

/// A module of 2 MiB of code whose functions repeat `piece`, which leaves the stack as it was.
pub(crate) fn repeating(piece: &[u8]) -> Vec<u8> {
    let count = CODE_BYTES / (BODY_BYTES + 3);
    let mut body = vec![0];
    body.extend(piece.repeat((BODY_BYTES - 2) / piece.len()));
    body.push(END);
    Giant { bodies: vec![body; count], ..Giant::default() }.module()
}

/// A module of 2 MiB of code whose functions are blocks in blocks.
pub(crate) fn nested() -> Vec<u8> {
    let count = CODE_BYTES / (BODY_BYTES + 3);
    let depth = (BODY_BYTES - 2) / 3;
    let mut body = vec![0];
    body.extend(BLOCK.repeat(depth));
    body.extend([END].repeat(depth + 1));
    Giant { bodies: vec![body; count], ..Giant::default() }.module()
}

/// A module of 8 MiB of `nop`.
pub(crate) fn too_long() -> Vec<u8> {
    let mut body = vec![NOP; BODY_BYTES];
    body[0] = 0;
    body[BODY_BYTES - 1] = END;
    Giant { bodies: vec![body; MODULE_BYTES / (BODY_BYTES + 3)], ..Giant::default() }.module()
}

/// One `br_table` with so many targets, as a piece to repeat.
pub(crate) fn jump_table(targets: usize) -> Vec<u8> {
    // block; i32.const 0; br_table 0 0 .. 0; end
    let mut piece = vec![0x02, 0x40, 0x41, 0x00, 0x0e];
    piece.extend(leb(targets));
    piece.resize(piece.len() + targets + 1, 0);
    piece.push(END);
    piece
}

/// So many functions with so many locals each, and bodies of `bytes`.
pub(crate) fn functions(count: usize, locals: usize, bytes: usize) -> Vec<u8> {
    let mut body = if locals == 0 { vec![0] } else { [vec![1], leb(locals), vec![0x7e]].concat() };
    body.resize(bytes.max(body.len() + 1) - 1, NOP);
    body.push(END);
    Giant { bodies: vec![body; count], ..Giant::default() }.module()
}

/// As much of one thing as 8 MiB hold, given the bytes of one.
pub(crate) fn most(bytes_each: usize) -> usize {
    MODULE_BYTES / bytes_each
}

/// The instruction `nop`.
pub(crate) const NOP: u8 = 0x01;
const BLOCK: [u8; 2] = [0x02, 0x40];
const END: u8 = 0x0b;

fn section(module: &mut Vec<u8>, id: u8, body: &[u8]) {
    module.push(id);
    module.extend(leb(body.len()));
    module.extend(body);
}

fn list(items: &[Vec<u8>]) -> Vec<u8> {
    [leb(items.len()), items.concat()].concat()
}

fn leb(mut value: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
