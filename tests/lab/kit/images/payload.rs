//! The payload disk: the program under test, what makes it fail, and the L2 guests, mounted at `/lab` in the host.
//!
//! It is a disk of its own, of a fixed size, that is not mounted when a template is made. So a template serves every
//! build of the program, and a new build costs one `mke2fs`.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::compile::{Kind, compile};
use super::{Release, guests, kernel, sources};
use crate::kit::cache::{self, Entry, Key};
use crate::kit::tools;

/// Environment variable that names another build of the program to test.
pub const VARIABLE: &str = "VFIO_RUN_BIN";

/// The same for every payload: a template remembers the size of its disks.
const SIZE: &str = "192M";

/// Written into the file system, so that the same contents give the same disk.
const FS_ID: &str = "6c616270-6179-6c6f-6164-000000000001";

/// The program under test.
pub fn program() -> PathBuf {
    std::env::var_os(VARIABLE).map_or_else(|| env!("CARGO_BIN_EXE_vfio-run").into(), PathBuf::from)
}

/// The payload disk for a release: `payload.raw`, with `bin/vfio-run`, `bin/faults.so`, `guests/tiny`,
/// `guests/vmlinux` and `guests/initramfs`.
pub fn get(release: Release, system: &Entry) -> Result<Entry> {
    let program = program();
    let guests = guests(release, system)?;
    let faults = sources().join("faults/faults.c");
    let key = Key::new("payload 1").with(guests.name()).with(SIZE).with_file_stamp(&program)?;
    let key = key.with(fs::read(&faults).with_context(|| format!("cannot read {}", faults.display()))?);
    cache::entry("payload", release.name(), &key, |folder| {
        let tree = folder.join("tree");
        fs::create_dir_all(tree.join("bin"))?;
        fs::create_dir_all(tree.join("guests"))?;
        // Line tables make a debug build ten times as large as its code.
        let stripped = tree.join("bin/vfio-run");
        tools::run("objcopy", ["--strip-debug".as_ref(), program.as_os_str(), stripped.as_os_str()])?;
        compile(Kind::Preload, &faults, &tree.join("bin/faults.so"))?;
        for name in ["tiny", "vmlinux", "initramfs"] {
            let to = tree.join("guests").join(name);
            fs::copy(guests.file(name), &to).with_context(|| format!("cannot copy {name}"))?;
        }
        let disk = folder.join("payload.raw");
        let fixed = ["-q", "-t", "ext4", "-O", "^metadata_csum,^has_journal", "-L", "lab-payload", "-U", FS_ID];
        let mut args: Vec<std::ffi::OsString> = fixed.iter().map(Into::into).collect();
        args.extend(["-E".into(), "root_owner=0:0".into(), "-d".into(), tree.clone().into()]);
        args.extend([disk.into(), SIZE.into()]);
        tools::run("mke2fs", args)?;
        fs::remove_dir_all(&tree)?;
        Ok(())
    })
}

/// The guests, which change far less often than the program.
fn guests(release: Release, system: &Entry) -> Result<Entry> {
    let key = guests::add_to(Key::new("guests 2").with(system.name()))?;
    cache::entry("guests", release.name(), &key, |folder| {
        guests::build_tiny(&folder.join("tiny"))?;
        guests::build_linux(system, &folder.join("initramfs"))?;
        fs::copy(kernel::get(release, system)?.file("vmlinux"), folder.join("vmlinux"))?;
        Ok(())
    })
}
