//! Memory ranges of a function (base address registers), from its `resource` file.

use serde::{Deserialize, Serialize};

use crate::host::Root;
use crate::units::Size;

/// `IORESOURCE_MEM` and its companions (`include/linux/ioport.h`).
const MEMORY: u64 = 0x200;
const PREFETCH: u64 = 0x2000;
const WIDE: u64 = 0x0010_0000;
/// The line of `resource` that is the expansion ROM.
const ROM: usize = 6;

/// One range of a function.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bar {
    /// Its number, 0 to 5.
    pub index: usize,
    /// Where it begins, in memory or I/O space.
    pub start: u64,
    /// How large it is.
    pub size: Size,
    /// In memory; else in I/O space.
    pub memory: bool,
    /// Its address has 64 bits.
    pub wide: bool,
    /// May be read ahead.
    pub prefetch: bool,
}

impl Bar {
    /// Its last address.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(self.size.as_bytes().saturating_sub(1))
    }
}

/// The ranges that are in use, and the size of the expansion ROM's.
pub(super) fn bars(root: &Root, folder: &str) -> (Vec<Bar>, Option<Size>) {
    let text = root.text_up_to(format!("{folder}/resource"), 8192).unwrap_or_default();
    let (mut bars, mut rom) = (Vec::new(), None);
    for (index, line) in text.lines().take(ROM + 1).enumerate() {
        let mut numbers = line.split_ascii_whitespace().map(hex);
        let (Some(Some(start)), Some(Some(end)), Some(Some(flags))) = (numbers.next(), numbers.next(), numbers.next())
        else {
            continue;
        };
        let Some(size) = end.checked_sub(start).and_then(|n| n.checked_add(1)).filter(|_| end > 0) else { continue };
        if index == ROM {
            rom = Some(Size::bytes(size));
            continue;
        }
        let has = |flag| flags & flag != 0;
        let (memory, wide, prefetch) = (has(MEMORY), has(WIDE), has(PREFETCH));
        bars.push(Bar { index, start, size: Size::bytes(size), memory, wide, prefetch });
    }
    (bars, rom)
}

/// `0x00000000e0000000`.
pub(super) fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}
