//! Memory that the guest shares with a program of the desktop's user (`ivshmem-plain`): Looking Glass and Scream.

use std::path::{Path, PathBuf};

use crate::change::SharedFile;
use crate::host::{FileFact, FileKind};
use crate::machine::LookingGlass;
use crate::plan::Severity::{self, Hard, Soft};
use crate::plan::draft::{Draft, by_default, text};
use crate::qemu::device::Device;
use crate::units::{Origin, Size};

/// What Scream's driver expects (its `scream-ivshmem.reg`).
const SCREAM: Size = Size::bytes(2 << 20);

/// Both, if the machine has them.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    if let Some(looking_glass) = &draft.machine.looking_glass {
        let size = looking_glass.memory();
        other_guest(draft);
        let path = match kvmfr(draft, size) {
            Some(node) => Some(node),
            None => file(draft, "looking_glass", LookingGlass::FILE.into(), size),
        };
        if let Some(path) = path {
            device(draft, "looking-glass", &path, size, draft.file("looking_glass"));
        }
    }
    if draft.machine.scream
        && let Some(path) = file(draft, "scream", draft.machine.scream_file(), SCREAM)
    {
        device(draft, "scream", &path, SCREAM, draft.file("scream"));
    }
}

/// One guest draws into the memory: a second one of the same user could open it too, and the client would show both.
fn other_guest(draft: &mut Draft) {
    let Some(owner) = draft.host.looking_glass.clone().filter(|owner| *owner != draft.machine.name) else { return };
    let detail = format!("the machine {owner} has the memory of Looking Glass, which one guest draws into");
    let remedy = format!("`vfio-run stop {owner}` ends it, or leave `looking_glass` out of one of them");
    draft.no("looking_glass.free", Hard, detail, &remedy);
    draft.about("looking_glass");
}

/// The device on the root complex, where the Windows drivers look for it.
fn device(draft: &mut Draft, id: &str, path: &Path, size: Size, origin: Origin) {
    let memory = format!("{id}-memory");
    let props = [("mem-path", text(path).into()), ("share", true.into()), ("size", size.as_bytes().into())];
    draft.object("memory-backend-file", &memory, props, origin.clone());
    draft.device(Device::new("ivshmem-plain", id).on("pcie.0").with("memdev", memory), origin);
}

/// What gives both QEMU and the client the right to the node.
const RULE: &str = "a udev rule: `SUBSYSTEM==\"kvmfr\", GROUP=\"kvm\", MODE=\"0660\"`, with your user in that group";

/// Whether a QEMU that has no account of its own may open the node.
fn own_access(draft: &mut Draft, node: &Path, file: &FileFact) {
    let process = &draft.host.process;
    let may = process.uid == 0
        || file.mode & 0o006 == 0o006
        || file.uid == process.uid && file.mode & 0o600 == 0o600
        || file.gid == process.gid && file.mode & 0o060 == 0o060;
    if may {
        return;
    }
    let (shown, group, mode) = (node.display(), file.gid, file.mode);
    if file.mode & 0o060 == 0o060 {
        let detail = format!("whether you may open {shown} depends on your being in its group {group}");
        draft.unknown("looking_glass.access", Hard, detail);
        draft.remedy(RULE);
    } else {
        let detail = format!("you may not open {shown} (user {}, group {group}, mode {mode:o})", file.uid);
        draft.no("looking_glass.access", Hard, detail, RULE);
    }
    draft.about("looking_glass");
}

/// The node of the kernel's module, if it is there: it is used by QEMU and the client, who both need the right to open it.
fn kvmfr(draft: &mut Draft, size: Size) -> Option<PathBuf> {
    const KEY: &str = "looking_glass.kvmfr";
    let node = PathBuf::from(LookingGlass::KVMFR);
    let file = draft.host.files.get(&node)?.clone();
    if file.kind == Some(FileKind::File) {
        // A QEMU that root started without the module has made one.
        let detail = format!("{} is an ordinary file and no device", node.display());
        draft.no(KEY, Soft, detail, "remove it; the module kvmfr makes the device");
        draft.about("looking_glass");
    }
    if file.kind.is_none() && draft.host.kvmfr.is_some() {
        let detail = format!("the module kvmfr is loaded and has made no {}: it was told no size", node.display());
        let remedy = format!(
            "load it with `static_size_mb={}` (`options kvmfr …` in /etc/modprobe.d); without it {} serves",
            size.as_mib(),
            LookingGlass::FILE
        );
        draft.no(KEY, Soft, detail, &remedy);
        draft.about("looking_glass");
    }
    if file.kind != Some(FileKind::Character) {
        return None;
    }
    match draft.host.kvmfr {
        Some(there) if there < size => {
            let detail = format!("the module kvmfr has {there} of memory, and `looking_glass` wants {size}");
            let remedy = format!("load it with `static_size_mb={}`", size.as_mib());
            draft.no(KEY, Hard, detail, &remedy);
            draft.about("looking_glass");
        }
        Some(there) => draft.yes(KEY, Hard, format!("{} has {there} of memory", node.display())),
        None => draft.unknown(KEY, Hard, format!("vfio-run does not know the size of {}", node.display())),
    }
    let group = file.gid;
    match &mut draft.account {
        Some(account) if file.mode & 0o060 == 0o060 && group != 0 => {
            account.groups.retain(|other| *other != group);
            account.groups.push(group);
        }
        Some(account) if file.uid != account.uid && file.mode & 0o006 != 0o006 => {
            let uid = account.uid;
            let detail =
                format!("QEMU's account {uid} may not open {} (group {group}, mode {:o})", node.display(), file.mode);
            draft.no("looking_glass.access", Hard, detail, RULE);
            draft.about("looking_glass");
        }
        None => own_access(draft, &node, &file),
        Some(_) => {}
    }
    Some(node)
}

/// A file in /dev/shm, made for the run, or the one that is there, as the documentation of Looking Glass has it made at boot.
fn file(draft: &mut Draft, field: &str, path: PathBuf, size: Size) -> Option<PathBuf> {
    let key = format!("{field}.memory");
    let us = draft.account.as_ref().map_or((draft.host.process.uid, draft.host.process.gid), |a| (a.uid, a.gid));
    let desktop = draft.host.desktop.as_ref().map(|desktop| (desktop.uid, desktop.gid, desktop.user()));
    let shown = path.display().to_string();
    if let Some(there) = draft.host.files.get(&path).filter(|file| file.kind.is_some()).cloned() {
        let remedy = format!(
            "remove {shown}, which vfio-run makes for each run (also the line in /etc/tmpfiles.d, if there is one)"
        );
        let may = match () {
            () if us.0 == 0 || us.0 == there.uid => there.mode & 0o600 == 0o600 || us.0 == 0,
            () if us.1 == there.gid => there.mode & 0o060 == 0o060,
            () => there.mode & 0o006 == 0o006,
        };
        let (severity, what) = match () {
            () if there.kind != Some(FileKind::File) => (Hard, "is no file".to_owned()),
            () if there.size != size.as_bytes() => (Hard, format!("has {} and not {size}", Size::bytes(there.size))),
            () if !may => (
                Hard,
                format!(
                    "is there already, and QEMU's user {} may not open it (user {}, mode {:o})",
                    us.0, there.uid, there.mode
                ),
            ),
            () => (Severity::Soft, String::new()),
        };
        match severity {
            Hard => {
                draft.no(&key, Hard, format!("{shown} {what}"), &remedy);
                draft.about(field);
            }
            Soft => draft.yes(&key, Hard, format!("{shown} is there and has {size}")),
        }
        return Some(path);
    }
    let gid = match &desktop {
        Some((_, gid, user)) => {
            draft.yes(&key, Hard, format!("{shown} is made for the run, for {user}'s programs: {size}"));
            *gid
        }
        None => {
            let detail = format!("nobody is at a screen of this host, so only root's programs can open {shown}");
            draft.no(&key, Soft, detail, "log in before the start");
            draft.about(field);
            us.1
        }
    };
    let origin = by_default("memory that the guest and a program of the desktop share");
    draft.change(SharedFile { path: path.clone(), size: size.as_bytes(), uid: us.0, gid, mode: 0o660 }, origin);
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::Change;
    use crate::host::desktop::{Found, SoundServerFact};
    use crate::host::{Desktop, Host};
    use crate::plan::sample::{Shape, host, plan};
    use crate::plan::{Plan, Verdict};

    fn root_host() -> Host {
        let mut host = host(Shape::simple(4, 1));
        (host.process.uid, host.process.gid) = (0, 0);
        host.desktop = Some(Desktop {
            uid: 1000,
            gid: 1001,
            name: Some("alice".to_owned()),
            found: Found::Session("3".to_owned()),
            cookie: None,
            pipewire: SoundServerFact::default(),
            pulse: SoundServerFact::default(),
            stays: false,
        });
        host
    }

    fn of(fields: &str, host: &Host) -> Plan {
        plan(&format!("(guest: Windows10, memory: (size: \"1 GiB\"), firmware: Bios, {fields})"), host)
    }

    fn found(plan: &Plan, key: &str) -> (Verdict, String) {
        let found = plan.findings.iter().find(|finding| finding.key == key);
        found.map(|finding| (finding.ok, finding.detail.clone())).unwrap_or_else(|| panic!("{:?}", plan.findings))
    }

    const LOOKING_GLASS: &str = "looking_glass: (width: 1920, height: 1080)";

    #[test]
    fn the_memory_is_made_for_qemu_and_the_group_of_the_desktops_user() {
        let plan = of(&format!("{LOOKING_GLASS}, scream: true"), &root_host());
        let made: Vec<&SharedFile> = plan
            .changes
            .iter()
            .filter_map(|planned| match &planned.change {
                Change::SharedFile(file) => Some(file),
                _ => None,
            })
            .collect();
        let uid = plan.account.as_ref().unwrap().uid;
        let expected =
            SharedFile { path: "/dev/shm/looking-glass".into(), size: 32 << 20, uid, gid: 1001, mode: 0o660 };
        assert_eq!(*made[0], expected);
        assert_eq!((made[1].path.to_str(), made[1].size), (Some("/dev/shm/scream-test"), 2 << 20));
        let words = plan.command.argv().join(" ");
        assert!(words.contains(r#"{"qom-type":"memory-backend-file","id":"looking-glass-memory","mem-path":"/dev/shm/looking-glass","share":true,"size":33554432}"#), "{words}");
        assert!(
            words.contains(r#"{"driver":"ivshmem-plain","id":"scream","bus":"pcie.0","memdev":"scream-memory"}"#),
            "{words}"
        );
    }

    #[test]
    fn a_file_that_is_there_is_used_if_it_fits() {
        let mut host = root_host();
        let there =
            FileFact { kind: Some(FileKind::File), size: 32 << 20, uid: 1000, mode: 0o666, ..FileFact::default() };
        let mut verdict = |file: FileFact| {
            host.files.insert(LookingGlass::FILE.into(), file);
            let plan = of(LOOKING_GLASS, &host);
            assert!(!plan.changes.iter().any(|planned| matches!(planned.change, Change::SharedFile(_))));
            found(&plan, "looking_glass.memory")
        };
        assert_eq!(verdict(there.clone()).0, Verdict::Yes);
        assert_eq!(verdict(FileFact { mode: 0o660, ..there.clone() }).0, Verdict::No);
        let (ok, words) = verdict(FileFact { size: 64 << 20, ..there });
        assert!(ok == Verdict::No && words.contains("has 64 MiB and not 32 MiB"), "{words}");
    }

    #[test]
    fn another_machine_of_the_same_user_has_its_own_picture() {
        let mut host = super::tests::host(Shape::simple(4, 1));
        let there =
            FileFact { kind: Some(FileKind::File), size: 32 << 20, uid: 1000, mode: 0o660, ..FileFact::default() };
        host.files.insert(LookingGlass::FILE.into(), there);
        let free = |host: &Host| of(LOOKING_GLASS, host).findings.into_iter().find(|f| f.key == "looking_glass.free");
        host.looking_glass = Some("other".to_owned());
        let refused = free(&host).unwrap();
        assert!(refused.blocks() && refused.remedy.unwrap().contains("vfio-run stop other"));
        // A run of this machine itself, which `check` sees, is no other.
        host.looking_glass = Some("test".to_owned());
        assert!(free(&host).is_none());
    }

    #[test]
    fn the_module_is_used_if_it_is_loaded_and_large_enough() {
        let mut host = root_host();
        let node = FileFact { kind: Some(FileKind::Character), mode: 0o660, gid: 78, ..FileFact::default() };
        host.files.insert(LookingGlass::KVMFR.into(), node.clone());
        host.kvmfr = Some(Size::bytes(128 << 20));
        let with = of(LOOKING_GLASS, &host);
        assert!(with.command.argv().join(" ").contains(r#""mem-path":"/dev/kvmfr0""#));
        assert_eq!(with.account.as_ref().unwrap().groups, [78]);
        host.kvmfr = Some(Size::bytes(16 << 20));
        assert_eq!(found(&of(LOOKING_GLASS, &host), "looking_glass.kvmfr").0, Verdict::No);
        host.files.insert(LookingGlass::KVMFR.into(), FileFact { mode: 0o600, ..node.clone() });
        assert_eq!(found(&of(LOOKING_GLASS, &host), "looking_glass.access").0, Verdict::No);
        host.files.insert(LookingGlass::KVMFR.into(), FileFact { kind: Some(FileKind::File), ..FileFact::default() });
        assert_eq!(found(&of(LOOKING_GLASS, &host), "looking_glass.kvmfr").0, Verdict::No);
        // Loaded without a size, the module has no device, and the file takes its place.
        host.files.insert(LookingGlass::KVMFR.into(), FileFact::default());
        host.kvmfr = Some(Size::bytes(0));
        let without = of(LOOKING_GLASS, &host);
        assert_eq!(found(&without, "looking_glass.kvmfr").0, Verdict::No);
        assert!(without.command.argv().join(" ").contains(LookingGlass::FILE));
        // A plain user's QEMU has that user's rights.
        let mut host = super::tests::host(Shape::simple(4, 1));
        for (mode, expected) in [(0o660, Some(Verdict::Unknown)), (0o600, Some(Verdict::No)), (0o666, None)] {
            host.files.insert(LookingGlass::KVMFR.into(), FileFact { mode, ..node.clone() });
            let plan = of(LOOKING_GLASS, &host);
            let access = plan.findings.iter().find(|finding| finding.key == "looking_glass.access");
            assert_eq!(access.map(|finding| finding.ok), expected, "{mode:o}");
        }
    }
}
