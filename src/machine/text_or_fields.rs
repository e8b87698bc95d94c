//! An entry that is written as a text, or as fields in parentheses.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, MapAccess, Visitor};

/// What a text can stand for, where fields are all that can be said.
pub(in crate::machine) trait FromText: Sized {
    /// What an entry is, for the error about one that is neither: `an address or fields`.
    const EXPECTED: &str;

    /// The entry that the text stands for, or what is wrong with the text.
    fn from_text(text: &str) -> Result<Self, String>;
}

/// The entry as it was read.
pub(in crate::machine) struct TextOrFields<T>(pub T);

impl<'de, T: FromText + Deserialize<'de>> Deserialize<'de> for TextOrFields<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either(PhantomData)).map(Self)
    }
}

struct Either<T>(PhantomData<T>);

impl<'de, T: FromText + Deserialize<'de>> Visitor<'de> for Either<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        T::from_text(text).map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}
