//! Images that a running guest is given: what they are is looked at here, where nobody waits for a storage that hangs but the
//! one who asked.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::shared::no_disk::{start_of, what_else};
use super::shared::planned;
use crate::cli::DiskArgs;
use crate::host::{FileFact, FileKind, Host, Wanted};
use crate::plan::{ImageFormat, LateDisk, image_format};
use crate::trusted;
use crate::units::DiskFormat;

/// The disk that a file becomes.
pub fn disk(file: &Path, args: &DiskArgs) -> Result<LateDisk> {
    let (file, fact) = look(file)?;
    let shown = file.display();
    if !matches!(fact.kind, Some(FileKind::File | FileKind::Block)) {
        bail!("{shown} is neither a file nor a block device");
    }
    if let Some(user) = fact.mounted.first() {
        bail!("the host uses {shown}: {user}; unmount it first");
    }
    let format = match &args.format {
        Some(format) => *format,
        None => match image_format(&file, Some(&fact)) {
            ImageFormat::Is(format) => {
                refuse_other(&file, &fact)?;
                format
            }
            ImageFormat::Other(other) => bail!(
                "{shown} is an image in QEMU's format `{other}`; `qemu-img convert -p -f {other} -O qcow2` makes one that \
                 vfio-run uses, and `--format raw` shows the guest these very bytes"
            ),
            ImageFormat::Unsure => bail!(
                "{shown} has the header of a qcow2 image, but its name does not end in .qcow2; use `--format qcow2` if you \
                 made it so, `--format raw` if a guest may have done it"
            ),
        },
    };
    if format == DiskFormat::Qcow2 && fact.format == Some(DiskFormat::Raw) {
        bail!("{shown} is no qcow2 image");
    }
    let read_only = args.read_only;
    Ok(LateDisk { file, format, read_only, serial: args.serial.clone(), guest_port: None })
}

/// Fails if a file is plainly no disk's image: the guest would write over it.
fn refuse_other(file: &Path, fact: &FileFact) -> Result<()> {
    // What cannot be read is the launcher's to tell.
    if let (Some(FileKind::File), Ok(open)) = (fact.kind, trusted::open(file, OpenOptions::new().read(true), 0))
        && let Some(what) = what_else(&start_of(&open)?)
    {
        bail!("{} is {what}, and no disk's image; `--format raw` shows the guest these very bytes", file.display());
    }
    Ok(())
}

/// The image of a CD.
pub fn medium(file: &Path) -> Result<PathBuf> {
    let (file, fact) = look(file)?;
    if fact.kind != Some(FileKind::File) {
        bail!("{} is no file with the image of a CD", file.display());
    }
    Ok(file)
}

/// A path that also the launcher understands, and what is there.
fn look(file: &Path) -> Result<(PathBuf, FileFact)> {
    let file = absolute(file)?;
    let wanted = Wanted { files: vec![file.clone()], ..Wanted::default() };
    let fact = Host::read(&planned::root(), &wanted).files.remove(&file).unwrap_or_default();
    if fact.kind.is_none() {
        // In a folder that this user may not enter, say, nobody knows whether it is there.
        if let Err(error) = file.try_exists() {
            bail!("cannot look at {}: {error}", file.display());
        }
        let near = fact.near.map_or_else(String::new, |near| format!("; did you mean {}?", near.display()));
        bail!("{} does not exist{near}", file.display());
    }
    Ok((file, fact))
}

/// The path from the root on.
pub fn absolute(file: &Path) -> Result<PathBuf> {
    std::path::absolute(file).with_context(|| format!("cannot tell where {} is", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_looked_at_is_not_said_to_be_missing_and_a_text_is_no_disk() {
        let folder = tempfile::tempdir().unwrap();
        let args = |format| DiskArgs { format, read_only: false, serial: None };
        let error = |name: &str| disk(&folder.path().join(name), &args(None)).unwrap_err().to_string();
        std::fs::write(folder.path().join("notes"), "a list\n").unwrap();
        assert!(error("a.raw").contains("a.raw does not exist"), "{}", error("a.raw"));
        assert!(error("notes/a.raw").starts_with("cannot look at "), "{}", error("notes/a.raw"));
        assert!(error("notes").contains("is a text, and no disk's image; `--format raw`"), "{}", error("notes"));
        assert!(disk(&folder.path().join("notes"), &args(Some(DiskFormat::Raw))).is_ok());
        std::fs::write(folder.path().join("image"), [0; 512]).unwrap();
        assert!(disk(&folder.path().join("image"), &args(None)).is_ok());
    }
}
