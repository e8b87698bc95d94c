//! What the scripts know of distributions, tried with their /etc/os-release.

use std::path::Path;
use std::process::{Command, Output};

/// Runs shell words after scripts/lib.sh, on a host with this os-release.
fn on(os_release: &str, words: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("os-release");
    std::fs::write(&file, os_release).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let script = format!("set -euo pipefail; root=$PWD; . scripts/lib.sh; {words}");
    let mut bash = Command::new("bash");
    bash.args(["-c", &script])
        .current_dir(root)
        .env("VFIO_RUN_OS_RELEASE", &file)
        .env("NEED_PROGRAMS", "no-such-program");
    bash.output().unwrap()
}

#[test]
fn what_is_missing_is_named_as_the_distribution_names_it() {
    let need = "need qemu-system-x86 busybox-static xz-utils libc6-dev";
    for (os_release, install) in [
        ("ID=arch\n", "pacman -S --needed qemu-system-x86 busybox xz glibc"),
        ("ID=manjaro\nID_LIKE=arch\n", "pacman -S --needed qemu-system-x86 busybox xz glibc"),
        ("ID=fedora\nVERSION_ID=42\n", "dnf install qemu-system-x86 busybox xz glibc-devel"),
        ("ID=\"centos\"\nID_LIKE=\"rhel fedora\"\n", "dnf install qemu-system-x86 busybox xz glibc-devel"),
        (
            "ID=nixos\n",
            "with your package manager, what Debian calls qemu-system-x86 busybox-static xz-utils libc6-dev",
        ),
    ] {
        let output = on(os_release, need);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{os_release}: {said}");
        assert!(said.ends_with(&format!("no-such-program is missing; install: {install}\n")), "{os_release}: {said}");
    }
}

#[test]
fn the_kernel_of_the_demo_has_each_distributions_name() {
    for (os_release, kernel) in [
        ("ID=debian\n", "linux-image-amd64"),
        ("ID=ubuntu\nID_LIKE=debian\n", "linux-image-virtual"),
        ("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n", "linux-image-virtual"),
        ("ID=arch\n", "linux"),
        ("ID=fedora\n", "kernel-core"),
    ] {
        let output = on(os_release, "name_here linux-image-amd64");
        assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), kernel, "{os_release}");
    }
}
