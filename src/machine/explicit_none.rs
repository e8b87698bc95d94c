//! Fields whose `None` says something else than a field that is left out.

use serde::Deserialize;

/// Reads an optional field of a type that has a `None` of its own: what is written is that `None`, while a field that
/// is left out has its default. `implicit_some` alone would take `video: None` for a field that is left out.
pub(super) fn written<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// Reads an optional list whose default has entries. Who writes `None` wants none of them; `implicit_some` alone would
/// take it for a field that is left out.
pub(super) fn list<'de, D: serde::Deserializer<'de>, T: Deserialize<'de>>(from: D) -> Result<Option<Vec<T>>, D::Error> {
    Option::deserialize(from).map(Option::unwrap_or_default).map(Some)
}
