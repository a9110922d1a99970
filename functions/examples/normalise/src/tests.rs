use crate::Normalise;
use std::string::{String, ToString};
use tidegate_guest::native::Instance;

#[test]
fn the_cases_pass_natively() {
    tidegate_fixtures::native::run::<Normalise>(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn wrong_configurations_are_refused_in_words() {
    let said = |fields: &str| -> String {
        let config = std::format!("{{\"fields\":{fields}}}");
        Instance::<Normalise>::new(config.as_bytes()).unwrap_err().text().to_string()
    };
    assert!(said("{}").starts_with("`fields` is missing"));
    assert!(said(r#"{"t":{"unit":"F->X"}}"#).contains("`fields.t.unit`"));
    assert!(said(r#"{"t":{"scale":"2"}}"#).ends_with("must be a number"));
    assert!(said(r#"{"t":{"form":"x"}}"#).contains("fields.t.form"));
}
