//! Damages input: bytes, text and JSON values, from a seed, so that each damage can be had again.

use serde_json::{Number, Value};

/// What is put in where text was.
const TEXTS: [&str; 18] = [
    "",
    "\0",
    "\n",
    "-1",
    "0x",
    "4294967296",
    "18446744073709551616",
    "0-4294967295",
    "ffff:ff:1f.7",
    "../../../etc/passwd",
    "/dev/zero",
    "\u{1b}[2J",
    "\u{fffd}\u{202e}",
    "9999999999999999999999 TiB",
    "((((((((((((((((",
    "[[[[[[[[{{{{{{{{",
    "\"",
    "{}",
];

/// What numbers become.
const NUMBERS: [u64; 10] = [0, 1, 2, 63, 255, 1024, 65_535, u32::MAX as u64, i64::MAX as u64, u64::MAX];

/// The damage of one input.
pub struct Mutator(fastrand::Rng);

impl Mutator {
    /// The same seed does the same damage.
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// One of several.
    pub fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.0.usize(..all.len())]
    }

    /// A number below another.
    pub fn below(&mut self, limit: usize) -> usize {
        self.0.usize(..limit.max(1))
    }

    fn range(&mut self, length: usize) -> std::ops::Range<usize> {
        let start = self.below(length + 1);
        let most = (length - start).min(1 << self.below(10));
        start..start + self.below(most + 1)
    }

    /// Damaged bytes: up to eight places are changed.
    pub fn bytes(&mut self, original: &[u8]) -> Vec<u8> {
        let mut bytes = original.to_vec();
        for _ in 0..=self.below(8) {
            let range = self.range(bytes.len());
            match self.below(8) {
                0 => drop(bytes.drain(range)),
                1 => {
                    let again = bytes[range.clone()].to_vec();
                    bytes.splice(range.end..range.end, again);
                }
                2 => bytes.truncate(range.end),
                3 => drop(bytes.splice(range, self.one_of(&TEXTS).bytes())),
                4 => {
                    let number = *self.one_of(&NUMBERS);
                    let width = 1 << self.below(4);
                    drop(bytes.splice(range, number.to_le_bytes()[..width].to_vec()));
                }
                5 => bytes[range].fill(self.0.u8(..)),
                6 => {
                    let to = self.below(bytes.len() + 1);
                    let moved = bytes[range].to_vec();
                    drop(bytes.splice(to..to, moved));
                }
                _ => {
                    if let Some(byte) = bytes.get_mut(range.start) {
                        *byte ^= 1 << self.below(8);
                    }
                }
            }
        }
        // As files of a hostile user they could be longer; the readers' bounds have tests of their own.
        bytes.truncate(1 << 20);
        bytes
    }

    /// Damaged text.
    pub fn text(&mut self, original: &str) -> String {
        String::from_utf8_lossy(&self.bytes(original.as_bytes())).into_owned()
    }

    /// A JSON value of which up to eight parts are others, mostly of the same kind, so that it is still read.
    pub fn value(&mut self, value: &mut Value) {
        for _ in 0..=self.below(8) {
            self.part(value);
        }
    }

    fn part(&mut self, value: &mut Value) {
        match value {
            Value::Array(all) if !all.is_empty() && self.below(8) > 0 => {
                let at = self.below(all.len());
                self.part(&mut all[at]);
            }
            Value::Array(all) => match self.below(3) {
                0 => all.clear(),
                1 if !all.is_empty() => drop(all.remove(self.below(all.len()))),
                _ => all.extend(all.first().cloned()),
            },
            Value::Object(all) if !all.is_empty() && self.below(16) > 0 => {
                let at = self.below(all.len());
                if let Some((_, part)) = all.iter_mut().nth(at) {
                    self.part(part);
                }
            }
            Value::Object(all) => {
                let at = self.below(all.len());
                if let Some(key) = all.keys().nth(at).cloned() {
                    all.remove(&key);
                }
            }
            Value::Number(number) => *number = Number::from(*self.one_of(&NUMBERS)),
            Value::Bool(is) => *is = !*is,
            Value::String(text) => {
                *text = match self.below(2) {
                    0 => (*self.one_of(&TEXTS)).to_owned(),
                    _ => self.text(text),
                }
            }
            Value::Null => *value = Value::from(*self.one_of(&NUMBERS)),
        }
    }
}
