//! Files that the launcher has before the host is changed, so that QEMU's account needs no right to them: those that it opens
//! for QEMU, and files in memory that it fills (`/proc/self/fd/N`), so that no secret stands in a list of arguments.

mod not_yet;
mod smbios;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use nix::unistd::{Gid, Uid, fchown};
use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, memfd_create};

use crate::host::{Root, acpi};
use crate::machine::AppleSmc;
use crate::plan::{Access, Account, Content, Descriptor, Inherited, Opened, Plan};
use crate::trusted;

pub use not_yet::make_before_first_start;

/// More than a line that anybody types.
const MAX_PASSWORD: usize = 4096;
/// More than a chain of certificates has.
const MAX_PEM: usize = 1 << 20;

/// A battery and a mains adapter, from `battery.asl`.
const BATTERY: &[u8] = include_bytes!("contents/battery.aml");

/// The files, each with the number that it has in QEMU; the guest's memory is one of them.
pub type Contents = Vec<(i32, OwnedFd)>;

/// Makes those of a plan.
pub fn make(root: &Root, plan: &Plan) -> Result<Contents> {
    fill(root, &plan.descriptors, plan.account.as_ref())
}

fn fill(root: &Root, descriptors: &[Descriptor], account: Option<&Account>) -> Result<Contents> {
    let mut made = Contents::new();
    for Descriptor { fd, what } in descriptors {
        match what {
            Inherited::Content(content) => made.push((*fd, sealed(&mut &*bytes(root, content)?, account)?)),
            Inherited::Copy(path) => made.push((*fd, copy(root, path, account)?)),
            Inherited::File(opened) => made.push((*fd, open(root, opened)?.into())),
            _ => {}
        }
    }
    Ok(made)
}

/// Opens a file for QEMU, which shares its description: the locks that one QEMU has taken on it are those of the next too, and
/// go with the last descriptor.
fn open(root: &Root, Opened { path, access, direct }: &Opened) -> Result<File> {
    let full = root.path(path);
    let mut options = OpenOptions::new();
    match access {
        Access::Read => options.read(true),
        Access::Write => options.read(true).write(true),
        Access::Append => options.append(true),
    };
    let flags = if *direct { libc::O_DIRECT } else { 0 };
    let opened = match trusted::open(&full, &options, flags) {
        // As QEMU would make it.
        Err(error)
            if *access == Access::Append
                && error.kind() == ErrorKind::NotFound
                && !nix::unistd::geteuid().is_root() =>
        {
            options.create(true).mode(0o600).open(&full)
        }
        opened => opened,
    };
    opened.with_context(|| format!("cannot open {} for the guest", path.display()))
}

/// Other descriptors of the same files, for another QEMU.
pub(super) fn again(contents: &Contents) -> Result<Contents> {
    contents.iter().map(|(number, fd)| Ok((*number, fd.try_clone()?))).collect()
}

/// A copy of a file. It may be large, so it does not go through the launcher's memory.
fn copy(root: &Root, path: &Path, account: Option<&Account>) -> Result<OwnedFd> {
    let mut file = open(root, &Opened { path: path.to_owned(), access: Access::Read, direct: false })?;
    // A device might have no end.
    ensure!(file.metadata()?.is_file(), "{} is no regular file", path.display());
    sealed(&mut file, account)
}

fn bytes(root: &Root, content: &Content) -> Result<Vec<u8>> {
    match content {
        Content::AcpiTable(path) => {
            acpi::read(root, path).with_context(|| format!("cannot read the ACPI table {}", path.display()))
        }
        Content::Password(path) => {
            let line = root.bytes(path, MAX_PASSWORD).map_err(Into::into).and_then(password);
            line.with_context(|| format!("cannot use the password in {}", path.display()))
        }
        Content::Pem { file, label } => {
            let text = root.bytes(file, MAX_PEM).map_err(Into::into).and_then(|text| pem(text, label));
            text.with_context(|| format!("cannot use {} for TLS", file.display()))
        }
        Content::AppleSmc(path) => apple_smc(root, path),
        Content::Battery => Ok(BATTERY.to_vec()),
        Content::HostSmbios { kind, uuid } => {
            let structure = crate::host::smbios::structure(root, *kind);
            let structure = structure.context("cannot read the host's SMBIOS tables")?;
            Ok(smbios::for_guest(structure, *uuid))
        }
    }
}

/// The password that a file holds: its only line, without its end.
fn password(mut line: Vec<u8>) -> Result<Vec<u8>> {
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    ensure!(!line.is_empty(), "it is empty");
    ensure!(!line.iter().any(u8::is_ascii_control), "it has more than one line, or characters that nobody types");
    Ok(line)
}

/// A file that has a part with such a label in PEM's form.
fn pem(text: Vec<u8>, label: &str) -> Result<Vec<u8>> {
    let lossy = String::from_utf8_lossy(&text);
    let has = lossy
        .lines()
        .any(|line| line.starts_with("-----BEGIN ") && line.trim_end().ends_with(&format!("{label}-----")));
    ensure!(has, "it has no {label} in PEM's form");
    Ok(text)
}

/// A configuration file of QEMU's; it has no way to quote a quote.
fn apple_smc(root: &Root, path: &Path) -> Result<Vec<u8>> {
    let key = root.bytes(path, AppleSmc::KEY as usize + 2);
    let key = key.with_context(|| format!("cannot read the key {}", path.display()))?;
    let key = key.trim_ascii_end();
    let plain = key.iter().all(|byte| *byte != b'"' && (*byte == b' ' || byte.is_ascii_graphic()));
    let text = std::str::from_utf8(key).ok().filter(|text| plain && text.len() as u64 == AppleSmc::KEY);
    let text = text.with_context(|| format!("{} is no key of {} characters", path.display(), AppleSmc::KEY))?;
    Ok(format!("[device \"apple-smc0\"]\n  driver = \"{}\"\n  osk = \"{text}\"\n", AppleSmc::DRIVER).into_bytes())
}

/// A file in memory that QEMU's account alone can open, and nobody can change.
fn sealed(from: &mut impl Read, account: Option<&Account>) -> Result<OwnedFd> {
    let mut made = || -> std::io::Result<OwnedFd> {
        let fd = memfd_create("vfio-run-content", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        let mut file = File::from(fd);
        std::io::copy(from, &mut file)?;
        fcntl_add_seals(&file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        fchmod(&file, Mode::RUSR)?;
        if let Some(account) = account {
            fchown(&file, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid)))?;
        }
        Ok(file.into())
    };
    made().context("cannot make a file in memory for QEMU")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::os::fd::AsRawFd as _;
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn open_again(fd: &OwnedFd) -> File {
        File::open(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap()
    }

    #[test]
    fn a_content_can_be_read_from_its_beginning_again_and_never_written() {
        let fd = sealed(&mut &b"secret"[..], None).unwrap();
        for _ in 0..2 {
            let mut text = String::new();
            open_again(&fd).read_to_string(&mut text).unwrap();
            assert_eq!(text, "secret");
        }
        assert_eq!(open_again(&fd).metadata().unwrap().permissions().mode() & 0o777, 0o400);
        let mut file = File::from(fd);
        assert!(file.write_all(b"x").is_err());
        assert!(file.set_len(1).is_err());
    }

    #[test]
    fn a_plans_contents_have_their_numbers_and_what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        std::fs::write(folder.path().join("t.aml"), "table").unwrap();
        let descriptor = |fd, content| Descriptor { fd, what: Inherited::Content(content) };
        let descriptors = [
            Descriptor { fd: 3, what: Inherited::Qmp },
            descriptor(4, Content::AcpiTable("/t.aml".into())),
            descriptor(5, Content::Battery),
        ];
        let made = fill(&root, &descriptors, None).unwrap();
        assert_eq!(made.iter().map(|(number, _)| *number).collect::<Vec<_>>(), [4, 5]);
        let mut text = String::new();
        open_again(&again(&made).unwrap()[0].1).read_to_string(&mut text).unwrap();
        assert_eq!(text, "table");
        let missing = fill(&root, &[descriptor(3, Content::AcpiTable("/no.aml".into()))], None).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the ACPI table /no.aml");
        let missing = fill(&root, &[descriptor(3, Content::HostSmbios { kind: 1, uuid: None })], None).unwrap_err();
        assert_eq!(missing.to_string(), "cannot read the host's SMBIOS tables");
    }

    #[test]
    fn files_are_opened_as_qemu_would_open_them() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        std::fs::write(folder.path().join("disk"), "disk").unwrap();
        let opened = |access| open(&root, &Opened { path: "/disk".into(), access, direct: false });
        opened(Access::Append).unwrap().write_all(b"+").unwrap();
        opened(Access::Write).unwrap().write_all(b"D").unwrap();
        let mut read = opened(Access::Read).unwrap();
        assert!(read.write_all(b"x").is_err());
        let mut text = String::new();
        read.read_to_string(&mut text).unwrap();
        assert_eq!(text, "Disk+");
        let missing = Opened { path: "/no".into(), access: Access::Write, direct: false };
        assert_eq!(open(&root, &missing).unwrap_err().to_string(), "cannot open /no for the guest");
    }

    #[test]
    fn a_file_is_copied_whole_and_what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        std::fs::write(folder.path().join("vmlinuz"), "kernel").unwrap();
        let copied = |path: &str| fill(&root, &[Descriptor { fd: 3, what: Inherited::Copy(path.into()) }], None);
        let mut text = String::new();
        open_again(&copied("/vmlinuz").unwrap()[0].1).read_to_string(&mut text).unwrap();
        assert_eq!(text, "kernel");
        std::os::unix::fs::symlink("/dev/zero", folder.path().join("endless")).unwrap();
        assert_eq!(copied("/endless").unwrap_err().to_string(), "/endless is no regular file");
        assert_eq!(copied("/no").unwrap_err().to_string(), "cannot open /no for the guest");
    }

    #[test]
    fn a_password_is_one_line_without_its_end() {
        let read = |text: &str| password(text.as_bytes().to_vec()).map(|line| String::from_utf8(line).unwrap());
        for text in ["s e c", "s e c\n", "s e c\r\n"] {
            assert_eq!(read(text).unwrap(), "s e c");
        }
        for text in ["", "\n", "a\nb\n", "a\0b", "a\n\n"] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_file_for_tls_has_what_it_is_for() {
        let key = b"-----BEGIN EC PRIVATE KEY-----\r\nAAAA\r\n-----END EC PRIVATE KEY-----\r\n".to_vec();
        assert_eq!(pem(key.clone(), "PRIVATE KEY").unwrap(), key);
        assert_eq!(pem(key, "CERTIFICATE").unwrap_err().to_string(), "it has no CERTIFICATE in PEM's form");
    }

    #[test]
    fn a_key_is_64_characters_that_a_configuration_can_hold() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        let config = |key: &str| {
            std::fs::write(folder.path().join("osk"), key).unwrap();
            bytes(&root, &Content::AppleSmc("/osk".into())).map(|bytes| String::from_utf8(bytes).unwrap())
        };
        let key = "k".repeat(64);
        let expected = format!("[device \"apple-smc0\"]\n  driver = \"isa-applesmc\"\n  osk = \"{key}\"\n");
        for written in [key.clone(), format!("{key}\n"), format!("{key}\r\n")] {
            assert_eq!(config(&written).unwrap(), expected);
        }
        for bad in [&key[1..], &format!("{key}x"), &format!("\"{}", &key[1..]), &format!("\n{}", &key[1..]), ""] {
            assert_eq!(config(bad).unwrap_err().to_string(), "/osk is no key of 64 characters", "{bad}");
        }
    }

    #[test]
    fn the_battery_is_a_whole_table() {
        assert_eq!(&BATTERY[..4], b"SSDT");
        assert_eq!(u32::from_le_bytes(BATTERY[4..8].try_into().unwrap()) as usize, BATTERY.len());
        assert_eq!(BATTERY.iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)), 0);
    }

    #[test]
    #[ignore = "needs iasl (package acpica-tools): scripts/test runs it"]
    fn the_battery_is_what_its_source_says() {
        let folder = tempfile::tempdir().unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/run/starting/contents/battery.asl");
        let out = folder.path().join("battery");
        let compiled = Command::new("iasl").arg("-p").arg(&out).arg(source).output().unwrap();
        assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
        // The header has the compiler's version, and a checksum that depends on it.
        assert_eq!(std::fs::read(out.with_extension("aml")).unwrap()[36..], BATTERY[36..]);
    }
}
