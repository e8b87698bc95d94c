//! A share by virtiofsd, a program beside QEMU: the one in Rust, or QEMU's own in C, which QEMU had until 8.0.

use super::folder::{self, Server};
use crate::host::{FileFact, Virtiofsd};
use crate::machine::{Share, ShareOwner};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{Draft, text};
use crate::plan::{Account, Helper, HelperAccount, HelperDescriptor, HelperEnd, Inherited};
use crate::qemu::Role;
use crate::qemu::command::QemuOption;
use crate::qemu::device::Device;

/// Number of its listening socket in virtiofsd.
const HELPER_FD: i32 = 3;
/// More requests that wait cost nothing and keep a quick disk busy; virtiofsd takes at most 1024.
const QUEUE: u32 = 1024;
/// What a guest could turn against the host: device nodes, and files with capabilities.
const CAPABILITIES: &str = "-mknod:-setfcap";
const INSTALL: &str = "install virtiofsd (Debian 13, Fedora, Arch: package `virtiofsd`)";

/// Whether it is the one in Rust.
fn is_rust(virtiofsd: &Virtiofsd) -> bool {
    virtiofsd.has("--shared-dir")
}

/// Whether it can have the guest's files belong to one user.
fn translates(virtiofsd: &Virtiofsd) -> bool {
    virtiofsd.has("--translate-uid") && virtiofsd.has("--translate-gid")
}

/// Why virtiofsd cannot serve a share, with what to do about it; `None` if it can.
pub(super) fn hindrance(draft: &Draft, share: &Share) -> Option<(String, &'static str)> {
    let Some(virtiofsd) = &draft.host.virtiofsd else {
        return Some(("virtiofsd is not installed".to_owned(), INSTALL));
    };
    let shown = virtiofsd.program.display();
    match () {
        () if virtiofsd.options.is_empty() => Some((format!("{shown} did not say what it can do"), INSTALL)),
        () if !virtiofsd.has("--fd") => Some((format!("{shown} takes no socket (`--fd`)"), INSTALL)),
        () if !is_rust(virtiofsd) && draft.host.process.uid != 0 => {
            Some((format!("{shown}, QEMU's own of before 8.0, serves only root"), INSTALL))
        }
        () if share.read_only && !virtiofsd.has("--readonly") => {
            Some((format!("{shown} cannot share a folder for reading only"), INSTALL))
        }
        () => None,
    }
}

/// That virtiofsd is there.
pub(super) fn program(draft: &mut Draft) {
    let Some(virtiofsd) = &draft.host.virtiofsd else {
        // What each share lacks is said beside it.
        return;
    };
    let detail = format!("virtiofsd is {}", virtiofsd.program.display());
    draft.yes("shares.virtiofsd", Hard, detail);
}

/// virtiofsd and the device of a share.
pub(super) fn write(draft: &mut Draft, index: usize, share: &Share, file: Option<&FileFact>) {
    let field = format!("shares[{index}]");
    if let Some((why, remedy)) = hindrance(draft, share) {
        let detail = format!("{why}, so `{}` cannot be shared by virtiofs", share.tag);
        draft.no(&format!("share.{}.kind", share.tag), Hard, detail, remedy);
        draft.about(&field);
    }
    let virtiofsd = draft.host.virtiofsd.clone().unwrap_or_default();
    let served = serve(draft, &field, share, file, &virtiofsd);
    if let Some(file) = file {
        folder::access(draft, index, share, file, &served.server);
    }
    let origin = draft.file(&field);
    let name = format!("virtiofsd-{}", share.tag);
    draft.helpers.push(Helper {
        name: name.clone(),
        argv: argv(&virtiofsd, share, &served),
        inherits: vec![HelperDescriptor { fd: HELPER_FD, what: HelperEnd::Listening }],
        account: served.account,
        origin: origin.clone(),
    });
    let (id, fd) = (format!("share{index}"), draft.inherit(Inherited::Helper(name)));
    let chardev = QemuOption::keys("-chardev", Some("socket"), origin.clone()).with("id", &id);
    draft.push(chardev.with("fd", fd.to_string()).with_role(Role::Helper));
    let shared = Device::new("vhost-user-fs-pci", &id).with("chardev", id.as_str()).with("tag", &*share.tag);
    draft.pcie_device(shared.with("queue-size", QUEUE), origin);
}

/// How virtiofsd runs for a share.
struct Served {
    account: HelperAccount,
    server: Server,
    /// Its sandbox: `namespace` or `none`.
    sandbox: &'static str,
    /// The user and group to whom all belongs that the guest makes.
    squash: Option<(u32, u32)>,
}

/// Decides who serves a share. The owner of the folder himself is best: then the kernel sees to it that the guest can do no
/// more there than he can. For that virtiofsd needs user namespaces to have its sandbox in; else root's virtiofsd has it.
fn serve(draft: &mut Draft, field: &str, share: &Share, file: Option<&FileFact>, virtiofsd: &Virtiofsd) -> Served {
    let process = &draft.host.process;
    let (uid, gid) = (process.uid, process.gid);
    let namespaces = virtiofsd.user_namespaces;
    if uid != 0 {
        let sandbox = if namespaces == Some(false) { "none" } else { "namespace" };
        if sandbox == "none" {
            let detail =
                format!("this host has no user namespaces, so virtiofsd for `{}` is not in a sandbox", share.tag);
            draft.no(&format!("share.{}.sandbox", share.tag), Soft, detail, "start as root, or allow user namespaces");
        }
        let server = Server { uid, gid, groups: None };
        return Served { account: HelperAccount::Qemu, server, sandbox, squash: Some((uid, gid)) };
    }
    let root = |squash| Served {
        account: HelperAccount::Launcher,
        server: Server { uid: 0, gid: 0, groups: None },
        sandbox: "namespace",
        squash,
    };
    let owner = file.map(|file| (file.uid, if file.gid == 0 { file.uid } else { file.gid }));
    match (share.owner, owner) {
        (ShareOwner::Guest, _) | (_, None) => root(None),
        (ShareOwner::Folder, Some((0, _))) => root(Some((0, 0))),
        (ShareOwner::Folder, Some((uid, gid))) => {
            if !translates(virtiofsd) {
                let detail = format!(
                    "{} gives the files that the guest makes in `{}` the guest's own numbers of users, root's among them",
                    virtiofsd.program.display(),
                    share.tag
                );
                let remedy = format!("{INSTALL}, or write `owner: Guest` in `shares`");
                draft.no(&format!("share.{}.owner", share.tag), Soft, detail, &remedy);
                draft.about(field);
                return root(None);
            }
            let reaches = file.and_then(|file| file.closed_folder.as_ref()).is_none_or(|(_, owner)| *owner == uid);
            if namespaces != Some(true) || !reaches {
                return root(Some((uid, gid)));
            }
            let account = HelperAccount::Other(Account { uid, gid, groups: Vec::new() });
            let server = Server { uid, gid, groups: Some(Vec::new()) };
            Served { account, server, sandbox: "namespace", squash: Some((uid, gid)) }
        }
    }
}

/// Its arguments.
fn argv(virtiofsd: &Virtiofsd, share: &Share, served: &Served) -> Vec<String> {
    let mut argv = vec![text(&virtiofsd.program)];
    let (folder, root) = (text(&share.folder), served.server.uid == 0);
    if !is_rust(virtiofsd) {
        // Its list of options is split at commas, and a backslash takes what follows as it is (fuse_opt.c of libfuse).
        let folder = folder.replace('\\', "\\\\").replace(',', "\\,");
        argv.extend(["-f".to_owned(), format!("--fd={HELPER_FD}"), "-o".to_owned(), format!("source={folder}")]);
        argv.extend(["-o".to_owned(), "sandbox=namespace".to_owned()]);
        argv.extend(["-o".to_owned(), format!("modcaps={CAPABILITIES}")]);
        return argv;
    }
    argv.extend([
        format!("--fd={HELPER_FD}"),
        format!("--shared-dir={folder}"),
        format!("--sandbox={}", served.sandbox),
    ]);
    if let Some((uid, gid)) = served.squash.filter(|_| translates(virtiofsd)) {
        // All numbers but the last, which stands for none.
        argv.push(format!("--translate-uid=squash-guest:0:{uid}:{}", u32::MAX));
        argv.push(format!("--translate-gid=squash-guest:0:{gid}:{}", u32::MAX));
    }
    if root && virtiofsd.has("--modcaps") {
        argv.push(format!("--modcaps={CAPABILITIES}"));
    }
    if share.read_only {
        argv.push("--readonly".to_owned());
    }
    argv
}
