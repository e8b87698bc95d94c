//! The CDs in the guest's drives: put in and taken out while it runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::access::Access;
use super::devices::note;
use super::fdset::FdSet;
use super::image::{self, Image};
use crate::journal::Record;
use crate::plan::Plan;
use crate::qemu::command::{OptionValue, QemuOption};
use crate::qemu::{Qmp, QmpError};
use crate::units::DiskFormat;

/// What a drive is to have.
#[derive(Debug, Clone, Copy)]
pub(in crate::run) struct Medium<'a> {
    /// The drive's id; `None`: the only one.
    pub drive: Option<&'a str>,
    /// The image; `None`: none.
    pub file: Option<&'a Path>,
    /// Whether the drive opens although the guest has locked it.
    pub force: bool,
}

/// Puts a CD in, or takes it out. Says what the drive has then.
pub(in crate::run) async fn change(access: &mut Access<'_>, medium: Medium<'_>) -> Result<String> {
    let drive = drive(access.plan, medium.drive)?;
    let done = put(access.qmp, &drive, medium.file, medium.force).await;
    if let Ok(()) | Err(Failed { empty: true, .. }) = &done {
        let file = medium.file.filter(|_| done.is_ok()).map(Path::to_owned);
        note(access.journal, Record::Medium { drive: drive.clone(), file });
    }
    match (done, medium.file) {
        (Err(failed), _) => Err(failed.error),
        (Ok(()), Some(file)) => Ok(format!("{} in {drive}", file.display())),
        (Ok(()), None) => Ok(drive),
    }
}

/// Gives the drives of a new QEMU what they had in the one before. A drive that cannot have it is said, and the guest runs.
pub(in crate::run) async fn again(plan: &Plan, records: &[Record], qmp: &mut Qmp) {
    let mut last: BTreeMap<&String, &Option<PathBuf>> = BTreeMap::new();
    for record in records {
        if let Record::Medium { drive, file } = record {
            last.insert(drive, file);
        }
    }
    for (drive, file) in last {
        if let Err(failed) = put(qmp, drive, file.as_deref(), true).await {
            tracing::warn!("{drive} of {} has another CD than before: {:#}", plan.name, failed.error);
        }
    }
}

/// Whether the machine has a drive.
pub(super) fn has_drive(plan: &Plan) -> bool {
    drives(plan).next().is_some()
}

/// The ids of the drives.
fn drives(plan: &Plan) -> impl Iterator<Item = &str> {
    let options = plan.command.options.iter();
    let drives = options.filter(|option| ["ide-cd", "scsi-cd"].into_iter().any(|driver| option.is_device(driver)));
    drives.filter_map(|option| match &option.value {
        OptionValue::Json(object) => object.get("id")?.as_str(),
        _ => None,
    })
}

/// The id of the drive that is meant.
fn drive(plan: &Plan, meant: Option<&str>) -> Result<String> {
    let all: Vec<&str> = drives(plan).collect();
    let name = &plan.name;
    match (meant, all.as_slice()) {
        (_, []) => bail!("{name} has no CD drive; `disks: [(media: Cd)]` in its file gives it one"),
        (Some(meant), all) if all.contains(&meant) => Ok(meant.to_owned()),
        (Some(meant), all) => bail!("{name} has no CD drive {meant:?}; it has {}", all.join(", ")),
        (None, [only]) => Ok((*only).to_owned()),
        (None, all) => bail!("{name} has several CD drives; name one of them with `--drive`: {}", all.join(", ")),
    }
}

/// Why a drive has not what it was to have.
struct Failed {
    /// Whether it has nothing now.
    empty: bool,
    error: anyhow::Error,
}

/// Brings a drive to this image, or to none.
async fn put(qmp: &mut Qmp, drive: &str, file: Option<&Path>, force: bool) -> Result<(), Failed> {
    let untouched = |error: anyhow::Error| Failed { empty: false, error };
    // What can fail does so while the drive has its old CD.
    let new = match file {
        Some(file) => Some(node_of(qmp, file).await.map_err(untouched)?),
        None => None,
    };
    let old = match open(qmp, drive, force).await {
        Ok(old) => old,
        Err(error) => {
            if let Some(node) = new {
                let_go(qmp, Inserted { node, file: String::new() }).await;
            }
            return Err(untouched(error));
        }
    };
    let closed = close(qmp, drive, new.as_deref()).await;
    let unused = new.filter(|_| closed.is_err()).map(|node| Inserted { node, file: String::new() });
    let (done, old) = match closed {
        Ok(()) => (Ok(()), old),
        Err(error) => put_back(qmp, drive, old, error).await,
    };
    for image in [old, unused].into_iter().flatten() {
        let_go(qmp, image).await;
    }
    done
}

/// Closes a drive that could not have what it was to have, with what it had before. With how that went comes what it does not
/// have any more.
async fn put_back(
    qmp: &mut Qmp,
    drive: &str,
    old: Option<Inserted>,
    error: anyhow::Error,
) -> (Result<(), Failed>, Option<Inserted>) {
    match close(qmp, drive, old.as_ref().map(|old| old.node.as_str())).await {
        Ok(()) => (Err(Failed { empty: false, error }), None),
        Err(again) if old.is_some() => {
            tracing::debug!("the CD that {drive} had cannot be put back: {again:#}");
            (Err(Failed { empty: true, error: error.context(format!("{drive} is empty now")) }), old)
        }
        Err(again) => {
            tracing::debug!("{drive} stays open: {again:#}");
            (Err(Failed { empty: true, error }), None)
        }
    }
}

/// A block node of the image of a CD.
async fn node_of(qmp: &mut Qmp, file: &Path) -> Result<String> {
    let image = Image::open(file, true)?;
    let set = FdSet::add(qmp, image.descriptor()).await?;
    let node = format!("medium-{}", set.number());
    let added = image.add(qmp, &set, &node, DiskFormat::Raw).await;
    set.remove(qmp, &added).await;
    added.map(|()| node)
}

/// An image in QEMU.
struct Inserted {
    /// Its block node.
    node: String,
    /// What QEMU has opened.
    file: String,
}

/// Opens the drive and empties it; what it had.
async fn open(qmp: &mut Qmp, drive: &str, force: bool) -> Result<Option<Inserted>> {
    let blocks = qmp.execute_raw("query-block", json!({})).await?;
    let blocks = blocks.as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = blocks.iter().find(|block| block["qdev"] == drive).context("QEMU does not know the drive")?;
    let text = |key: &str| ours["inserted"][key].as_str().map(str::to_owned);
    let old = text("node-name").map(|node| Inserted { node, file: text("file").unwrap_or_default() });
    match qmp.execute_raw("blockdev-open-tray", json!({ "id": drive, "force": force })).await {
        Err(QmpError::Refused { detail, .. }) if detail.contains("is locked") => {
            bail!("the guest uses the CD in {drive} and was asked to let it go; try again, or use `--force`")
        }
        other => other?,
    };
    qmp.execute_raw("blockdev-remove-medium", json!({ "id": drive })).await?;
    Ok(old)
}

/// Puts a node into the open drive, if there is one, and closes it.
async fn close(qmp: &mut Qmp, drive: &str, node: Option<&str>) -> Result<()> {
    if let Some(node) = node {
        qmp.execute_raw("blockdev-insert-medium", json!({ "id": drive, "node-name": node })).await?;
    }
    qmp.execute_raw("blockdev-close-tray", json!({ "id": drive })).await?;
    Ok(())
}

/// Has QEMU close an image that no drive has any more.
async fn let_go(qmp: &mut Qmp, Inserted { node, file }: Inserted) {
    // The plan's own images consist of two nodes.
    let below = node.strip_suffix("-image").map(|of_plan| format!("{of_plan}-file"));
    for node in [Some(node), below].into_iter().flatten() {
        if let Err(error) = image::remove(qmp, &node).await {
            return tracing::debug!("{node} stays open in QEMU: {error:#}");
        }
    }
    // Those of the command line stay in their sets otherwise, and keep the image's lock.
    if let Some(set) = file.strip_prefix(QemuOption::FD_SET).and_then(|number| number.parse::<u64>().ok())
        && let Err(error) = qmp.execute_raw("remove-fd", json!({ "fdset-id": set })).await
    {
        tracing::debug!("{file} is gone already: {error:#}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample::{self, Shape};

    #[test]
    fn the_drive_is_the_only_one_or_the_one_that_is_named() {
        let of = |disks: &str, meant: Option<&str>| {
            let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), firmware: Bios, disks: [{disks}])");
            let plan = sample::plan(&text, &sample::host(Shape::simple(4, 1)));
            drive(&plan, meant).map_err(|error| error.to_string())
        };
        assert_eq!(of("(media: Cd)", None).as_deref(), Ok("disk0"));
        assert_eq!(of("(media: Cd), (media: Cd, bus: VirtioScsi)", Some("disk1")).as_deref(), Ok("disk1"));
        let several = of("(media: Cd), (media: Cd, bus: VirtioScsi)", None).unwrap_err();
        assert!(several.ends_with("name one of them with `--drive`: disk0, disk1"), "{several}");
        let other = of("(media: Cd)", Some("disk7")).unwrap_err();
        assert!(other.ends_with("has no CD drive \"disk7\"; it has disk0"), "{other}");
        assert!(of("", None).unwrap_err().contains("has no CD drive; `disks: [(media: Cd)]`"));
    }
}
