//! Boards that QEMU makes up.

use tidegate_boot::{Kind, Layout, Part, Region};

/// Which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Model {
    /// `mps2-an386`, a Cortex-M4: memory stands in for flash, and programs run in it.
    Arm,
    /// `virt` with a RISC-V: flash with commands, and programs that are copied from it.
    Riscv,
}

const fn region(from: u32, to: u32) -> Region {
    Region { from, to }
}

const fn swapped(a: Region, b: Region) -> [Part; 1] {
    [Part { id: 0, kind: Kind::Swapped, a, b }]
}

static ARM: [Part; 1] = swapped(region(0x1_0000, 0x3_0000), region(0x3_0000, 0x5_1000));
static RISCV: [Part; 1] = swapped(region(0x20_0000, 0x24_0000), region(0x24_0000, 0x2c_0000));

impl Model {
    /// As in `board/src/layout.rs` of the board in `firmware-examples`.
    pub(super) fn layout(self) -> Layout<'static> {
        match self {
            Model::Arm => Layout {
                state: region(0, 0x2000),
                keys: region(0x2000, 0x4000),
                ledgers: [region(0x4000, 0x6000), region(0x6000, 0x8000)],
                parts: &ARM,
            },
            Model::Riscv => Layout {
                state: region(0, 0x8_0000),
                keys: region(0x8_0000, 0x10_0000),
                ledgers: [region(0x10_0000, 0x14_0000), region(0x14_0000, 0x18_0000)],
                parts: &RISCV,
            },
        }
    }

    /// Where the image that runs is in flash.
    pub(super) fn running(self) -> Region {
        self.layout().parts[0].a
    }

    /// The address that it is linked for.
    pub(super) fn program(self) -> usize {
        match self {
            Model::Arm => 0x2101_0000,
            Model::Riscv => 0x8010_0000,
        }
    }

    /// Bytes of the file that is its flash.
    pub(super) fn flash_bytes(self) -> u64 {
        match self {
            Model::Arm => 16 << 20,
            Model::Riscv => 32 << 20,
        }
    }

    /// What kind of device it is, of the examples' vendor.
    pub(super) fn class(self) -> [u8; 16] {
        match self {
            Model::Arm => [0x22; 16],
            Model::Riscv => [0x24; 16],
        }
    }

    /// The image that the factory puts there.
    pub(super) fn first_image(self) -> &'static str {
        match self {
            Model::Arm => "sensor-1",
            Model::Riscv => "riscv-1",
        }
    }

    pub(super) fn bootloader(self) -> &'static str {
        match self {
            Model::Arm => "mps2-an386-boot",
            Model::Riscv => "qemu-riscv32-boot",
        }
    }

    /// Says where its emulator is.
    pub(super) fn variable(self) -> &'static str {
        match self {
            Model::Arm => "TIDEGATE_QEMU",
            Model::Riscv => "TIDEGATE_QEMU_RISCV",
        }
    }
}
