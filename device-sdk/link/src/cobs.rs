//! Consistent overhead byte stuffing: takes the zeros out of a frame, so that a zero can end it.

/// Most bytes that a block of COBS has behind its code.
const FULL: u8 = 0xff;

/// Most bytes that `frame` bytes take on the line, with a zero on either side.
pub(crate) const fn on_line(frame: usize) -> usize {
    frame + frame / 254 + 1 + 2
}

/// Writes one frame, piece by piece.
pub(crate) struct Encoder<'a> {
    out: &'a mut [u8],
    /// Where the code of the block under way goes.
    code_at: usize,
    at: usize,
    code: u8,
}

impl<'a> Encoder<'a> {
    /// At the beginning of a frame; `None` when there is no room.
    pub(crate) fn new(out: &'a mut [u8]) -> Option<Encoder<'a>> {
        *out.get_mut(0)? = 0;
        (out.len() > 2).then_some(Encoder { out, code_at: 1, at: 2, code: 1 })
    }

    /// More bytes of the frame; `None` when there is no room.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Option<()> {
        for byte in bytes {
            if *byte == 0 {
                self.close()?;
                continue;
            }
            // A full block stands for no zero: it is closed only when more follows.
            if self.code == FULL {
                self.close()?;
            }
            *self.out.get_mut(self.at)? = *byte;
            self.at += 1;
            self.code += 1;
        }
        Some(())
    }

    /// Ends the frame; answers the bytes on the line.
    pub(crate) fn finish(mut self) -> Option<usize> {
        *self.out.get_mut(self.code_at)? = self.code;
        *self.out.get_mut(self.at)? = 0;
        self.at += 1;
        Some(self.at)
    }

    fn close(&mut self) -> Option<()> {
        *self.out.get_mut(self.code_at)? = self.code;
        self.code_at = self.at;
        self.at += 1;
        self.code = 1;
        Some(())
    }
}

/// Takes a line apart into frames of at most `FRAME` bytes.
pub(crate) struct Decoder<const FRAME: usize> {
    buffer: [u8; FRAME],
    length: usize,
    /// Bytes until the next code; 0: the next byte is a code.
    left: u8,
    /// Whether a zero belongs in front of the next block.
    zero: bool,
    /// The frame is broken or too long: nothing counts until it ends.
    broken: bool,
    begun: bool,
}

/// What a byte has ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// Nothing yet.
    Nothing,
    /// A frame: see [`Decoder::frame`].
    Frame,
    /// Bytes that are no frame.
    Garbage,
}

impl<const FRAME: usize> Decoder<FRAME> {
    pub(crate) const fn new() -> Decoder<FRAME> {
        Decoder { buffer: [0; FRAME], length: 0, left: 0, zero: false, broken: false, begun: false }
    }

    /// The frame that has just ended. The next byte takes it away.
    pub(crate) fn frame(&self) -> &[u8] {
        self.buffer.get(..self.length).unwrap_or_default()
    }

    pub(crate) fn push(&mut self, byte: u8) -> Ended {
        if byte == 0 {
            let ended = match (self.begun, self.broken || self.left > 0) {
                (false, _) => Ended::Nothing,
                (true, false) => Ended::Frame,
                (true, true) => Ended::Garbage,
            };
            (self.left, self.zero, self.broken, self.begun) = (0, false, false, false);
            return ended;
        }
        if !self.begun {
            self.begun = true;
            self.length = 0;
        }
        if self.left > 0 {
            self.left -= 1;
            self.keep(byte);
        } else {
            if self.zero {
                self.keep(0);
            }
            self.left = byte - 1;
            self.zero = byte != FULL;
        }
        Ended::Nothing
    }

    fn keep(&mut self, byte: u8) {
        match self.buffer.get_mut(self.length) {
            Some(place) => {
                *place = byte;
                self.length += 1;
            }
            None => self.broken = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec;

    fn encoded(frame: &[u8]) -> Vec<u8> {
        let mut out = std::vec![0xee; on_line(frame.len())];
        let mut encoder = Encoder::new(&mut out).unwrap();
        encoder.push(frame).unwrap();
        let length = encoder.finish().unwrap();
        out.truncate(length);
        out
    }

    fn decoded(line: &[u8]) -> Vec<Vec<u8>> {
        let mut decoder = Decoder::<1_024>::new();
        let mut frames = Vec::new();
        for byte in line {
            if decoder.push(*byte) == Ended::Frame {
                frames.push(decoder.frame().to_vec());
            }
        }
        frames
    }

    /// The examples of the article that COBS is from, as its encyclopedia entry has them.
    #[test]
    fn frames_are_stuffed_as_everybody_does() {
        for (frame, line) in [
            (&[0x00][..], &[0x01, 0x01][..]),
            (&[0x00, 0x00], &[0x01, 0x01, 0x01]),
            (&[0x00, 0x11, 0x00], &[0x01, 0x02, 0x11, 0x01]),
            (&[0x11, 0x22, 0x00, 0x33], &[0x03, 0x11, 0x22, 0x02, 0x33]),
            (&[0x11, 0x00, 0x00, 0x00], &[0x02, 0x11, 0x01, 0x01, 0x01]),
        ] {
            let whole = encoded(frame);
            assert_eq!(&whole[1..whole.len() - 1], line);
            assert_eq!((whole[0], whole[whole.len() - 1]), (0, 0));
        }
        let long: Vec<u8> = (1..=254).collect();
        assert_eq!(encoded(&long).len(), 254 + 1 + 2);
    }

    #[test]
    fn a_frame_that_is_cut_or_too_long_is_garbage() {
        let mut decoder = Decoder::<4>::new();
        let mut ends: Vec<Ended> = [5, 1, 2, 0].iter().map(|byte| decoder.push(*byte)).collect();
        assert_eq!(ends.pop(), Some(Ended::Garbage), "the block is not whole");
        let mut ends: Vec<Ended> = [6, 1, 2, 3, 4, 5, 0].iter().map(|b| decoder.push(*b)).collect();
        assert_eq!(ends.pop(), Some(Ended::Garbage), "five bytes in a buffer of four");
        let mut ends: Vec<Ended> = [5, 1, 2, 3, 4, 0].iter().map(|b| decoder.push(*b)).collect();
        assert_eq!(ends.pop(), Some(Ended::Frame));
    }

    proptest! {
        #[test]
        fn every_frame_comes_back_and_has_no_zero_inside(
            frames in prop::collection::vec(
                prop::collection::vec(prop_oneof![Just(0u8), any::<u8>()], 1..600), 1..4),
        ) {
            let mut line = Vec::new();
            for frame in &frames {
                let bytes = encoded(frame);
                prop_assert!(bytes.len() <= on_line(frame.len()));
                prop_assert!(!bytes[1..bytes.len() - 1].contains(&0));
                line.extend(bytes);
            }
            prop_assert_eq!(decoded(&line), frames);
        }
    }
}
