//! An image that is made at the first start: `create`.

use std::path::Path;

use crate::host::{FileFact, FileKind};
use crate::machine::Disk;
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::Draft;
use crate::plan::{ImageFormat, Keep, image_format};
use crate::units::{DiskFormat, Size};

/// Plans to make the image, if it is not there; what it will be then.
pub(super) fn write(
    draft: &mut Draft,
    key: &str,
    field: &str,
    disk: &Disk,
    path: &Path,
    size: Size,
) -> Option<FileFact> {
    let there = draft.host.files.get(path).cloned().unwrap_or_default();
    if there.kind.is_some() {
        return None;
    }
    let format = disk.format.unwrap_or(match image_format(path, None) {
        ImageFormat::Is(format) => format,
        ImageFormat::Other(_) | ImageFormat::Unsure => DiskFormat::Raw,
    });
    let (shown, folder) = (path.display(), path.parent().unwrap_or(Path::new("/")).display());
    if there.no_folder {
        let detail = format!("the folder {folder}, in which the image {shown} is to be made, does not exist");
        draft.no(
            &format!("{key}.folder"),
            Hard,
            detail,
            &format!("make it (`mkdir -p {folder}`), or correct the path"),
        );
        draft.about(&format!("{field}.file"));
    } else if let Some(why) = &there.unwritable {
        let detail = format!("you cannot make the image {shown} in its folder: {why}");
        draft.no(&format!("{key}.folder"), Hard, detail, "name a folder of yours, or start as root");
        draft.about(&format!("{field}.file"));
    } else if let Some(room) = there.room.map(Size::bytes).filter(|room| *room < size) {
        let detail = format!(
            "the image {shown} may grow to {size}, and its file system has room for {}: a guest that fills it is stopped",
            room.about()
        );
        draft.no(&format!("{key}.room"), Soft, detail, "make room, name another folder, or write a smaller `create`");
        draft.about(&format!("{field}.create"));
    } else {
        draft.yes(&format!("{key}.new"), Soft, format!("{shown} is made at the start, of {size}"));
    }
    draft.keep.push(Keep::Image { path: path.to_owned(), format, size });
    let uid = draft.host.process.uid;
    let fact = FileFact { kind: Some(FileKind::File), uid, mode: 0o600, size: size.as_bytes(), ..FileFact::default() };
    Some(FileFact { format: Some(format), direct_io: there.direct_io, ..fact })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;
    use crate::plan::sample::{Shape, host, plan};

    fn planned(file: &str, more: &str, fact: FileFact) -> Plan {
        let mut host = host(Shape::simple(8, 2));
        host.files.insert(file.into(), fact);
        plan(
            &format!("(guest: Other, memory: (size: \"1 GiB\"), disks: [(file: {file:?}, create: \"8 GiB\"{more})])"),
            &host,
        )
    }

    fn found(plan: &Plan) -> Vec<(&str, bool)> {
        let ours = plan.findings.iter().filter(|f| f.key.starts_with("disk0.") && f.ok != crate::plan::Verdict::Yes);
        ours.map(|f| (f.key.as_str(), f.blocks())).collect()
    }

    #[test]
    fn an_image_that_is_not_there_is_made_by_its_name_or_its_format() {
        let size = Size::bytes(8 << 30);
        for (file, more, format) in [
            ("/a.qcow2", "", DiskFormat::Qcow2),
            ("/a.img", "", DiskFormat::Raw),
            ("/a.img", ", format: Qcow2", DiskFormat::Qcow2),
        ] {
            let plan = planned(file, more, FileFact { direct_io: Some(true), ..FileFact::default() });
            assert_eq!(plan.keep, [Keep::Image { path: file.into(), format, size }]);
            assert_eq!(found(&plan), []);
            let driver = format!("\"driver\":\"{}\"", format.name());
            assert!(plan.command.argv().iter().any(|word| word.contains(&driver)), "{file}");
        }
        let there = FileFact { kind: Some(FileKind::File), mode: 0o666, ..FileFact::default() };
        assert_eq!(planned("/a.raw", "", there).keep, []);
    }

    #[test]
    fn where_no_image_can_be_made_none_is_promised() {
        let with = |fact: FileFact| planned("/a/b.raw", "", fact);
        let none = FileFact::default;
        let denied = Some("Permission denied (os error 13)".to_owned());
        for (fact, expected) in [
            (FileFact { no_folder: true, ..none() }, [("disk0.folder", true)].as_slice()),
            (FileFact { unwritable: denied, ..none() }, &[("disk0.folder", true)]),
            (FileFact { room: Some(1 << 30), ..none() }, &[("disk0.room", false)]),
            (FileFact { room: Some(9 << 30), ..none() }, &[]),
        ] {
            assert_eq!(found(&with(fact.clone())), expected, "{fact:?}");
        }
        // Where the file system refuses O_DIRECT, the first start knows it already.
        let buffered = with(FileFact { direct_io: Some(false), ..none() });
        assert_eq!(found(&buffered), [("disk0.direct", false)]);
    }
}
