//! Random numbers that are a function of the batch.

/// The bytes that `tg1.random` gives out during one call: SplitMix64 seeded with the batch id.
///
/// A replay of the same batch sees the same numbers, so it gives the same output. They are for
/// sampling and jitter, never for keys: whoever knows the batch id knows them.
#[derive(Debug, Clone)]
pub struct BatchRandom {
    state: u64,
}

impl BatchRandom {
    /// The numbers of the batch `batch_id`, from their start.
    pub fn new(batch_id: u64) -> Self {
        Self { state: batch_id }
    }

    /// Fills `out`. Each call starts at a fresh 64-bit word, little-endian.
    pub fn fill(&mut self, out: &mut [u8]) {
        for chunk in out.chunks_mut(8) {
            let word = self.next_word().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }

    /// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
    fn next_word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
