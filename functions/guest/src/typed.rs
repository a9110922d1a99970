//! Payloads and state as types of your own, by serde: the features `json` and `cbor`.
//!
//! ```
//! # #[cfg(feature = "json")] {
//! use serde::{Deserialize, Serialize};
//! use tidegate_guest::{Error, Message, State};
//!
//! #[derive(Deserialize)]
//! struct Reading {
//!     value: f64,
//! }
//!
//! #[derive(Default, Serialize, Deserialize)]
//! struct Extremes {
//!     least: f64,
//!     most: f64,
//! }
//!
//! fn remember(message: &Message<'_>, state: &mut State<'_>) -> Result<(), Error> {
//!     let reading: Reading = message.json()?;
//!     let mut extremes: Extremes = state.get_json(b"extremes")?.unwrap_or_default();
//!     extremes.most = extremes.most.max(reading.value);
//!     state.put_json(b"extremes", &extremes, 0)
//! }
//! # }
//! ```

use crate::batch::Message;
use crate::function::Error;
use crate::state::State;
use crate::text::concat;
use alloc::string::ToString;
use alloc::vec::Vec;
use serde::de::{Deserialize, DeserializeOwned};
use serde::ser::Serialize;

fn unreadable(what: &str, error: &dyn ToString) -> Error {
    Error::DeadLetter(concat(&[what, ": ", &error.to_string()]))
}

/// The same methods for each encoding.
macro_rules! encoding {
    ($feature:literal, $name:literal, $payload:ident, $get:ident, $put:ident, $encode:ident,
     $read:path, $write:path) => {
        #[cfg(feature = $feature)]
        #[doc = concat!("A value as ", $name, ".")]
        ///
        /// # Errors
        /// When the value has no such encoding.
        pub fn $encode<T: Serialize>(value: &T) -> Result<Vec<u8>, Error> {
            $write(value).map_err(|error| unreadable(concat!("a value has no ", $name), &error))
        }

        #[cfg(feature = $feature)]
        impl<'a> Message<'a> {
            #[doc = concat!("The payload, as ", $name, ".")]
            ///
            /// # Errors
            /// When it is no `T`. With `?` it gives up the whole batch; `out.nack` with the error's
            /// text gives up this record alone.
            pub fn $payload<T: Deserialize<'a>>(&self) -> Result<T, Error> {
                let what = concat!("the payload is not the ", $name, " expected");
                $read(self.payload()).map_err(|error| unreadable(what, &error))
            }
        }

        #[cfg(feature = $feature)]
        impl State<'_> {
            #[doc = concat!("The value of a key, kept as ", $name, ".")]
            ///
            /// # Errors
            /// When the bytes there are no `T`.
            pub fn $get<T: DeserializeOwned>(&mut self, key: &[u8]) -> Result<Option<T>, Error> {
                let Some(bytes) = self.get::<Vec<u8>>(key)? else { return Ok(None) };
                let key = core::str::from_utf8(key).unwrap_or("(not text)");
                let what = || concat(&["state key `", key, "` holds no ", $name, " of this type"]);
                $read(&bytes).map(Some).map_err(|error| unreadable(&what(), &error))
            }

            #[doc = concat!("Sets a key to a value as ", $name, ", for so many milliseconds; 0 = for ever.")]
            ///
            /// # Errors
            /// When the value has no such encoding.
            pub fn $put<T: Serialize>(&mut self, key: &[u8], value: &T, ttl_ms: u64) -> Result<(), Error> {
                self.put_for(key, &$encode(value)?, ttl_ms);
                Ok(())
            }
        }
    };
}

encoding!(
    "json",
    "JSON",
    json,
    get_json,
    put_json,
    to_json,
    serde_json::from_slice,
    serde_json::to_vec
);
encoding!(
    "cbor",
    "CBOR",
    cbor,
    get_cbor,
    put_cbor,
    to_cbor,
    minicbor_serde::from_slice,
    minicbor_serde::to_vec
);
