//! What a function remembers.

use crate::Host;
use crate::function::Error;
use crate::out::Out;
use crate::text::concat;
use alloc::string::String;
use alloc::vec::Vec;
use tidegate_abi::Operation;

/// The function's key-value state: what was committed before this batch, and the function's own
/// writes over it. What is written commits with the batch.
pub struct State<'h> {
    host: &'h Host<'h>,
    /// Keys that this batch has read or written, sorted.
    touched: Vec<Touched>,
}

struct Touched {
    key: Vec<u8>,
    value: Option<Vec<u8>>,
    /// Milliseconds; 0 = for ever.
    ttl_ms: u64,
    written: bool,
}

impl<'h> State<'h> {
    pub(crate) fn new(host: &'h Host<'h>) -> Self {
        Self { host, touched: Vec::new() }
    }

    /// The value of a key. Asks the host once in a batch, however often it is read.
    ///
    /// # Errors
    /// When the bytes there are no `T`; a function that changed its mind about a type should
    /// use another key.
    pub fn get<T: Value>(&mut self, key: &[u8]) -> Result<Option<T>, Error> {
        let at = match self.position(key) {
            Ok(at) => at,
            Err(at) => {
                let value = self.host.kv_get(key);
                self.insert(at, Touched { key: key.to_vec(), value, ttl_ms: 0, written: false });
                at
            }
        };
        match self.touched.get(at).and_then(|touched| touched.value.as_deref()) {
            None => Ok(None),
            Some(bytes) => match T::from_bytes(bytes) {
                Some(value) => Ok(Some(value)),
                None => Err(wrong_type(key, T::NAME)),
            },
        }
    }

    /// Sets a key.
    pub fn put<T: Value>(&mut self, key: &[u8], value: &T) {
        self.write(key, Some(value.to_bytes()), 0);
    }

    /// Sets a key that goes by itself after some milliseconds.
    pub fn put_for<T: Value>(&mut self, key: &[u8], value: &T, ttl_ms: u64) {
        self.write(key, Some(value.to_bytes()), ttl_ms);
    }

    /// Removes a key; no matter whether it was there.
    pub fn delete(&mut self, key: &[u8]) {
        self.write(key, None, 0);
    }

    /// All entries whose keys start with `prefix`, in the order of their keys.
    pub fn scan(&self, prefix: &[u8]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut entries: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        let mut after = Vec::new();
        loop {
            let page = self.host.kv_scan(prefix, &after);
            let Some((last, _)) = page.last() else { break };
            after.clone_from(last);
            entries.extend(page);
        }
        for touched in self.touched.iter().filter(|touched| touched.key.starts_with(prefix)) {
            let at = entries.binary_search_by(|(key, _)| key.cmp(&touched.key));
            match (at, &touched.value) {
                (Ok(at), Some(value)) => entries[at].1.clone_from(value),
                (Ok(at), None) => drop(entries.remove(at)),
                (Err(at), Some(value)) => entries.insert(at, (touched.key.clone(), value.clone())),
                (Err(_), None) => {}
            }
        }
        entries
    }

    /// Appends the changes, one for each key, in the order of the keys.
    pub(crate) fn write_to(self, out: &mut Out<'_>) {
        for touched in self.touched.iter().filter(|touched| touched.written) {
            let key = &touched.key;
            out.push(&match &touched.value {
                Some(value) => Operation::KvPut { key, value, ttl_ms: touched.ttl_ms },
                None => Operation::KvDel { key },
            });
        }
    }

    fn write(&mut self, key: &[u8], value: Option<Vec<u8>>, ttl_ms: u64) {
        let touched = Touched { key: key.to_vec(), value, ttl_ms, written: true };
        match self.position(key) {
            Ok(at) => {
                if let Some(found) = self.touched.get_mut(at) {
                    *found = touched;
                }
            }
            Err(at) => self.insert(at, touched),
        }
    }

    /// As `Vec::insert` does it, without a panic to tell about: that is most of its code.
    fn insert(&mut self, at: usize, touched: Touched) {
        let mut moving = touched;
        for later in self.touched.iter_mut().skip(at) {
            core::mem::swap(later, &mut moving);
        }
        self.touched.push(moving);
    }

    fn position(&self, key: &[u8]) -> Result<usize, usize> {
        self.touched.binary_search_by(|touched| touched.key.as_slice().cmp(key))
    }
}

fn wrong_type(key: &[u8], name: &str) -> Error {
    let key = core::str::from_utf8(key).unwrap_or("(not text)");
    Error::DeadLetter(concat(&["state key `", key, "` holds no ", name]))
}

/// What can be a value of the state: its bytes are what `tidegate` shows and replays.
pub trait Value: Sized {
    /// Its name in messages.
    const NAME: &'static str;
    /// Its bytes; numbers are little-endian.
    fn to_bytes(&self) -> Vec<u8>;
    /// Back from its bytes; `None` when they are no such value.
    fn from_bytes(bytes: &[u8]) -> Option<Self>;
}

macro_rules! number_value {
    ($($number:ty),*) => {$(
        impl Value for $number {
            const NAME: &'static str = stringify!($number);
            fn to_bytes(&self) -> Vec<u8> {
                self.to_le_bytes().to_vec()
            }
            fn from_bytes(bytes: &[u8]) -> Option<Self> {
                bytes.try_into().ok().map(<$number>::from_le_bytes)
            }
        }
    )*};
}
number_value!(u32, i32, u64, i64, f32, f64);

impl Value for bool {
    const NAME: &'static str = "bool";
    fn to_bytes(&self) -> Vec<u8> {
        Vec::from([u8::from(*self)])
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0] => Some(false),
            [1] => Some(true),
            _ => None,
        }
    }
}

impl Value for Vec<u8> {
    const NAME: &'static str = "bytes";
    fn to_bytes(&self) -> Vec<u8> {
        self.clone()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(bytes.to_vec())
    }
}

impl Value for String {
    const NAME: &'static str = "text";
    fn to_bytes(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }
    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        core::str::from_utf8(bytes).ok().map(String::from)
    }
}
