//! What this process was told by its environment, as a value, so that the readers below never ask for it themselves.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Root;

/// The variables that facts depend on; others are not copied.
const VARIABLES: [&str; 11] = [
    "DBUS_SESSION_BUS_ADDRESS",
    "HOME",
    "INVOCATION_ID",
    "PATH",
    "PKEXEC_UID",
    "SUDO_UID",
    "SYSTEMD_EXEC_PID",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
];

/// The environment of a process: variables and ids.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Environment {
    /// Effective user id, if /proc does not tell.
    pub uid: u32,
    /// Effective group id, if /proc does not tell.
    pub gid: u32,
    /// Process id.
    pub pid: u32,
    /// Environment variables.
    pub variables: BTreeMap<String, OsString>,
}

impl Environment {
    /// The environment of this process.
    pub fn of_this_process() -> Self {
        let variables =
            VARIABLES.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var_os(name)?))).collect();
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
            pid: std::process::id(),
            variables,
        }
    }

    /// A variable that is set and not empty.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(name).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// A variable that names a folder by an absolute path; the XDG Base Directory Specification has relative ones
    /// ignored. So is one that is not UTF-8, which no plan could name.
    pub fn folder(&self, name: &str) -> Option<PathBuf> {
        self.variable(name).and_then(OsStr::to_str).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    /// The folder that an XDG variable names, or its place below the home folder.
    pub fn xdg(&self, name: &str, below_home: &str) -> Option<PathBuf> {
        self.folder(name).or_else(|| Some(self.folder("HOME")?.join(below_home)))
    }
}

/// Finds programs in PATH; an absolute path is taken as it is.
pub(super) fn find_programs(root: &Root, environment: &Environment, names: &[String]) -> BTreeMap<String, PathBuf> {
    let folders: Vec<PathBuf> = environment
        .variable("PATH")
        .map(|path| std::env::split_paths(path).filter(|folder| folder.is_absolute()).take(256).collect())
        .unwrap_or_default();
    let find = |name: &String| -> Option<PathBuf> {
        if name.contains('/') {
            let path = PathBuf::from(name);
            return (path.is_absolute() && is_program(&root.path(&path))).then_some(path);
        }
        folders.iter().map(|folder| folder.join(name)).find(|path| is_program(&root.path(path)))
    };
    names.iter().filter_map(|name| Some((name.clone(), find(name)?))).collect()
}

/// Whether it is a file that someone may execute.
fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        let variables = variables.iter().map(|(name, value)| ((*name).to_owned(), OsString::from(value))).collect();
        Environment { variables, ..Environment::default() }
    }

    #[test]
    fn relative_and_empty_folders_are_ignored() {
        let environment = environment(&[("HOME", "/home/u"), ("XDG_STATE_HOME", "state"), ("XDG_CACHE_HOME", "")]);
        assert_eq!(environment.xdg("XDG_STATE_HOME", ".local/state"), Some("/home/u/.local/state".into()));
        assert_eq!(environment.xdg("XDG_CACHE_HOME", ".cache"), Some("/home/u/.cache".into()));
        assert_eq!(Environment::default().xdg("XDG_CACHE_HOME", ".cache"), None);
    }

    #[test]
    fn finds_the_first_program_that_can_be_executed() {
        let folder = tempfile::tempdir().unwrap();
        for (path, mode) in [("a/tool", 0o644), ("b/tool", 0o755), ("c/tool", 0o755), ("opt/qemu", 0o755)] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        }
        let names = ["tool", "/opt/qemu", "missing", "b", "opt/qemu"].map(str::to_owned);
        let found = find_programs(&Root::new(folder.path()), &environment(&[("PATH", "relative:/:/a:/b:/c")]), &names);
        assert_eq!(
            found,
            BTreeMap::from([
                ("tool".to_owned(), PathBuf::from("/b/tool")),
                ("/opt/qemu".to_owned(), "/opt/qemu".into())
            ])
        );
    }
}
