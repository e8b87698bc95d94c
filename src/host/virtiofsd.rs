//! virtiofsd, which serves a folder of the host to a guest: where it is, and what it can do.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::environment::find_programs;
use super::help::{Help, Told};
use super::{Environment, Root};

/// Where distributions put it; most keep it out of PATH: Debian 13 and Fedora, Arch, QEMU's own of Debian 12.
const PLACES: [&str; 4] = ["virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd", "/usr/lib/qemu/virtiofsd"];

/// The virtiofsd of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Virtiofsd {
    /// The program.
    pub program: PathBuf,
    /// The long options that its `--help` has, such as `--shared-dir`; none if it could not be asked.
    pub options: BTreeSet<String>,
    /// Whether a process without privileges can make user namespaces here, in which virtiofsd has its sandbox then.
    pub user_namespaces: Option<bool>,
}

impl Virtiofsd {
    /// Whether it takes this option.
    pub fn has(&self, option: &str) -> bool {
        self.options.contains(option)
    }

    /// Finds it, and asks it what it can do, unless that is kept in the folder `cache`; that needs the real root, whose
    /// programs can be run.
    pub(super) fn ask(root: &Root, environment: &Environment, cache: Option<&Path>) -> Option<Asked> {
        let places = PLACES.map(str::to_owned);
        let found = find_programs(root, environment, &places);
        let program = places.iter().find_map(|place| found.get(place))?.clone();
        let ask = || match Help::kept(&program, cache) {
            Some(options) => Some(Told::Kept(options)),
            None => Help::ask(&program, cache, |_| {}).ok().map(Told::Asked),
        };
        let told = if root.is_real() { ask() } else { None };
        Some(Asked { program, told })
    }
}

/// A virtiofsd that was asked.
pub(super) struct Asked {
    program: PathBuf,
    told: Option<Told>,
}

impl Asked {
    /// What it answers.
    pub fn answer(self, root: &Root) -> Virtiofsd {
        let options = self.told.and_then(|told| told.options(options)).unwrap_or_default();
        Virtiofsd { program: self.program, options, user_namespaces: user_namespaces(root) }
    }
}

/// The words of a help text that are long options.
fn options(help: &str) -> BTreeSet<String> {
    let part = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    let words = help.split(|c: char| !part(c)).filter(|word| word.len() > 3 && word.starts_with("--"));
    words.map(str::to_owned).collect()
}

/// Whether processes without privileges may make user namespaces with rights in them: by the kernel's own limit, Debian's
/// switch, and Ubuntu's restriction by AppArmor. `None` if the kernel does not tell.
fn user_namespaces(root: &Root) -> Option<bool> {
    let number = |path: &str| root.parse::<u64>(path);
    match () {
        () if number("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) => Some(false),
        () if number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1) => Some(false),
        () => number("/proc/sys/user/max_user_namespaces").map(|most| most > 0),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn its_options_are_the_long_words_of_its_help() {
        let rust = "  --shared-dir <SHARED_DIR>\n   --inode-file-handles=<X>\n  (see '--translate-uid', this) -o <O>\n - never\n";
        let expected = ["--inode-file-handles", "--shared-dir", "--translate-uid"].map(str::to_owned);
        assert_eq!(options(rust), BTreeSet::from(expected));
    }

    #[test]
    fn it_is_found_in_path_first_and_asked_by_help() {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("virtiofsd");
        std::fs::write(&program, "#!/bin/sh\necho \"$1 --shared-dir\" >&2\n").unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let path = ("PATH".to_owned(), OsString::from(folder.path()));
        let environment = Environment { variables: [path].into(), ..Environment::default() };
        let cache = folder.path().join("cache");
        let ask = || Virtiofsd::ask(&Root::new("/"), &environment, Some(&cache)).unwrap().answer(&Root::new("/"));
        let found = ask();
        assert_eq!(found.program, program);
        assert!(found.has("--shared-dir") && found.has("--help") && !found.has("--readonly"), "{found:?}");
        assert_eq!(ask(), found, "from what is kept");
    }

    #[test]
    fn user_namespaces_can_be_switched_off_in_three_ways() {
        let with = |files: &[(&str, &str)]| {
            let folder = tempfile::tempdir().unwrap();
            for (path, text) in files {
                let path = folder.path().join("proc/sys").join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            user_namespaces(&Root::new(folder.path()))
        };
        let most = ("user/max_user_namespaces", "1000\n");
        assert_eq!(with(&[]), None);
        assert_eq!(with(&[most]), Some(true));
        assert_eq!(with(&[("user/max_user_namespaces", "0\n")]), Some(false));
        assert_eq!(with(&[most, ("kernel/unprivileged_userns_clone", "0\n")]), Some(false));
        assert_eq!(with(&[most, ("kernel/apparmor_restrict_unprivileged_userns", "1\n")]), Some(false));
    }
}
