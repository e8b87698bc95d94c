//! Shared memory between the guest and a program of the desktop: Looking Glass shows the guest's screen, Scream plays its
//! sound.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::named::Named;
use crate::machine::problems::Problems;
use crate::machine::subject::Subject;
use crate::units::Size;

const SIZES: std::ops::RangeInclusive<u64> = (1 << 20)..=(4 << 30);
const MAX_PIXELS: u32 = 16384;
/// What Looking Glass keeps beside the frames, in bytes (its documentation, "Determining memory").
const OVERHEAD: u64 = 10 << 20;

/// Looking Glass: a program on the host shows what the guest's graphics card draws, from memory that both share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LookingGlass {
    /// Width of the guest's screen in pixels, from which the size of the memory follows; needs `height`.
    #[serde(default)]
    pub width: Option<u32>,
    /// Height of the guest's screen in pixels; needs `width`.
    #[serde(default)]
    pub height: Option<u32>,
    /// Whether the guest's screen is HDR: its frames take twice the memory. Default: no.
    #[serde(default)]
    pub hdr: bool,
    /// The size of the memory, a power of two, in place of `width` and `height`.
    #[serde(default)]
    pub size: Option<Size>,
}

impl LookingGlass {
    /// The node of the kernel module `kvmfr`, whose memory the host's graphics card reads directly.
    pub const KVMFR: &str = "/dev/kvmfr0";
    /// The memory without that module, where the client looks for it.
    pub const FILE: &str = "/dev/shm/looking-glass";

    /// The size of the memory: two frames and what is beside them, as a power of two.
    pub fn memory(&self) -> Size {
        let (width, height) = (self.width.unwrap_or_default(), self.height.unwrap_or_default());
        let bytes_per_pixel = if self.hdr { 8 } else { 4 };
        let frames = u64::from(width) * u64::from(height) * bytes_per_pixel * 2;
        self.size.unwrap_or(Size::bytes((frames + OVERHEAD).next_power_of_two()))
    }
}

impl Subject for LookingGlass {
    fn check(&self, problems: &mut Problems) {
        if let Some(size) = self.size.map(Size::as_bytes)
            && !(size.is_power_of_two() && SIZES.contains(&size))
        {
            problems
                .add("looking_glass.size", format!("`looking_glass.size` cannot be {}", Size::bytes(size)))
                .allowed("a power of two from \"1 MiB\" to \"4 GiB\", such as \"64 MiB\"")
                .help("with `width` and `height` in place of it, the size follows");
        }
        let pixels = [("width", self.width), ("height", self.height)];
        for (name, written) in pixels {
            if let Some(number) = written.filter(|number| !(1..=MAX_PIXELS).contains(number)) {
                problems
                    .add(format!("looking_glass.{name}"), format!("`looking_glass.{name}` cannot be {number}"))
                    .allowed(format!("1 to {MAX_PIXELS} pixels"));
            }
        }
        let example = "`looking_glass: (width: 2560, height: 1440)`, or `looking_glass: (size: \"64 MiB\")`";
        match (self.size, self.width, self.height) {
            (None, Some(_), Some(_)) | (Some(_), None, None) => {}
            (Some(_), ..) => {
                problems.add("looking_glass.size", "`looking_glass` has both a `size` and a screen").help(example);
            }
            _ => {
                problems.add("looking_glass", "`looking_glass` does not say how large its memory is").help(example);
            }
        }
    }

    fn name(&self, named: &mut Named) {
        named.files.extend([Self::KVMFR, Self::FILE].map(PathBuf::from));
        named.desktop = true;
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::machine::parse;

    fn read(written: &str) -> Result<u64, String> {
        let text = format!("(guest: Windows10, memory: (size: \"1 GiB\"), looking_glass: {written})");
        let source = parse(Path::new("m.ron"), &text).map_err(|refused| refused.to_string())?;
        Ok(source.machine.looking_glass.unwrap().memory().as_mib())
    }

    #[test]
    fn the_size_follows_from_the_screen() {
        for (written, mib) in [
            ("(width: 1920, height: 1080)", 32),
            ("(width: 2560, height: 1440)", 64),
            ("(width: 3840, height: 2160)", 128),
            ("(width: 3840, height: 2160, hdr: true)", 256),
            ("(size: \"64 MiB\")", 64),
        ] {
            assert_eq!(read(written), Ok(mib), "{written}");
        }
    }

    #[test]
    fn what_is_no_size_is_refused() {
        for (written, expected) in [
            ("()", "`looking_glass` does not say how large its memory is"),
            ("(width: 1920)", "`looking_glass` does not say how large its memory is"),
            ("(size: \"48 MiB\")", "`looking_glass.size` cannot be 48 MiB"),
            ("(size: \"64 MiB\", width: 1, height: 1)", "`looking_glass` has both a `size` and a screen"),
            ("(width: 0, height: 1)", "`looking_glass.width` cannot be 0"),
        ] {
            let refused = read(written).unwrap_err();
            assert!(refused.contains(expected), "{written}: {refused}");
        }
    }
}
