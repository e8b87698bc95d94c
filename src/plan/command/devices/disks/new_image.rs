//! An image that is made at the first start: `create`.

use std::path::Path;

use crate::host::{FileFact, FileKind, ForeignLink};
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
    let root = draft.host.process.uid == 0;
    let no = |draft: &mut Draft, what: &str, detail: String, remedy: &str| {
        draft.no(&format!("{key}.{what}"), Hard, detail, remedy);
        draft.about(&format!("{field}.file"));
    };
    let elsewhere = match root {
        // What it is that root cannot change either.
        true => "name another folder; a read-only file system is mounted for writing, an immutable folder `chattr -i`",
        false => "name a folder of yours, or start as root",
    };
    if let Some(to) = &there.dangling {
        let detail = format!("{shown} is a link to {}, which does not exist, and no image is made there", to.display());
        no(draft, "folder", detail, &format!("remove the link (`rm {shown}`), or name the image itself"));
    } else if there.no_folder {
        let detail = format!("the folder {folder}, in which the image {shown} is to be made, does not exist");
        match &there.unwritable {
            Some(why) => no(draft, "folder", format!("{detail}, and you cannot make it: {why}"), elsewhere),
            None => no(draft, "folder", detail, &format!("make it (`mkdir -p {folder}`), or correct the path")),
        }
    } else if let Some(why) = &there.unwritable {
        let detail = format!("you cannot make the image {shown} in its folder: {why}");
        no(draft, "folder", detail, elsewhere);
    } else if let Some(ForeignLink { link, by, to }) = there.foreign.as_ref().filter(|_| root) {
        let link = link.display();
        let detail = format!(
            "the link {link}, which belongs to user {by}, leads to a folder of user {to}, in which the image {shown} is to be \
             made; root does not follow it"
        );
        no(draft, "folder", detail, &format!("name the folder itself, or make the link yours: `chown -h root {link}`"));
    } else if let Some(largest) =
        there.largest.map(Size::bytes).filter(|largest| format == DiskFormat::Raw && *largest < size)
    {
        let detail =
            format!("the image {shown} cannot have {size}: a file has at most {} in its file system", largest.about());
        draft.no(&format!("{key}.size"), Hard, detail, "write a smaller `create`, or name a file that ends in .qcow2");
        draft.about(&format!("{field}.create"));
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
            (FileFact { dangling: Some("gone".into()), ..none() }, &[("disk0.folder", true)]),
            (FileFact { largest: Some(u64::from(u32::MAX)), ..none() }, &[("disk0.size", true)]),
            (FileFact { largest: Some(8 << 30), ..none() }, &[]),
        ] {
            assert_eq!(found(&with(fact.clone())), expected, "{fact:?}");
        }
        // A qcow2 image is no larger than what was written to it.
        let small = FileFact { largest: Some(u64::from(u32::MAX)), ..none() };
        assert_eq!(found(&planned("/a/b.qcow2", "", small)), []);
        // Where the file system refuses O_DIRECT, the first start knows it already.
        let buffered = with(FileFact { direct_io: Some(false), ..none() });
        assert_eq!(found(&buffered), [("disk0.direct", false)]);
    }

    #[test]
    fn the_remedy_is_one_that_this_user_has() {
        let remedies = |uid: u32, fact: FileFact| {
            let mut host = host(Shape::simple(8, 2));
            host.process.uid = uid;
            host.files.insert("/a/b.raw".into(), fact);
            let machine = "(guest: Other, memory: (size: \"1 GiB\"), disks: [(file: \"/a/b.raw\", create: \"8 GiB\")])";
            let findings = plan(machine, &host).findings;
            let ours = findings.into_iter().find(|finding| finding.key == "disk0.folder");
            ours.map(|finding| finding.remedy.unwrap_or_default()).unwrap_or_default()
        };
        let unwritable = || Some("Operation not permitted (os error 1)".to_owned());
        let immutable = || FileFact { unwritable: unwritable(), ..FileFact::default() };
        assert!(remedies(0, immutable()).contains("`chattr -i`"), "{}", remedies(0, immutable()));
        assert_eq!(remedies(1000, immutable()), "name a folder of yours, or start as root");
        let missing = |unwritable| FileFact { no_folder: true, unwritable, ..FileFact::default() };
        assert_eq!(remedies(1000, missing(unwritable())), "name a folder of yours, or start as root");
        assert!(remedies(1000, missing(None)).starts_with("make it (`mkdir -p /a`)"));
        // A link that root does not follow is a user's own way.
        let foreign = crate::host::ForeignLink { link: "/a".into(), by: 1000, to: 1001 };
        let foreign = || FileFact { foreign: Some(foreign.clone()), ..FileFact::default() };
        assert!(remedies(0, foreign()).ends_with("`chown -h root /a`"), "{}", remedies(0, foreign()));
        assert_eq!(remedies(1000, foreign()), "");
    }
}
