//! The commands as they are typed, from keys to a bundle.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use tidegate_wire::key_set::KeySet;
use tidegate_wire::manifest::Encoding;

use super::read;
use crate::cli::tests::{failed, path, type_in, wrong};
use crate::packages::show_public;
use crate::ring_crypto::{Ring, RingSha256};
use crate::scratch::Scratch;

/// A folder with keys and two images.
struct Bench(Scratch);

impl Bench {
    fn new() -> Bench {
        let bench = Bench(Scratch::new());
        for name in ["root.key", "one.key", "two.key"] {
            bench.good(&["keygen", &bench.path(name)]);
        }
        let old: Vec<u8> = (0..20_000_u32).map(|n| (n >> 4) as u8).collect();
        let mut new = old.clone();
        new[5_000] ^= 1;
        fs::write(bench.path("old.bin"), old).unwrap();
        fs::write(bench.path("new.bin"), new).unwrap();
        bench
    }

    fn path(&self, name: &str) -> String {
        path(&self.0, name)
    }

    fn public(&self, name: &str) -> String {
        show_public(read::key(self.path(name).as_ref()).unwrap().public())
    }

    fn run(&self, words: &[&str]) -> (String, Result<(), crate::cli::Failure>) {
        type_in(&[&["device", "firmware"], words].concat())
    }

    fn good(&self, words: &[&str]) -> String {
        let (text, result) = self.run(words);
        result.unwrap_or_else(|failure| panic!("{words:?}: {failure:?}"));
        text
    }

    /// The words of `sign`, with an image and who it is for.
    fn sign(&self, more: &[&str]) -> Result<(), crate::cli::Failure> {
        let (image, key, output) =
            (self.path("new.bin"), self.path("one.key"), self.path("b.tgfw"));
        let words = [
            "sign",
            "--image",
            &image,
            "--release",
            "2.0.0",
            "--sequence",
            "7",
            "--vendor",
            "example.com",
            "--class",
            "pump",
            "--key",
            &key,
            "-o",
            &output,
        ];
        self.run(&[&words[..], more].concat()).1
    }

    fn release(&self) -> tidegate_firmware::Release {
        let bundle = fs::read(self.path("b.tgfw")).unwrap();
        tidegate_firmware::Release::of_bundle::<RingSha256>(&bundle).unwrap()
    }
}

#[test]
fn from_keys_to_a_bundle_that_devices_with_the_key_set_take() {
    let bench = Bench::new();
    let mode = fs::metadata(bench.path("root.key")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let (root, keys) = (bench.path("root.key"), bench.path("keys-1.tgks"));
    let (one, two) = (bench.public("one.key"), bench.public("two.key"));
    bench.good(&[
        "keyset",
        "--root",
        &root,
        "--add",
        &one,
        "--add",
        &two,
        "--threshold",
        "2",
        "-o",
        &keys,
    ]);
    let two_key = bench.path("two.key");
    bench
        .sign(&["--base", &bench.path("old.bin"), "--second-key", &two_key, "--keys", &keys])
        .unwrap();
    let release = bench.release();
    let manifest = release.manifest().unwrap();
    let ways: Vec<Encoding> = manifest.components.iter().map(|one| one.encoding).collect();
    assert!(
        matches!(ways[..], [Encoding::Delta { .. }, Encoding::Heatshrink { .. }, Encoding::None]),
        "{ways:?}"
    );
    let root = *read::key(bench.path("root.key").as_ref()).unwrap().public();
    let set = KeySet::open(release.key_set().unwrap(), &[root], &Ring).unwrap().unwrap();
    let payload = set.open_manifest(release.envelope(), release.second(), &Ring).unwrap();
    assert_eq!(tidegate_wire::manifest::Manifest::read(payload), Ok(manifest));

    let bundle = bench.path("b.tgfw");
    let shown = bench.good(&["inspect", &bundle, "--trust", &one, "--trust", &two, "--json"]);
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["sequence"], 7);
    assert_eq!(shown["verified"], true);
    assert_eq!(shown["components"][0]["travels_as"], "delta");
    assert_eq!(shown["key_set"]["threshold"], 2);
    let shown = bench.good(&["inspect", &bundle]);
    assert!(shown.contains("components 2: travels as"), "{shown}");
    let refused = failed(bench.run(&["inspect", &bundle, "--trust", &one]).1);
    assert!(refused.contains("the second signature"), "{refused}");
}

#[test]
fn a_key_that_is_revoked_is_in_the_next_set_no_more() {
    let bench = Bench::new();
    let (root, first) = (bench.path("root.key"), bench.path("keys-1.tgks"));
    let (one, two) = (bench.public("one.key"), bench.public("two.key"));
    bench.good(&["keyset", "--root", &root, "--add", &one, "--sequence-cap", "50", "-o", &first]);
    let second = bench.path("keys-2.tgks");
    let next = ["keyset", "--root", &root, "--from", &first, "--add", &two, "-o", &second];
    bench.good(&[&next[..], &["--revoke", &one]].concat());
    let (_, _, set) = read::key_set(second.as_ref()).unwrap();
    let keys: Vec<String> = set.keys.iter().map(show_public).collect();
    assert_eq!((set.version, set.sequence_cap, keys), (2, 50, vec![two.clone()]));
    let refused = failed(bench.sign(&["--keys", &second]));
    assert!(refused.contains("no device with the key set"), "{refused}");

    let third = bench.path("keys-3.tgks");
    let gone = ["keyset", "--root", &root, "--from", &second, "--revoke", &one, "-o", &third];
    assert!(wrong(bench.run(&gone).1).contains("not in the set"));
    let none = ["keyset", "--root", &root, "--from", &second, "--revoke", &two, "-o", &third];
    assert!(wrong(bench.run(&none).1).contains("1 to 4 keys"));
    let other = ["keyset", "--root", &bench.path("one.key"), "--from", &second, "-o", &third];
    assert!(failed(bench.run(&other).1).contains("is not signed by the root"));
    let older = ["keyset", "--root", &root, "--from", &second, "--set-version", "2", "-o", &third];
    assert!(wrong(bench.run(&older).1).contains("the set before has version 2"));
}

#[test]
fn mistakes_are_told_with_their_values() {
    let bench = Bench::new();
    bench.sign(&[]).unwrap();
    let again = failed(bench.sign(&[]));
    assert!(again.contains("b.tgfw; choose another file"), "{again}");
    let other = bench.path("c.tgfw");
    let cases: [(&[&str], &str); 5] = [
        (&["--floor", "9"], "--floor 9: above the release's own sequence, 7"),
        (&["--base", &format!("1={}", bench.path("old.bin"))], "no --image of component 1"),
        (&["--image", "4=x"], "a component is 0 to 3"),
        (&["--apply", "25:00+10"], "02:00+120"),
        (&["--from", "7-3"], "the first and the last"),
    ];
    for (more, says) in cases {
        let text = wrong(bench.sign(more));
        assert!(text.contains(says), "{more:?}: {text}");
    }
    let missing = failed(bench.sign(&["--image", &format!("1={}", bench.path("no.bin"))]));
    assert!(missing.contains("no.bin"), "{missing}");
    fs::write(&other, b"TGF1 and nothing that follows").unwrap();
    let broken = failed(bench.run(&["inspect", &other]).1);
    assert!(broken.contains("the header has"), "{broken}");
    fs::set_permissions(bench.path("one.key"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = failed(bench.sign(&[]));
    assert!(open.contains("chmod 600"), "{open}");
}

#[test]
fn a_delta_is_shown_with_its_size() {
    let bench = Bench::new();
    let text = bench.good(&["delta", &bench.path("old.bin"), &bench.path("new.bin")]);
    assert!(text.contains("as it is     20000 bytes"), "{text}");
    let delta = text.lines().last().unwrap().split_whitespace().nth(1).unwrap();
    assert!(delta.parse::<u32>().unwrap() < 100, "{text}");
}
