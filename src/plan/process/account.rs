//! The account that QEMU and its helpers run as, and what must be given to it.

use std::path::Path;

use crate::host::{FileFact, FileKind, ForeignLink};
use crate::plan::draft::Draft;
use crate::plan::process::permission::may_read;
use crate::plan::{Account, Severity};

/// User ids that systemd gives to services for the time that they run (`DynamicUser=`) and that no account has:
/// systemd's UIDS-GIDS.md. One of them is the machine's, always the same.
const DYNAMIC_UIDS: std::ops::RangeInclusive<u32> = 61184..=65519;

/// Chooses the account. Only root can be someone else; for all others it is the user's own.
pub(in crate::plan) fn choose(draft: &mut Draft, kvm: bool) {
    let (process, user) = (&draft.host.process, draft.machine.user.as_deref());
    if process.uid != 0 {
        if let Some(user) = user {
            let number = user.parse().ok().or_else(|| draft.host.accounts.get(user).map(|(uid, _)| *uid));
            if number != Some(process.uid) {
                let detail = format!("`user: {user:?}` has no effect: only root can start QEMU as someone else");
                draft.no("account", Severity::Soft, detail, "start as root, or remove `user`");
                draft.about("user");
            }
        }
        return;
    }
    let groups: Vec<u32> = if kvm { draft.host.kvm.group.into_iter().collect() } else { Vec::new() };
    draft.account = match user {
        Some("root" | "0") => {
            let detail = "QEMU runs as root: a guest that takes it over has the whole host";
            draft.no("account.root", Severity::Soft, detail, "leave `user` out, for a user id of the machine's own");
            draft.about("user");
            None
        }
        None => {
            let span = u128::from(DYNAMIC_UIDS.end() - DYNAMIC_UIDS.start() + 1);
            // Smaller than the span, which fits.
            let offset = (draft.machine.uuid().as_u128() % span) as u32;
            let first = DYNAMIC_UIDS.start() + offset;
            // A service that systemd has given the same one could look into QEMU, and QEMU into it.
            let mut all = (first..=*DYNAMIC_UIDS.end()).chain(DYNAMIC_UIDS);
            let uid = all.find(|uid| !process.dynamic_uids.contains(uid)).unwrap_or(first);
            Some(Account { uid, gid: uid, groups })
        }
        Some(user) => match (draft.host.accounts.get(user), user.parse::<u32>()) {
            (Some((uid, gid)), _) => Some(Account { uid: *uid, gid: *gid, groups }),
            (None, Ok(uid)) => {
                let known = draft.host.accounts.values().find(|(known, _)| *known == uid);
                Some(Account { uid, gid: known.map_or(uid, |(_, gid)| *gid), groups })
            }
            (None, Err(_)) => {
                let detail = format!("there is no account {user:?}");
                draft.no(
                    "account",
                    Severity::Hard,
                    detail,
                    "name an account of this host, a number, or leave `user` out",
                );
                draft.about("user");
                None
            }
        },
    };
}

/// What QEMU does with a file that it opens itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::plan) enum Use {
    /// Reads it: what an image is based on.
    Read,
    /// Reads and writes it.
    Write,
}

/// Checks that the file exists and that QEMU's account can read it. Returns what is known of the file, if it can be used.
/// `key` starts the findings' names, `what` their sentences.
pub(in crate::plan) fn reach(draft: &mut Draft, key: &str, field: &str, what: &str, path: &Path) -> Option<FileFact> {
    let file = exists(draft, key, field, what, path)?;
    if matches!(file.kind, Some(FileKind::File | FileKind::Block | FileKind::Character)) {
        may_open(draft, key, field, what, path, &file, Use::Read);
    }
    Some(file)
}

/// Checks that the file exists and that the launcher, which hands it to QEMU, can open it. Returns what is known of the file.
pub(in crate::plan) fn opened(
    draft: &mut Draft,
    key: &str,
    field: &str,
    what: &str,
    path: &Path,
    usage: Use,
) -> Option<FileFact> {
    let file = exists(draft, key, field, what, path)?;
    let key = format!("{key}.access");
    let (uid, gid) = (draft.host.process.uid, draft.host.process.gid);
    if let Some(ForeignLink { link, by, to }) = file.foreign.as_ref().filter(|_| uid == 0) {
        let detail = format!(
            "the link {}, which belongs to user {by}, leads to {what}, a file of user {to}; root does not follow it",
            link.display()
        );
        let remedy =
            format!("name the file itself in `{field}`, or make the link yours: `chown -h root {}`", link.display());
        draft.no(&key, Severity::Hard, detail, &remedy);
        draft.about(field);
        return Some(file);
    }
    let unwritable = file.unwritable.as_ref().filter(|_| usage == Use::Write);
    if let Some(why) = file.unreadable.as_ref().or(unwritable).filter(|_| uid == 0) {
        let verb = if file.unreadable.is_some() { "read" } else { "write" };
        let detail = format!("not even root can {verb} {what} {}: {why}", path.display());
        let remedy = match verb {
            "read" => "start as the user whose file it is, export the folder with `no_root_squash`, or move the file",
            _ => "mount the file system for writing, `chattr -i` the file, or write `read_only: true`",
        };
        draft.no(&key, Severity::Hard, detail, remedy);
        draft.about(field);
        return Some(file);
    }
    let need = need(usage);
    let allowed = uid == 0 || allows(&file, uid, gid, &[], usage);
    if !allowed && matches!(file.kind, Some(FileKind::File | FileKind::Block | FileKind::Character)) {
        not_ours(draft, &key, field, what, path, &file, need);
    }
    Some(file)
}

/// Checks that the file exists; enough for one that only the launcher reads.
pub(in crate::plan) fn exists(draft: &mut Draft, key: &str, field: &str, what: &str, path: &Path) -> Option<FileFact> {
    let (key, shown) = (format!("{key}.exists"), path.display());
    let Some(file) = draft.host.files.get(path).cloned() else {
        draft.unknown(&key, Severity::Hard, format!("vfio-run did not look for {what} {shown}"));
        return None;
    };
    if file.kind.is_none() {
        let near = file.near.as_ref().map(|near| format!("; did you mean {}?", near.display()));
        let detail = format!("{what} {shown} does not exist{}", near.unwrap_or_default());
        let allowed = "the path of an existing file, absolute or relative to the machine file's folder";
        let mut remedy = format!("`{field}` takes {allowed}: correct it");
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        // Of all files that a machine names, only a disk can begin empty.
        if field.starts_with("disks[") && matches!(ending, "qcow2" | "img" | "raw") {
            let format = if ending == "qcow2" { "qcow2" } else { "raw" };
            remedy.push_str(&format!(
                ", or create the file (an empty disk: `qemu-img create -f {format} {shown} 64G`, or \
                 `create: \"64 GiB\"` beside `file`)"
            ));
        }
        draft.no(&key, Severity::Hard, detail, &remedy);
        draft.about(field);
        return None;
    }
    draft.yes(&key, Severity::Hard, format!("{what} {shown} exists"));
    Some(file)
}

/// Checks that the launcher may read a file that QEMU's account need not; whether it may, as far as the file's mode tells.
pub(in crate::plan) fn launcher_reads(
    draft: &mut Draft,
    key: &str,
    field: &str,
    what: &str,
    path: &Path,
    file: &FileFact,
) -> bool {
    let (key, shown) = (format!("{key}.access"), path.display());
    let facts = format!("(owner {}, group {}, mode {:o})", file.uid, file.gid, file.mode & 0o7777);
    match may_read(file, &draft.host.process) {
        Some(true) => return true,
        Some(false) => {
            let detail = format!("you may not read {what} {shown} {facts}");
            let remedy = format!("`sudo chown $USER {shown}`, name another in `{field}`, or start as root");
            draft.no(&key, Severity::Hard, detail, &remedy);
        }
        None => {
            let detail = format!("whether you may read {what} {shown} depends on your groups {facts}");
            draft.unknown(&key, Severity::Hard, detail);
        }
    }
    draft.about(field);
    false
}

/// Checks that it is a regular file, of which QEMU, or the launcher, reads the whole. A FIFO would wait for ever.
pub(in crate::plan) fn is_file(draft: &mut Draft, key: &str, field: &str, what: &str, path: &Path, file: &FileFact) {
    if file.kind != Some(FileKind::File) {
        let detail = format!("{what} {} is no regular file", path.display());
        draft.no(&format!("{key}.kind"), Severity::Hard, detail, &format!("name a file in `{field}`"));
        draft.about(field);
    }
}

/// Checks that QEMU's account can open a file; nothing is done about it.
pub(in crate::plan) fn may_open(
    draft: &mut Draft,
    key: &str,
    field: &str,
    what: &str,
    path: &Path,
    file: &FileFact,
    usage: Use,
) {
    let (own_uid, own_gid) = (draft.host.process.uid, draft.host.process.gid);
    let account = draft.account.clone();
    let (uid, gid, groups) = match &account {
        Some(account) => (account.uid, account.gid, account.groups.as_slice()),
        None => (own_uid, own_gid, [].as_slice()),
    };
    if uid == 0 {
        return;
    }
    let (key, shown) = (format!("{key}.access"), path.display());
    if let Some(folder) = closed_to(file, uid).filter(|_| account.is_some()) {
        let detail =
            format!("QEMU's account {uid} cannot reach {what} {shown}: others may not enter {}", folder.display());
        let remedy = format!("`chmod o+x {}`, move the file, or name an account in `user`", folder.display());
        draft.no(&key, Severity::Hard, detail, &remedy);
        draft.about(field);
        return;
    }
    if allows(file, uid, gid, groups, usage) {
        return;
    }
    let Some(account) = account else { return not_ours(draft, &key, field, what, path, file, need(usage)) };
    let (verb, right) = if usage == Use::Write { ("write", "rw") } else { ("read", "r") };
    let detail = format!("QEMU's account {} cannot {verb} {what} {shown} (mode {:o})", account.uid, file.mode & 0o7777);
    draft.no(&key, Severity::Hard, detail, &format!("`chmod o+{right} {shown}`, or name an account in `user`"));
    draft.about(field);
}

/// A user other than root cannot open the file, as far as its mode tells.
fn not_ours(draft: &mut Draft, key: &str, field: &str, what: &str, path: &Path, file: &FileFact, need: u32) {
    // What the host itself runs from is not to be made readable; another finding says so.
    if !file.mounted.is_empty() {
        return;
    }
    let shown = path.display();
    // Our own supplementary groups and access lists are not known here; without any of the bits nobody can open it.
    if file.mode & (need * 0o11) == 0 {
        let detail = format!("you cannot open {what} {shown} (owner {}, mode {:o})", file.uid, file.mode & 0o7777);
        draft.no(key, Severity::Hard, detail, &format!("change the file's owner or mode, or correct `{field}`"));
    } else {
        draft.unknown(key, Severity::Hard, format!("whether you can open {what} {shown} depends on your groups"));
    }
    draft.about(field);
}

/// The permission bits that a use needs.
fn need(usage: Use) -> u32 {
    if usage == Use::Write { 0o6 } else { 0o4 }
}

/// Whether the account can open the file by its path, as far as modes tell.
pub(in crate::plan) fn may(file: &FileFact, account: &Account, usage: Use) -> bool {
    let Account { uid, gid, groups } = account;
    *uid == 0 || closed_to(file, *uid).is_none() && allows(file, *uid, *gid, groups, usage)
}

/// The folder on the way to the file that keeps this user out.
fn closed_to(file: &FileFact, uid: u32) -> Option<&Path> {
    file.closed_folder.as_ref().filter(|(_, owner)| *owner != uid).map(|(folder, _)| folder.as_path())
}

/// Whether the file's mode lets this user do it.
fn allows(file: &FileFact, uid: u32, gid: u32, groups: &[u32], usage: Use) -> bool {
    let need = need(usage);
    (file.mode >> class(file, uid, gid, groups)) & need == need
}

/// By how many bits the permissions are shifted that count for this user.
fn class(file: &FileFact, uid: u32, gid: u32, groups: &[u32]) -> u32 {
    match () {
        () if file.uid == uid => 6,
        () if file.gid == gid || groups.contains(&file.gid) => 3,
        () => 0,
    }
}
