//! One value of the configuration, and how it is read from its registers.

use alloc::string::String;
use tidegate_guest::Error;
use tidegate_guest::json::Json;
use tidegate_guest::text::concat;

/// A value in the registers of a device.
#[derive(Debug, Clone)]
pub(crate) struct Value {
    pub(crate) name: String,
    pub(crate) address: u32,
    kind: Kind,
    order: Order,
    scale: f64,
    offset: f64,
    pub(crate) decimals: u8,
}

/// What the bits mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    I16,
    U16,
    I32,
    U32,
    F32,
}

/// Where the bytes of a value are, most significant byte `a` first: `Abcd` is what the standard
/// has, `Cdab` swaps the words of 32 bits, `Badc` the bytes of each word, `Dcba` both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Abcd,
    Cdab,
    Badc,
    Dcba,
}

impl Value {
    pub(crate) fn parse(name: &str, config: Json<'_>) -> Result<Self, Error> {
        let wrong = |key: &str, must: &str| {
            let text = ["`values.", name, ".", key, "` in the configuration must be ", must];
            Error::DeadLetter(concat(&text))
        };
        for (key, _) in config.members() {
            if !["address", "type", "order", "scale", "offset", "decimals"].contains(&&*key) {
                return Err(wrong(&key, "left out: it is not known"));
            }
        }
        let number = |key: &str, default: Option<f64>| match config.get(key) {
            Some(found) => found.as_f64().ok_or_else(|| wrong(key, "a number")),
            None => default.ok_or_else(|| wrong(key, "there")),
        };
        let word = |key: &str, default: &str| match config.get(key) {
            Some(found) => found.as_str().map(String::from).unwrap_or_default(),
            None => String::from(default),
        };
        let address = number("address", None)?;
        if !(0.0..65_536.0).contains(&address) {
            return Err(wrong("address", "0 to 65535"));
        }
        let kind = match word("type", "").as_str() {
            "i16" => Kind::I16,
            "u16" => Kind::U16,
            "i32" => Kind::I32,
            "u32" => Kind::U32,
            "f32" => Kind::F32,
            _ => return Err(wrong("type", "one of i16, u16, i32, u32, f32")),
        };
        let order = match word("order", "abcd").as_str() {
            "abcd" => Order::Abcd,
            "cdab" => Order::Cdab,
            "badc" => Order::Badc,
            "dcba" => Order::Dcba,
            _ => return Err(wrong("order", "one of abcd, cdab, badc, dcba")),
        };
        Ok(Self {
            name: String::from(name),
            address: address as u32,
            kind,
            order,
            scale: number("scale", Some(1.0))?,
            offset: number("offset", Some(0.0))?,
            // The cast saturates.
            decimals: number("decimals", Some(6.0))? as u8,
        })
    }

    /// How many registers it takes.
    pub(crate) fn registers(&self) -> u32 {
        match self.kind {
            Kind::I16 | Kind::U16 => 1,
            Kind::I32 | Kind::U32 | Kind::F32 => 2,
        }
    }

    /// The value in its registers.
    pub(crate) fn decode(&self, registers: &[u16]) -> f64 {
        let swapped = |register: &u16| match self.order {
            Order::Abcd | Order::Cdab => *register,
            Order::Badc | Order::Dcba => register.swap_bytes(),
        };
        let mut words = registers.iter().map(swapped);
        let (first, second) = (words.next().unwrap_or(0), words.next().unwrap_or(0));
        let (high, low) = match self.order {
            Order::Abcd | Order::Badc => (first, second),
            Order::Cdab | Order::Dcba => (second, first),
        };
        let both = u32::from(high) << 16 | u32::from(low);
        let raw = match self.kind {
            Kind::I16 => f64::from(first as i16),
            Kind::U16 => f64::from(first),
            Kind::I32 => f64::from(both as i32),
            Kind::U32 => f64::from(both),
            Kind::F32 => f64::from(f32::from_bits(both)),
        };
        raw * self.scale + self.offset
    }
}
