//! Records with a schema.

use crate::form::{Form, Format};
use crate::time::Time;

/// What [`crate::record!`] makes of a schema.
pub trait Record {
    /// Name and version of the schema.
    const SCHEMA: &'static str;
    /// The names of its fields, in their order.
    const FIELDS: &'static [&'static str];

    /// Writes the values of all fields.
    fn fields<'a, F: Form<'a>>(&self, form: &mut F);

    /// Writes the record; answers its bytes, `None` when the buffer is too small.
    fn write<F: Format>(&self, out: &mut [u8]) -> Option<usize> {
        let mut form = F::Form::begin(out, Self::FIELDS.len());
        self.fields(&mut form);
        form.end()
    }
}

/// A value of a field.
pub trait Value {
    /// Writes it.
    fn write<'a, F: Form<'a>>(&self, form: &mut F);
}

/// A number with `DIGITS` digits behind the point: `Fixed::<2>(2150)` is 21.50. It needs no floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Fixed<const DIGITS: u8>(pub i32);

impl<const DIGITS: u8> Value for Fixed<DIGITS> {
    fn write<'a, F: Form<'a>>(&self, form: &mut F) {
        form.fixed(self.0.into(), DIGITS);
    }
}

macro_rules! values {
    ($($kind:ty => $method:ident as $wide:ty),*) => {
        $(impl Value for $kind {
            fn write<'a, F: Form<'a>>(&self, form: &mut F) {
                form.$method(<$wide>::from(*self));
            }
        })*
    };
}

values!(u8 => uint as u64, u16 => uint as u64, u32 => uint as u64, u64 => uint as u64,
    i8 => int as i64, i16 => int as i64, i32 => int as i64, i64 => int as i64,
    f32 => float as f32, bool => bool as bool);

impl Value for &str {
    fn write<'a, F: Form<'a>>(&self, form: &mut F) {
        form.text(self);
    }
}

impl<V: Value> Value for Option<V> {
    fn write<'a, F: Form<'a>>(&self, form: &mut F) {
        match self {
            Some(value) => value.write(form),
            None => form.null(),
        }
    }
}

impl Value for Time {
    fn write<'a, F: Form<'a>>(&self, form: &mut F) {
        self.millis().write(form);
    }
}

/// Declares a record: a struct, and how it is written. The text behind the colon names the schema and its
/// version: change it when the meaning of a field changes, not when a field is added.
#[macro_export]
macro_rules! record {
    ($(#[$about:meta])* $see:vis struct $name:ident : $schema:literal {
        $($(#[$field_about:meta])* $field:ident : $kind:ty),* $(,)?
    }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug)]
        $see struct $name {
            $($(#[$field_about])* pub $field: $kind),*
        }

        impl $crate::Record for $name {
            const SCHEMA: &'static str = $schema;
            const FIELDS: &'static [&'static str] = &[$(stringify!($field)),*];

            fn fields<'a, F: $crate::Form<'a>>(&self, form: &mut F) {
                $(form.name(stringify!($field));
                $crate::Value::write(&self.$field, form);)*
            }
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::form::JsonForm;
    use crate::{Cbor, Json};
    use proptest::prelude::*;

    record! {
        /// One of each kind.
        struct Each: "each/1" {
            count: u32,
            delta: i16,
            value: Fixed<2>,
            level: f32,
            name: &'static str,
            open: bool,
            missing: Option<u8>,
            time: Time,
        }
    }

    const EACH: Each = Each {
        count: 4_000_000_000,
        delta: -7,
        value: Fixed(-5),
        level: 1.5,
        name: "a\"b\\\n°",
        open: true,
        missing: None,
        time: Time::unknown(),
    };

    #[test]
    fn json_is_read_by_another_reader_as_it_was_meant() {
        let mut out = [0; 256];
        let length = EACH.write::<Json>(&mut out).unwrap();
        let text = core::str::from_utf8(&out[..length]).unwrap();
        let expected = r#"{"count":4000000000,"delta":-7,"value":-0.05,"level":1.500000,"name":"a\"b\\\u000a°","open":true,"missing":null,"time":null}"#;
        assert_eq!(text, expected);
        let read: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(read["name"], "a\"b\\\n°");
        assert_eq!(EACH.write::<Json>(&mut out[..length - 1]), None);
    }

    #[test]
    fn cbor_is_read_by_another_reader_as_it_was_meant() {
        let mut out = [0; 256];
        let length = EACH.write::<Cbor>(&mut out).unwrap();
        let read: ciborium::Value = ciborium::from_reader(&out[..length]).unwrap();
        let map = read.as_map().unwrap();
        let names: std::vec::Vec<_> = map.iter().map(|(key, _)| key.as_text().unwrap()).collect();
        assert_eq!(names, Each::FIELDS);
        let fraction = ciborium::Value::Array(std::vec![(-2).into(), (-5).into()]);
        assert_eq!(map[2].1, ciborium::Value::Tag(4, std::boxed::Box::new(fraction)));
        assert_eq!(map[3].1, ciborium::Value::Float(1.5));
        assert_eq!((&map[6].1, &map[5].1), (&ciborium::Value::Null, &true.into()));
        assert_eq!(EACH.write::<Cbor>(&mut out[..length - 1]), None);
    }

    proptest! {
        #[test]
        fn numbers_keep_their_value(number: i32, wide: i64, positive: u64, float: f32) {
            let mut out = [0; 128];
            let mut json = JsonForm::begin(&mut out, 0);
            json.name("n");
            Fixed::<3>(number).write(&mut json);
            json.name("n");
            wide.write(&mut json);
            json.name("n");
            positive.write(&mut json);
            json.name("n");
            float.write(&mut json);
            let length = json.end().unwrap();
            let text = core::str::from_utf8(&out[..length]).unwrap();
            let values = std::vec::Vec::from_iter(
                text.trim_matches(['{', '}']).split(',').map(|pair| pair.rsplit(':').next().unwrap()),
            );
            prop_assert_eq!((values[0].parse::<f64>().unwrap() * 1000.0).round() as i32, number);
            prop_assert_eq!(values[1].parse::<i64>(), Ok(wide));
            prop_assert_eq!(values[2].parse::<u64>(), Ok(positive));
            match values[3].parse::<f64>() {
                Ok(read) => {
                    let off = (read - f64::from(float)).abs();
                    prop_assert!(off <= 1e-6_f64.max(f64::from(float).abs() * 1e-6));
                }
                Err(_) => prop_assert!(values[3] == "null" && (float.is_nan() || float.abs() > 8e12)),
            }
        }
    }
}
