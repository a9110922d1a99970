//! Says what the device is and runs.

use embedded_storage::nor_flash::NorFlash;
use tidegate_boot::{BOOT_ABI, Flash, FlashFailed, Kind, Ledger, Phase};
use tidegate_wire::crypto::Crypto;
use tidegate_wire::manifest::{Manifest, Side};
use tidegate_wire::message::{Hello, Installed, InstalledList, PROTOCOL};

use super::{Agent, SDK_VERSION};

impl<C: Crypto> Agent<'_, C> {
    #[inline(never)]
    pub(super) fn write_hello<F: NorFlash>(
        &mut self,
        flash: &mut Flash<'_, F>,
        out: &mut [u8],
    ) -> Result<Option<usize>, FlashFailed> {
        let state = *self.log.state();
        let on_trial = state.phase == Phase::Trial;
        let ledger = if on_trial { Some(state.next_ledger()) } else { state.ledger };
        let mut buffer = [0; Ledger::RELEASE];
        let mut found = None;
        if let Some(ledger) = ledger {
            // What runs was verified when it was taken; here it is only told.
            found = Ledger::look_into(flash, self.ledger_at(ledger), &mut buffer)?;
        }
        let manifest = found.and_then(|(_, manifest)| Manifest::read(manifest).ok());
        let sides = state.running_sides();
        let parts = self.config.layout.parts.iter().enumerate();
        let installed = parts.map(|(n, part)| {
            let runs_at = if sides >> n & 1 == 1 { Side::B } else { Side::A };
            let found = manifest.as_ref().and_then(|manifest| {
                let fits = |side: Option<Side>| side.is_none_or(|side| side == runs_at);
                manifest.components.iter().find(|c| c.id == part.id && fits(c.side))
            });
            let factory = if part.id == 0 { self.config.factory_version } else { "" };
            Installed {
                id: part.id,
                version: found.map_or(factory, |component| component.version),
                digest: found.map_or([0; 8], |component| component.digest.short()),
                room: part.room(),
                side: match part.kind {
                    Kind::Swapped => None,
                    Kind::InPlace => Some(runs_at.other()),
                },
            }
        });
        let Some(components) = InstalledList::new(installed) else { return Ok(None) };
        let identity = &self.config.identity;
        let hello = Hello {
            protocol: PROTOCOL,
            sdk: SDK_VERSION,
            vendor: identity.vendor,
            class: identity.class,
            message: self.config.message,
            block: self.config.block,
            capabilities: identity.capabilities,
            boot_abi: BOOT_ABI,
            sequence: state.sequence,
            floor: state.floor,
            key_set: self.keys.map_or(0, |keys| keys.version),
            components,
            reason: self.reason,
            trial: on_trial.then_some(state.attempts),
            pending: self.release.as_ref().map(|release| release.content.manifest),
        };
        Ok(hello.write(out).ok())
    }
}
