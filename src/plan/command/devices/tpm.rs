//! The TPM: swtpm beside QEMU, joined by a socket pair, its state kept for the machine; or the host's.

use std::path::Path;

use crate::host::{FileKind, TpmState, tpm_state};
use crate::machine::{Guest, Tpm};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{self, Draft};
use crate::plan::process::permission::may_open;
use crate::plan::{Helper, HelperAccount, HelperDescriptor, HelperEnd, Inherited, Keep};
use crate::qemu::Role;
use crate::qemu::command::QemuOption;
use crate::qemu::device::Device;

/// Number of the socket pair's end in swtpm.
const HELPER_FD: i32 = 3;
/// The check of the state that is copied.
const COPIED: &str = "tpm.state";

/// The TPM, if the machine has one.
pub(in crate::plan::command) fn write(draft: &mut Draft) {
    match &draft.machine.tpm {
        Tpm::V2(_) => emulated(draft),
        Tpm::Auto if draft.machine.guest == Guest::Windows11 => emulated(draft),
        Tpm::Passthrough(node) => of_host(draft, node),
        Tpm::Auto | Tpm::None => {}
    }
}

/// The host's, opened by the launcher. QEMU opens it by its number in a set of descriptors, which is all that it takes for a
/// TPM; the node's owner stays who it is.
fn of_host(draft: &mut Draft, node: &Path) {
    check_node(draft, node);
    let origin = draft.file("tpm");
    let fd = draft.inherit(Inherited::Device(node.to_owned())).to_string();
    let set = QemuOption::keys("-add-fd", None, origin.clone()).with("fd", &*fd).with("set", &*fd);
    draft.push(set.with_role(Role::HostDevice));
    let path = format!("{}{fd}", QemuOption::FD_SET);
    let backend =
        QemuOption::keys("-tpmdev", Some("passthrough"), origin.clone()).with("id", "tpm0").with("path", path);
    // Only commands of a TPM 1.2 can be cancelled, by a file that is root's; without it they end by themselves.
    draft.push(backend.with("cancel-path", "/dev/null").with_role(Role::HostDevice));
    // It serves both versions of TPMs.
    draft.device(Device::new("tpm-tis", "tpm-tis0").with("tpmdev", "tpm0"), origin);
}

fn check_node(draft: &mut Draft, node: &Path) {
    const KEY: &str = "tpm.node";
    let shown = node.display();
    let Some(file) = draft.host.files.get(node).cloned() else {
        return draft.unknown(KEY, Hard, format!("vfio-run did not look for {shown}"));
    };
    let emulated = "write `tpm: V2` for one that swtpm emulates";
    let no_tpm = |draft: &mut Draft| {
        draft.no(KEY, Hard, format!("{shown} is no TPM"), &format!("name its node, such as /dev/tpm0, or {emulated}"));
    };
    match (file.kind, may_open(&file, &draft.host.process)) {
        (None, _) => {
            let remedy = format!("switch the TPM on in the firmware's setup, or {emulated}");
            draft.no(KEY, Hard, format!("this host has no TPM at {shown}"), &remedy);
        }
        (Some(FileKind::Character), _) if file.tpm == Some(false) => no_tpm(draft),
        (Some(FileKind::Character), Some(true)) => {
            return draft.yes(
                KEY,
                Hard,
                format!("the guest gets the host's TPM {shown}, which the host is without meanwhile"),
            );
        }
        (Some(FileKind::Character), None) => {
            return draft.unknown(KEY, Hard, format!("whether you can open {shown} depends on your groups"));
        }
        (Some(FileKind::Character), Some(false)) => {
            let detail =
                format!("you cannot open {shown} (owner {}, group {}, mode {:o})", file.uid, file.gid, file.mode);
            draft.no(KEY, Hard, detail, &format!("start as root, or {emulated}"));
        }
        (Some(_), _) => no_tpm(draft),
    }
    draft.about("tpm");
}

fn emulated(draft: &mut Draft) {
    let origin = draft.file_or(matches!(draft.machine.tpm, Tpm::V2(_)), "tpm", "Windows 11 wants a TPM 2.0");
    let program = draft.host.programs.get(Tpm::PROGRAM).cloned();
    match &program {
        Some(program) => draft.yes("tpm.swtpm", Hard, format!("swtpm is {}", program.display())),
        None => {
            let remedy = "install it (Debian, Fedora, Arch: package `swtpm`), or write `tpm: None`";
            draft.no("tpm.swtpm", Hard, "swtpm, which emulates the TPM, is not installed", remedy);
            draft.about("tpm");
        }
    }
    let state = draft.paths.state.join(Tpm::FOLDER);
    if draft.host.swtpm_profile == Some(false) {
        let folders = draft.host.process.state_dir.display().to_string();
        let detail =
            format!("AppArmor confines swtpm, and its profile does not name {folders}, where the TPM's state is kept");
        draft.unknown("tpm.apparmor", Soft, detail);
        let remedy = format!(
            "if swtpm is refused: add `owner {folders}/** rwk,` to /etc/apparmor.d/local/usr.bin.swtpm, then \
             `apparmor_parser -r /etc/apparmor.d/usr.bin.swtpm`"
        );
        draft.remedy(&remedy);
        draft.about("tpm");
    }
    let argv = [
        program.map_or_else(|| Tpm::PROGRAM.to_owned(), |program| draft::text(&program)),
        "socket".to_owned(),
        "--tpm2".to_owned(),
        "--tpmstate".to_owned(),
        format!("dir={},mode=0600", draft::text(&state)),
        "--ctrl".to_owned(),
        format!("type=unixio,clientfd={HELPER_FD}"),
        // It ends with QEMU, even if nobody is left to end it.
        "--terminate".to_owned(),
    ];
    let has_own = check_own(draft, &state);
    draft.keep.push(Keep::Folder(state.clone()));
    if let Some(from) = draft.machine.tpm.state().map(Path::to_owned) {
        if has_own {
            let detail =
                format!("the machine's TPM has a state of its own, so nothing is copied from {}", from.display());
            draft.yes(COPIED, Hard, detail);
        } else {
            check_state(draft, &from);
            draft.keep.push(Keep::TpmState { from, to: state.join(tpm_state::FILE) });
        }
    }
    draft.helpers.push(Helper {
        name: Tpm::PROGRAM.to_owned(),
        argv: argv.to_vec(),
        inherits: vec![HelperDescriptor { fd: HELPER_FD, what: HelperEnd::Connected }],
        account: HelperAccount::Qemu,
        origin: origin.clone(),
    });
    let fd = draft.inherit(Inherited::Helper(Tpm::PROGRAM.to_owned()));
    let chardev = QemuOption::keys("-chardev", Some("socket"), origin.clone()).with("id", "tpm0");
    draft.push(chardev.with("fd", fd.to_string()).with_role(Role::Helper));
    draft
        .push(QemuOption::keys("-tpmdev", Some("emulator"), origin.clone()).with("id", "tpm0").with("chardev", "tpm0"));
    draft.device(Device::new("tpm-crb", "tpm-crb0").with("tpmdev", "tpm0"), origin);
}

/// Whether the machine's TPM has a state of its own, in this folder, which no copy replaces. One that no swtpm takes would
/// leave the guest without a TPM.
fn check_own(draft: &mut Draft, folder: &Path) -> bool {
    const KEY: &str = "tpm.own";
    let state = match draft.host.own_tpm_state.clone() {
        None | Some(TpmState::Missing | TpmState::Empty | TpmState::Old) => return false,
        Some(state) => state,
    };
    let shown = folder.display();
    match &state {
        TpmState::Encrypted | TpmState::Broken(_) => {
            let remedy = if draft.machine.tpm.state().is_some() {
                format!("put a copy of the TPM's state there; or remove {shown}: then the state is copied anew")
            } else {
                format!(
                    "put a copy of the TPM's state there; or remove {shown} for a new TPM (have BitLocker's recovery key at hand)"
                )
            };
            let detail = format!("swtpm cannot use the state of the machine's own TPM in {shown}: {state}");
            draft.no(KEY, Hard, detail, &remedy);
            draft.about("tpm");
        }
        TpmState::Unreadable(why) => {
            draft.unknown(KEY, Hard, format!("whether the machine's own TPM in {shown} can be used: {why}"));
        }
        _ => {}
    }
    true
}

/// Whether the state in the folder `from` can be copied.
fn check_state(draft: &mut Draft, from: &Path) {
    const KEY: &str = COPIED;
    const NEW: &str = "write `tpm: V2` for a new TPM (have BitLocker's recovery key at hand)";
    let shown = from.display();
    let Some(state) = draft.host.tpm_state.clone() else {
        return draft.unknown(KEY, Hard, format!("vfio-run did not look for the TPM's state in {shown}"));
    };
    let remedy = match state {
        TpmState::Usable => {
            return draft.yes(KEY, Hard, format!("the TPM's state in {shown} is copied for the machine, once"));
        }
        TpmState::Missing | TpmState::Empty => {
            format!("name the folder that has it, such as /var/lib/libvirt/swtpm/UUID/tpm2, or {NEW}")
        }
        TpmState::NoFolder => match from.parent() {
            Some(folder) if from.ends_with(tpm_state::FILE) => format!("name its folder: `tpm: V2(state: {folder:?})`"),
            _ => format!("name the folder that has the file {}, or {NEW}", tpm_state::FILE),
        },
        TpmState::Old | TpmState::Encrypted => NEW.to_owned(),
        TpmState::Broken(_) => format!("name a folder with a whole state, such as that of a backup, or {NEW}"),
        TpmState::InUse => {
            format!("end the guest whose TPM it is (`virsh list` names libvirt's, `vfio-run status` ours), or {NEW}")
        }
        TpmState::Unreadable(_) if draft.host.process.uid != 0 => {
            format!("have root copy the folder for you, and name the copy, or {NEW}")
        }
        TpmState::Unreadable(_) => format!("name a folder with files of one owner, or {NEW}"),
    };
    draft.no(KEY, Hard, format!("the TPM's state in {shown} cannot be copied: {state}"), &remedy);
    draft.about("tpm.state");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::FileFact;
    use crate::plan::Verdict;
    use crate::plan::sample::{Shape, host, plan};

    #[test]
    fn a_profile_of_swtpm_that_does_not_know_our_folder_is_named() {
        for (profile, expected) in [(None, None), (Some(true), None), (Some(false), Some(Verdict::Unknown))] {
            let mut host = host(Shape::simple(4, 1));
            host.swtpm_profile = profile;
            let plan = plan("(guest: Other, memory: (size: \"1 GiB\"), tpm: V2())", &host);
            let found = plan.findings.iter().find(|finding| finding.key == "tpm.apparmor");
            assert_eq!(found.map(|finding| finding.ok), expected);
            assert!(found.is_none_or(|finding| finding.remedy.is_some() && !finding.blocks()));
        }
    }

    #[test]
    fn a_state_is_copied_if_it_can_be_and_the_machine_has_none() {
        let all = [
            (Some(TpmState::Usable), Verdict::Yes, "is copied for the machine, once"),
            (None, Verdict::Unknown, "did not look"),
            (Some(TpmState::Missing), Verdict::No, "it does not exist"),
            (Some(TpmState::NoFolder), Verdict::No, "it is no folder"),
            (Some(TpmState::Empty), Verdict::No, "has no state of a TPM 2.0"),
            (Some(TpmState::Old), Verdict::No, "a TPM 1.2"),
            (Some(TpmState::Encrypted), Verdict::No, "is encrypted"),
            (Some(TpmState::InUse), Verdict::No, "a swtpm that runs uses"),
            (Some(TpmState::Broken("it is cut off".to_owned())), Verdict::No, "cut off"),
            (Some(TpmState::Unreadable("permission denied".to_owned())), Verdict::No, "permission denied"),
        ];
        for (state, expected, words) in all {
            for own in [false, true] {
                let mut host = host(Shape::simple(4, 1));
                host.tpm_state = state.clone();
                let to = host.process.state_dir.join("test").join(Tpm::FOLDER).join(tpm_state::FILE);
                host.own_tpm_state = Some(if own { TpmState::Usable } else { TpmState::Missing });
                let plan = plan("(guest: Windows11, memory: (size: \"1 GiB\"), tpm: V2(state: \"/s\"))", &host);
                let found = plan.findings.iter().find(|finding| finding.key == "tpm.state").unwrap();
                let (expected, words) = if own { (Verdict::Yes, "a state of its own") } else { (expected, words) };
                assert!(found.ok == expected && found.detail.contains(words), "{found:?}");
                assert_eq!(found.remedy.is_some(), expected == Verdict::No, "{found:?}");
                // What is not copied is not shown.
                let mut kept = vec![Keep::Folder(to.parent().unwrap().to_owned())];
                kept.extend((!own).then(|| Keep::TpmState { from: "/s".into(), to }));
                assert!(plan.keep.ends_with(&kept), "{:?}", plan.keep);
            }
        }
    }

    #[test]
    fn a_state_of_the_machines_own_that_no_swtpm_takes_is_refused_before_the_guest_finds_out() {
        let cut = || TpmState::Broken("the file is cut off".to_owned());
        for (state, blocks, verdict) in [
            (None, false, None),
            (Some(TpmState::Missing), false, None),
            (Some(TpmState::Empty), false, None),
            (Some(TpmState::Usable), false, None),
            // That of a machine which runs.
            (Some(TpmState::InUse), false, None),
            (Some(TpmState::Unreadable("permission denied".to_owned())), false, Some(Verdict::Unknown)),
            (Some(TpmState::Encrypted), true, Some(Verdict::No)),
            (Some(cut()), true, Some(Verdict::No)),
        ] {
            for tpm in ["tpm: V2()", "tpm: V2(state: \"/s\")", "cpu: (nested: false)"] {
                let mut host = host(Shape::simple(4, 1));
                host.own_tpm_state = state.clone();
                host.tpm_state = Some(TpmState::Usable);
                let plan = plan(&format!("(guest: Windows11, memory: (size: \"1 GiB\"), {tpm})"), &host);
                let found = plan.findings.iter().find(|finding| finding.key == "tpm.own");
                assert_eq!(found.map(|finding| finding.ok), verdict, "{state:?}");
                let folder = host.process.state_dir.join("test/tpm").display().to_string();
                assert!(
                    found.is_none_or(|found| found.blocks() == blocks && found.detail.contains(&folder)),
                    "{found:?}"
                );
                let remedy = found.and_then(|found| found.remedy.as_deref());
                assert_eq!(
                    remedy.is_some_and(|words| words.contains(&format!("remove {folder}"))),
                    blocks,
                    "{remedy:?}"
                );
            }
        }
    }

    #[test]
    fn the_hosts_tpm_is_a_descriptor_in_a_set() {
        for (us, kind, tpm, mode, expected) in [
            (0, Some(FileKind::Character), Some(true), 0o600, Verdict::Yes),
            (0, Some(FileKind::Character), None, 0o600, Verdict::Yes),
            // As /dev/null.
            (0, Some(FileKind::Character), Some(false), 0o666, Verdict::No),
            (1000, Some(FileKind::Character), Some(true), 0o600, Verdict::No),
            (1000, Some(FileKind::Character), Some(true), 0o660, Verdict::Unknown),
            (0, Some(FileKind::File), None, 0o600, Verdict::No),
            (0, None, None, 0, Verdict::No),
        ] {
            let mut host = host(Shape::simple(4, 1));
            (host.process.uid, host.process.gid) = (us, us);
            host.files.insert("/dev/tpm0".into(), FileFact { kind, tpm, mode, gid: 59, ..FileFact::default() });
            let plan = plan("(guest: Windows11, memory: (size: \"1 GiB\"), tpm: Passthrough(\"/dev/tpm0\"))", &host);
            let found = plan.findings.iter().find(|finding| finding.key == "tpm.node").unwrap();
            assert_eq!(found.ok, expected, "{us} {kind:?} {mode:o}");
            let opened = Inherited::Device("/dev/tpm0".into());
            let fd = plan.descriptors.iter().find(|descriptor| descriptor.what == opened).unwrap().fd;
            let argv = plan.command.argv().join(" ");
            let words = format!(
                "-add-fd fd={fd},set={fd} -tpmdev passthrough,id=tpm0,path=/dev/fdset/{fd},cancel-path=/dev/null -device {{\"driver\":\"tpm-tis\""
            );
            assert!(argv.contains(&words) && plan.helpers.is_empty(), "{argv}");
        }
    }
}
