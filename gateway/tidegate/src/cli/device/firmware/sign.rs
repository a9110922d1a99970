//! `tidegate device firmware sign`

use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use tidegate_firmware::{MAX_BUNDLE, Release, write_head};
use tidegate_wire::manifest::{
    Apply, Component, Components, DEVICE_BYTES, Devices, Encoding, MAX_COMPONENTS, MAX_ENVELOPE,
    MAX_ID, MAX_IMAGE, MAX_LABEL, MAX_MANIFEST, MAX_VERSION, Manifest, Needs, Policy, Side,
};
use tidegate_wire::sign1::{OVERHEAD, Purpose, seal, seal_detached};

use super::keyset::write_new;
use super::{Failure, read, uuid};
use crate::packages::sha256;
use crate::ring_crypto::{Ring, RingSha256};

#[derive(Debug, Args)]
pub(in crate::cli) struct SignArguments {
    /// An image of the release; with its component and side where there are several: 0a=app-a.bin
    #[arg(long = "image", value_name = "[ID[a|b]=]FILE", required = true)]
    images: Vec<Image>,
    /// An image that devices run, to travel as changes to it
    #[arg(long = "base", value_name = "[ID=]FILE")]
    bases: Vec<Image>,
    /// Version of the images, for people
    #[arg(long, value_name = "VERSION")]
    release: String,
    /// Number of the release, above that of every release before
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    sequence: u64,
    /// Who makes the devices: a UUID, or a domain
    #[arg(long, value_name = "VENDOR")]
    vendor: String,
    /// Which devices: a UUID, or a name among the vendor's
    #[arg(long, value_name = "CLASS")]
    class: String,
    /// Once this release is confirmed, devices take none below this sequence
    #[arg(long, value_name = "N", default_value_t = 0)]
    floor: u64,
    /// Sequences that a device has to run now, such as 3-7
    #[arg(long, value_name = "FIRST-LAST")]
    from: Option<Sequences>,
    /// Only for this device; may be given up to 16 times [default: all of the class]
    #[arg(long = "device", value_name = "NAME")]
    devices: Vec<String>,
    /// What is said of the release, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    label: String,
    /// Seconds since 1970 after which devices do not take it any more
    #[arg(long, value_name = "SECONDS")]
    not_after: Option<u64>,
    /// When devices start into it: auto, ask, or a window (UTC) such as 02:00+120 minutes
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    apply: When,
    /// Seconds in which the self-test has to pass
    #[arg(long, value_name = "SECONDS", default_value_t = 300, value_parser = deadline())]
    self_test: u32,
    /// Seconds in which the gateway has to be reached
    #[arg(long, value_name = "SECONDS", default_value_t = 86_400, value_parser = deadline())]
    contact: u32,
    /// Starts on trial
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u8).range(1..=i64::from(Policy::MAX_ATTEMPTS)))]
    attempts: u8,
    /// Least boot ABI
    #[arg(long, value_name = "N", default_value_t = 0)]
    boot_abi: u32,
    /// How images may travel; deltas need --base
    #[arg(long, value_name = "LIST", value_delimiter = ',', default_values = ["delta", "heatshrink", "none"])]
    encodings: Vec<Way>,
    /// The release key
    #[arg(long, short, value_name = "FILE")]
    key: PathBuf,
    /// A second release key, where the key set wants two
    #[arg(long, value_name = "FILE")]
    second_key: Option<PathBuf>,
    /// A key set to bring along, for devices whose own is older
    #[arg(long, value_name = "FILE")]
    keys: Option<PathBuf>,
    /// The bundle; never overwritten [default: CLASS-VERSION.tgfw]
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

fn deadline() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..=i64::from(Policy::MAX_DEADLINE))
}

/// `[ID[a|b]=]FILE`
#[derive(Debug, Clone)]
struct Image {
    id: u8,
    side: Option<Side>,
    file: PathBuf,
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Image, String> {
        let (place, file) = text.split_once('=').unwrap_or(("0", text));
        let side = match place.as_bytes().last() {
            Some(b'a') => Some(Side::A),
            Some(b'b') => Some(Side::B),
            Some(_) | None => None,
        };
        let id = place.strip_suffix(['a', 'b']).unwrap_or(place).parse().ok();
        let id = id.filter(|id| *id <= MAX_ID);
        let id =
            id.ok_or_else(|| format!("a component is 0 to {MAX_ID}, with its side 0a or 0b"))?;
        Ok(Image { id, side, file: PathBuf::from(file) })
    }
}

/// `FIRST-LAST`
#[derive(Debug, Clone, Copy)]
struct Sequences(u64, u64);

impl FromStr for Sequences {
    type Err = String;

    fn from_str(text: &str) -> Result<Sequences, String> {
        let pair = text.split_once('-').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let pair = pair.filter(|(first, last)| first <= last);
        let (first, last) = pair.ok_or("write the first and the last, such as 3-7")?;
        Ok(Sequences(first, last))
    }
}

/// When devices start into a release.
#[derive(Debug, Clone, Copy)]
struct When(Apply);

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<When, String> {
        let window = || {
            let (time, minutes) = text.split_once('+')?;
            let (hour, minute) = time.split_once(':')?;
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            let minutes: u16 = minutes.parse().ok()?;
            let fits = hour < 24 && minute < 60 && (1..=1_440).contains(&minutes);
            fits.then_some(Apply::Window { from: hour * 60 + minute, minutes })
        };
        match text {
            "auto" => Ok(When(Apply::Auto)),
            "ask" => Ok(When(Apply::Ask)),
            _ => window().map(When).ok_or_else(|| {
                "auto, ask, or a time (UTC) and minutes such as 02:00+120".to_owned()
            }),
        }
    }
}

/// How an image may travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Delta,
    Heatshrink,
    None,
}

/// One entry of the manifest, with what travels.
struct Part {
    id: u8,
    side: Option<Side>,
    size: u32,
    digest: tidegate_wire::Digest,
    encoding: Encoding,
    travels: Vec<u8>,
}

/// Makes a bundle.
pub(super) fn sign(arguments: &SignArguments, out: &mut dyn Write) -> Result<(), Failure> {
    check(arguments)?;
    let parts = parts(arguments)?;
    let (payload, envelope, second) = sealed(arguments, &parts)?;
    let keys = arguments.keys.as_deref().map(|file| keys(file, arguments, &envelope, &second));
    let keys = keys.transpose()?;
    let head = write_head(&envelope, second.as_deref(), keys.as_deref());
    let mut bundle = head.map_err(|_| anyhow!("the manifest is too long for an offer"))?;
    parts.iter().for_each(|part| bundle.extend_from_slice(&part.travels));
    if bundle.len() as u64 > MAX_BUNDLE {
        let bytes = bundle.len();
        return Err(anyhow!(
            "the bundle would have {bytes} bytes; at most {MAX_BUNDLE} are allowed, \
                            leave out some --base or --encodings"
        )
        .into());
    }
    // What a gateway would refuse is not handed out in the first place.
    Release::of_bundle::<RingSha256>(&bundle).map_err(|error| anyhow!("{error}"))?;
    let default = || PathBuf::from(format!("{}-{}.tgfw", arguments.class, arguments.release));
    let file = arguments.output.clone().unwrap_or_else(default);
    write_new(&file, &bundle)?;
    writeln!(
        out,
        "{}: release {}, sequence {}, {} bytes\nmanifest {}",
        file.display(),
        arguments.release,
        arguments.sequence,
        bundle.len(),
        sha256(&payload),
    )?;
    for part in &parts {
        writeln!(out, "{}", line(part))?;
    }
    Ok(())
}

fn line(part: &Part) -> String {
    let (name, side) = (way(&part.encoding), side(part.side));
    let (travels, size) = (part.travels.len(), part.size);
    let percent = travels as f64 * 100.0 / f64::from(size);
    format!("component {}{side} as {name}: {travels} bytes, {percent:.1} % of {size}", part.id)
}

/// An encoding's name.
pub(super) fn way(encoding: &Encoding) -> &'static str {
    match encoding {
        Encoding::None => "none",
        Encoding::Heatshrink { .. } => "heatshrink",
        Encoding::Delta { .. } => "delta",
    }
}

/// A side's letter.
pub(super) fn side(side: Option<Side>) -> &'static str {
    match side {
        None => "",
        Some(Side::A) => "a",
        Some(Side::B) => "b",
    }
}

fn check(arguments: &SignArguments) -> Result<(), Failure> {
    let wrong = |text: String| Err(Failure::Wrong(text));
    if arguments.release.len() > MAX_VERSION || arguments.release.is_empty() {
        return wrong(format!("--release: a version has 1 to {MAX_VERSION} bytes"));
    }
    if arguments.label.len() > MAX_LABEL {
        return wrong(format!("--label: a label has at most {MAX_LABEL} bytes"));
    }
    if arguments.floor > arguments.sequence {
        let (floor, sequence) = (arguments.floor, arguments.sequence);
        return wrong(format!("--floor {floor}: above the release's own sequence, {sequence}"));
    }
    for base in &arguments.bases {
        if !arguments.images.iter().any(|image| image.id == base.id) {
            let id = base.id;
            return wrong(format!(
                "--base {}: there is no --image of component {id}",
                base.file.display()
            ));
        }
    }
    Ok(())
}

/// The entries of each image, best first.
fn parts(arguments: &SignArguments) -> Result<Vec<Part>, Failure> {
    let read = |file: &Path| read::file(file, "an image", MAX_IMAGE.into());
    let may = |way| arguments.encodings.contains(&way);
    let mut parts = Vec::new();
    for Image { id, side, file } in &arguments.images {
        let image = read(file)?;
        let (size, digest) = (image.len() as u32, sha256(&image));
        let part =
            |encoding, travels| Part { id: *id, side: *side, size, digest, encoding, travels };
        let mut ways = Vec::new();
        for base in arguments.bases.iter().filter(|base| base.id == *id && may(Way::Delta)) {
            let base = read(&base.file)?;
            let travels = tidegate_patch::delta(&base, &image);
            let (size, digest) = (travels.len() as u32, sha256(&travels));
            let (base_size, base) = (base.len() as u32, sha256(&base));
            ways.push(part(Encoding::Delta { size, digest, base_size, base }, travels));
        }
        if may(Way::Heatshrink) {
            let travels = tidegate_patch::compressed(&image);
            let (size, digest) = (travels.len() as u32, sha256(&travels));
            ways.push(part(Encoding::Heatshrink { size, digest }, travels));
        }
        if may(Way::None) {
            // What makes it no smaller is of no use.
            ways.retain(|way| way.travels.len() < image.len());
            ways.push(part(Encoding::None, image));
        }
        ways.sort_by_key(|way| way.travels.len());
        if ways.is_empty() {
            let shown = file.display();
            let problem = format!("--encodings: {shown} cannot travel as any of them; add none");
            return Err(Failure::Wrong(problem));
        }
        parts.extend(ways);
    }
    if parts.len() > MAX_COMPONENTS {
        let problem = format!(
            "a manifest has at most {MAX_COMPONENTS} entries, and these are {}; leave out some \
             --base or --encodings",
            parts.len()
        );
        return Err(Failure::Wrong(problem));
    }
    Ok(parts)
}

/// The manifest, its envelope, and the second signature.
type Sealed = (Vec<u8>, Vec<u8>, Option<Vec<u8>>);

fn sealed(arguments: &SignArguments, parts: &[Part]) -> Result<Sealed, Failure> {
    let components: Vec<Component<'_>> = parts
        .iter()
        .map(|part| Component {
            id: part.id,
            version: &arguments.release,
            size: part.size,
            digest: part.digest,
            encoding: part.encoding,
            side: part.side,
        })
        .collect();
    let names: Vec<u8> =
        arguments.devices.iter().flat_map(|name| device_name(name.as_bytes())).collect();
    let devices = if names.is_empty() { Some(Devices::ALL) } else { Devices::new(&names) };
    let devices = devices.ok_or_else(|| Failure::Wrong("--device: at most 16".to_owned()))?;
    let vendor = uuid::vendor(&arguments.vendor);
    let Sequences(first, last) = arguments.from.unwrap_or(Sequences(0, u64::MAX));
    let manifest = Manifest {
        sequence: arguments.sequence,
        vendor,
        class: uuid::class(&vendor, &arguments.class),
        devices,
        floor: arguments.floor,
        components: Components::new(&components).ok_or_else(|| anyhow!("no components"))?,
        current: (first, last),
        needs: Needs { capabilities: 0, boot_abi: arguments.boot_abi },
        not_after: arguments.not_after,
        policy: Policy {
            apply: arguments.apply.0,
            self_test: arguments.self_test,
            contact: arguments.contact,
            attempts: arguments.attempts,
        },
        label: &arguments.label,
    };
    let mut payload = vec![0; MAX_MANIFEST];
    let length = manifest.write(&mut payload).map_err(|_| {
        anyhow!(
            "the manifest takes more than {MAX_MANIFEST} bytes; leave out some --base, \
                 --encodings or --device"
        )
    })?;
    payload.truncate(length);
    let key = read::key(&arguments.key)?;
    let mut envelope = vec![0; MAX_ENVELOPE];
    let length = seal(&payload, Purpose::FirmwareManifest, &key, &mut envelope);
    envelope.truncate(length.map_err(|_| anyhow!("the manifest is too long"))?);
    let second = match &arguments.second_key {
        None => None,
        Some(file) => {
            let key = read::key(file)?;
            let mut second = vec![0; OVERHEAD + 1];
            let length = seal_detached(&payload, Purpose::FirmwareManifest, &key, &mut second);
            second.truncate(length.map_err(|_| anyhow!("the signature is too long"))?);
            Some(second)
        }
    };
    Ok((payload, envelope, second))
}

/// How a manifest names a device.
pub(super) fn device_name(identity: &[u8]) -> [u8; DEVICE_BYTES] {
    let mut name = [0; DEVICE_BYTES];
    name.copy_from_slice(&sha256(identity).0[..DEVICE_BYTES]);
    name
}

/// A key set, by which devices would take the release.
fn keys(
    file: &Path,
    arguments: &SignArguments,
    envelope: &[u8],
    second: &Option<Vec<u8>>,
) -> anyhow::Result<Vec<u8>> {
    let (bytes, _, set) = read::key_set(file)?;
    let shown = file.display();
    set.open_manifest(envelope, second.as_deref(), &Ring).map_err(|error| {
        anyhow!("no device with the key set {shown} would take the release: {error}")
    })?;
    let (sequence, cap) = (arguments.sequence, set.sequence_cap);
    if sequence > cap {
        anyhow::bail!("--sequence {sequence}: the key set {shown} allows {cap} at most");
    }
    Ok(bytes)
}
