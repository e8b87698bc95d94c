//! Whether a folder is there, and who may do what in it.

use crate::host::{FileFact, FileKind};
use crate::machine::Share;
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::Draft;

/// The user that serves a folder.
pub(super) struct Server {
    pub uid: u32,
    pub gid: u32,
    /// Its other groups, if all of them are known.
    pub groups: Option<Vec<u32>>,
}

/// Checks that it is there and is a folder; what is known of it, if so.
pub(super) fn look(draft: &mut Draft, index: usize, share: &Share) -> Option<FileFact> {
    let (key, field) = (format!("share.{}.folder", share.tag), format!("shares[{index}].folder"));
    let shown = share.folder.display();
    let Some(file) = draft.host.files.get(&share.folder).cloned() else {
        draft.unknown(&key, Hard, format!("vfio-run did not look for the folder {shown}"));
        return None;
    };
    match file.kind {
        Some(FileKind::Folder) => {
            draft.yes(&key, Hard, format!("the folder {shown} is there"));
            return Some(file);
        }
        Some(_) => draft.no(&key, Hard, format!("{shown} is no folder"), &format!("name a folder in `{field}`")),
        None => {
            let near = file.near.as_ref().map(|near| format!("; did you mean {}?", near.display()));
            let detail = format!("the folder {shown} does not exist{}", near.unwrap_or_default());
            draft.no(&key, Hard, detail, &format!("correct `{field}`, or make the folder: `mkdir -p {shown}`"));
        }
    }
    draft.about(&field);
    None
}

/// Whether the server may read the folder, and write it if the guest shall. What cannot be read is no share; what cannot
/// be written is one that the guest reads.
pub(super) fn access(draft: &mut Draft, index: usize, share: &Share, file: &FileFact, server: &Server) {
    let (key, field) = (format!("share.{}.access", share.tag), format!("shares[{index}].folder"));
    let shown = share.folder.display();
    let who = match draft.host.process.uid {
        0 => format!("user {}, who serves it,", server.uid),
        _ => "you".to_owned(),
    };
    if server.uid == 0 {
        return;
    }
    if let Some((folder, owner)) = &file.closed_folder
        && draft.host.process.uid == 0
        && *owner != server.uid
    {
        let detail = format!("{who} cannot reach {shown}: others may not enter {}", folder.display());
        let remedy = format!("`chmod o+x {}`, or move the folder of `{field}`", folder.display());
        draft.no(&key, Hard, detail, &remedy);
        return draft.about(&field);
    }
    let facts = format!("(owner {}, group {}, mode {:o})", file.uid, file.gid, file.mode & 0o7777);
    let remedy = format!("change the folder's owner or mode, or correct `{field}`");
    match (may(file, server, 0o5), may(file, server, 0o7)) {
        (Some(false), _) => draft.no(&key, Hard, format!("{who} cannot read {shown} {facts}"), &remedy),
        (None, _) => draft.unknown(&key, Hard, format!("whether {who} can read {shown} depends on groups {facts}")),
        (Some(true), Some(false)) if !share.read_only => {
            let detail = format!("{who} cannot write to {shown} {facts}, so the guest can only read");
            draft.no(&key, Soft, detail, &format!("{remedy}; `read_only: true` in `shares` says that it is meant"));
        }
        (Some(true), None) if !share.read_only => {
            draft.unknown(&key, Soft, format!("whether {who} can write to {shown} depends on groups {facts}"));
        }
        (Some(true), _) => return,
    }
    draft.about(&field);
}

/// Whether the mode gives the server all of these bits; `None` if that depends on groups that are not known.
fn may(file: &FileFact, server: &Server, need: u32) -> Option<bool> {
    let allows = |shift: u32| file.mode >> shift & need == need;
    match &server.groups {
        _ if server.uid == file.uid => Some(allows(6)),
        _ if server.gid == file.gid => Some(allows(3)),
        Some(groups) if groups.contains(&file.gid) => Some(allows(3)),
        Some(_) => Some(allows(0)),
        None if allows(3) == allows(0) => Some(allows(0)),
        None => None,
    }
}
