//! WebSocket frames (RFC 6455) around the bytes of MQTT. Frames need not align with packets
//! [MQTT-6.0.0-2]; text is no MQTT [MQTT-6.0.0-1].

/// Bytes of answers (pongs) that may wait. A client that asks faster than it reads is closed.
const MAX_ANSWERS: usize = 4 * 1024;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ending {
    /// The status of the close frame that is to be sent.
    pub(crate) status: u16,
    /// For the log.
    pub(crate) why: &'static str,
}

/// The frames that a client sends, taken apart.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    /// The bytes of a header that is not complete.
    header: Vec<u8>,
    frame: Option<Frame>,
    /// A message of several frames has begun.
    in_message: bool,
    /// The payload of a control frame.
    control: Vec<u8>,
    scratch: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Frame {
    opcode: u8,
    left: u64,
    mask: [u8; 4],
    /// Place in the mask.
    at: usize,
}

impl Frames {
    /// Takes bytes apart. The payload of binary frames goes to `deliver`, answers to `answers`.
    ///
    /// # Errors
    /// The connection is to be closed. A close frame has been answered already.
    pub(crate) fn take(
        &mut self,
        mut bytes: &[u8],
        answers: &mut Vec<u8>,
        mut deliver: impl FnMut(&[u8]),
    ) -> Result<(), Ending> {
        while !bytes.is_empty() || self.frame.is_some_and(|frame| frame.left == 0) {
            let Some(frame) = &mut self.frame else {
                let (first, rest) = bytes.split_at(1);
                self.header.extend_from_slice(first);
                bytes = rest;
                self.frame = self.parsed_header(answers)?;
                continue;
            };
            let length = usize::try_from(frame.left).unwrap_or(usize::MAX).min(bytes.len());
            let (payload, rest) = bytes.split_at(length);
            bytes = rest;
            self.scratch.clear();
            self.scratch.extend_from_slice(payload);
            for byte in &mut self.scratch {
                *byte ^= frame.mask[frame.at];
                frame.at = (frame.at + 1) % 4;
            }
            frame.left -= length as u64;
            let frame = *frame;
            if frame.opcode < CLOSE {
                if !self.scratch.is_empty() {
                    deliver(&self.scratch);
                }
            } else {
                self.control.extend_from_slice(&self.scratch);
            }
            if frame.left == 0 {
                self.frame = None;
                if frame.opcode >= CLOSE {
                    let control = std::mem::take(&mut self.control);
                    answer(frame.opcode, &control, answers)?;
                }
            }
        }
        if self.scratch.capacity() > MAX_ANSWERS {
            self.scratch = Vec::new();
        }
        Ok(())
    }

    /// The header, when all of it is there.
    fn parsed_header(&mut self, answers: &mut Vec<u8>) -> Result<Option<Frame>, Ending> {
        let (&[first, second], rest) = match self.header.split_first_chunk() {
            Some(split) => split,
            None => return Ok(None),
        };
        let opcode = first & 0x0F;
        self.check(first, second).map_err(|ending| closed(ending, answers))?;
        let extended = match second & 0x7F {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let Some((length, mask)) = rest.split_at_checked(extended) else { return Ok(None) };
        let Ok(mask) = <[u8; 4]>::try_from(mask) else { return Ok(None) };
        let left = match extended {
            0 => u64::from(second & 0x7F),
            _ => length.iter().fold(0, |length, byte| length << 8 | u64::from(*byte)),
        };
        if left > 1 << 62 {
            return Err(closed(Ending { status: 1002, why: "a frame without end" }, answers));
        }
        self.header.clear();
        if opcode < CLOSE {
            self.in_message = first & 0x80 == 0;
        }
        Ok(Some(Frame { opcode, left, mask, at: 0 }))
    }

    fn check(&self, first: u8, second: u8) -> Result<(), Ending> {
        let wrong = |why| Err(Ending { status: 1002, why });
        if first & 0x70 != 0 {
            return wrong("a reserved bit in a frame");
        }
        if second & 0x80 == 0 {
            return wrong("a frame without mask");
        }
        match first & 0x0F {
            BINARY if self.in_message => wrong("a message within a message"),
            CONTINUATION if !self.in_message => wrong("a continuation of nothing"),
            CONTINUATION | BINARY => Ok(()),
            TEXT => Err(Ending { status: 1003, why: "a text frame" }), // [MQTT-6.0.0-1]
            CLOSE | PING | PONG if first & 0x80 == 0 || second & 0x7F > 125 => {
                wrong("a control frame that is too long or in pieces")
            }
            CLOSE | PING | PONG => Ok(()),
            _ => wrong("an unknown frame"),
        }
    }
}

/// What a control frame asks for.
fn answer(opcode: u8, payload: &[u8], answers: &mut Vec<u8>) -> Result<(), Ending> {
    match opcode {
        PING if answers.len() + payload.len() > MAX_ANSWERS => {
            Err(closed(Ending { status: 1008, why: "more pings than it takes answers" }, answers))
        }
        PING => {
            answers.extend_from_slice(&[0x80 | PONG, payload.len() as u8]);
            answers.extend_from_slice(payload);
            Ok(())
        }
        CLOSE => {
            Err(closed(Ending { status: 1000, why: "the client closed the WebSocket" }, answers))
        }
        _ => Ok(()),
    }
}

fn closed(ending: Ending, answers: &mut Vec<u8>) -> Ending {
    answers.extend_from_slice(&[0x80 | CLOSE, 2]);
    answers.extend_from_slice(&ending.status.to_be_bytes());
    ending
}

/// The header of a binary frame with so many bytes.
pub(crate) fn frame_header(length: usize, out: &mut Vec<u8>) {
    out.push(0x80 | BINARY);
    match length {
        0..126 => out.push(length as u8),
        126..=0xFFFF => {
            out.push(126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
}

/// The close frame of a connection that ends from this side.
pub(crate) fn goodbye(out: &mut Vec<u8>) {
    closed(Ending { status: 1000, why: "" }, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        frame_header(payload.len(), &mut bytes);
        bytes[0] = first;
        bytes[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        bytes.extend(mask);
        bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
        bytes
    }

    /// What is delivered, what is answered, and how it ends, in pieces of a size.
    fn taken(bytes: &[u8], size: usize) -> (Vec<u8>, Vec<u8>, Option<Ending>) {
        let (mut frames, mut out, mut answers) = (Frames::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            let taken = frames.take(piece, &mut answers, |bytes| out.extend_from_slice(bytes));
            if let Err(ending) = taken {
                return (out, answers, Some(ending));
            }
        }
        (out, answers, None)
    }

    #[test]
    fn frames_need_not_align_with_anything() {
        let long = vec![7; 70_000];
        let mut bytes = frame(0x82, b"abc");
        bytes.extend(frame(0x02, b"de"));
        bytes.extend(frame(0x89, b"ping"));
        bytes.extend(frame(0x00, b""));
        bytes.extend(frame(0x80, b"f"));
        bytes.extend(frame(0x82, &long));
        bytes.extend(frame(0x82, &[9; 300]));
        let expected = [&b"abcdef"[..], &long, &[9; 300]].concat();
        for size in [1, 2, 3, 7, 1000, 100_000] {
            let (out, answers, ending) = taken(&bytes, size);
            assert_eq!(out, expected, "{size}");
            assert_eq!(answers, b"\x8a\x04ping");
            assert_eq!(ending, None);
        }
    }

    #[test]
    fn what_is_no_mqtt_ends_the_connection() {
        let mut unmasked = frame(0x82, b"a");
        unmasked[1] &= 0x7F;
        let pieces = [frame(0x02, b"a"), frame(0x82, b"b")].concat();
        for (bytes, status) in [
            (frame(0x81, b"text"), 1003),
            (frame(0xC2, b"a"), 1002),
            (frame(0x83, b"a"), 1002),
            (frame(0x80, b"a"), 1002),
            (frame(0x09, b"a"), 1002),
            (unmasked, 1002),
            (pieces, 1002),
            (frame(0x88, b""), 1000),
        ] {
            let (_, answers, ending) = taken(&bytes, 1);
            assert_eq!(ending.map(|ending| ending.status), Some(status), "{bytes:x?}");
            assert_eq!(answers[..2], [0x88, 2]);
        }
    }

    #[test]
    fn pings_do_not_pile_up() {
        let bytes = frame(0x89, &[0; 125]).repeat(100);
        let (_, answers, ending) = taken(&bytes, 1000);
        assert_eq!(ending.map(|ending| ending.status), Some(1008));
        assert!(answers.len() < 2 * MAX_ANSWERS);
    }
}
