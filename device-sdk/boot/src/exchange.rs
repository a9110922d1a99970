//! Exchanges the images of swapped parts page by page, forward and back.
//!
//! Invariant: a half step's source is not touched before the half step has been counted, so each can be
//! repeated.

use embedded_storage::nor_flash::NorFlash;

use crate::flash::{Flash, FlashFailed};
use crate::layout::{Kind, Layout, Part};
use crate::state::{State, StateLog};

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forward,
    Back,
}

/// Does all half steps that have not been counted yet.
pub(crate) fn run<F: NorFlash>(
    flash: &mut Flash<'_, F>,
    layout: &Layout<'_>,
    log: &mut StateLog,
    direction: Direction,
    pet: &mut impl FnMut(),
) -> Result<(), FlashFailed> {
    // The record that says where to go on may be torn: it is written again before anything rests on it.
    let state = *log.state();
    log.store(flash, layout, state)?;
    while let Some((part, page, second)) = locate(layout, log.state()) {
        pet();
        half_step(flash, part, page, second, direction)?;
        let state = State { step: log.state().step + 1, ..*log.state() };
        log.store(flash, layout, state)?;
    }
    Ok(())
}

/// The part of the next half step, which of its pages is the n-th in order, and whether it is the
/// second half; `None` when all are done.
fn locate<'l>(layout: &Layout<'l>, state: &State) -> Option<(&'l Part, (u32, u32), bool)> {
    let mut step = state.step;
    for (part, pages) in layout.parts.iter().zip(state.pages) {
        let pages = u32::from(pages);
        if step < 2 * pages && part.kind == Kind::Swapped {
            return Some((part, (step / 2, pages), step % 2 == 1));
        }
        step = step.checked_sub(2 * pages)?;
    }
    None
}

fn half_step<F: NorFlash>(
    flash: &mut Flash<'_, F>,
    part: &Part,
    (n, pages): (u32, u32),
    second: bool,
    direction: Direction,
) -> Result<(), FlashFailed> {
    let size = flash.page();
    let a = |page: u32| part.a.from + page * size;
    let b = |page: u32| part.b.from + page * size;
    let (from, to) = match (direction, second) {
        (Direction::Forward, false) => (a(pages - 1 - n), b(pages - n)),
        (Direction::Forward, true) => (b(pages - 1 - n), a(pages - 1 - n)),
        (Direction::Back, false) => (a(n), b(n)),
        (Direction::Back, true) => (b(n + 1), a(n)),
    };
    flash.erase(to, to + size)?;
    flash.copy(from, to, size)
}
