//! Where a domain's hooks are.

use std::path::{Path, PathBuf};

use crate::host::Root;
use crate::units::Stage;

/// Larger than any hook.
const MAX_SCRIPT: usize = 256 << 10;
/// More than anybody has.
pub const MAX_SCRIPTS: usize = 64;
/// libvirt's folder of scripts by domain.
const BY_DOMAIN: &str = "qemu.d";

/// The folder of libvirt's hooks.
#[derive(Debug, Clone, Copy)]
pub struct Scripts<'a> {
    /// The root that the folder is below.
    pub root: &'a Root,
    /// Its path there.
    pub folder: &'a Path,
    /// Whether it was named for this domain: then all that is in it is meant, whatever the domain is called now.
    pub named: bool,
    /// The host that the scripts are from, for those that they call.
    pub host: Option<&'a Root>,
}

/// A script that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    /// Its path below the folder of hooks.
    pub name: String,
    /// Its text.
    pub text: String,
    /// The stage that its place says.
    pub stage: Stage,
}

/// Finds the hooks of a domain: `kvm.conf`, `qemu`, and all below `qemu.d/NAME`.
pub fn all(scripts: &Scripts, domain: &str) -> Vec<Hook> {
    let Scripts { root, folder, named, .. } = *scripts;
    let is_folder = |path: &Path| root.path(folder.join(path)).is_dir();
    let mut paths: Vec<PathBuf> = ["kvm.conf", "qemu"].map(PathBuf::from).to_vec();
    let by_domain = root.names(folder.join(BY_DOMAIN)).into_iter().map(|name| Path::new(BY_DOMAIN).join(name));
    let (domains, of_all): (Vec<PathBuf>, Vec<PathBuf>) = by_domain.partition(|path| is_folder(path));
    let mut open = vec![Path::new(BY_DOMAIN).join(domain)];
    if named && !domains.contains(&open[0]) {
        open = domains.iter().rev().cloned().collect();
    }
    while let Some(path) = open.pop().filter(|_| paths.len() < MAX_SCRIPTS) {
        for name in root.names(folder.join(&path)).iter().rev() {
            let below = path.join(name);
            if is_folder(&below) && path.components().count() < 6 { open.push(below) } else { paths.push(below) }
        }
    }
    paths.extend(of_all);
    let mut found: Vec<Hook> = paths.into_iter().filter_map(|path| hook(scripts, &path)).collect();
    // A folder of scripts alone, whose names and places say when they are called.
    if named && found.iter().all(|hook| hook.name == "kvm.conf") {
        found.extend(below(scripts).into_iter().filter(|hook| hook.name != "kvm.conf"));
        found.sort_by(|one, other| one.name.cmp(&other.name));
    }
    found.truncate(MAX_SCRIPTS);
    found
}

/// All scripts in the folder, and in folders below it.
pub fn below(scripts: &Scripts) -> Vec<Hook> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::new()];
    while let Some(path) = open.pop().filter(|_| found.len() < MAX_SCRIPTS) {
        for name in scripts.root.names(scripts.folder.join(&path)).into_iter().rev() {
            let below = path.join(&name);
            match scripts.root.path(scripts.folder.join(&below)).is_dir() {
                true if path.components().count() < 8 => open.push(below),
                true => {}
                false => found.extend(hook(scripts, &below).filter(|hook| is_script(hook, &below))),
            }
        }
    }
    found
}

/// Whether a file that nothing names is a script.
fn is_script(hook: &Hook, path: &Path) -> bool {
    let end = path.extension().map(|end| end.to_string_lossy().into_owned());
    hook.text.starts_with("#!") || matches!(end.as_deref(), Some("sh" | "bash" | "conf"))
}

fn hook(scripts: &Scripts, path: &Path) -> Option<Hook> {
    let name = path.to_string_lossy().into_owned();
    let text = text(scripts.root, &scripts.folder.join(path))?;
    let stage = stage_of(&name).or_else(|| stage_of_name(&name)).unwrap_or(Stage::Before);
    Some(Hook { name, text, stage })
}

/// A script's text. A program is none.
fn text(root: &Root, path: &Path) -> Option<String> {
    let bytes = root.bytes(path, MAX_SCRIPT).ok()?;
    (!bytes.contains(&0)).then(|| String::from_utf8_lossy(&bytes).into_owned())
}

/// The text of a script that another calls.
pub fn script(root: &Root, path: &Path) -> Option<String> {
    let is_one =
        |text: &String| text.starts_with("#!") || path.extension().is_some_and(|end| end == "sh" || end == "conf");
    text(root, path).filter(is_one)
}

/// The stage of libvirt's words for an operation.
pub fn stage_of(text: &str) -> Option<Stage> {
    const WORDS: [(&str, Stage); 5] = [
        ("prepare", Stage::Before),
        ("started", Stage::Running),
        ("start", Stage::Ready),
        ("stopped", Stage::Ended),
        ("release", Stage::Restored),
    ];
    first(text, &WORDS)
}

/// The stage that the name of a script says.
fn stage_of_name(name: &str) -> Option<Stage> {
    const WORDS: [(&str, Stage); 8] = [
        ("revert", Stage::Restored),
        ("teardown", Stage::Restored),
        ("shutdown", Stage::Restored),
        ("end", Stage::Restored),
        ("stop", Stage::Restored),
        ("unbind", Stage::Restored),
        ("startup", Stage::Before),
        ("begin", Stage::Before),
    ];
    first(name, &WORDS)
}

/// The stage that the name of a function says.
pub fn stage_of_function(name: &str) -> Option<Stage> {
    const WORDS: [(&str, Stage); 12] = [
        ("release", Stage::Restored),
        ("revert", Stage::Restored),
        ("restore", Stage::Restored),
        ("teardown", Stage::Restored),
        ("cleanup", Stage::Restored),
        ("stop", Stage::Restored),
        ("stopped", Stage::Restored),
        ("end", Stage::Restored),
        ("reattach", Stage::Restored),
        ("reset", Stage::Restored),
        ("prepare", Stage::Before),
        ("started", Stage::Running),
    ];
    // A name such as `stop_display_manager` says what is stopped, not that the guest has.
    let words = name.split(|c: char| !c.is_ascii_alphanumeric()).count();
    first(name, &WORDS).filter(|_| words <= 2 && !name.contains("display") && !name.contains("dm"))
}

fn first(text: &str, all: &[(&str, Stage)]) -> Option<Stage> {
    let words = || text.split(|c: char| !c.is_ascii_alphanumeric());
    all.iter().find(|(word, _)| words().any(|known| known == *word)).map(|(_, stage)| *stage)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_found_by_the_domains_name_or_by_the_folders() {
        let tree = tempfile::tempdir().unwrap();
        let put = |path: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "#!/bin/sh\n").unwrap();
        };
        let root = Root::new("/");
        let found = |domain: &str, named: bool| {
            let scripts = Scripts { root: &root, folder: tree.path(), named, host: None };
            all(&scripts, domain).into_iter().map(|hook| (hook.name, hook.stage)).collect::<Vec<_>>()
        };
        put("begin.sh");
        put("revert.sh");
        assert_eq!(found("a", false), []);
        assert_eq!(
            found("a", true),
            [("begin.sh".to_owned(), Stage::Before), ("revert.sh".to_owned(), Stage::Restored)]
        );
        put("below/deep/unbind.sh");
        put("notes/README");
        let all_below = found("a", true);
        assert!(all_below.contains(&("below/deep/unbind.sh".to_owned(), Stage::Restored)), "{all_below:?}");
        put("qemu.d/a/started/begin/x.sh");
        let running = [("qemu.d/a/started/begin/x.sh".to_owned(), Stage::Running)];
        assert_eq!(found("a", false), running);
        assert_eq!(found("b", false), []);
        assert_eq!(found("b", true), running);
        // The domain's own count alone; if none is its own, all do.
        put("qemu.d/c/release/end/y.sh");
        assert_eq!(found("a", true), running);
        assert_eq!(found("b", true).len(), 2);
    }
}
