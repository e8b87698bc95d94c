//! Amounts of memory: `"16 GiB"`.

use std::fmt;
use std::str::FromStr;

use super::{ParseUnitError, as_string};

/// An amount of memory in bytes, written with a binary unit: `"16 GiB"`, `"512M"`, `"4096 KiB"`.
///
/// `G`, `GB` and `GiB` all mean 2^30 bytes, as in QEMU's own sizes; a bare number is refused, since
/// nobody agrees on what it would mean. `128 B` is read too, for the registers of devices: a captured host has such.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Size(u64);

impl Size {
    /// One kibibyte.
    pub const KIB: u64 = 1 << 10;
    /// One mebibyte.
    pub const MIB: u64 = 1 << 20;
    /// One gibibyte.
    pub const GIB: u64 = 1 << 30;

    /// A size of so many bytes.
    pub const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    pub const fn as_bytes(self) -> u64 {
        self.0
    }

    /// The size in whole mebibytes, rounded down.
    pub const fn as_mib(self) -> u64 {
        self.0 / Self::MIB
    }

    /// The size as people say it, to three digits: `27.5 MiB` for 28160 KiB, `62.4 GiB` for 65403184 KiB.
    pub fn about(self) -> String {
        let (name, factor) = UNITS.into_iter().find(|(_, factor)| self.0 >= *factor).unwrap_or((BYTES, 1));
        let digits = match self.0 / factor {
            100.. => 0,
            10.. => 1,
            _ => 2,
        };
        let value = format!("{:.digits$}", self.0 as f64 / factor as f64);
        let value = if digits > 0 { value.trim_end_matches('0').trim_end_matches('.') } else { &value };
        format!("{value} {name}")
    }
}

const UNITS: [(&str, u64); 4] = [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];

/// What no larger unit divides.
const BYTES: &str = "B";

impl FromStr for Size {
    type Err = ParseUnitError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refuse = || ParseUnitError {
            read: text.to_owned(),
            what: "a size",
            allowed: "write a number with KiB, MiB, GiB or TiB, such as \"16 GiB\"",
        };
        let trimmed = text.trim();
        let digits = trimmed.find(|c: char| !c.is_ascii_digit()).ok_or_else(refuse)?;
        let (number, unit) = trimmed.split_at(digits);
        let number: u64 = number.parse().map_err(|_| refuse())?;
        let unit = unit.trim_start();
        if unit == BYTES {
            return Ok(Self(number));
        }
        let unit = unit.to_ascii_lowercase();
        let factor = UNITS
            .iter()
            .find(|(name, _)| {
                let name = name.to_ascii_lowercase();
                unit == name || unit == name[..1] || unit == format!("{}b", &name[..1])
            })
            .map(|(_, factor)| *factor)
            .ok_or_else(refuse)?;
        number.checked_mul(factor).map(Self).ok_or_else(refuse)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in UNITS {
            if self.0 >= factor && self.0.is_multiple_of(factor) {
                return write!(f, "{} {name}", self.0 / factor);
            }
        }
        if self.0 == 0 {
            return f.write_str("0 KiB");
        }
        // Not a whole number of KiB: only a device's register could say so, never a machine file.
        write!(f, "{} {BYTES}", self.0)
    }
}

as_string!(
    Size,
    "Size",
    "An amount of memory with a binary unit, such as \"16 GiB\"",
    r"^\s*[0-9]+\s*([kKmMgGtT](i?[bB])?|B)\s*$"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_each_unit_in_each_spelling() {
        for text in ["2 GiB", "2GiB", "2G", "2gb", " 2 g ", "2048 MiB", "2097152K"] {
            assert_eq!(text.parse::<Size>().unwrap(), Size::bytes(2 << 30), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_size() {
        for text in ["", "16", "GiB", "-1 GiB", "1.5 GiB", "1 XiB", "99999999999 TiB"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        for bytes in [0, 1, 128, 1 << 10, (1 << 30) + 1, 3 << 40, u64::MAX] {
            assert_eq!(Size::bytes(bytes).to_string().parse::<Size>().unwrap(), Size::bytes(bytes));
        }
    }

    #[test]
    fn people_say_three_digits() {
        let about = |kib: u64| Size::bytes(kib << 10).about();
        for (kib, said) in [
            (0, "0 B"),
            (28_160, "27.5 MiB"),
            (1280, "1.25 MiB"),
            (98_304, "96 MiB"),
            (512, "512 KiB"),
            (65_403_184, "62.4 GiB"),
            (104_857_600, "100 GiB"),
            (1 << 31, "2 TiB"),
        ] {
            assert_eq!(about(kib), said);
        }
    }

    #[test]
    fn is_written_in_the_largest_whole_unit() {
        assert_eq!(Size::bytes(16 << 30).to_string(), "16 GiB");
        assert_eq!(Size::bytes(1536 << 20).to_string(), "1536 MiB");
    }
}
