//! A pair of ids in hexadecimal digits, as PCI and USB devices have it: `"10de:2684"`.

/// Reads two ids of four digits each, with a colon between them and blanks around them at most.
pub(super) fn pair(text: &str) -> Option<(u16, u16)> {
    let four = |s: &str| {
        let digits = s.len() == 4 && s.bytes().all(|b| b.is_ascii_hexdigit());
        digits.then(|| u16::from_str_radix(s, 16).ok()).flatten()
    };
    let (first, second) = text.trim().split_once(':')?;
    Some((four(first)?, four(second)?))
}
