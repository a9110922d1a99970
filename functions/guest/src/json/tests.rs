use super::{Json, JsonError, MAX_DEPTH, push_string};
use alloc::string::{String, ToString};
use proptest::prelude::*;
use std::format;
use std::vec::Vec;

fn json(text: &str) -> Json<'_> {
    Json::parse(text.as_bytes()).unwrap()
}

#[test]
fn pieces_are_handed_out_as_they_were_written() {
    let reading = json(" { \"id\" : \"g3\" , \"at\" : { \"value\" : 31.70 } , \"ok\":true } ");
    assert_eq!(reading.get("id").unwrap().text(), "\"g3\"");
    assert_eq!(reading.path("at.value").unwrap().text(), "31.70");
    assert_eq!(reading.path("at.value").unwrap().as_f64(), Some(31.7));
    assert_eq!(reading.get("ok").unwrap().as_bool(), Some(true));
    assert_eq!(reading.path("at.other"), None);
    assert_eq!(reading.path("id.value"), None);
    let names: Vec<String> = reading.members().map(|(name, _)| name.into_owned()).collect();
    assert_eq!(names, ["id", "at", "ok"]);
}

#[test]
fn the_last_of_several_members_with_one_name_counts() {
    assert_eq!(json(r#"{"a":1,"a":2}"#).get("a").unwrap().text(), "2");
}

#[test]
fn names_are_compared_with_their_escapes_resolved() {
    let object = json(r#"{"\u0061b":1,"c\"":2}"#);
    assert_eq!(object.get("ab").unwrap().text(), "1");
    assert_eq!(object.get("c\"").unwrap().text(), "2");
}

#[test]
fn what_is_picked_on_the_way_is_what_the_paths_find() {
    let text =
        br#"{"a":1,"b.c":2,"b":{"c":"x","a":[3]},"\u0061b":4,"a":{"z":5},"a longer name":[6]}"#;
    let paths = ["a", "b.c", "b.a", "b", "ab", "a.z", "a longer name", "b.c.d", "", "c"];
    let found = Json::pick(text, paths).unwrap();
    let parsed = Json::parse(text).unwrap();
    assert_eq!(found, paths.map(|path| parsed.path(path)));
    let texts = found.map(|found| found.map(|found| found.text()));
    let b = r#"{"c":"x","a":[3]}"#;
    let wanted = [r#"{"z":5}"#, r#""x""#, "[3]", b, "4", "5", "[6]"];
    assert_eq!(texts[..7], wanted.map(Some));
    assert_eq!(texts[7..], [None; 3]);
    assert_eq!(parsed.get("b.c").unwrap().text(), "2");
    assert_eq!(Json::pick(b"[{\"a\":1}]", ["a"]), Ok([None]));
    assert_eq!(Json::pick(b"{\"a\":1", ["a"]), Json::parse(b"{\"a\":1").map(|_| [None]));
}

#[test]
fn strings_are_passed_wherever_their_end_stands() {
    for before in 0..20 {
        for inside in ["x", "é", "\\n", "\u{7f}", "\\\""] {
            let text = format!("[\"{}{inside}{}\",1]", "y".repeat(before), "z".repeat(before));
            assert_eq!(json(&text).text(), text);
            let broken = text.replace(inside, "\u{1f}");
            let at = before + 2;
            let expected = "an escape for a control character";
            assert_eq!(Json::parse(broken.as_bytes()), Err(JsonError { at, expected }));
        }
    }
}

#[test]
fn types_are_not_mixed_up() {
    for text in ["\"1\"", "true", "null", "[1]", "{}"] {
        assert_eq!(json(text).as_f64(), None, "{text}");
    }
    assert_eq!(json("1").as_str(), None);
    assert_eq!(json("1").as_bool(), None);
    assert_eq!(json("[{\"a\":1}]").get("a"), None);
}

#[test]
fn mistakes_are_named_with_their_place() {
    let cases = [
        ("", 0, "a value"),
        ("nul", 0, "a value"),
        ("21.5 C", 5, "the end"),
        ("{\"a\" 1}", 5, "':'"),
        ("{\"a\":1,}", 7, "a name"),
        ("{\"a\":1", 6, "',' or '}'"),
        ("[1 2]", 3, "',' or ']'"),
        ("[1,]", 3, "a value"),
        ("\"abc", 4, "the end of the string"),
        ("\"a\nb\"", 2, "an escape for a control character"),
        ("\"\\x\"", 2, "an escape"),
        ("\"\\u12g4\"", 5, "four hexadecimal digits"),
        ("01", 1, "the end"),
        ("-", 1, "a digit"),
        ("1.", 2, "a digit"),
        ("1e+", 3, "a digit"),
        (".5", 0, "a value"),
    ];
    for (text, at, expected) in cases {
        assert_eq!(Json::parse(text.as_bytes()), Err(JsonError { at, expected }), "{text}");
    }
    assert_eq!(Json::parse(b"\"\xff\""), Err(JsonError { at: 1, expected: "UTF-8" }));
    let error = Json::parse(b"{").unwrap_err();
    assert_eq!(error.to_string(), "expected a name at byte 1");
}

#[test]
fn nesting_has_a_limit() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert!(Json::parse(nested(MAX_DEPTH).as_bytes()).is_ok());
    assert!(Json::parse(nested(MAX_DEPTH + 1).as_bytes()).is_err());
    assert!(Json::parse("[".repeat(1 << 20).as_bytes()).is_err());
}

#[test]
fn escapes_are_resolved() {
    let text = r#""\"\\\/\b\f\n\r\tA\u00e9\ud83d\ude00é""#;
    assert_eq!(json(text).as_str().unwrap(), "\"\\/\u{8}\u{c}\n\r\tAé😀é");
    for half in [r#""\ud83d""#, r#""\ude00""#, r#""\ud83dx""#, r#""\ud83d\u0041""#] {
        assert!(json(half).as_str().unwrap().starts_with('\u{fffd}'), "{half}");
    }
    assert_eq!(json(r#""\ud83d\u0041""#).as_str().unwrap(), "\u{fffd}A");
}

#[test]
fn numbers_of_sensors_are_exact() {
    let exact = [
        "0",
        "-0",
        "31.7",
        "-273.15",
        "0.1",
        "1e3",
        "1E-3",
        "123456789012345",
        "6.02e22",
        "1e22",
        "2.5e-22",
    ];
    for text in exact {
        assert_eq!(json(text).as_f64(), Some(text.parse().unwrap()), "{text}");
    }
}

#[test]
fn numbers_beyond_an_f64_are_none_and_tiny_ones_zero() {
    assert_eq!(json("1e309").as_f64(), None);
    assert_eq!(json("-1e999999999999").as_f64(), None);
    assert_eq!(json("1e-999999999999").as_f64(), Some(0.0));
    assert_eq!(json("0e999999999999").as_f64(), Some(0.0));
    let long = format!("1{}e-400", "0".repeat(400));
    assert!((json(&long).as_f64().unwrap() - 1.0).abs() < 1e-13);
}

proptest! {
    #[test]
    fn numbers_are_read_like_the_standard_library_reads_them(mantissa in -999_999_999_999_999i64..=999_999_999_999_999, scale in 0u32..=22) {
        let text = format!("{mantissa}e-{scale}");
        prop_assert_eq!(json(&text).as_f64(), Some(text.parse().unwrap()));
    }

    #[test]
    fn any_number_is_read_to_within_20_units_in_the_last_place(value in any::<f64>().prop_filter("finite", |value| value.is_normal())) {
        for text in [format!("{value:e}"), format!("{value}")] {
            let exact: f64 = text.parse().unwrap();
            // The largest numbers may round up to infinity, which is none.
            if let Some(read) = json(&text).as_f64() {
                prop_assert!((read - exact).abs() <= exact.abs() * 20.0 * f64::EPSILON, "{} is {}", text, read);
            } else {
                prop_assert!(exact.abs() > 1e308);
            }
        }
    }

    #[test]
    fn strings_come_back_as_they_were_written(text: String) {
        let mut written = String::new();
        push_string(&mut written, &text);
        prop_assert_eq!(json(&written).as_str().unwrap(), text);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), alike in "[\\[\\]{}\",:0-9eE.+\\-\\\\utrfn ]{0,40}") {
        for bytes in [bytes.as_slice(), alike.as_bytes()] {
            if let Ok(json) = Json::parse(bytes) {
                json.as_f64();
                json.as_str();
                for (name, value) in json.members() {
                    prop_assert!(json.get(&name).is_some());
                    prop_assert_eq!(Json::pick(bytes, [&name]), Ok([json.path(&name)]));
                    prop_assert!(name.contains('.') || json.path(&name) == json.get(&name));
                    prop_assert_eq!(Json::parse(value.text().as_bytes()), Ok(value));
                }
            }
        }
    }
}
