//! Which alerts have reached the upstream: each names its sensor, which is a publisher of ours, and
//! the number of its reading.

/// The ids of alerts by publisher.
#[derive(Debug)]
pub(super) struct Arrivals {
    /// For each publisher, which numbers came.
    seen: Vec<Vec<u64>>,
    /// Different alerts.
    pub(super) unique: u64,
    /// Alerts that came again.
    pub(super) repeated: u64,
}

impl Arrivals {
    pub(super) fn new(publishers: usize) -> Arrivals {
        Arrivals { seen: vec![Vec::new(); publishers], unique: 0, repeated: 0 }
    }

    /// Notes an alert; publisher and number if it is a new one.
    pub(super) fn note(&mut self, payload: &[u8]) -> Option<(usize, u64)> {
        let (publisher, number) = read(payload)?;
        let seen = self.seen.get_mut(publisher)?;
        let (word, bit) = ((number / 64) as usize, 1u64 << (number % 64));
        if seen.len() <= word {
            seen.resize(word + 1, 0);
        }
        if seen[word] & bit != 0 {
            self.repeated += 1;
            return None;
        }
        seen[word] |= bit;
        self.unique += 1;
        Some((publisher, number))
    }
}

const ID: &[u8] = br#""id":"s-"#;
const SENSOR: &[u8] = br#""sensor":""#;

/// Publisher and number that an alert names. A generator has no time to parse JSON.
pub(super) fn read(payload: &[u8]) -> Option<(usize, u64)> {
    Some((number_after(payload, SENSOR)? as usize, number_after(payload, ID)?))
}

fn number_after(payload: &[u8], name: &[u8]) -> Option<u64> {
    let at = payload.windows(name.len()).position(|window| window == name)?;
    let digits = &payload[at + name.len()..];
    let digits = &digits[..digits.iter().position(|byte| !byte.is_ascii_digit())?];
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_names_its_publisher_and_number_whoever_made_it() {
        let ours = br#"{"id":"s-000000000123","sensor":"7","value":21.5,"limit":0,"time":5}"#;
        assert_eq!(read(ours), Some((7, 123)));
        assert_eq!(read(br#"{"sensor":"0","id":"s-000000000000"}"#), Some((0, 0)));
        assert_eq!(read(br#"{"id":"s-000000000123"}"#), None);
        assert_eq!(read(br#"{"id":"s-12"#), None);
    }

    #[test]
    fn an_alert_that_comes_again_is_counted_apart() {
        let mut arrivals = Arrivals::new(2);
        let alert = br#"{"id":"s-000000000123","sensor":"1"}"#;
        assert_eq!(arrivals.note(alert), Some((1, 123)));
        assert_eq!(arrivals.note(alert), None);
        assert_eq!(arrivals.note(br#"{"id":"s-000000000123","sensor":"2"}"#), None, "a stranger");
        assert_eq!((arrivals.unique, arrivals.repeated), (1, 1));
    }
}
