//! How an attribute that was written reads back: not always as the same text.
//!
//! Sources: `lib/bitmap-str.c` (masks and lists of CPUs), `Documentation/admin-guide/mm/transhuge.rst` (choices).

use serde::{Deserialize, Serialize};

use crate::units::CpuSet;

/// How two texts of an attribute are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Compare {
    /// The same text, but for white space at the ends.
    #[default]
    Text,
    /// The same whole number.
    Number,
    /// The same CPUs as a list: `0-3,8`.
    CpuList,
    /// The same CPUs as a mask of hexadecimal digits, which a host with more than 32 CPUs groups by commas: `ff` reads as
    /// `000000ff`, and on a larger host as `00000000,000000ff`.
    CpuMask,
    /// The same choice: `never` reads as `always madvise [never]`.
    Choice,
}

impl Compare {
    /// Whether two texts mean the same. A text of another form than the comparator's means only itself.
    pub fn is_same(self, one: &str, other: &str) -> bool {
        let (one, other) = (self.writable(one), self.writable(other));
        let same = match self {
            Self::Text | Self::Choice => None,
            Self::Number => number(one).zip(number(other)).map(|(a, b)| a == b),
            Self::CpuList => one.parse::<CpuSet>().ok().zip(other.parse::<CpuSet>().ok()).map(|(a, b)| a == b),
            Self::CpuMask => mask(one).zip(mask(other)).map(|(a, b)| a == b),
        };
        same.unwrap_or(one == other)
    }

    /// What must be written so that the attribute reads as this text again.
    pub fn writable(self, text: &str) -> &str {
        let text = text.trim();
        let chosen = || Some(text.split_once('[')?.1.split_once(']')?.0);
        match self {
            Self::Choice => chosen().unwrap_or(text),
            _ => text,
        }
    }

    /// Whether a number lies between two others, these included. What is no number does not.
    pub fn is_between(self, text: &str, one: &str, other: &str) -> bool {
        let [Some(text), Some(one), Some(other)] = [text, one, other].map(number) else { return false };
        self == Self::Number && (one.min(other)..=one.max(other)).contains(&text)
    }
}

fn number(text: &str) -> Option<i128> {
    text.trim().parse().ok()
}

/// The words of 32 bits of a mask, the highest first, without leading zeros.
fn mask(text: &str) -> Option<Vec<u32>> {
    let words: Option<Vec<u32>> = text.trim().split(',').map(word).collect();
    Some(words?.into_iter().skip_while(|word| *word == 0).collect())
}

fn word(digits: &str) -> Option<u32> {
    // `from_str_radix` would take a sign.
    digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(compare: Compare, same: &[(&str, &str)], other: &[(&str, &str)]) {
        for (one, two) in same {
            assert!(compare.is_same(one, two) && compare.is_same(two, one), "{compare:?}: {one:?} is {two:?}");
        }
        for (one, two) in other {
            assert!(!compare.is_same(one, two) && !compare.is_same(two, one), "{compare:?}: {one:?} is not {two:?}");
        }
    }

    #[test]
    fn texts_are_the_same_but_for_white_space() {
        check(
            Compare::Text,
            &[("performance", "performance\n"), ("", "\n")],
            &[("1", "01"), ("1", ""), ("a b", "a  b")],
        );
    }

    #[test]
    fn numbers_are_the_same_however_they_are_written() {
        check(
            Compare::Number,
            &[("1", "01\n"), ("-1", "-1"), ("18446744073709551615", "18446744073709551615"), ("n/a", "n/a")],
            &[("1", "10"), ("1", "-1"), ("0", "n/a"), ("0", "")],
        );
    }

    #[test]
    fn lists_are_the_same_with_the_same_cpus() {
        check(Compare::CpuList, &[("0-3,8", "0,1,2-3,8\n"), ("", "\n")], &[("0-3", "0-2"), ("", "0"), ("0", "(null)")]);
    }

    #[test]
    fn masks_are_the_same_with_and_without_zeros_and_commas() {
        check(
            Compare::CpuMask,
            &[
                ("ff", "000000ff\n"),
                ("ff", "00000000,000000ff"),
                ("FF", "ff"),
                ("1,00000000", "00000001,00000000"),
                ("1,0", "00000001,00000000"),
                ("0", "00000000,00000000"),
            ],
            &[("ff", "ff,00000000"), ("f", "ff"), ("1,1", "11"), ("+f", "f"), ("f", "")],
        );
    }

    #[test]
    fn a_choice_is_the_word_in_brackets() {
        check(
            Compare::Choice,
            &[("never", "always madvise [never]\n"), ("[never] always", "never"), ("never", "never")],
            &[("never", "always [madvise] never"), ("always", "[never] always")],
        );
        assert_eq!(Compare::Choice.writable("always [madvise] never\n"), "madvise");
        assert_eq!(Compare::Text.writable(" [a] b\n"), "[a] b");
    }

    #[test]
    fn only_numbers_lie_between_others() {
        for (text, between) in [("800", true), ("1400", true), ("1000", true), ("799", false), ("n/a", false)] {
            assert_eq!(Compare::Number.is_between(text, "1400", "800"), between, "{text}");
        }
        assert!(!Compare::Text.is_between("2", "1", "3"));
    }
}
