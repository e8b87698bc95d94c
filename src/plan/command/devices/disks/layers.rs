//! What a qcow2 image needs beside itself: the image that it is based on, and the file with its data.
//!
//! QEMU opens these by their paths, with the rights of its account: their names are from the image's header, and a QEMU that
//! a guest has taken over could write there. What root opened for it would be any file of the host.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::host::{Backing, FileFact, FileKind, Named, Qcow2};
use crate::plan::Severity::{Hard, Soft};
use crate::plan::draft::{self, Draft, by_fact};
use crate::plan::process::account::{self, Use};
use crate::qemu::command::QemuOption;
use crate::units::DiskFormat;

/// How the disk uses its files.
pub(super) struct Used<'a> {
    /// What its findings begin with.
    pub key: &'a str,
    /// The field that names the image.
    pub field: &'a str,
    /// The disk's number, for the names of block nodes.
    pub names: usize,
    /// Whether past the host's cache.
    pub direct: bool,
    /// QEMU's name of how requests reach the kernel.
    pub aio: &'a str,
    /// Whether the guest cannot write to it.
    pub read_only: bool,
}

/// The block nodes beside the image's own, and the image's members that name them.
pub(super) fn write(draft: &mut Draft, used: &Used, image: &Path, qcow2: &Qcow2) -> Map<String, Value> {
    let mut members = Map::new();
    if let Some(data) = &qcow2.data_file
        && let Some((path, file)) = find(draft, used, image, data, "data", "has its data in")
    {
        let usage = if used.read_only { Use::Read } else { Use::Write };
        account::may_open(
            draft,
            &format!("{}.data", used.key),
            used.field,
            "the image's data file",
            &path,
            &file,
            usage,
        );
        let name = format!("disk{}-data", used.names);
        bytes(draft, used, &name, &path, &file, used.read_only);
        members.insert("data-file".to_owned(), name.into());
    }
    if let Some(backing) = &qcow2.backing
        && let Some((path, file)) = based_on(draft, used, image, backing, 1)
    {
        let (name, below) = (format!("disk{}-backing", used.names), format!("disk{}-backing-file", used.names));
        bytes(draft, used, &below, &path, &file, true);
        let format = format(draft, used, image, &path, &file, backing);
        let node = json!({"driver": format, "node-name": name, "read-only": true, "file": below});
        let node = node.as_object().cloned().unwrap_or_default();
        draft.push(QemuOption::json("-blockdev", node, why(image)));
        members.insert("backing".to_owned(), name.into());
        below_that(draft, used, &path, &file);
    }
    members
}

fn why(image: &Path) -> crate::units::Origin {
    by_fact(format!("{} names it", image.display()))
}

/// The node of a file's bytes.
fn bytes(draft: &mut Draft, used: &Used, name: &str, path: &Path, file: &FileFact, read_only: bool) {
    let direct = used.direct && file.direct_io != Some(false);
    let driver = if file.kind == Some(FileKind::Block) { "host_device" } else { "file" };
    let aio = if used.aio == "native" && !direct { "threads" } else { used.aio };
    let node = json!({
        "driver": driver, "node-name": name, "read-only": read_only, "filename": draft::text(path), "aio": aio,
        "cache": {"direct": direct, "no-flush": false},
    });
    draft.push(QemuOption::json("-blockdev", node.as_object().cloned().unwrap_or_default(), why(path)));
}

/// The layers below the first, which QEMU finds by itself: each must be there and be readable.
fn below_that(draft: &mut Draft, used: &Used, path: &Path, file: &FileFact) {
    let (mut above, mut at) = (path.to_owned(), file.clone());
    let mut seen = BTreeSet::from([above.clone()]);
    for depth in 2.. {
        let Some(backing) = at.qcow2.and_then(|qcow2| qcow2.backing) else { return };
        let Some((path, file)) = based_on(draft, used, &above, &backing, depth) else { return };
        if !seen.insert(path.clone()) {
            let detail = format!("the image {} is based on itself, by way of others", path.display());
            draft.no(&format!("{}.backing.circle", used.key), Hard, detail, "restore it from a copy");
            return draft.about(used.field);
        }
        (above, at) = (path, file);
    }
}

/// Looks at the image that another is based on.
fn based_on(
    draft: &mut Draft,
    used: &Used,
    image: &Path,
    backing: &Backing,
    depth: u32,
) -> Option<(std::path::PathBuf, FileFact)> {
    let part = if depth == 1 { "backing".to_owned() } else { format!("backing{depth}") };
    let (path, file) = find(draft, used, image, &backing.file, &part, "is based on")?;
    let key = format!("{}.{part}", used.key);
    account::may_open(draft, &key, used.field, "the image's backing file", &path, &file, Use::Read);
    Some((path, file))
}

/// What is known of a file that an image names, if it is one.
fn find(
    draft: &mut Draft,
    used: &Used,
    image: &Path,
    name: &Named,
    part: &str,
    verb: &str,
) -> Option<(std::path::PathBuf, FileFact)> {
    let (key, shown) = (format!("{}.{part}.exists", used.key), image.display());
    let Named::File(path) = name else {
        let Named::Other(name) = name else { return None };
        let detail = format!("{shown} {verb} {name:?}, which is no file");
        draft.no(&key, Hard, detail, "`qemu-img convert` makes an image of it that needs no other");
        draft.about(used.field);
        return None;
    };
    let Some(file) = draft.host.files.get(path).cloned() else {
        draft.unknown(&key, Hard, format!("vfio-run did not look for {}, which {shown} needs", path.display()));
        return None;
    };
    match file.kind {
        Some(FileKind::File | FileKind::Block) => Some((path.clone(), file)),
        found => {
            let what = if found.is_none() { "does not exist" } else { "is no file" };
            let detail = format!("{shown} {verb} {}, which {what}", path.display());
            let remedy = if part.starts_with("backing") {
                format!("put it back, or say where it is: `qemu-img rebase -u -b PATH -F FORMAT {shown}`")
            } else {
                "put it back".to_owned()
            };
            draft.no(&key, Hard, detail, &remedy);
            draft.about(used.field);
            None
        }
    }
}

/// QEMU's name of the backing file's format. By its content alone it is believed as an image of the machine is: a guest may
/// have written there before.
fn format(draft: &mut Draft, used: &Used, image: &Path, path: &Path, file: &FileFact, backing: &Backing) -> String {
    if let Some(format) = &backing.format {
        return format.clone();
    }
    let seen = match (&file.other_format, file.format) {
        (Some(other), _) => other.clone(),
        (None, Some(format)) => format.name().to_owned(),
        (None, None) => DiskFormat::Raw.name().to_owned(),
    };
    let detail =
        format!("{} does not say in which format {} is; QEMU takes it for {seen}", image.display(), path.display());
    let remedy = format!("say it once: `qemu-img rebase -u -b {} -F {seen} {}`", path.display(), image.display());
    let named = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case(&seen));
    let severity = if seen == "raw" || named { Soft } else { Hard };
    draft.no(&format!("{}.backing.format", used.key), severity, detail, &remedy);
    draft.about(used.field);
    seen
}

#[cfg(test)]
mod tests {
    use crate::host::{Backing, FileFact, FileKind, Named, Qcow2};
    use crate::plan::sample::{Shape, host, plan};
    use crate::units::DiskFormat;

    /// The command line for a disk of these files, and what is said about them.
    fn planned(files: &[(&str, FileFact)]) -> (String, Vec<(String, String)>) {
        let mut host = host(Shape::simple(4, 2));
        (host.process.uid, host.process.gid) = (0, 0);
        host.files.extend(files.iter().map(|(path, fact)| ((*path).into(), fact.clone())));
        let plan = plan(r#"(guest: Other, memory: (size: "1 GiB"), disks: [(file: "/vm/a.qcow2")])"#, &host);
        let said = plan.findings.iter().filter(|finding| finding.blocks() && finding.key.starts_with("disk0"));
        let said = said.map(|finding| (finding.key.clone(), finding.detail.clone())).collect();
        (plan.command.argv().join(" "), said)
    }

    fn file(mode: u32) -> FileFact {
        FileFact { kind: Some(FileKind::File), mode, format: Some(DiskFormat::Raw), ..FileFact::default() }
    }

    fn image(mode: u32, backing: &str, format: Option<&str>) -> FileFact {
        let backing = Backing { file: Named::File(backing.into()), format: format.map(str::to_owned) };
        let qcow2 = Qcow2 { backing: Some(backing), data_file: None };
        FileFact { format: Some(DiskFormat::Qcow2), qcow2: Some(qcow2), ..file(mode) }
    }

    #[test]
    fn the_image_is_a_descriptor_and_its_layers_are_paths_that_qemus_account_can_read() {
        let top = image(0o600, "/vm/b.qcow2", Some("qcow2"));
        let (line, said) = planned(&[
            ("/vm/a.qcow2", top),
            ("/vm/b.qcow2", image(0o644, "/vm/c.raw", Some("raw"))),
            ("/vm/c.raw", file(0o644)),
        ]);
        assert_eq!(said, []);
        assert!(line.contains(r#","filename":"/vm/b.qcow2","aio":"#) && !line.contains("/vm/c.raw"), "{line}");
        let nodes = r#"{"driver":"qcow2","node-name":"disk0-backing","read-only":true,"file":"disk0-backing-file"}"#;
        assert!(line.contains(nodes) && line.contains(r#""backing":"disk0-backing""#), "{line}");
        assert!(line.contains("opaque=/vm/a.qcow2") && !line.contains(r#""filename":"/vm/a.qcow2""#), "{line}");
    }

    #[test]
    fn a_layer_that_is_missing_or_closed_is_named() {
        let words = |files: &[(&str, FileFact)]| planned(files).1;
        let top = || ("/vm/a.qcow2", image(0o600, "/vm/b.qcow2", Some("qcow2")));
        let missing = || FileFact::default();
        let said = |key: &str, words: &str| vec![(key.to_owned(), words.to_owned())];
        assert_eq!(
            words(&[top(), ("/vm/b.qcow2", missing())]),
            said("disk0.backing.exists", "/vm/a.qcow2 is based on /vm/b.qcow2, which does not exist")
        );
        assert_eq!(
            words(&[top(), ("/vm/b.qcow2", image(0o644, "/vm/c.raw", Some("raw"))), ("/vm/c.raw", missing())]),
            said("disk0.backing2.exists", "/vm/b.qcow2 is based on /vm/c.raw, which does not exist")
        );
        let [(key, detail)] = <[_; 1]>::try_from(words(&[top(), ("/vm/b.qcow2", file(0o600))])).unwrap();
        assert!(key == "disk0.backing.access" && detail.contains("cannot read the image's backing file"), "{detail}");
        assert_eq!(
            words(&[top(), ("/vm/b.qcow2", image(0o644, "/vm/b.qcow2", Some("qcow2")))]),
            said("disk0.backing.circle", "the image /vm/b.qcow2 is based on itself, by way of others")
        );
        let unsaid = |format| FileFact { format: Some(format), ..file(0o644) };
        let base = |name: &'static str, format| [("/vm/a.qcow2", image(0o600, name, None)), (name, unsaid(format))];
        assert_eq!(words(&base("/vm/b.raw", DiskFormat::Raw)), []);
        let wrong = words(&base("/vm/b.raw", DiskFormat::Qcow2));
        assert_eq!(wrong.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["disk0.backing.format"]);
    }
}
