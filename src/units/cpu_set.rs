//! Sets of logical CPUs in the kernel's list form: `"4-11,16"`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::{ParseUnitError, as_string};

/// The highest CPU number that is believed; the kernel's own limit on x86 is 8192 (`CONFIG_NR_CPUS`).
pub const MAX_CPU: u32 = 8191;

/// A set of logical CPU numbers, read and written as the kernel does (`Documentation/admin-guide/cputopology.rst`):
/// `"0-3,8"`. Also used for NUMA node lists, which have the same form.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuSet(BTreeSet<u32>);

impl CpuSet {
    /// The empty set.
    pub const fn new() -> Self {
        Self(BTreeSet::new())
    }

    /// Whether the CPU is in the set.
    pub fn contains(&self, cpu: u32) -> bool {
        self.0.contains(&cpu)
    }

    /// How many CPUs there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The CPUs in ascending order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        self.0.iter().copied()
    }

    /// Adds one CPU.
    pub fn insert(&mut self, cpu: u32) {
        self.0.insert(cpu);
    }

    /// The CPUs that are in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        Self(self.0.intersection(&other.0).copied().collect())
    }

    /// The CPUs of this set that are not in the other.
    pub fn difference(&self, other: &Self) -> Self {
        Self(self.0.difference(&other.0).copied().collect())
    }

    /// The CPUs that are in either set.
    pub fn union(&self, other: &Self) -> Self {
        Self(self.0.union(&other.0).copied().collect())
    }

    /// The set as a mask of hexadecimal digits, grouped by commas beyond 32 CPUs: `1,00000003`. The empty set is `0`.
    pub fn mask(&self) -> String {
        let top = self.0.last().map_or(0, |last| last / 32);
        let mut words = vec![0u32; top as usize + 1];
        for cpu in self.iter() {
            words[(cpu / 32) as usize] |= 1 << (cpu % 32);
        }
        let mut words = words.iter().rev();
        let first = format!("{:x}", words.next().copied().unwrap_or_default());
        words.fold(first, |text, word| format!("{text},{word:08x}"))
    }

    /// Reads a mask as the kernel writes it (`%*pb` in `lib/vsprintf.c`); `None` if it is of another form.
    pub fn from_mask(text: &str) -> Option<Self> {
        let words: Vec<&str> = text.trim().split(',').collect();
        let mut set = BTreeSet::new();
        for (place, word) in words.iter().rev().enumerate() {
            let place = u32::try_from(place).ok().filter(|place| *place <= MAX_CPU / 32)?;
            // `from_str_radix` would take a sign.
            let is_word = (1..=8).contains(&word.len()) && word.bytes().all(|byte| byte.is_ascii_hexdigit());
            let bits = u32::from_str_radix(word, 16).ok().filter(|_| is_word)?;
            set.extend((0..32).filter(|bit| bits >> bit & 1 == 1).map(|bit| place * 32 + bit));
        }
        Some(Self(set))
    }

    /// The set as a sentence names it: `CPU 3`, `CPUs 3-5`.
    pub fn numbered(&self) -> String {
        format!("CPU{} {self}", if self.len() == 1 { "" } else { "s" })
    }

    /// Whether every CPU of this set is in the other.
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<I: IntoIterator<Item = u32>>(cpus: I) -> Self {
        Self(cpus.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseUnitError {
            read: text.to_owned(),
            what: "a CPU list",
            allowed: "write numbers and ranges with commas between, such as \"4-11,16\"",
        };
        // Who names a CPU twice may count two.
        let once = |is_new| {
            let allowed = "name each CPU once, such as \"4-11,16\"";
            if is_new { Ok(()) } else { Err(ParseUnitError { read: text.to_owned(), what: "a CPU list", allowed }) }
        };
        let mut set = BTreeSet::new();
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Ok(Self(set));
        }
        for part in trimmed.split(',') {
            let number = |s: &str| s.trim().parse::<u32>().ok().filter(|n| *n <= MAX_CPU).ok_or_else(refuse);
            match part.split_once('-') {
                Some((first, last)) => {
                    let (first, last) = (number(first)?, number(last)?);
                    if first > last {
                        let allowed = "write a range from its lowest CPU to its highest, such as \"4-11\"";
                        return Err(ParseUnitError { read: text.to_owned(), what: "a CPU list", allowed });
                    }
                    for cpu in first..=last {
                        once(set.insert(cpu))?;
                    }
                }
                None => once(set.insert(number(part)?))?,
            }
        }
        Ok(Self(set))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut cpus = self.0.iter().copied().peekable();
        while let Some(first) = cpus.next() {
            let mut last = first;
            // A captured host may name any number.
            while let Some(next) = last.checked_add(1).and_then(|next| cpus.next_if_eq(&next)) {
                last = next;
            }
            f.write_str(separator)?;
            match last - first {
                0 => write!(f, "{first}")?,
                _ => write!(f, "{first}-{last}")?,
            }
            separator = ",";
        }
        Ok(())
    }
}

as_string!(
    CpuSet,
    "CpuSet",
    "Logical CPUs as numbers and ranges, such as \"4-11,16\"",
    r"^[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*$"
);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn reads_and_writes_the_kernel_form() {
        for text in ["", "0", "0-3", "0-3,8", "4-11,16,18-19"] {
            assert_eq!(text.parse::<CpuSet>().unwrap().to_string(), text);
        }
        assert_eq!(CpuSet::from_iter([u32::MAX, u32::MAX - 1]).to_string(), "4294967294-4294967295");
        assert_eq!("3, 1 ,2\n".parse::<CpuSet>().unwrap().to_string(), "1-3");
    }

    #[test]
    fn one_cpu_is_named_as_one() {
        let numbered = |list: &str| list.parse::<CpuSet>().unwrap().numbered();
        assert_eq!([numbered("3"), numbered("3-5"), numbered("")], ["CPU 3", "CPUs 3-5", "CPUs "]);
    }

    #[test]
    fn refuses_what_is_no_list() {
        for text in ["a", "1-", "-1", "3-1", "1,,2", "0-99999", "1:2", "0-8191,0-8191,0-8191"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_set_survives_being_written_and_read(cpus in proptest::collection::btree_set(0u32..=MAX_CPU, 0..64)) {
            let set: CpuSet = cpus.into_iter().collect();
            prop_assert_eq!(set.to_string().parse::<CpuSet>().unwrap(), set);
        }
    }

    #[test]
    fn masks_are_those_of_the_kernel() {
        for (list, mask) in [
            ("", "0"),
            ("0-1", "3"),
            ("4-7", "f0"),
            ("31", "80000000"),
            ("0,32", "1,00000001"),
            ("95", "80000000,00000000,00000000"),
        ] {
            let set: CpuSet = list.parse().unwrap();
            assert_eq!(set.mask(), mask);
            assert_eq!(CpuSet::from_mask(mask), Some(set));
        }
        assert_eq!(CpuSet::from_mask("00000000,000000FF\n").unwrap().to_string(), "0-7");
        let long = vec!["0"; 257].join(",");
        for wrong in ["", "+1", "g", "1,", "123456789", "0-3", &long] {
            assert_eq!(CpuSet::from_mask(wrong), None, "{wrong}");
        }
    }
}
