//! What the arguments and answers of `vfio-run new` mean.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::commands::shared::no_disk::{start_of, what_else};
use crate::import::new::{Card, NewDisk, installation_beside};
use crate::machine::{Disk, Guest, is_name, name_rule};
use crate::trusted;
use crate::units::{PciAddress, PciSlot, Size, quoted};

/// What a qcow2 image begins with.
const QCOW2: &[u8] = b"QFI\xfb";
/// The smallest disk, as that of a new image.
const SMALLEST: u64 = 1 << 20;

/// Where the machine file will be.
#[derive(Debug)]
pub struct Target {
    /// Its folder.
    pub folder: PathBuf,
    /// The file, if `-o` names it.
    pub file: Option<PathBuf>,
}

impl Target {
    /// The machine file of a machine of this name.
    pub fn file(&self, name: &str) -> PathBuf {
        self.file.clone().unwrap_or_else(|| self.folder.join(format!("{name}.ron")))
    }
}

/// Fails if there is something: no file is overwritten.
pub fn free(file: &Path) -> Result<()> {
    if file.symlink_metadata().is_ok() {
        bail!("{} exists already, and is not overwritten: name another file with `-o`", file.display());
    }
    Ok(())
}

/// A path as people answer with it: file managers put quotes around what they paste, and no shell has read `~`.
pub fn pasted(text: &str, home: Option<&Path>) -> String {
    let text = text.trim();
    let inner = ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
    match (inner, home, text.strip_prefix("~/")) {
        (Some(inner), ..) => inner.to_owned(),
        (None, Some(home), Some(rest)) => home.join(rest).display().to_string(),
        _ => text.to_owned(),
    }
}

/// The family.
pub fn guest(text: &str) -> Result<Guest> {
    Ok(match text.to_lowercase().replace([' ', '-'], "").as_str() {
        "windows11" | "win11" => Guest::Windows11,
        "windows10" | "win10" => Guest::Windows10,
        "linux" => Guest::Linux,
        "other" => Guest::Other,
        _ => bail!("{text:?} is no guest; say windows11, windows10, linux or other"),
    })
}

/// A machine's name.
pub fn name(text: &str) -> Result<String> {
    if !is_name(text) {
        bail!("{text:?} cannot be a machine's name; allowed: {}", name_rule());
    }
    Ok(text.to_owned())
}

/// Whether nothing is meant.
pub fn is_none(text: &str) -> bool {
    matches!(text.to_lowercase().as_str(), "none" | "no" | "-")
}

/// A card by its number in the list, or by its address.
pub fn number(text: &str, cards: &[Card]) -> Result<Option<PciAddress>> {
    if is_none(text) {
        return Ok(None);
    }
    if let Some(card) = text.parse::<usize>().ok().and_then(|number| cards.get(number.checked_sub(1)?)) {
        return Ok(Some(card.address));
    }
    // `01:00` is how people say it.
    let slots: [Result<PciSlot, _>; 2] = [text.parse(), format!("{text}.*").parse()];
    let mut slots = slots.into_iter().flatten();
    let found = slots.find_map(|slot| cards.iter().find(|card| slot.contains(card.address)));
    match found {
        Some(card) => Ok(Some(card.address)),
        None if cards.is_empty() => bail!("{text:?} is no graphics card of this host, which has none; say none"),
        None => {
            let known: Vec<String> = cards.iter().map(|card| card.address.to_string()).collect();
            bail!("{text:?} is no graphics card of this host; it has {}, or say none", known.join(", "))
        }
    }
}

/// The CD that the guest is installed from. With one there is a second file.
pub fn setup(text: &str, machine: &Path) -> Result<Option<PathBuf>> {
    let found = cd(text)?;
    if found.is_some() {
        free(&installation_beside(machine))?;
    }
    Ok(found)
}

/// The CD with the drivers, beside that of the installation.
pub fn drivers(text: &str, setup: &Path) -> Result<Option<PathBuf>> {
    let found = cd(text)?;
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|data| (data.dev(), data.ino()));
    if found.as_deref().is_some_and(|drivers| identity(drivers) == identity(setup)) {
        bail!("{text} is the same file as `--iso`");
    }
    Ok(found)
}

fn cd(text: &str) -> Result<Option<PathBuf>> {
    if is_none(text) {
        return Ok(None);
    }
    there(text).map(Some)
}

/// A new image, beside the machine file, or what is there.
pub fn disk(text: &str, name: &str, machine: &Path) -> Result<NewDisk> {
    if let Some(size) = text.parse().ok().filter(|size| Disk::check_create(*size).is_ok()) {
        let image = machine.with_file_name(format!("{name}.qcow2"));
        if image.symlink_metadata().is_ok() {
            bail!(
                "{image} is there already, and no new image takes its place; `--disk {image}` takes that one, and another \
                 `--name` gives the new one another name",
                image = quoted(&image.to_string_lossy())
            );
        }
        return Ok(NewDisk::Create(size));
    }
    let with_unit = format!("{text}G");
    let meant: Option<Size> = with_unit.parse().ok();
    if meant.is_some_and(|size| Disk::check_create(size).is_ok()) {
        bail!("name the unit of the disk's size: `{with_unit}`");
    }
    let is_there = !text.is_empty()
        && std::fs::symlink_metadata(text).err().is_none_or(|error| error.kind() != ErrorKind::NotFound);
    if !is_there {
        bail!(
            "{text:?} is neither a size (a whole number with M, G or T, or MiB, GiB or TiB, from 1 MiB to 64 TiB) nor a file \
             that is there"
        );
    }
    if text.to_lowercase().ends_with(".iso") {
        bail!("{text} is a CD's image; the disk is what the guest is installed on");
    }
    let path = there(text)?;
    // What cannot be read is the check's to tell.
    if let Ok(file) = trusted::open(&path, OpenOptions::new().read(true), 0) {
        holds_a_disk(text, &file)?;
    }
    Ok(NewDisk::There(path))
}

/// Fails if an existing file is plainly something else than a disk's image.
fn holds_a_disk(text: &str, file: &File) -> Result<()> {
    let data = file.metadata()?;
    if !data.is_file() {
        return Ok(());
    }
    let start = start_of(file)?;
    if let Some(what) = what_else(&start) {
        bail!("{text} is {what}, and no disk's image");
    }
    // Of a qcow2 image the file's size says nothing.
    if !start.starts_with(QCOW2) && data.len() < SMALLEST {
        bail!("{text} has {} bytes, which is too little for a disk", data.len());
    }
    Ok(())
}

/// A file or block device that is there, by its absolute path: the machine file may be in another folder.
fn there(text: &str) -> Result<PathBuf> {
    let path = std::path::absolute(text).with_context(|| format!("cannot look at {text:?}"))?;
    let data = std::fs::metadata(&path).with_context(|| format!("cannot look at {text}"))?;
    if data.is_dir() {
        bail!("{text} is a folder");
    }
    if !data.is_file() && !data.file_type().is_block_device() {
        bail!("{text} is neither a file nor a block device");
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_understood_as_people_paste_it() {
        let home = Some(Path::new("/home/a"));
        for (text, meant) in [
            ("\"a b.iso\" ", "a b.iso"),
            ("'a b.iso'", "a b.iso"),
            ("~/x.iso", "/home/a/x.iso"),
            ("\"", "\""),
            ("a'b", "a'b"),
        ] {
            assert_eq!(pasted(text, home), meant);
        }
    }

    #[test]
    fn a_program_is_no_disk_and_no_advice_is_refused_next() {
        let dir = tempfile::tempdir().unwrap();
        let machine = dir.path().join("a.ron");
        let program = dir.path().join("program");
        std::fs::write(&program, b"\x7fELF and more").unwrap();
        let refused = |text: &str| disk(text, "a", &machine).unwrap_err().to_string();
        assert!(refused(program.to_str().unwrap()).ends_with("is a program, and no disk's image"));
        for (content, words) in [
            (b"a list\n\tof things, \xc3\xa4\n".as_slice(), "is a text, and no disk's image"),
            (&[0; 512], "has 512 bytes, which is too little for a disk"),
            (b"", "has 0 bytes, which is too little for a disk"),
        ] {
            std::fs::write(dir.path().join("other"), content).unwrap();
            let said = refused(dir.path().join("other").to_str().unwrap());
            assert!(said.ends_with(words), "{said}");
        }
        for content in [b"QFI\xfb\0\0\0\x03".to_vec(), vec![0; 1 << 20]] {
            std::fs::write(dir.path().join("image"), content).unwrap();
            disk(dir.path().join("image").to_str().unwrap(), "a", &machine).unwrap();
        }
        assert_eq!(refused("64"), "name the unit of the disk's size: `64G`");
        for text in ["0", "99999999", "1K", "0G"] {
            assert!(refused(text).contains("is neither a size"), "{text}");
        }
        assert_eq!(disk("8G", "a", &machine).unwrap(), NewDisk::Create(Size::bytes(8 << 30)));
        std::fs::write(dir.path().join("a.qcow2"), "").unwrap();
        assert!(refused("8G").contains("a.qcow2 is there already"));
    }
}
