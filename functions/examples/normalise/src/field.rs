//! One field of the schema: where it comes from, and how it is converted.

use alloc::string::String;
use alloc::vec::Vec;
use tidegate_guest::Error;
use tidegate_guest::decimal::push_decimal;
use tidegate_guest::json::{Json, push_string};
use tidegate_guest::text::{concat, cut};

/// Conversions by name: value = number * scale + offset.
const UNITS: [(&str, f64, f64); 20] = [
    ("F->C", 5.0 / 9.0, -160.0 / 9.0),
    ("C->F", 1.8, 32.0),
    ("K->C", 1.0, -273.15),
    ("C->K", 1.0, 273.15),
    ("bar->Pa", 100_000.0, 0.0),
    ("mbar->Pa", 100.0, 0.0),
    ("hPa->Pa", 100.0, 0.0),
    ("kPa->Pa", 1_000.0, 0.0),
    ("psi->Pa", 6_894.757_293_168, 0.0),
    ("km/h->m/s", 1.0 / 3.6, 0.0),
    ("mph->m/s", 0.447_04, 0.0),
    ("kn->m/s", 1_852.0 / 3_600.0, 0.0),
    ("ft->m", 0.304_8, 0.0),
    ("in->m", 0.025_4, 0.0),
    ("gal->l", 3.785_411_784, 0.0),
    ("l/min->m3/h", 0.06, 0.0),
    ("Wh->J", 3_600.0, 0.0),
    ("kWh->J", 3_600_000.0, 0.0),
    ("hp->W", 745.699_871_582, 0.0),
    ("percent->1", 0.01, 0.0),
];

/// A field of what is published.
#[derive(Debug, Clone)]
pub(crate) struct Field {
    name: String,
    /// Where it may be, the first that is there counts.
    from: Vec<String>,
    required: bool,
    conversion: Option<Conversion>,
}

#[derive(Debug, Clone, Copy)]
struct Conversion {
    scale: f64,
    offset: f64,
    decimals: u8,
}

impl Field {
    pub(crate) fn parse(name: &str, config: Json<'_>) -> Result<Self, Error> {
        let wrong = |key: &str, must: &str| {
            let text = ["`fields.", name, ".", key, "` in the configuration must be ", must];
            Error::DeadLetter(concat(&text))
        };
        for (key, _) in config.members() {
            if !["from", "unit", "scale", "offset", "decimals", "required"].contains(&&*key) {
                return Err(wrong(&key, "left out: it is not known"));
            }
        }
        let number = |key: &str| match config.get(key) {
            Some(found) => found.as_f64().map(Some).ok_or_else(|| wrong(key, "a number")),
            None => Ok(None),
        };
        let from = config.get("from").and_then(|from| from.as_str()).unwrap_or(name.into());
        let required = match config.get("required") {
            Some(found) => found.as_bool().ok_or_else(|| wrong("required", "true or false"))?,
            None => true,
        };
        let (scale, offset, decimals) = (number("scale")?, number("offset")?, number("decimals")?);
        let unit = match config.get("unit").map(|unit| unit.as_str()) {
            Some(unit) => {
                let found = UNITS.iter().find(|(name, ..)| Some(*name) == unit.as_deref());
                Some(found.ok_or_else(|| wrong("unit", "one of those in the README"))?)
            }
            None => None,
        };
        let conversion = match (unit, scale, offset, decimals) {
            (None, None, None, None) => None,
            (unit, scale, offset, decimals) => {
                let (_, by, plus) = unit.copied().unwrap_or(("", 1.0, 0.0));
                Some(Conversion {
                    scale: by * scale.unwrap_or(1.0),
                    offset: plus + offset.unwrap_or(0.0),
                    // The cast saturates.
                    decimals: decimals.unwrap_or(6.0) as u8,
                })
            }
        };
        Ok(Self { name: String::from(name), from: split(&from), required, conversion })
    }

    /// Appends the field as it is in the payload, converted where that was asked for.
    pub(crate) fn push(&self, payload: Json<'_>, json: &mut String) -> Result<(), String> {
        let Some(found) = self.from.iter().find_map(|path| payload.path(path)) else {
            return match self.required {
                true => Err(concat(&["the payload has nothing for `", &self.name, "`"])),
                false => Ok(()),
            };
        };
        json.push(',');
        push_string(json, &self.name);
        json.push(':');
        match self.conversion {
            None => json.push_str(found.text()),
            Some(Conversion { scale, offset, decimals }) => {
                let value = found.as_f64().ok_or_else(|| {
                    concat(&["`", &self.name, "` is ", found.text(), ", it must be a number"])
                })?;
                push_decimal(json, value * scale + offset, decimals);
            }
        }
        Ok(())
    }
}

/// `a.b|c`: the paths between the bars.
fn split(text: &str) -> Vec<String> {
    let mut paths = Vec::new();
    let mut left = Some(text);
    while let Some(rest) = left {
        let (path, after) = cut(rest, b'|');
        paths.push(String::from(path));
        left = after;
    }
    paths
}
