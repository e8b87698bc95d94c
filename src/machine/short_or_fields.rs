//! An entry that is written in short, such as a text or a list of words, or as fields in parentheses.

use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::{MapAccessDeserializer, SeqAccessDeserializer, StrDeserializer};
use serde::de::{DeserializeOwned, Deserializer, MapAccess, SeqAccess, Visitor};

/// What the short form can stand for, where fields are all that can be said.
pub(in crate::machine) trait FromShort: Sized {
    /// The short form: a text, or a list.
    type Short: DeserializeOwned;

    /// What an entry is, for the error about one that is neither: `an address or fields`.
    const EXPECTED: &str;

    /// The entry that the short form stands for, or what is wrong with it.
    fn from_short(short: Self::Short) -> Result<Self, String>;
}

/// The entry as it was read.
pub(in crate::machine) struct ShortOrFields<T>(pub T);

impl<'de, T: FromShort + Deserialize<'de>> Deserialize<'de> for ShortOrFields<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(Either(PhantomData)).map(Self)
    }
}

struct Either<T>(PhantomData<T>);

impl<'de, T: FromShort + Deserialize<'de>> Visitor<'de> for Either<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        T::from_short(T::Short::deserialize(StrDeserializer::new(text))?).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<T, A::Error> {
        let short = T::Short::deserialize(SeqAccessDeserializer::new(seq))?;
        T::from_short(short).map_err(serde::de::Error::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map))
    }
}
