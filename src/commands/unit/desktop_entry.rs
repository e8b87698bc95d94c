//! An entry for the desktop's menu that starts a machine's unit, by freedesktop.org's Desktop Entry Specification.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use nix::unistd::Uid;

use super::super::shared::{unit_file, whole_file};
use crate::cli::OutputArgs;
use crate::host::{Environment, InstalledUnit, Root, WantedUnit};
use crate::report;
use crate::units::{exit, quoted_file};

/// The machine files that the unit `vfio-run@.service` starts, each by its name.
const FILES: &str = "/etc/vfio-run";

/// Prints, or installs, the entry of a machine. `user_units`: the folder of this user's units.
pub fn desktop_entry(machine: &str, file: &Path, user_units: PathBuf, install: bool, output: OutputArgs) -> Result<u8> {
    let root = Root::new("/");
    let users = Some(user_units).filter(|_| !Uid::effective().is_root());
    let Some(starts) = starts(&root, machine, file, users)? else {
        bail!(
            "no unit starts {machine} from {}; `vfio-run unit --install {}` writes one (with sudo, for a machine that root starts)",
            file.display(),
            quoted_file(file)
        );
    };
    let (name, text) = (format!("vfio-run-{machine}.desktop"), render(machine, &starts));
    if !install {
        if output.json {
            report::json(&serde_json::json!({ "entry": name, "unit": starts.unit, "text": text }))?;
        } else {
            report::say(text.trim_end());
        }
        return Ok(exit::OK);
    }
    let folder = folder()?;
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    let path = folder.join(&name);
    whole_file::write(&path, text.as_bytes())?;
    tracing::info!("wrote {}: \"Start {machine}\" in the desktop's menu starts {}", path.display(), starts.unit);
    if output.json {
        report::json(&serde_json::json!({ "entry": name, "unit": starts.unit, "path": path }))?;
    }
    Ok(exit::OK)
}

/// What starts a machine.
#[derive(Debug, PartialEq, Eq)]
struct Starts {
    /// The unit.
    unit: String,
    /// Whether the user's service manager has it.
    of_user: bool,
}

/// The unit that starts the machine of this file: the user's own, the host's, or the one that starts each file in /etc/vfio-run.
fn starts(root: &Root, machine: &str, file: &Path, user_units: Option<PathBuf>) -> Result<Option<Starts>> {
    let wanted = unit_file::wanted(machine, file).with_context(|| {
        format!("no unit can name {}: it is to be UTF-8 without control characters", file.display())
    })?;
    let is_ours = |found: Option<InstalledUnit>| found.is_some_and(|unit| unit.is_ours);
    let found = |unit: &str, of_user| Ok(Some(Starts { unit: unit.to_owned(), of_user }));
    if user_units.is_some_and(|folder| is_ours(InstalledUnit::find_in(root, &[folder], &wanted))) {
        return found(&wanted.name, true);
    }
    if is_ours(InstalledUnit::find(root, &wanted)) {
        return found(&wanted.name, false);
    }
    let template = WantedUnit { name: "vfio-run@.service".to_owned(), ending: format!(" run {FILES}/%i.ron") };
    if file == Path::new(FILES).join(format!("{machine}.ron")) && is_ours(InstalledUnit::find(root, &template)) {
        return found(&format!("vfio-run@{machine}.service"), false);
    }
    Ok(None)
}

/// Where menus find it: this user's entries, or, for root, those of all users.
fn folder() -> Result<PathBuf> {
    if Uid::effective().is_root() {
        return Ok(PathBuf::from("/usr/local/share/applications"));
    }
    let data = Environment::of_this_process().xdg("XDG_DATA_HOME", ".local/share");
    Ok(data.context("neither XDG_DATA_HOME nor HOME is an absolute path")?.join("applications"))
}

/// The entry's text. systemctl asks polkit, which asks the user, if that is needed.
fn render(machine: &str, starts: &Starts) -> String {
    let user = if starts.of_user { "--user " } else { "" };
    format!(
        "\
[Desktop Entry]
Type=Application
Name={name}
Comment={comment}
Exec=systemctl {user}start {unit}
Icon=computer
Terminal=false
Categories=System;
",
        name = value(&format!("Start {machine}")),
        comment = value(&format!("Start the virtual machine {machine}")),
        unit = value(&argument(&starts.unit)),
    )
}

/// A value of the type `string`.
fn value(text: &str) -> String {
    let mut escaped = String::new();
    for (index, c) in text.chars().enumerate() {
        match c {
            ' ' if index == 0 => escaped.push_str("\\s"),
            '\n' => escaped.push_str("\\n"),
            '\t' => escaped.push_str("\\t"),
            '\r' => escaped.push_str("\\r"),
            '\\' => escaped.push_str("\\\\"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// An argument of a command in `Exec=`, whose value is escaped after that.
fn argument(text: &str) -> String {
    const RESERVED: &str = " \t\n\"'\\><~|&;$*?#()`";
    let text = text.replace('%', "%%");
    if !text.is_empty() && !text.contains(|c| RESERVED.contains(c)) {
        return text;
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        if "\"`$\\".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted + "\""
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_arguments_survive_a_menus_reading() {
        assert_eq!(value(" a\\b\nc"), "\\sa\\\\b\\nc");
        for (word, written) in [
            ("vfio-run-win11.service", "vfio-run-win11.service"),
            ("100%", "100%%"),
            ("my vm", "\"my vm\""),
            ("a\"$b\\", "\"a\\\"\\$b\\\\\""),
            ("", "\"\""),
        ] {
            assert_eq!(argument(word), written);
        }
    }

    #[test]
    fn the_entry_starts_the_unit_that_is_installed() {
        let dir = tempfile::tempdir().unwrap();
        // A file in the root that is read and one that can be looked for are the same here.
        let (root, file) = (Root::new(dir.path()), dir.path().join("win11.ron"));
        std::fs::write(&file, "").unwrap();
        let file = std::fs::canonicalize(file).unwrap();
        let write = |unit: &str, runs: &Path| {
            let unit = dir.path().join(unit);
            std::fs::create_dir_all(unit.parent().unwrap()).unwrap();
            std::fs::write(unit, format!("[Service]\nExecStart=/usr/bin/vfio-run run {}\n", runs.display())).unwrap();
        };
        let users = || Some(PathBuf::from("/home/a/.config/systemd/user"));
        let found = |users| starts(&root, "win11", &file, users).unwrap().map(|starts| (starts.unit, starts.of_user));
        assert_eq!(found(users()), None);
        // Another machine's unit is none of this one.
        write("etc/systemd/system/vfio-run-win11.service", Path::new("/srv/other.ron"));
        assert_eq!(found(users()), None);
        write("etc/systemd/system/vfio-run-win11.service", &file);
        assert_eq!(found(users()), Some(("vfio-run-win11.service".to_owned(), false)));
        write("home/a/.config/systemd/user/vfio-run-win11.service", &file);
        assert_eq!(found(users()), Some(("vfio-run-win11.service".to_owned(), true)));
        assert_eq!(found(None), Some(("vfio-run-win11.service".to_owned(), false)));
        write("usr/lib/systemd/system/vfio-run@.service", Path::new("/etc/vfio-run/%i.ron"));
        std::fs::remove_file(dir.path().join("etc/systemd/system/vfio-run-win11.service")).unwrap();
        assert_eq!(found(None), None, "the file is not where the template looks");
    }

    #[test]
    fn the_text_of_an_entry() {
        let starts = Starts { unit: "vfio-run@win11.service".to_owned(), of_user: false };
        let text = render("win11", &starts);
        assert!(
            text.contains("\nName=Start win11\n") && text.contains("\nExec=systemctl start vfio-run@win11.service\n")
        );
        let of_user = render("win11", &Starts { of_user: true, ..starts });
        assert!(of_user.contains("\nExec=systemctl --user start "), "{of_user}");
    }
}
