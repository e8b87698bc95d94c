//! The kernel as a plain ELF file, which QEMU starts as it is (PVH): if a guest's processor is emulated twice over,
//! unpacking the compressed one takes longer than anything else of its boot. Hosts boot that one, as machines do: without a
//! boot loader's word about the screen a kernel has no VGA console.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use super::Release;
use crate::kit::cache::{self, Entry, Key};
use crate::kit::tools;

/// The kernel of a release: `vmlinux`.
pub fn get(release: Release, system: &Entry) -> Result<Entry> {
    let key = Key::new("kernel 1").with(system.name());
    cache::entry("kernel", release.name(), &key, |folder| unpack(&system.file("vmlinuz"), folder))
}

/// Writes what is packed into a kernel's image. Source: `Documentation/arch/x86/boot.rst`, "The Real-Mode Kernel Header";
/// behind what is packed its unpacked length was added, in four bytes (`scripts/Makefile.lib`, `size_append`).
fn unpack(image: &Path, folder: &Path) -> Result<()> {
    let bytes = fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
    let number = |at: usize| -> Result<usize> {
        let four = bytes.get(at..at + 4).context("no kernel image")?;
        Ok(u32::from_le_bytes(four.try_into()?) as usize)
    };
    let (setup_sects, payload_offset, payload_length) = (number(0x1f1)? & 0xff, number(0x248)?, number(0x24c)?);
    let start = (setup_sects + 1) * 512 + payload_offset;
    let packed = bytes.get(start..start + payload_length - 4).context("a kernel image that was cut")?;
    let tool = match packed {
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "xz",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
        _ => bail!("{} is packed in a way that the lab does not know", image.display()),
    };
    let file = folder.join("packed");
    fs::write(&file, packed)?;
    fs::write(folder.join("vmlinux"), tools::unpack(tool, &file)?)?;
    fs::remove_file(file)?;
    Ok(())
}
