//! The first program of a lab host: mounts the root disk, lays the lab's own files over it, hands over to init.
//!
//! The files under `l1/` go in here and not into the root disk, so a change to one costs a second, not a minute.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::compile::{Kind, compile};
use super::cpio::Archive;
use super::{Release, modules, sources};
use crate::kit::cache::{self, Entry, Key};

/// What the root disk needs; ext4 asks for the checksum without saying so in its dependencies.
const MODULES: &[&str] = &["virtio_pci", "virtio_blk", "crc32c_generic", "ext4"];

/// Files of `l1/` that are laid over the root file system: name here, path there, permissions.
const LAID_OVER: &[(&str, &str, u32)] = &[
    ("agent", "usr/local/lib/lab/agent", 0o755),
    ("plain-init", "usr/local/lib/lab/plain-init", 0o755),
    ("lab-agent.service", "etc/systemd/system/lab-agent.service", 0o644),
    ("lab.mount", "etc/systemd/system/lab.mount", 0o644),
    ("weston.service", "etc/systemd/system/weston.service", 0o644),
    ("weston.pam", "etc/pam.d/weston", 0o644),
    ("journald.conf", "etc/systemd/journald.conf.d/lab.conf", 0o644),
    ("modprobe.conf", "etc/modprobe.d/lab.conf", 0o644),
    ("udev-trigger.conf", "etc/systemd/system/systemd-udev-trigger.service.d/lab.conf", 0o644),
];

/// Programs that are compiled from `l1/` and laid over: name here, path there.
const COMPILED: &[(&str, &str)] =
    &[("host-state.rs", "usr/local/lib/lab/host-state"), ("kvm-keeper.c", "usr/local/lib/lab/kvm-keeper")];

/// Links that are laid over: path, target. They enable the lab's own units.
const LINKS: &[(&str, &str)] = &[
    ("etc/systemd/system/sysinit.target.wants/lab-agent.service", "../lab-agent.service"),
    ("etc/systemd/system/local-fs.target.wants/lab.mount", "../lab.mount"),
    ("usr/local/bin/vfio-run", "/lab/bin/vfio-run"),
];

/// Units that are masked: timers that would start work of their own while a test compares what the host looked like, and
/// what an emulated boot spends seconds on and no test looks at. A unit takes one program or more, each a second.
///
/// `modprobe@drm.service` stays: systemd asks the kernel what `char-drm` is when logind starts, and a logind without
/// it is never let near a card.
const MASKED: &[&str] = &[
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "dev-mqueue.mount",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "irqbalance.service",
    "modprobe@configfs.service",
    "modprobe@dm_mod.service",
    "modprobe@efi_pstore.service",
    "modprobe@fuse.service",
    "modprobe@loop.service",
    // Mounts on the first look, which comparing sysctls is.
    "proc-sys-fs-binfmt_misc.automount",
    "run-lock.mount",
    "sys-fs-fuse-connections.mount",
    "sys-kernel-config.mount",
    "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount",
    "systemd-journal-flush.service",
    "systemd-modules-load.service",
    "systemd-pstore.service",
    "systemd-random-seed.service",
    "systemd-remount-fs.service",
    "systemd-sysctl.service",
    "systemd-tmpfiles-clean.timer",
    "systemd-tmpfiles-setup-dev-early.service",
    "systemd-udev-load-credentials.service",
    "systemd-update-utmp.service",
];

/// The same for systemd's generators; that for gettys would put one on the serial console.
const NOT_GENERATED: &[&str] = &[
    "systemd-bless-boot-generator",
    "systemd-cryptsetup-generator",
    "systemd-debug-generator",
    "systemd-fstab-generator",
    "systemd-getty-generator",
    "systemd-gpt-auto-generator",
    "systemd-hibernate-resume-generator",
    "systemd-integritysetup-generator",
    "systemd-rc-local-generator",
    "systemd-run-generator",
    "systemd-ssh-generator",
    "systemd-system-update-generator",
    "systemd-sysv-generator",
    "systemd-tpm2-generator",
    "systemd-veritysetup-generator",
];

fn links() -> impl Iterator<Item = (String, &'static str)> {
    let links = LINKS.iter().map(|(path, target)| ((*path).to_owned(), *target));
    let masked = MASKED.iter().map(|unit| (format!("etc/systemd/system/{unit}"), "/dev/null"));
    let not_generated = NOT_GENERATED.iter().map(|name| (format!("etc/systemd/system-generators/{name}"), "/dev/null"));
    links.chain(masked).chain(not_generated)
}

/// The initramfs of a release: `initramfs`.
pub fn get(release: Release, system: &Entry) -> Result<Entry> {
    let mut key = Key::new("initramfs 1").with(system.name());
    key = key.with(read("init")?);
    for (name, path, permissions) in LAID_OVER {
        key = key.with(read(name)?).with(path).with(permissions.to_string());
    }
    for (name, path) in COMPILED {
        key = key.with(read(name)?).with(path);
    }
    key = key.with(format!("{:?} {MODULES:?}", links().collect::<Vec<_>>()));
    cache::entry("initramfs", release.name(), &key, |folder| {
        let mut archive = Archive::default();
        for path in ["proc", "sys", "dev", "new", "over"] {
            archive.folder(path);
        }
        archive.file("init", 0o755, &read("init")?);
        archive.file("bin/busybox", 0o755, &fs::read(system.file("busybox"))?);
        let mut order = String::new();
        for module in modules::collect(&system.file("modules"), MODULES)? {
            order.push_str(&module.name);
            order.push('\n');
            archive.file(&format!("modules/{}", module.name), 0o644, &module.contents);
        }
        archive.file("modules/order", 0o644, order.as_bytes());
        for (name, path, permissions) in LAID_OVER {
            archive.file(&format!("over/{path}"), *permissions, &read(name)?);
        }
        for (name, path) in COMPILED {
            let program = folder.join("program");
            compile(Kind::Program, &source(name), &program)?;
            archive.file(&format!("over/{path}"), 0o755, &fs::read(&program)?);
            fs::remove_file(&program)?;
        }
        for (path, target) in links() {
            archive.link(&format!("over/{path}"), target);
        }
        archive.folder("over/lab");
        fs::write(folder.join("initramfs"), archive.finish())?;
        Ok(())
    })
}

fn source(name: &str) -> PathBuf {
    sources().join("l1").join(name)
}

fn read(name: &str) -> Result<Vec<u8>> {
    let path = source(name);
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}
