//! Names of the properties that the gateway gives to entries other than messages.

/// The method of a request, as sent: `GET`.
pub const METHOD: &str = ":method";
/// The path of a request as sent, percent-encoding included, without its query.
pub const PATH: &str = ":path";
/// Who asked, where the route demands to know that.
pub const USER: &str = ":user";
/// The query of a request as sent, without the question mark; absent where there is none.
pub const QUERY: &str = "?query";
/// How many further times a timer was due since it was given last, in decimal digits; absent for
/// none.
pub const MISSED: &str = "missed";

/// The name of a pattern's parameter, from the key of its property: `id` from `{id}`. `None` for
/// other properties.
pub fn parameter(key: &str) -> Option<&str> {
    key.strip_prefix('{')?.strip_suffix('}')
}
