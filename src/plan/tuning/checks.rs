//! What keeps an attribute of the host from being set: vfio-run did not look at it, or may not write it.

use std::path::Path;

use super::super::Severity::Hard;
use super::super::draft::Draft;
use crate::host::Attribute;

/// The facts are of another time or program.
pub(super) fn did_not_look(draft: &mut Draft, field: &str) {
    draft.unknown(field, Hard, format!("vfio-run did not look what `{field}` would change on this host"));
}

/// Whether the attribute can be written; says so if not.
pub(super) fn may_write(draft: &mut Draft, field: &str, path: &Path, attribute: &Attribute) -> bool {
    let (path, uid) = (path.display(), draft.host.process.uid);
    if uid == 0 && !attribute.read_only {
        return true;
    }
    match attribute.read_only {
        true => draft.no(
            field,
            Hard,
            format!("this kernel lets nobody write to {path}"),
            &format!("set it on the kernel's command line or for its module, or leave `{field}` out"),
        ),
        false => {
            let detail = format!("only root may write to {path}");
            draft.no(field, Hard, detail, &format!("start as root, or leave `{field}` out"));
        }
    }
    draft.about(field);
    false
}
