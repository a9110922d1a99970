//! Checks a signature and hashes an image in QEMU, and tells how many instructions and how much stack that takes:
//! lines such as `ed25519 right 6450000 1800`. With `-icount shift=0` an instruction takes a nanosecond, and the
//! timer counts each fortieth.
#![no_std]
#![no_main]

use core::hint::black_box;

use firmware_crypto::{Salty, Sha2};
use tidegate_sizes::board::{Board, Port};
use tidegate_sizes::measure::{Painted, Timer};
use tidegate_wire::crypto::{Curve, Sha256};
use tidegate_wire::ed25519::PublicKey;

/// Bytes of the image, and of a piece of it, as an agent reads it.
const IMAGE: usize = 65_536;
const PIECE: usize = 128;

/// A key, of the seed that is 7 throughout.
const KEY: [u8; 32] = [
    0xea, 0x4a, 0x6c, 0x63, 0xe2, 0x9c, 0x52, 0x0a, 0xbe, 0xf5, 0x50, 0x7b, 0x13, 0x2e, 0xc5, 0xf9,
    0x95, 0x47, 0x76, 0xae, 0xbe, 0xbe, 0x7b, 0x92, 0x42, 0x1e, 0xea, 0x69, 0x14, 0x46, 0xd2, 0x2c,
];
/// Its signature of 512 bytes that count up.
const SIGNATURE: [u8; 64] = [
    0xe1, 0xbc, 0x94, 0x35, 0x91, 0xb7, 0x46, 0x43, 0x9f, 0xfa, 0x7d, 0x55, 0x76, 0xbf, 0xaf, 0xcc,
    0x33, 0x24, 0x57, 0x63, 0x11, 0x15, 0x08, 0x3c, 0xb1, 0x21, 0xaa, 0x3a, 0xae, 0xa5, 0xaf, 0xe7,
    0x06, 0x60, 0x7a, 0xd9, 0x07, 0x0f, 0xff, 0x48, 0xb7, 0x78, 0xe9, 0xbf, 0x4f, 0x74, 0xf6, 0x25,
    0x06, 0x41, 0x41, 0x62, 0x76, 0x80, 0x0b, 0x85, 0x0b, 0x23, 0x3d, 0x97, 0x85, 0x6a, 0xbc, 0x05,
];
/// The SHA-256 of the image.
const DIGEST: [u8; 32] = [
    0xbe, 0x38, 0x2c, 0xe4, 0x29, 0x2a, 0x02, 0xca, 0xda, 0xea, 0x18, 0xf5, 0xb3, 0xb0, 0x08, 0x67,
    0x2b, 0xc4, 0x2b, 0x5c, 0xdf, 0x33, 0xfa, 0x6e, 0x9a, 0x6b, 0x65, 0xa5, 0x16, 0xac, 0x22, 0xcf,
];

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut port = Board::take().port;
    port.open();
    let timer = Timer::start();
    say(&mut port, &timer, "ed25519", is_signed);
    say(&mut port, &timer, "sha256", is_image);
    loop {}
}

fn say(port: &mut Port, timer: &Timer, what: &str, check: fn() -> bool) {
    let stack = Painted::new();
    let began = timer.instructions();
    let right = check();
    let took = timer.instructions().wrapping_sub(began);
    let used = stack.used();
    port.write_text(what);
    port.write_text(if right { " right " } else { " wrong " });
    port.write_number(took);
    port.write_text(" ");
    port.write_number(used);
    port.write_text("\n");
}

#[inline(never)]
fn is_signed() -> bool {
    static mut MESSAGE: [u8; 512] = [0; 512];
    // SAFETY: nobody else knows of it.
    let message = unsafe { &mut *&raw mut MESSAGE };
    for (n, byte) in message.iter_mut().enumerate() {
        *byte = n as u8;
    }
    let Ok(key) = PublicKey::new(black_box(KEY)) else { return false };
    let (first, rest) = message.split_at(80);
    Salty.is_signed(&key, [first, rest], &black_box(SIGNATURE))
}

#[inline(never)]
fn is_image() -> bool {
    let mut hash = Sha2::default();
    let mut piece = [0; PIECE];
    for from in (0..IMAGE).step_by(PIECE) {
        for (n, byte) in (from..).zip(&mut piece) {
            *byte = (n * 7 ^ n >> 8) as u8;
        }
        hash.update(&piece);
    }
    hash.finish().0 == black_box(DIGEST)
}
