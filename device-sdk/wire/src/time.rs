//! How a device on MQTT asks the gateway for the time: docs/formats/time.md.
//!
//! Fixed places instead of CBOR, as in the pings of a serial link: a device that asks should not pay for
//! reading maps.
//!
//! Not here: when to ask, and what to make of four timestamps.

/// Version of the format, the first byte of either message.
const VERSION: u8 = 1;
/// Bit of the last byte: the gateway trusts its clock.
const TRUSTED: u8 = 1;

/// A device asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    /// t1: when it was sent, microseconds by the device's clock, which begins anywhere.
    pub sent: u64,
}

/// The gateway answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// t1, as the question says.
    pub sent: u64,
    /// t2: when the question was there, microseconds since 1970 by the gateway's clock.
    pub received: u64,
    /// t3: when the answer left, by the same clock.
    pub answered: u64,
    /// The gateway trusts its clock.
    pub trusted: bool,
}

impl Question {
    /// Bytes of a question.
    pub const BYTES: usize = 9;

    /// Writes it.
    #[must_use]
    pub fn write(&self) -> [u8; Question::BYTES] {
        let mut out = [VERSION; Question::BYTES];
        put(&mut out, 1, self.sent);
        out
    }

    /// Reads it; `None` when it is none of this version. What a later one has behind it is passed over.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Question> {
        Some(Question { sent: word(of_this_version(bytes)?, 1)? })
    }
}

impl Answer {
    /// Bytes of an answer.
    pub const BYTES: usize = 26;

    /// Writes it.
    #[must_use]
    pub fn write(&self) -> [u8; Answer::BYTES] {
        let mut out = [VERSION; Answer::BYTES];
        put(&mut out, 1, self.sent);
        put(&mut out, 9, self.received);
        put(&mut out, 17, self.answered);
        out[25] = if self.trusted { TRUSTED } else { 0 };
        out
    }

    /// Reads it; `None` when it is none of this version. What a later one has behind it is passed over.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Answer> {
        let bytes = of_this_version(bytes)?;
        Some(Answer {
            sent: word(bytes, 1)?,
            received: word(bytes, 9)?,
            answered: word(bytes, 17)?,
            trusted: bytes.get(25)? & TRUSTED != 0,
        })
    }
}

fn of_this_version(bytes: &[u8]) -> Option<&[u8]> {
    (bytes.first() == Some(&VERSION)).then_some(bytes)
}

fn put(out: &mut [u8], at: usize, value: u64) {
    for (place, byte) in out.iter_mut().skip(at).zip(value.to_le_bytes()) {
        *place = byte;
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

/// Bytes frozen per version of the format: tests/golden/time. Do not change these files, nor what is expected
/// of them: devices in the field speak them.
#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;
    use std::vec::Vec;

    const QUESTION: &[u8] = include_bytes!("../../../tests/golden/time/v1/question.bin");
    const ANSWER: &[u8] = include_bytes!("../../../tests/golden/time/v1/answer.bin");
    const UNTRUSTED: &[u8] = include_bytes!("../../../tests/golden/time/v1/answer-untrusted.bin");

    fn answer(trusted: bool) -> Answer {
        let (received, answered) = (1_780_000_000_123_456, 1_780_000_000_123_789);
        Answer { sent: 0x0102_0304_0506_0708, received, answered, trusted }
    }

    #[test]
    fn frozen_questions_and_answers_are_written_and_read() {
        let question = Question { sent: 0x0102_0304_0506_0708 };
        assert_eq!(question.write(), QUESTION);
        assert_eq!(Question::read(QUESTION), Some(question));
        for (trusted, frozen) in [(true, ANSWER), (false, UNTRUSTED)] {
            assert_eq!(answer(trusted).write(), frozen);
            assert_eq!(Answer::read(frozen), Some(answer(trusted)));
        }
    }

    #[test]
    fn what_later_versions_add_is_passed_over_and_other_versions_are_not_read() {
        let longer = [ANSWER, &[7; 9]].concat();
        assert_eq!(Answer::read(&longer), Some(answer(true)));
        let mut more_bits = answer(true).write();
        more_bits[25] = 0xff;
        assert_eq!(Answer::read(&more_bits), Some(answer(true)));
        for version in [0, 2, 255] {
            assert_eq!(Answer::read(&[&[version], &ANSWER[1..]].concat()), None);
            assert_eq!(Question::read(&[&[version], &QUESTION[1..]].concat()), None);
        }
    }

    #[test]
    fn what_is_cut_short_is_none() {
        for length in 0..QUESTION.len() {
            assert_eq!(Question::read(&QUESTION[..length]), None, "{length}");
        }
        for length in 0..ANSWER.len() {
            assert_eq!(Answer::read(&ANSWER[..length]), None, "{length}");
        }
    }

    proptest! {
        /// Whatever comes is read or not, without a panic, and what is read is what is written.
        #[test]
        fn anything_is_read_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            for version in [bytes.first().copied().unwrap_or(0), VERSION] {
                bytes.first_mut().into_iter().for_each(|first| *first = version);
                if let Some(answer) = Answer::read(&bytes) {
                    prop_assert_eq!(Answer::read(&answer.write()), Some(answer));
                }
                let question = Question::read(&bytes).map(|question| question.write());
                let expected = (version == VERSION && bytes.len() >= Question::BYTES)
                    .then(|| Vec::from(&bytes[..Question::BYTES]));
                prop_assert_eq!(question.map(Vec::from), expected);
            }
        }
    }
}
