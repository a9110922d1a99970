//! A function's `config` table as JSON.

use serde_json::{Map, Number, Value};
use toml::de::DeValue;

use super::document::Spot;
use super::mistakes::Mistakes;
use super::value::expected;

/// Reads a table as JSON bytes; `None` when something in it has no JSON form.
pub(super) fn read(spot: &Spot<'_>, out: &mut Mistakes) -> Option<Vec<u8>> {
    if !matches!(spot.value, DeValue::Table(_)) {
        spot.wrong(out, &expected("a table", spot.value));
        return None;
    }
    Some(convert(spot, out)?.to_string().into_bytes())
}

/// Goes as deep as the parser did, which limits the depth.
fn convert(spot: &Spot<'_>, out: &mut Mistakes) -> Option<Value> {
    if let Some(entries) = spot.entries() {
        let mut map = Map::new();
        for (key, entry) in entries {
            map.insert(key.to_owned(), convert(&entry, out)?);
        }
        return Some(Value::Object(map));
    }
    if let Some(elements) = spot.elements() {
        let list: Option<Vec<Value>> = elements.iter().map(|e| convert(e, out)).collect();
        return list.map(Value::Array);
    }
    let value = scalar(spot.value);
    if value.is_none() {
        spot.wrong(out, "has no JSON form; write a finite number within 64 bits, or text");
    }
    value
}

fn scalar(value: &DeValue<'_>) -> Option<Value> {
    match value {
        DeValue::String(text) => Some(Value::String(text.clone().into_owned())),
        DeValue::Integer(number) => {
            let number = i128::from_str_radix(number.as_str(), number.radix()).ok()?;
            Number::from_i128(number).map(Value::Number)
        }
        DeValue::Float(number) => {
            Number::from_f64(number.as_str().parse().ok()?).map(Value::Number)
        }
        DeValue::Boolean(flag) => Some(Value::Bool(*flag)),
        DeValue::Datetime(date) => Some(Value::String(date.to_string())),
        DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
