//! Folders of the host that the guest mounts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::named::Named;
use crate::machine::problems::{Problems, consists_of};
use crate::machine::subject::Subject;

/// The length of virtio's field for the tag (virtio 1.2, section 5.11.4).
const MAX_TAG: usize = 36;
const MAX_SHARES: usize = 16;

/// A folder of the host that the guest mounts: in Linux by `mount -t virtiofs TAG /mnt`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Share {
    /// The name by which the guest mounts it: letters, digits, `-`, `_` and `.`, at most 36 characters.
    pub tag: String,
    /// The folder.
    pub folder: PathBuf,
    /// Whether the guest can only read. Default: no.
    #[serde(default)]
    pub read_only: bool,
    /// Whose the files are that the guest makes there, if root starts the machine. Default `Folder`.
    #[serde(default)]
    pub owner: ShareOwner,
    /// How the guest reaches it. Default `Auto`: virtiofs, or 9p if virtiofsd cannot serve it.
    #[serde(default)]
    pub kind: ShareKind,
}

/// Whose the files are that the guest makes in a share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ShareOwner {
    /// The folder's owner, whoever makes them in the guest.
    #[default]
    Folder,
    /// The user with the same number as in the guest: root of the guest has root's rights in the folder.
    Guest,
}

/// How the guest reaches a share.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ShareKind {
    /// By virtiofs, or by 9p if virtiofsd cannot serve the folder; `vfio-run check` says so.
    #[default]
    Auto,
    /// By virtiofsd, a program beside QEMU. Linux has its driver since 5.4, Windows by virtio-win and WinFsp.
    Virtiofs,
    /// By QEMU itself, with the rights of QEMU's account. Slower; Windows has no driver for it.
    NineP,
}

impl Subject for Vec<Share> {
    fn check(&self, problems: &mut Problems) {
        if self.len() > MAX_SHARES {
            problems
                .add(format!("shares[{MAX_SHARES}]"), format!("{} shared folders are too many", self.len()))
                .allowed(format!("at most {MAX_SHARES}"));
        }
        let mut seen = BTreeMap::new();
        for (i, share) in self.iter().enumerate() {
            let tag = &share.tag;
            if tag.is_empty() || tag.len() > MAX_TAG || !consists_of(tag, "-_.") {
                problems
                    .add(format!("shares[{i}].tag"), format!("{tag:?} cannot be the tag of a share"))
                    .allowed(format!("1 to {MAX_TAG} letters, digits, `-`, `_` and `.`"));
            }
            if let Some(first) = seen.insert(tag, i) {
                problems
                    .add(format!("shares[{i}].tag"), format!("{tag:?} is already the tag of `shares[{first}]`"))
                    .allowed("each tag once: the guest mounts a share by it");
            }
            if share.folder == Path::new("/") {
                problems
                    .add(format!("shares[{i}].folder"), "the root folder of the host cannot be shared")
                    .allowed("a folder of your own that holds only what the guest may see");
            }
        }
    }

    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        self.iter_mut().enumerate().map(|(i, share)| (format!("shares[{i}].folder"), &mut share.folder)).collect()
    }

    fn name(&self, named: &mut Named) {
        named.virtiofsd |= self.iter().any(|share| share.kind != ShareKind::NineP);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::machine::parse;

    #[test]
    fn tags_and_folders_that_cannot_be_are_refused() {
        for (written, expected) in [
            ("[(tag: \"data\", folder: \"data\")]", None),
            ("[(tag: \"a b\", folder: \"d\")]", Some("m.ron:1:56: \"a b\" cannot be the tag of a share")),
            ("[(tag: \"\", folder: \"d\")]", Some("m.ron:1:56: \"\" cannot be the tag of a share")),
            (
                "[(tag: \"a\", folder: \"d\"), (tag: \"a\", folder: \"e\")]",
                Some("m.ron:1:81: \"a\" is already the tag of `shares[0]`"),
            ),
            ("[(tag: \"a\", folder: \"/\")]", Some("m.ron:1:69: the root folder of the host cannot be shared")),
            ("[(tag: \"a\", folder: \"/.\")]", Some("m.ron:1:69: the root folder of the host cannot be shared")),
        ] {
            let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), shares: {written})");
            let refused = parse(Path::new("m.ron"), &text).err().map(|refused| refused.to_string());
            assert_eq!(refused.as_deref().and_then(|text| text.lines().next()), expected, "{written}");
        }
        let long = format!("[(tag: \"{}\", folder: \"d\")]", "x".repeat(37));
        let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), shares: {long})");
        assert!(parse(Path::new("m.ron"), &text).unwrap_err().to_string().contains("1 to 36 letters"));
    }
}
