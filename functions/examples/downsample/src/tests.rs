use crate::Downsample;
use crate::window::Series;
use std::string::{String, ToString};
use tidegate_guest::native::Instance;

#[test]
fn the_cases_pass_natively() {
    tidegate_fixtures::native::run::<Downsample>(env!("CARGO_MANIFEST_DIR"));
}

#[test]
fn open_windows_survive_their_encoding() {
    let mut series = Series::decode(&[]);
    series.add(0, 10, 1.5);
    series.add(60, 70, -2.0);
    series.add(0, 5, 3.0);
    let mut back = Series::decode(&series.encode());
    assert_eq!(back, series);
    let closed = back.close(60, 60);
    assert_eq!(closed.len(), 1);
    assert_eq!((closed[0].count, closed[0].last, closed[0].max), (2, 1.5, 3.0));
    assert_eq!(back.closed_until, 60);
}

#[test]
fn wrong_configurations_are_refused_in_words() {
    let said = |config: &str| -> String {
        Instance::<Downsample>::new(config.as_bytes()).unwrap_err().text().to_string()
    };
    assert!(said(r#"{"window":0}"#).contains("must be 0.001 to 31536000"));
    assert!(said(r#"{"window":1,"lateness":59}"#).contains("58 times"));
    assert!(said(r#"{"windows":1}"#).starts_with("unknown key `windows`"));
}
