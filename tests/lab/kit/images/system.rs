//! The Debian system of a lab host: a root disk image, its kernel and its modules.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::unistd::Uid;

use super::Release;
use crate::kit::cache::{self, Entry, Key};
use crate::kit::tools;

/// Packages of every host.
const PACKAGES: &[&str] = &[
    "linux-image-amd64",
    // An ordinary machine: init, sessions, devices.
    "systemd",
    "systemd-sysv",
    "udev",
    "dbus",
    "libpam-systemd",
    "kmod",
    "kbd",
    "util-linux",
    "procps",
    "psmisc",
    "iproute2",
    // The network that machines share.
    "dnsmasq-base",
    "nftables",
    "pciutils",
    "usbutils",
    // What vfio-run works with.
    "qemu-system-x86",
    "seabios",
    "ovmf",
    "swtpm",
    // Confines QEMU and swtpm, in the hosts whose kernel is told to.
    "apparmor",
    // Moves interrupts, which a machine may want elsewhere; it runs in the tests that start it.
    "irqbalance",
    // What tests look with; busybox is the L2 Linux guest too.
    "busybox-static",
    "e2fsprogs",
    "socat",
    "strace",
];

/// Only in Debian 13. Debian 12 has virtiofsd inside `qemu-system-common` and a passt too old for QEMU's stream netdev;
/// weston is the largest of all (some 400 MB with Mesa and LLVM), so one release is enough.
const PACKAGES_13: &[&str] = &["virtiofsd", "passt", "weston"];

/// Size of the root disk. The file is sparse.
const DISK: &str = "3G";

/// Not wanted in the image: nobody reads manuals there.
const LEFT_OUT: &[&str] = &["/usr/share/doc/*", "/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*"];

/// The system of a release: `root.raw`, `vmlinuz`, `modules/` (with `modules.dep`), `busybox`.
///
/// # Errors
/// When a tool is missing or Debian's archive cannot be reached.
pub fn get(release: Release) -> Result<Entry> {
    let mut key = Key::new("system 2").with(release.suite()).with(DISK);
    for package in packages(release) {
        key = key.with(package);
    }
    for pattern in LEFT_OUT {
        key = key.with(pattern);
    }
    cache::entry("system", release.name(), &key, |folder| build(release, folder))
}

fn packages(release: Release) -> impl Iterator<Item = &'static str> {
    let more: &[&str] = match release {
        Release::Debian12 => &[],
        Release::Debian13 => PACKAGES_13,
    };
    PACKAGES.iter().chain(more).copied()
}

fn build(release: Release, folder: &Path) -> Result<()> {
    let root = folder.join("root");
    // Without root, fakeroot remembers who owns what between unpacking and packing.
    let owners = folder.join("owners");
    if Uid::effective().is_root() {
        bootstrap(release, "directory", &root)?;
    } else {
        let tar = folder.join("root.tar");
        bootstrap(release, "tar", &tar)?;
        fs::create_dir(&root)?;
        as_owner(&owners, "tar", &["-C".as_ref(), root.as_os_str(), "-xf".as_ref(), tar.as_os_str()])?;
        fs::remove_file(&tar)?;
    }
    take_kernel(&root, folder)?;
    eprintln!("  root disk");
    let disk = folder.join("root.raw");
    // Without checksums the initramfs needs no modules for them.
    let format = ["-q", "-t", "ext4", "-O", "^metadata_csum", "-L", "lab-root", "-d"].map(OsStr::new);
    let mut args = format.to_vec();
    args.extend([root.as_os_str(), disk.as_os_str(), OsStr::new(DISK)]);
    as_owner(&owners, "mke2fs", &args)?;
    tools::run("chmod", ["-R".as_ref(), "u+rwX".as_ref(), root.as_os_str()])?;
    fs::remove_dir_all(&root)?;
    Ok(())
}

/// Runs mmdebstrap, showing what it is at: it is the one step that takes a minute.
fn bootstrap(release: Release, format: &str, into: &Path) -> Result<()> {
    let mut command = Command::new("mmdebstrap");
    // The kernel package would make an initramfs of its own, which takes half the time and is never booted.
    command.env("INITRD", "No");
    command.arg("--variant=minbase").arg(format!("--format={format}"));
    // Nobody loses an image that was half made when the power failed.
    command.arg("--dpkgopt=force-unsafe-io");
    for pattern in LEFT_OUT {
        command.arg(format!("--dpkgopt=path-exclude={pattern}"));
    }
    command.arg(format!("--include={}", packages(release).collect::<Vec<_>>().join(",")));
    command.arg(release.suite()).arg(into).stdin(Stdio::null());
    let status = command.status().context("cannot start `mmdebstrap` (Debian package `mmdebstrap`)")?;
    if !status.success() {
        bail!("mmdebstrap {} ended with {status}", release.suite());
    }
    Ok(())
}

/// Runs a tool that must see and write files as their real owners.
fn as_owner(owners: &Path, program: &str, args: &[&OsStr]) -> Result<()> {
    if Uid::effective().is_root() {
        tools::run(program, args)?;
        return Ok(());
    }
    let mut all: Vec<&OsStr> = vec![OsStr::new("-s"), owners.as_os_str()];
    if owners.exists() {
        all.extend([OsStr::new("-i"), owners.as_os_str()]);
    }
    all.extend([OsStr::new("--"), OsStr::new(program)]);
    all.extend(args);
    tools::run("fakeroot", all).context("without root the lab needs the Debian package `fakeroot`")?;
    Ok(())
}

/// Copies out what the lab boots L1 with and what the initramfs is made from.
fn take_kernel(root: &Path, folder: &Path) -> Result<()> {
    let versions = root.join("usr/lib/modules");
    let version = fs::read_dir(&versions)?.next().context("the system has no kernel modules")??.file_name();
    let kernel = root.join("boot").join(format!("vmlinuz-{}", version.to_string_lossy()));
    fs::copy(&kernel, folder.join("vmlinuz"))?;
    fs::copy(root.join("usr/bin/busybox"), folder.join("busybox"))?;
    tools::run("cp", ["-r".as_ref(), versions.join(&version).as_os_str(), folder.join("modules").as_os_str()])?;
    Ok(())
}
