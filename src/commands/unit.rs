//! `vfio-run unit FILE`.

mod desktop_entry;

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::unistd::Uid;

use super::shared::{unit_file, whole_file};
use crate::cli::{OutputArgs, UnitArgs};
use crate::host::{Environment, InstalledUnit, Root};
use crate::machine;
use crate::plan::UnitGroup;
use crate::report;
use crate::units::exit;

/// Prints, or installs, a systemd unit for the machine; or prints the template for many.
pub fn unit(args: &UnitArgs, output: OutputArgs) -> Result<u8> {
    let program = std::env::current_exe().context("cannot find out the path of this program")?;
    let Some(file) = args.file.as_deref() else {
        return print(InstalledUnit::TEMPLATE, &unit_file::template(&program)?, output);
    };
    let source = machine::read(file)?;
    let file = std::fs::canonicalize(file)?;
    if args.desktop {
        return desktop_entry::desktop_entry(&source.machine.name, &file, folder()?, args.install, output);
    }
    let name = unit_file::name_of(&source.machine.name);
    let group = UnitGroup::of(&source.machine, unit_file::cpusets().as_ref());
    let text = unit_file::render(&source.machine.name, &program, &file, unit_file::waits(&source.machine), &group)?;
    if !args.install {
        return print(&name, &text, output);
    }
    // As sd_booted(3) asks it. Nothing would start the unit, and nothing says that anything ever will.
    if !Root::new("/").path("/run/systemd/system").is_dir() {
        bail!(
            "this host does not run systemd, so nothing would start the unit; without `--install` the unit is printed"
        );
    }
    let folder = folder()?;
    if let Some(instance) = unit_file::instance(&file)
        && let Some(link) = enabled(&folder, &instance)
    {
        bail!(
            "{instance} runs this file and is enabled ({}): `systemctl disable {instance}` first, or leave it at that",
            link.display()
        );
    }
    let path = install(&folder, &name, &text)?;
    tracing::info!("wrote {}", path.display());
    reload();
    let user = if Uid::effective().is_root() { "" } else { " --user" };
    tracing::info!("start it with `systemctl{user} start {name}`, at every boot with `systemctl{user} enable {name}`");
    if output.json {
        report::json(&serde_json::json!({ "unit": name, "path": path }))?;
    }
    Ok(exit::OK)
}

fn print(name: &str, text: &str, output: OutputArgs) -> Result<u8> {
    if output.json {
        report::json(&serde_json::json!({ "unit": name, "text": text }))?;
    } else {
        report::say(text.trim_end());
    }
    Ok(exit::OK)
}

/// The link by which a unit of this name is started at boot (systemd.unit(5), `WantedBy=`).
fn enabled(folder: &Path, unit: &str) -> Option<PathBuf> {
    let targets = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let of_targets = targets.filter(|path| path.extension().is_some_and(|kind| kind == "wants" || kind == "requires"));
    of_targets.map(|path| path.join(unit)).find(|link| link.is_symlink())
}

/// Writes the unit whole or not at all, and never through a link: a unit that is masked is a link to `/dev/null`.
fn install(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    let shown = path.display();
    std::fs::create_dir_all(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    if let Ok(target) = std::fs::read_link(&path) {
        if target == Path::new("/dev/null") {
            bail!("{shown} is masked; `systemctl unmask {name}` allows it");
        }
        bail!("{shown} is a link to {}; remove the link, or print the unit without `--install`", target.display());
    }
    whole_file::write(&path, text.as_bytes())?;
    Ok(path)
}

fn folder() -> Result<PathBuf> {
    if Uid::effective().is_root() {
        return Ok(PathBuf::from("/etc/systemd/system"));
    }
    // Relative ones are ignored, as everywhere.
    let config = Environment::of_this_process().xdg("XDG_CONFIG_HOME", ".config");
    Ok(config.context("neither XDG_CONFIG_HOME nor HOME is an absolute path")?.join("systemd/user"))
}

/// Has systemd read the unit; if it does not run, the next boot will.
fn reload() {
    let mut systemctl = Command::new("systemctl");
    if !Uid::effective().is_root() {
        systemctl.arg("--user");
    }
    match systemctl.arg("daemon-reload").status() {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::warn!("systemctl daemon-reload: {status}"),
        Err(error) => tracing::warn!("cannot run systemctl ({error}); run `systemctl daemon-reload`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_of_the_template_is_enabled_if_a_target_wants_it() {
        let dir = tempfile::tempdir().unwrap();
        let unit = "vfio-run@a.service";
        std::os::unix::fs::symlink("/nowhere", dir.path().join(unit)).unwrap();
        assert_eq!(enabled(dir.path(), unit), None);
        let wants = dir.path().join("multi-user.target.wants");
        std::fs::create_dir(&wants).unwrap();
        assert_eq!(enabled(dir.path(), unit), None);
        std::os::unix::fs::symlink("/nowhere", wants.join(unit)).unwrap();
        assert_eq!(enabled(dir.path(), unit), Some(wants.join(unit)));
        assert_eq!(enabled(&dir.path().join("missing"), unit), None);
    }

    #[test]
    fn a_unit_is_written_whole_and_never_through_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("systemd/user");
        let path = install(&folder, "a.service", "one").unwrap();
        install(&folder, "a.service", "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 1);
        std::fs::remove_file(&path).unwrap();
        for (target, words) in [("/dev/null", "is masked"), ("elsewhere", "is a link to elsewhere")] {
            std::os::unix::fs::symlink(target, &path).unwrap();
            let refused = install(&folder, "a.service", "three").unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
            std::fs::remove_file(&path).unwrap();
        }
        assert!(!folder.join("elsewhere").exists());
    }
}
