//! Curve and hash alone.
#![no_std]
#![no_main]

use firmware_crypto::{Salty, Sha2};
use tidegate_sizes::board::Board;
use tidegate_wire::crypto::{Curve, Sha256};
use tidegate_wire::ed25519::PublicKey;

#[unsafe(no_mangle)]
extern "C" fn main() -> ! {
    let mut board = Board::take();
    loop {
        let mut bytes = [0; 128];
        for byte in &mut bytes {
            *byte = board.port.read().unwrap_or_default();
        }
        let (key, rest) = bytes.split_at(32);
        let (signature, rest) = rest.split_at(64);
        if let (Ok(key), Ok(signature)) = (key.try_into(), signature.try_into())
            && let Ok(key) = PublicKey::new(key)
        {
            let digest = Sha2::of(rest);
            let signed = Salty.is_signed(&key, [&digest.0, rest], signature);
            board.port.write(digest.0[0] ^ u8::from(signed));
        }
    }
}
