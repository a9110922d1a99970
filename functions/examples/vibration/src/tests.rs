use crate::Vibration;
use std::string::{String, ToString};
use tidegate_guest::native::Instance;

#[test]
fn the_cases_pass_natively() {
    tidegate_fixtures::native::run::<Vibration>(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn wrong_configurations_are_refused_in_words() {
    let said = |config: &str| -> String {
        Instance::<Vibration>::new(config.as_bytes()).unwrap_err().text().to_string()
    };
    assert!(said(r#"{"format":"i16le"}"#).starts_with("`rate`"));
    assert!(said(r#"{"format":"i24"}"#).starts_with("`format`"));
    assert!(said(r#"{"peaks":17}"#).ends_with("0 to 16"));
}
