//! The device's side of firmware upgrades. `no_std`, no allocation, no I/O but flash: messages and
//! the time go in, messages come out; docs/formats/device-messages.md and flash-layout.md.
//!
//! The application hands every message of the gateway to [`Agent::handle_message`], calls
//! [`Agent::poll`] in its main loop and sends what [`Agent::poll_output`] gives:
//!
//! ```
//! # use tidegate_agent::{Agent, Millis, Next};
//! # fn example<F: embedded_storage::nor_flash::NorFlash, C: tidegate_wire::crypto::Crypto>(
//! #     agent: &mut Agent<'_, C>, flash: &mut F, mut now: impl FnMut() -> Millis,
//! #     mut receive: impl FnMut() -> Option<&'static [u8]>, mut send: impl FnMut(&[u8]),
//! # ) -> Result<(), tidegate_boot::FlashFailed> {
//! # let sensor_answers = true;
//! # let pump_runs = false;
//! agent.self_test(sensor_answers); // once the application knows
//! agent.allow_restart(!pump_runs); // whenever that changes
//! loop {
//!     if let Some(message) = receive() {
//!         agent.handle_message(now(), flash, message)?;
//!     }
//!     let mut out = [0; 512];
//!     while let Some(length) = agent.poll_output(now(), flash, &mut out)? {
//!         send(&out[..length]);
//!     }
//!     match agent.poll(now(), flash)? {
//!         Next::Work => {}       // call it again soon
//!         Next::Wait(_) => {}    // sleep until then, or until something comes in
//!         Next::Restart => break // reset: the bootloader does the rest
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! Invariants:
//! - Nothing is erased for a release before its signatures and every condition have been checked,
//!   and nothing beyond the day's budget.
//! - Nothing is asked of the bootloader before the digests of all images have been read back from
//!   flash, and the release's policy and the application let the device restart.
//! - Whatever the gateway sends or does not send, the device goes on with what it runs.
//!
//! Not here: transports, clocks, the restart itself, what the bootloader does (`tidegate-boot`).
#![no_std]

#[cfg(test)]
extern crate std;

mod agent;
mod budget;
mod decode;
mod pages;

#[cfg(test)]
mod tests;

pub use agent::{Agent, Config, Next, Obedience, SDK_VERSION};
pub use budget::{Budget, Millis};
