//! The reference server of the HTTPS sink: `docs/formats/https-sink.md` in working code, with
//! PostgreSQL behind it. It is written to be read beside the contract, and to judge the gateway:
//! it uses none of the gateway's crates, and its table has no unique key, so that a record stored
//! twice would be seen.
//!
//! Invariant: records and the committed sequence change in one transaction, or not at all.
//!
//! Not here: TLS and many tokens, which belong into a proxy in front of it.

pub mod batch;
pub mod database;
pub mod routes;
