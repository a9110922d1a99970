//! The local API gateway: routes over HTTP that functions answer.
//!
//! What a request passes, in this order: its route, who asks, the rate, the body, the core. Each
//! step that refuses it has answered before the next one costs anything.
//!
//! Limits: [`MAX_CONNECTIONS`] at a time, each with one request; [`MAX_BODIES`] of bodies in memory;
//! the head as for the other pages (`http.rs`).
//!
//! Not here: what a function does with a request, and when its answer is durable: `tidegate_flow`.

mod basic;
mod body;
mod gate;
mod logins;
mod rate;
mod refusal;
mod table;
#[cfg(test)]
mod tests;
mod tokens;
mod watched;

pub(crate) use gate::{Asked, Gate, KEPT_BACK, MAX_KEY, once, properties};
pub(crate) use table::{Found, find};
pub use table::{Served, ServedRoute};
pub(crate) use tokens::{Tokens, hash_token, is_token_name};

/// Connections at a time, over all addresses; further ones wait in the listeners' queues.
pub const MAX_CONNECTIONS: usize = 64;
/// Bodies of requests in memory, in bytes; one more is refused with 503.
pub const MAX_BODIES: usize = 4 << 20;
