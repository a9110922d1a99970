use crate::Modbus;
use std::string::{String, ToString};
use tidegate_guest::native::Instance;

#[test]
fn the_cases_pass_natively() {
    tidegate_fixtures::native::run::<Modbus>(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn wrong_configurations_are_refused_in_words() {
    let said = |values: &str| -> String {
        let config = std::format!("{{\"values\":{values}}}");
        Instance::<Modbus>::new(config.as_bytes()).unwrap_err().text().to_string()
    };
    assert!(said("{}").starts_with("`values` is missing"));
    assert!(said(r#"{"v":{"type":"u16"}}"#).starts_with("`values.v.address`"));
    assert!(said(r#"{"v":{"address":70000,"type":"u16"}}"#).ends_with("must be 0 to 65535"));
    assert!(said(r#"{"v":{"address":1,"type":"u8"}}"#).contains("one of i16, u16"));
    assert!(said(r#"{"v":{"address":1,"type":"u16","order":"ab"}}"#).contains("one of abcd"));
    assert!(said(r#"{"v":{"address":1,"type":"u16","factor":2}}"#).contains("values.v.factor"));
}
