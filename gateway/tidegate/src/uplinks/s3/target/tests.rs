//! URLs of buckets.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::scratch::Scratch;

/// Credentials that are there.
fn options(scratch: &Scratch) -> S3Options {
    let file = scratch.path().join("credentials");
    fs::write(&file, "aws_access_key_id = A\naws_secret_access_key = s3cret\n").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    S3Options { credentials_file: Some(file), ..S3Options::default() }
}

#[test]
fn buckets_are_addressed_as_their_server_wants_it() {
    let scratch = Scratch::new();
    let amazon = S3Options { region: Some("eu-central-1".to_owned()), ..options(&scratch) };
    let by_name = S3Options { addressing: Some(Addressing::VirtualHost), ..options(&scratch) };
    let cases = [
        ("s3://data/raw", &amazon, "data.s3.eu-central-1.amazonaws.com:443", "/raw/k"),
        ("s3://data", &amazon, "data.s3.eu-central-1.amazonaws.com:443", "/k"),
        ("s3://da.ta/a/b/", &amazon, "s3.eu-central-1.amazonaws.com:443", "/da.ta/a/b/k"),
        ("s3+http://127.0.0.1:9000/data/raw", &options(&scratch), "127.0.0.1:9000", "/data/raw/k"),
        ("s3+https://minio.example/data", &options(&scratch), "minio.example:443", "/data/k"),
        ("s3+https://store.example/data/y=1", &by_name, "data.store.example:443", "/y%3D1/k"),
    ];
    for (url, options, address, path) in cases {
        let target = S3Target::parse("gw", url, options.clone()).unwrap();
        assert_eq!(target.address(), address, "{url}");
        assert_eq!(target.path(&format!("{}k", target.prefix())), path, "{url}");
    }
}

#[test]
fn wrong_settings_are_named_with_their_key() {
    let scratch = Scratch::new();
    let good = options(&scratch);
    let cases = [
        ("data", "url", "has no scheme"),
        ("s3://data", "region", "is needed"),
        ("s3+ftp://h/data", "url", "is not s3 or s3+https or s3+http"),
        ("s3+https://h", "url", "no name of a bucket"),
        ("s3+https://h/Data", "url", "no name of a bucket"),
        ("s3+https://h/data/a b", "url", "percent-encoded"),
        ("s3+https://h/data/a%20b", "url", "the prefix may hold"),
        ("s3+https://u:secret@h/data", "url", "must not hold a login"),
        ("s3://u:secret@data", "url", "must not hold a login"),
    ];
    for (url, key, why) in cases {
        let mistakes = S3Target::parse("gw", url, good.clone()).unwrap_err();
        let shown = mistakes[0].to_string();
        assert_eq!((mistakes.len(), mistakes[0].key), (1, key), "{url}: {shown}");
        assert!(shown.contains(why) && !shown.contains("secret"), "{url}: {shown}");
    }
    let by_name = S3Options { addressing: Some(Addressing::VirtualHost), ..good.clone() };
    let mistakes = S3Target::parse("gw", "s3+http://127.0.0.1:9000/data", by_name).unwrap_err();
    assert!(mistakes[0].why.contains("virtual-host"), "{}", mistakes[0]);
    let nowhere = S3Options { credentials_file: Some("/nowhere/keys".into()), ..good };
    let mistakes = S3Target::parse("gw", "s3+http://127.0.0.1:9000/data", nowhere).unwrap_err();
    assert_eq!(mistakes[0].key, "credentials_file");
}
