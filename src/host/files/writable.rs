//! Whether others than root can change a file: by itself, or by a folder on the way to it.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::host::{Environment, Root};

/// A file or folder that others than root can write to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writable {
    /// The file, or the folder on the way to it.
    pub path: PathBuf,
    /// Its owner.
    pub uid: u32,
    /// Its group.
    pub gid: u32,
    /// Its permission bits.
    pub mode: u32,
}

/// The first on the way to this file, links followed. Whom sudo made root by name (`SUDO_UID`, sudo(8)) is no other.
pub(in crate::host) fn by_others(root: &Root, environment: &Environment, file: &Path) -> Option<Writable> {
    let sudo = environment.variables.get("SUDO_UID").and_then(|uid| uid.to_str()?.parse::<u32>().ok());
    let file = std::fs::canonicalize(root.path(file)).ok()?;
    // A fake root's own way to it is not the host's.
    let top = std::fs::canonicalize(root.path("/")).ok()?;
    let mut way: Vec<&Path> = file.ancestors().take_while(|path| path.starts_with(&top)).collect();
    way.reverse();
    way.into_iter().find_map(|path| {
        let data = std::fs::metadata(path).ok()?;
        let (uid, gid, mode) = (data.uid(), data.gid(), data.mode() & 0o7777);
        // In a sticky folder everybody can write, and nobody can exchange what is another's.
        let shared = data.is_dir() && mode & 0o1000 != 0;
        let others = mode & 0o002 != 0 || mode & 0o020 != 0 && gid != 0 && Some(gid) != sudo;
        let open = uid != 0 && Some(uid) != sudo || others && !shared;
        let name = Path::new("/").join(path.strip_prefix(&top).ok()?);
        open.then_some(Writable { path: name, uid, gid, mode })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{PermissionsExt as _, chown, symlink};

    #[test]
    #[ignore = "changes owners, so it needs root: scripts/test runs it"]
    fn the_first_that_others_can_write_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let set = |path: &str, uid: u32, mode: u32| {
            chown(at(path), Some(uid), Some(uid)).unwrap();
            std::fs::set_permissions(at(path), std::fs::Permissions::from_mode(mode)).unwrap();
        };
        std::fs::create_dir_all(at("etc/vms")).unwrap();
        std::fs::write(at("etc/vms/a.ron"), "").unwrap();
        symlink("etc/vms/a.ron", at("link")).unwrap();
        let look = |sudo: Option<&str>| {
            let variables = sudo.map(|uid| ("SUDO_UID".to_owned(), uid.into())).into_iter().collect();
            let environment = Environment { variables, ..Environment::default() };
            let found = by_others(&Root::new(folder.path()), &environment, Path::new("/link"));
            found.map(|found| found.path.display().to_string())
        };
        set("etc/vms/a.ron", 0, 0o644);
        set("etc/vms", 0, 0o755);
        assert_eq!(look(None), None);
        set("etc/vms", 0, 0o1777);
        assert_eq!(look(None), None);
        set("etc/vms/a.ron", 1000, 0o600);
        assert_eq!(look(None).as_deref(), Some("/etc/vms/a.ron"));
        assert_eq!(look(Some("1000")), None);
        assert_eq!(look(Some("1001")).as_deref(), Some("/etc/vms/a.ron"));
        set("etc/vms", 1000, 0o755);
        assert_eq!(look(None).as_deref(), Some("/etc/vms"));
        set("etc/vms", 0, 0o777);
        assert_eq!(look(Some("1000")).as_deref(), Some("/etc/vms"));
    }
}
