//! Packages as hostile hands may make them.

use std::time::Duration;

use tidegate_broker::TopicFilter;
use tidegate_wire::cbor::Writer;
use tidegate_wire::sign1::{EnvelopeError, Purpose, seal};

use tidegate_flow::{Cron, InputPlan, Missed, Ordering, Rhythm, SchedulePlan};

use super::manifest::{Manifest, ManifestError, Wants};
use super::package::{Package, PackageError, look_into, pack, sha256, test_key};
use super::signature::{SigningKey, TrustedKeys};

const GOLDEN_FULL: &[u8] = include_bytes!("../../../../tests/golden/package/v1/full.tgpkg");
const GOLDEN_SMALL: &[u8] = include_bytes!("../../../../tests/golden/package/v1/small.tgpkg");

const GOLDEN_CLOCKWORK: &[u8] =
    include_bytes!("../../../../tests/golden/package/v2/clockwork.tgpkg");

/// A module that does nothing but begin like one.
const MODULE: &[u8] = b"\0asm\x01\0\0\0";

fn filter(text: &str) -> TopicFilter {
    TopicFilter::parse(text).unwrap()
}

pub(super) fn small() -> Manifest {
    Manifest {
        name: "small".into(),
        version: "1".into(),
        module: sha256(b""),
        module_bytes: 0,
        inputs: vec![InputPlan { stream: "telemetry".into(), topics: Vec::new() }],
        publish: Vec::new(),
        config: b"{}".to_vec(),
        batch_records: 256,
        batch_bytes: 256 << 10,
        batch_window: Duration::ZERO,
        attempts: 5,
        retry_max_age: Duration::from_secs(3600),
        ordering: Ordering::Strict,
        workers: 1,
        memory: 16 << 20,
        fuel_per_batch: 10_000_000,
        fuel_per_message: 1_000_000,
        deadline: Duration::from_secs(1),
        state_bytes: 0,
        wants: Wants::default(),
        schedules: Vec::new(),
    }
}

fn full() -> Manifest {
    Manifest {
        name: "threshold-2".into(),
        version: "1.2.0-rc.1+7".into(),
        inputs: vec![
            InputPlan { stream: "telemetry".into(), topics: vec![filter("sensors/+/temperature")] },
            InputPlan { stream: "audit".into(), topics: Vec::new() },
        ],
        publish: vec![filter("alerts/#"), filter("°/x")],
        config: br#"{"limit":30.5,"unit":"\u00b0C"}"#.to_vec(),
        batch_window: Duration::from_millis(250),
        ordering: Ordering::PerKey,
        workers: 4,
        state_bytes: 1 << 20,
        wants: Wants {
            clock: true,
            random: true,
            timers: 3,
            routes: vec!["GET /v1/alerts/{id}".into()],
            secrets: vec!["api-token".into()],
            events: vec!["start".into(), "online".into()],
        },
        ..small()
    }
}

fn trusted() -> TrustedKeys {
    let mut keys = TrustedKeys::default();
    keys.add(*test_key().unwrap().public());
    keys
}

/// A package whose manifest is any bytes, signed all the same.
fn signed(payload: &[u8], module: &[u8], purpose: Purpose) -> Vec<u8> {
    let mut envelope = vec![0; payload.len() + 256];
    let length = seal(payload, purpose, &test_key().unwrap(), &mut envelope).unwrap();
    let header = [&b"TGP1"[..], &(length as u32).to_le_bytes()].concat();
    [&header, &envelope[..length], module].concat()
}

/// The manifest of a package of [`MODULE`].
fn of_module(manifest: Manifest) -> Manifest {
    Manifest { module: sha256(MODULE), module_bytes: MODULE.len() as u64, ..manifest }
}

#[test]
fn packages_are_frozen() {
    let key = test_key().unwrap();
    for (manifest, golden) in [(small(), GOLDEN_SMALL), (full(), GOLDEN_FULL)] {
        assert_eq!(pack(&manifest, MODULE, &key).unwrap(), golden, "{}", manifest.name);
        let package = Package::open(golden, &trusted()).unwrap();
        let contents = package.into_contents();
        assert_eq!(contents.manifest, of_module(manifest));
        assert_eq!((&*contents.module, contents.hash), (MODULE, sha256(golden)));
    }
}

#[test]
fn each_changed_bit_is_refused_and_so_is_each_cut_and_each_byte_more() {
    let trusted = trusted();
    for at in 0..GOLDEN_FULL.len() {
        for bit in 0..8 {
            let mut changed = GOLDEN_FULL.to_vec();
            changed[at] ^= 1 << bit;
            let opened = Package::open(&changed, &trusted);
            assert!(opened.is_err(), "byte {at}, bit {bit}");
            // Nor may it panic where nobody's signature is asked for.
            let _ = look_into(&changed);
        }
        assert!(Package::open(&GOLDEN_FULL[..at], &trusted).is_err(), "cut at {at}");
    }
    let more = [GOLDEN_FULL, b"\0"].concat();
    let error = PackageError::ModuleLength { wanted: 8, found: 9 };
    assert_eq!(Package::open(&more, &trusted), Err(error));
}

/// What a trusted key has signed may be wrong, too: it is refused, or it is a manifest in its only
/// encoding.
#[test]
fn each_changed_bit_that_is_signed_again_is_refused_or_another_manifest() {
    let (trusted, payload) = (trusted(), of_module(full()).encode().unwrap());
    let mut taken = 0;
    for at in 0..payload.len() {
        for bit in 0..8 {
            let mut changed = payload.clone();
            changed[at] ^= 1 << bit;
            let file = signed(&changed, MODULE, Purpose::FunctionPackage);
            if let Ok(package) = Package::open(&file, &trusted) {
                let manifest = package.into_contents().manifest;
                assert_eq!(manifest.encode().unwrap(), changed, "byte {at}, bit {bit}");
                assert_ne!(manifest, of_module(full()));
                taken += 1;
            }
        }
        let cut = signed(&payload[..at], MODULE, Purpose::FunctionPackage);
        assert!(Package::open(&cut, &trusted).is_err(), "cut at {at}");
    }
    assert!(taken > 100, "names and numbers may differ: {taken}");
}

#[test]
fn what_was_signed_as_firmware_or_by_a_stranger_is_no_package() {
    let payload = of_module(small()).encode().unwrap();
    let file = signed(&payload, MODULE, Purpose::FirmwareManifest);
    let opened = Package::open(&file, &trusted());
    assert!(matches!(opened, Err(PackageError::Envelope(EnvelopeError::Signature(_)))));
    let stranger = SigningKey::of_seed(&[8; 32]).unwrap();
    let opened = Package::open(&pack(&small(), MODULE, &stranger).unwrap(), &trusted());
    assert!(matches!(opened, Err(PackageError::Envelope(EnvelopeError::UnknownKey(_)))));
    let nobody = Package::open(GOLDEN_SMALL, &TrustedKeys::default());
    assert!(matches!(nobody, Err(PackageError::Envelope(EnvelopeError::UnknownKey(_)))));
}

#[test]
fn the_module_of_another_package_is_refused() {
    let mut swapped = GOLDEN_SMALL.to_vec();
    let end = swapped.len();
    swapped[end - MODULE.len()..].copy_from_slice(b"\0asm\x01\0\0\x01");
    let error = Package::open(&swapped, &trusted()).unwrap_err();
    assert!(matches!(error, PackageError::Module { .. }), "{error}");
}

/// A function that the clock alone calls.
fn clockwork() -> Manifest {
    let every = Rhythm::Every(Duration::from_secs(10));
    let cron = Rhythm::Cron(Cron::parse("*/5 6-18 * * mon-fri").unwrap());
    let schedule = |name: &str, rhythm: &Rhythm, missed| {
        let (name, rhythm) = (name.to_owned(), rhythm.clone());
        SchedulePlan { name, rhythm, missed }
    };
    let schedules = vec![
        schedule("beat", &every, Missed::Skip),
        schedule("shift", &cron, Missed::All),
        schedule("report", &cron, Missed::Once),
    ];
    Manifest { name: "clockwork".into(), inputs: Vec::new(), schedules, ..small() }
}

#[test]
fn a_package_of_a_function_that_the_clock_calls_is_frozen() {
    let (manifest, key) = (clockwork(), test_key().unwrap());
    assert_eq!(pack(&manifest, MODULE, &key).unwrap(), GOLDEN_CLOCKWORK);
    let package = Package::open(GOLDEN_CLOCKWORK, &trusted()).unwrap();
    assert_eq!(package.into_contents().manifest, of_module(manifest));
}

#[test]
fn schedules_out_of_range_are_refused() {
    type Change = fn(&mut Manifest);
    let changes: [Change; 6] = [
        |m| m.schedules[0].name = "a b".into(),
        |m| m.schedules[1].name = "beat".into(),
        |m| m.schedules[0].rhythm = Rhythm::Every(Duration::from_millis(1)),
        |m| m.schedules[0].rhythm = Rhythm::Every(Duration::from_secs(367 * 86_400)),
        |m| m.schedules = vec![m.schedules[0].clone(); 17],
        |m| m.schedules.clear(),
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut manifest = of_module(clockwork());
        change(&mut manifest);
        match Manifest::decode(&manifest.encode().unwrap()) {
            Err(ManifestError::Value { key: "schedule" | "input", .. }) => {}
            other => panic!("{number}: {other:?}"),
        }
    }
    // Another spelling of the same time table, or of the same manifest, is none.
    let bytes = of_module(clockwork()).encode().unwrap();
    let at = bytes.windows(4).position(|bytes| bytes == b"*/5 ").unwrap();
    let mut spaced = bytes.clone();
    spaced[at + 3] = b'\t';
    assert!(matches!(Manifest::decode(&spaced), Err(ManifestError::Value { .. })));
    let mut second = of_module(small()).encode().unwrap();
    (second[1], second[3]) = (28, 2);
    second.extend([0x18, 27, 0x80]);
    assert!(matches!(Manifest::decode(&second), Err(ManifestError::Value { .. })));
}

/// One value each that the configuration would not allow either.
#[test]
fn values_out_of_range_are_refused_by_their_key() {
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 13] = [
        ("name", |m| m.name = "a b".into()),
        ("version", |m| m.version = "1 0".into()),
        ("module", |m| m.module_bytes = 0),
        ("input", |m| m.inputs.clear()),
        ("config", |m| m.config = b"[]".to_vec()),
        ("batch_records", |m| m.batch_records = 5000),
        ("memory", |m| m.memory = u64::MAX),
        ("deadline", |m| m.deadline = Duration::ZERO),
        ("state_bytes", |m| m.state_bytes = 65 << 20),
        ("publish", |m| m.publish = vec![filter("a"); 2]),
        ("routes", |m| m.wants.routes = vec![String::new()]),
        ("routes", |m| m.wants.routes = vec!["get /".into()]),
        ("secrets", |m| m.wants.secrets = vec!["x".repeat(2000)]),
    ];
    for (wanted, change) in changes {
        let mut manifest = of_module(small());
        change(&mut manifest);
        match Manifest::decode(&manifest.encode().unwrap()) {
            Err(ManifestError::Value { key, .. }) => assert_eq!(key, wanted),
            other => panic!("{wanted}: {other:?}"),
        }
        assert!(pack(&manifest, b"", &test_key().unwrap()).is_err(), "{wanted} is not signed");
    }
}

#[test]
fn a_manifest_of_another_format_or_contract_is_refused_by_its_number() {
    let payload = of_module(small()).encode().unwrap();
    let mut format = payload.clone();
    assert_eq!(&format[..4], [0xb8, 27, 0, 1], "map, key 0, format 1");
    format[3] = 3;
    assert_eq!(Manifest::decode(&format), Err(ManifestError::Format(3)));
    let at = payload.windows(4).position(|w| w == [3, 1, 4, 0x58]).unwrap();
    let mut abi = payload.clone();
    abi[at + 1] = 2;
    assert_eq!(Manifest::decode(&abi), Err(ManifestError::Abi(2)));
    let mut out = [0; 8];
    let mut writer = Writer::new(&mut out);
    writer.map(1).unwrap();
    writer.uint(0).unwrap();
    writer.uint(1).unwrap();
    let error = ManifestError::Order { wanted: 27, found: 1 };
    assert_eq!(Manifest::decode(&out[..3]), Err(error));
}

#[test]
fn bytes_of_any_other_kind_are_refused() {
    for bytes in [&b""[..], b"TGP", b"TGP1", b"TGP1\0\0\0\0", b"TGP1\xff\xff\xff\xff", b"\0asm"] {
        assert!(Package::open(bytes, &trusted()).is_err());
        assert!(look_into(bytes).is_err());
    }
}
