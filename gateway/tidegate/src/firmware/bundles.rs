//! From bytes that arrive to a campaign, step by step.

use tidegate_firmware::{HEAD, MAX_BUNDLE, Release, Terms, header_bytes};
use tidegate_wire::Digest;
use tidegate_wire::crypto::Sha256;
use tokio::sync::Mutex;

use crate::config::Settings;
use crate::core_handle::{CoreHandle, FirmwareAnswer, FirmwareAsk};
use crate::packages::{Progress, Shelf, off_thread};
use crate::ring_crypto::RingSha256;

/// Bytes that are hashed at a time.
const PIECE: usize = 64 * 1_024;

/// Where bundles are kept.
#[derive(Debug)]
pub struct Bundles {
    shelf: Shelf,
    /// Held by the change that is under way.
    turn: Mutex<()>,
}

impl Bundles {
    /// For a gateway with these settings.
    ///
    /// # Errors
    /// The directory of bundles cannot be made.
    pub fn new(settings: &Settings) -> anyhow::Result<Bundles> {
        Ok(Bundles { shelf: settings.bundles()?, turn: Mutex::new(()) })
    }

    /// Begins an upload, or says where it goes on.
    pub(crate) async fn begin(
        &self,
        core: &CoreHandle,
        bundle: Digest,
        size: u64,
    ) -> Result<Progress, String> {
        let _turn = self.turn.lock().await;
        let needed = match ask(core, FirmwareAsk::Needed).await? {
            FirmwareAnswer::Needed(needed) => needed.into_iter().collect(),
            other => return Err(unexpected(&other)),
        };
        let shelf = self.shelf.clone();
        off_thread(move || shelf.begin(bundle, size, &needed).map_err(|e| e.to_string())).await
    }

    /// Takes a block; answers how much is there.
    pub(crate) async fn append(
        &self,
        bundle: Digest,
        offset: u64,
        block: Vec<u8>,
    ) -> Result<u64, String> {
        let _turn = self.turn.lock().await;
        let shelf = self.shelf.clone();
        off_thread(move || shelf.append(bundle, offset, &block).map_err(|e| e.to_string())).await
    }

    /// Checks what has arrived, and begins a campaign with it; answers its number when that is on
    /// flash.
    pub(crate) async fn start(
        &self,
        core: &CoreHandle,
        bundle: Digest,
        terms: Terms,
    ) -> Result<u64, String> {
        let _turn = self.turn.lock().await;
        let shelf = self.shelf.clone();
        let release = off_thread(move || {
            shelf.settle(bundle).map_err(|error| error.to_string())?;
            checked(&shelf, bundle)
        });
        let release = Box::new(release.await?);
        match ask(core, FirmwareAsk::Start { bundle, release, terms }).await? {
            FirmwareAnswer::Started(campaign) => Ok(campaign),
            other => Err(unexpected(&other)),
        }
    }
}

async fn ask(core: &CoreHandle, ask: FirmwareAsk) -> Result<FirmwareAnswer, String> {
    core.firmware(ask).await.map_err(|error| error.to_string())
}

fn unexpected(answer: &FirmwareAnswer) -> String {
    format!("the core gave an answer to another question: {answer:?}")
}

/// The release of a bundle that holds what its manifest says.
fn checked(shelf: &Shelf, bundle: Digest) -> Result<Release, String> {
    let bytes = shelf.bytes_of(bundle).map_err(|error| error.to_string())?;
    if bytes > MAX_BUNDLE {
        return Err(format!("the bundle has {bytes} bytes; at most {MAX_BUNDLE} are allowed"));
    }
    let read = |at, bytes: usize| {
        let mut piece = vec![0; bytes];
        let length = shelf.read_at(bundle, at, &mut piece).map_err(|error| error.to_string())?;
        piece.truncate(length);
        Ok::<_, String>(piece)
    };
    let told = |error: tidegate_firmware::BundleError| error.to_string();
    let length = header_bytes(&read(0, HEAD)?).map_err(told)?;
    let release = Release::read::<RingSha256>(&read(HEAD as u64, length)?).map_err(told)?;
    release.check_bytes(bytes).map_err(told)?;
    for (number, entry) in release.entries().iter().enumerate() {
        let mut hash = RingSha256::default();
        let (mut at, end) = (entry.at, entry.at + u64::from(entry.size));
        while at < end {
            let piece = read(at, PIECE.min((end - at) as usize))?;
            if piece.is_empty() {
                return Err("the bundle has become shorter".to_owned());
            }
            hash.update(&piece);
            at += piece.len() as u64;
        }
        release.check_entry(number, hash.finish()).map_err(told)?;
    }
    Ok(release)
}
