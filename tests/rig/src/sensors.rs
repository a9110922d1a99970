//! What the sensors measure: several simulated ones, deterministic by their seed, and a real one,
//! the host itself. Each knows which of its readings must raise an alert.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::publisher::{Next, Source, message_id};

/// Topic of a sensor's readings.
pub fn telemetry_topic(name: &str) -> String {
    format!("sensors/{name}/telemetry")
}

/// Pseudo-random numbers (xorshift64*), the same for the same seed.
#[derive(Debug, Clone)]
pub struct Random {
    state: u64,
}

impl Random {
    /// A generator; the seed may be anything.
    pub fn new(seed: u64) -> Random {
        Random { state: seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1 }
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.state ^= self.state >> 12;
        self.state ^= self.state << 25;
        self.state ^= self.state >> 27;
        self.state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in `low..high`.
    pub fn between(&mut self, low: f64, high: f64) -> f64 {
        let unit = (self.bits() >> 11) as f64 / (1u64 << 53) as f64;
        low + unit * (high - low)
    }

    /// An integer in `low..=high`.
    pub fn integer(&mut self, low: u64, high: u64) -> u64 {
        low + self.bits() % (high - low + 1)
    }
}

/// The threshold function's rule, as its documentation states it: above the limit an alert is
/// raised once; it may be raised again after a reading below the limit less the hysteresis.
#[derive(Debug, Clone)]
pub struct AlertRule {
    limit: f64,
    hysteresis: f64,
    raised: bool,
}

impl AlertRule {
    /// The rule for one sensor.
    pub fn new(limit: f64, hysteresis: f64) -> AlertRule {
        AlertRule { limit, hysteresis, raised: false }
    }

    /// Whether this reading raises an alert.
    pub fn raises(&mut self, value: f64) -> bool {
        if self.raised {
            self.raised = value >= self.limit - self.hysteresis;
            return false;
        }
        self.raised = value > self.limit;
        self.raised
    }
}

/// Numbers of the readings that must raise an alert, shared with who checks.
#[derive(Debug, Clone, Default)]
pub struct Expected {
    numbers: Arc<Mutex<Vec<u64>>>,
}

impl Expected {
    /// The numbers so far.
    pub fn numbers(&self) -> Vec<u64> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, number: u64) {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).push(number);
    }
}

/// What a simulated sensor measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quantity {
    /// Degrees Celsius, a slow swing with drift.
    Temperature,
    /// Millimetres a second, calm with bursts.
    Vibration,
    /// Ampere, a motor that starts now and then.
    Current,
}

impl Quantity {
    fn name(self) -> &'static str {
        match self {
            Quantity::Temperature => "temperature",
            Quantity::Vibration => "vibration",
            Quantity::Current => "current",
        }
    }

    fn unit(self) -> &'static str {
        match self {
            Quantity::Temperature => "°C",
            Quantity::Vibration => "mm/s",
            Quantity::Current => "A",
        }
    }

    /// The value `seconds` after the start; every sensor exceeds 30 several times a minute.
    fn value(self, seconds: f64, phase: f64, random: &mut Random) -> f64 {
        let noise = random.between(-0.4, 0.4);
        match self {
            Quantity::Temperature => {
                26.0 + 5.5 * (seconds / 2.6 + phase).sin() + 0.01 * seconds.min(60.0) + noise
            }
            Quantity::Vibration => {
                let burst = (seconds / 9.0 + phase).fract() < 0.12;
                if burst { 31.5 + 6.0 * noise } else { 6.0 + 3.0 * noise }
            }
            Quantity::Current => {
                let since_start = 14.0 * (seconds / 14.0 + phase).fract();
                12.0 + 26.0 * (-since_start / 1.5).exp() + noise
            }
        }
    }
}

/// A simulated sensor, paced.
#[derive(Debug)]
pub struct Simulated {
    name: String,
    topic: String,
    quantity: Quantity,
    interval: Duration,
    phase: f64,
    random: Random,
    rule: AlertRule,
    expected: Expected,
    started: Option<Instant>,
}

impl Simulated {
    /// A sensor with `rate` readings a second.
    pub fn new(
        name: &str,
        quantity: Quantity,
        rate: f64,
        seed: u64,
        rule: AlertRule,
        expected: Expected,
    ) -> Simulated {
        let mut random = Random::new(seed);
        Simulated {
            name: name.to_owned(),
            topic: telemetry_topic(name),
            quantity,
            interval: Duration::from_secs_f64(1.0 / rate),
            phase: random.between(0.0, 1.0),
            random,
            rule,
            expected,
            started: None,
        }
    }
}

impl Source for Simulated {
    fn next(&mut self, number: u64, now: Instant) -> Next {
        let started = *self.started.get_or_insert(now);
        let offset = self.interval.mul_f64(number as f64);
        if now < started + offset {
            return Next::At(started + offset);
        }
        let value = self.quantity.value(offset.as_secs_f64(), self.phase, &mut self.random);
        let value = (value * 100.0).round() / 100.0;
        if self.rule.raises(value) {
            self.expected.push(number);
        }
        let payload = json!({
            "id": message_id(&self.name, number),
            "quantity": self.quantity.name(),
            "unit": self.quantity.unit(),
            "value": value,
            "time_ms": unix_ms(),
        });
        Next::Message { topic: self.topic.clone(), payload: payload.to_string().into_bytes() }
    }
}

/// The newest reading of the host, in words, shared with who shows it.
#[derive(Debug, Clone, Default)]
pub struct HostReading {
    text: Arc<Mutex<String>>,
}

impl HostReading {
    /// Such as `load 0.42, memory 21.3 %, 47.0 °C`; empty before the first reading.
    pub fn text(&self) -> String {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, load: f64, memory: Option<f64>, temperatures: &Value) {
        let mut text = format!("load {load:.2}");
        if let Some(memory) = memory {
            text.push_str(&format!(", memory {memory:.1} %"));
        }
        let all = temperatures.as_object().into_iter().flatten();
        if let Some(hottest) = all.filter_map(|(_, value)| value.as_f64()).reduce(f64::max) {
            text.push_str(&format!(", {hottest:.1} °C"));
        }
        *self.text.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }
}

/// The real sensor: load, memory and temperatures of the machine that it runs on, one reading a
/// second. Its `value` is the load average of the last minute.
#[derive(Debug)]
pub struct Host {
    name: String,
    rule: AlertRule,
    expected: Expected,
    newest: HostReading,
    started: Option<Instant>,
}

impl Host {
    /// The host as a sensor.
    pub fn new(name: &str, rule: AlertRule, expected: Expected, newest: HostReading) -> Host {
        Host { name: name.to_owned(), rule, expected, newest, started: None }
    }
}

impl Source for Host {
    fn next(&mut self, number: u64, now: Instant) -> Next {
        let started = *self.started.get_or_insert(now);
        let due = started + Duration::from_secs(number);
        if now < due {
            return Next::At(due);
        }
        let load = load_average(&read("/proc/loadavg")).unwrap_or_default();
        if self.rule.raises(load) {
            self.expected.push(number);
        }
        let memory = memory_used_percent(&read("/proc/meminfo"));
        let temperatures = temperatures(Path::new("/sys"));
        self.newest.set(load, memory, &temperatures);
        let payload = json!({
            "id": message_id(&self.name, number),
            "quantity": "load",
            "unit": "1",
            "value": load,
            "memory_used_percent": memory,
            "temperatures": temperatures,
            "time_ms": unix_ms(),
        });
        let topic = telemetry_topic(&self.name);
        Next::Message { topic, payload: payload.to_string().into_bytes() }
    }
}

/// A file of the kernel's; empty where the machine has none such.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn load_average(text: &str) -> Option<f64> {
    text.split_whitespace().next()?.parse().ok()
}

fn memory_used_percent(text: &str) -> Option<f64> {
    let kilobytes = |name: &str| -> Option<f64> {
        let line = text.lines().find(|line| line.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse().ok()
    };
    let (total, available) = (kilobytes("MemTotal:")?, kilobytes("MemAvailable:")?);
    Some(((1.0 - available / total) * 1000.0).round() / 10.0)
}

/// Every temperature that the kernel offers, in degrees Celsius; at most 16.
fn temperatures(sys: &Path) -> Value {
    let mut found = serde_json::Map::new();
    for (class, file) in [("class/thermal", "temp"), ("class/hwmon", "temp1_input")] {
        let Ok(entries) = fs::read_dir(sys.join(class)) else { continue };
        for entry in entries.flatten().take(8) {
            let Ok(text) = fs::read_to_string(entry.path().join(file)) else { continue };
            let Ok(thousandths) = text.trim().parse::<f64>() else { continue };
            let name = entry.file_name().to_string_lossy().into_owned();
            found.insert(name, json!(thousandths / 1000.0));
        }
    }
    Value::Object(found)
}

fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alert_is_raised_once_until_the_value_has_fallen_below_the_hysteresis() {
        let mut rule = AlertRule::new(30.0, 1.0);
        let raised: Vec<bool> =
            [30.0, 30.1, 31.0, 29.5, 30.5, 29.0, 30.5, 28.9, 30.2].map(|v| rule.raises(v)).into();
        assert_eq!(raised, [false, true, false, false, false, false, false, false, true]);
    }

    #[test]
    fn every_simulated_sensor_exceeds_the_limit_within_twenty_seconds() {
        for quantity in [Quantity::Temperature, Quantity::Vibration, Quantity::Current] {
            for seed in 0..20 {
                let expected = Expected::default();
                let rule = AlertRule::new(30.0, 1.0);
                let mut sensor = Simulated::new("s1", quantity, 50.0, seed, rule, expected.clone());
                let start = Instant::now();
                assert!(matches!(sensor.next(0, start), Next::Message { .. }));
                for number in 1..1000 {
                    let later = start + Duration::from_secs(20);
                    assert!(matches!(sensor.next(number, later), Next::Message { .. }));
                }
                let count = expected.numbers().len();
                assert!((1..50).contains(&count), "{quantity:?} seed {seed}: {count} alerts");
            }
        }
    }

    #[test]
    fn the_kernels_files_are_read_as_numbers() {
        assert_eq!(load_average("0.52 0.58 0.59 1/389 12345\n"), Some(0.52));
        let meminfo = "MemTotal:  1000 kB\nMemFree: 100 kB\nMemAvailable:  250 kB\n";
        assert_eq!(memory_used_percent(meminfo), Some(75.0));
        assert_eq!(load_average(""), None);
        assert_eq!(memory_used_percent(""), None);
        let reading = HostReading::default();
        reading.set(0.42, Some(21.34), &json!({"a": 46.0, "b": 47.0}));
        assert_eq!(reading.text(), "load 0.42, memory 21.3 %, 47.0 °C");
    }

    #[test]
    fn a_paced_sensor_says_when_its_next_reading_is_due() {
        let rule = AlertRule::new(30.0, 1.0);
        let mut sensor =
            Simulated::new("s1", Quantity::Current, 10.0, 1, rule, Expected::default());
        let start = Instant::now();
        assert!(matches!(sensor.next(0, start), Next::Message { .. }));
        assert_eq!(sensor.next(1, start), Next::At(start + Duration::from_millis(100)));
    }
}
