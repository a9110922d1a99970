//! What a bootloader does after each start.

use embedded_storage::nor_flash::NorFlash;
use tidegate_wire::crypto::{Crypto, Sha256};
use tidegate_wire::manifest::{Manifest, Side};
use tidegate_wire::message::Refusal;

use crate::exchange::{self, Direction};
use crate::flash::{Flash, FlashFailed};
use crate::keys::{KeyStore, Trust};
use crate::layout::{Kind, Layout, MAX_PARTS, Part};
use crate::ledger::Ledger;
use crate::release::{judge_sequence, target};
use crate::state::{Outcome, Phase, State, StateLog};

/// The image to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Started {
    /// Its offset in flash.
    pub entry: u32,
    /// The side that it is at.
    pub side: Side,
    /// Starts left after this one, when it is on trial: arm the watchdog.
    pub trial: Option<u8>,
}

/// Does what the state asks for, and says which image to start. `pet` is called between pages.
///
/// # Errors
/// The flash has failed: start again, best after a while.
pub fn start<F: NorFlash, C: Crypto>(
    flash: &mut F,
    layout: &Layout<'_>,
    trust: &Trust<'_>,
    crypto: &C,
    pet: &mut impl FnMut(),
) -> Result<Started, FlashFailed> {
    let mut flash = Flash::new(flash);
    let flash = &mut flash;
    let mut log = StateLog::load(flash, layout)?;
    // Each round leads to a later phase; the last ends in one that starts an image.
    loop {
        let state = *log.state();
        match state.phase {
            Phase::Idle => return Ok(started(layout, &state)),
            Phase::Staged => {
                let next = match verify(flash, layout, trust, &state, crypto, pet)? {
                    Ok(Verified { attempts, pages, next_sides }) => {
                        let phase = Phase::Swapping;
                        State { phase, step: 0, attempts, pages, next_sides, ..state }
                    }
                    Err(refusal) => given_up(&state, Outcome::Refused, refusal.code()),
                };
                log.store(flash, layout, next)?;
            }
            Phase::Swapping => {
                exchange::run(flash, layout, &mut log, Direction::Forward, pet)?;
                let state = *log.state();
                log.store(flash, layout, State { phase: Phase::Trial, ..state })?;
            }
            Phase::Trial => match state.attempts.checked_sub(1) {
                Some(attempts) => {
                    // Counted before the jump: who never comes back has used it up.
                    log.store(flash, layout, State { attempts, ..state })?;
                    return Ok(started(layout, log.state()));
                }
                None => {
                    let code = Refusal::Attempts.code();
                    let next = State { phase: Phase::Reverting, step: 0, code, ..state };
                    log.store(flash, layout, next)?;
                }
            },
            Phase::Reverting => {
                exchange::run(flash, layout, &mut log, Direction::Back, pet)?;
                let code = log.state().code;
                let next = given_up(log.state(), Outcome::Reverted, code);
                log.store(flash, layout, next)?;
            }
        }
    }
}

fn started(layout: &Layout<'_>, state: &State) -> Started {
    let trial = match state.phase {
        Phase::Trial => Some(state.attempts),
        Phase::Idle | Phase::Staged | Phase::Swapping | Phase::Reverting => None,
    };
    let first = layout.parts.first();
    let in_place = first.is_some_and(|part| part.kind == Kind::InPlace);
    let (side, region) = if in_place && state.running_sides() & 1 == 1 {
        (Side::B, first.map(|part| part.b))
    } else {
        (Side::A, first.map(|part| part.a))
    };
    Started { entry: region.map_or(0, |region| region.from), side, trial }
}

fn given_up(state: &State, outcome: Outcome, code: u8) -> State {
    State {
        phase: Phase::Idle,
        next_sides: state.sides,
        attempts: 0,
        outcome,
        code,
        reported: false,
        step: 0,
        ..*state
    }
}

/// What an exchange has to do.
struct Verified {
    attempts: u8,
    pages: [u16; MAX_PARTS],
    next_sides: u8,
}

/// Checks the staged release once more: signatures, sequence, floor, cap, digests of its images.
fn verify<F: NorFlash, C: Crypto>(
    flash: &mut Flash<'_, F>,
    layout: &Layout<'_>,
    trust: &Trust<'_>,
    state: &State,
    crypto: &C,
    pet: &mut impl FnMut(),
) -> Result<Result<Verified, Refusal>, FlashFailed> {
    let Some(keys) = KeyStore::load(flash, layout, trust, state, crypto)? else {
        return Ok(Err(Refusal::KeySet));
    };
    let region = layout.ledgers[usize::from(state.next_ledger())];
    let Some(ledger) = Ledger::open(flash, region)? else { return Ok(Err(Refusal::Form)) };
    let mut buffer = [0; Ledger::RELEASE];
    let (envelope, second) = ledger.release(flash, &mut buffer)?;
    let Ok(payload) = keys.open_manifest(envelope, second, crypto) else {
        return Ok(Err(Refusal::Signature));
    };
    let Ok(manifest) = Manifest::read(payload) else { return Ok(Err(Refusal::Form)) };
    if let Err(refusal) = judge_sequence(manifest.sequence, state, &keys) {
        return Ok(Err(refusal));
    }
    let mut verified = Verified {
        attempts: manifest.policy.attempts,
        pages: [0; MAX_PARTS],
        next_sides: state.sides,
    };
    for (n, part) in layout.parts.iter().enumerate() {
        match staged::<F, C::Hash>(flash, &manifest, n, part, state, pet)? {
            Staged::NotMeant => {}
            Staged::Wrong => return Ok(Err(Refusal::Content)),
            Staged::Right => match part.kind {
                Kind::InPlace => verified.next_sides ^= 1 << n,
                Kind::Swapped => verified.pages[n] = pages(flash, layout, &manifest, state, part)?,
            },
        }
    }
    // Each component has been found in a part, or the release is not for this device.
    let all = manifest.components.iter().all(|component| layout.part(component.id).is_some());
    Ok(if all { Ok(verified) } else { Err(Refusal::Component) })
}

/// What a release wants of a part, and whether that is there.
enum Staged {
    NotMeant,
    Right,
    Wrong,
}

fn staged<F: NorFlash, H: Sha256>(
    flash: &mut Flash<'_, F>,
    manifest: &Manifest<'_>,
    n: usize,
    part: &Part,
    state: &State,
    pet: &mut impl FnMut(),
) -> Result<Staged, FlashFailed> {
    let (side, region) = target(n, part, state);
    let mut found = Staged::NotMeant;
    for component in manifest.components.iter().filter(|component| component.id == part.id) {
        found = Staged::Wrong;
        let fits = component.size <= part.room();
        if !fits || component.side.is_some_and(|wanted| wanted != side) {
            continue;
        }
        let mut hash = H::default();
        let mut done = 0;
        while done < component.size {
            pet();
            let piece = flash.page().min(component.size - done);
            flash.each(region.from + done, piece, |bytes| hash.update(bytes))?;
            done += piece;
        }
        if hash.finish() == component.digest {
            return Ok(Staged::Right);
        }
    }
    Ok(found)
}

/// How many pages of a part have to be exchanged: those of the larger of the new image and the old
/// one, all where the size of the old one is not known.
fn pages<F: NorFlash>(
    flash: &mut Flash<'_, F>,
    layout: &Layout<'_>,
    manifest: &Manifest<'_>,
    state: &State,
    part: &Part,
) -> Result<u16, FlashFailed> {
    let size_in = |manifest: &Manifest<'_>| {
        let of_part = manifest.components.iter().filter(|component| component.id == part.id);
        of_part.map(|component| component.size).max()
    };
    let mut old = None;
    if let Some(installed) = state.ledger {
        let mut buffer = [0; Ledger::RELEASE];
        // It was verified when it was installed; here only a size is taken from it, and bounded.
        let region = layout.ledgers[usize::from(installed)];
        let found = Ledger::look_into(flash, region, &mut buffer)?;
        old = found.and_then(|(_, manifest)| size_in(&Manifest::read(manifest).ok()?));
    }
    let new = size_in(manifest).unwrap_or(0);
    let size = old.map_or(part.room(), |old| old.max(new)).min(part.room());
    // Images have at most 16 MiB, so that their pages fit.
    Ok(size.div_ceil(flash.page()) as u16)
}
