//! `vfio-run unit FILE`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use nix::unistd::Uid;

use super::exit;
use crate::cli::{OutputArgs, UnitArgs};
use crate::host::WantedUnit;
use crate::machine;
use crate::report;
use crate::run::transient_unit::{DELEGATED, OOM_SCORE_ADJUST, Waits};
use crate::units::Stage;

/// Prints, or installs, a systemd unit for the machine.
pub fn unit(args: &UnitArgs, output: OutputArgs) -> Result<u8> {
    let source = machine::read(&args.file)?;
    let file = std::fs::canonicalize(&args.file)?;
    let program = std::env::current_exe().context("cannot tell where vfio-run is")?;
    let name = name_of(&source.machine.name);
    let limit = source.machine.shutdown_timeout().as_secs() as u32;
    let hooks = &source.machine.hooks;
    let waits = Waits {
        guest: limit,
        start: hooks.limit(&[Stage::Before, Stage::Ready]),
        end: hooks.limit(&[Stage::Ended, Stage::Restored]),
    };
    let text = render(&source.machine.name, &program, &file, waits)?;
    if !args.install {
        if output.json {
            report::json(&serde_json::json!({ "unit": name, "text": text }))?;
        } else {
            report::say(text.trim_end());
        }
        return Ok(exit::OK);
    }
    let folder = folder()?;
    std::fs::create_dir_all(&folder)?;
    let path = folder.join(&name);
    std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    tracing::info!("wrote {}", path.display());
    reload();
    let user = if Uid::effective().is_root() { "" } else { " --user" };
    tracing::info!("start it with `systemctl{user} start {name}`, at every boot with `systemctl{user} enable {name}`");
    if output.json {
        report::json(&serde_json::json!({ "unit": name, "path": path }))?;
    }
    Ok(exit::OK)
}

/// The unit's text. `KillMode=mixed`: only the launcher gets SIGTERM, and ends the guest by its power button; when the
/// launcher itself is killed, systemd kills the rest of the cgroup (QEMU) and then runs `ExecStopPost`, which finds the
/// journal and puts the host back (systemd.kill(5), systemd.service(5)).
fn render(name: &str, program: &Path, file: &Path, waits: Waits) -> Result<String> {
    let program = quote(program)?;
    let wanted_by = if Uid::effective().is_root() { "multi-user.target" } else { "default.target" };
    Ok(format!(
        "\
# Written by `vfio-run unit`; write it anew after the machine file or the program has moved.
[Unit]
Description=Virtual machine {name}
After=network.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={program}{run}
ExecStopPost={program} recover {name}
KillMode=mixed
# Enough to make a group for the guest; more would switch controllers on for the whole host.
Delegate={DELEGATED}
# A huge page reservation and the guest's memory can take minutes.
TimeoutStartSec={start}s
# The launcher ends a guest that does not power off after {limit} s; systemd waits longer than that.
TimeoutStopSec={stop}s
LimitMEMLOCK=infinity
OOMScoreAdjust={OOM_SCORE_ADJUST}

[Install]
WantedBy={wanted_by}
",
        run = runs(file)?,
        limit = waits.guest,
        start = waits.limit_of_start().as_secs(),
        stop = waits.limit_of_stop().as_secs(),
    ))
}

fn name_of(machine: &str) -> String {
    format!("vfio-run-{machine}.service")
}

/// What `ExecStart=` ends with in a unit for this file.
fn runs(file: &Path) -> Result<String> {
    Ok(format!(" run {}", quote(file)?))
}

/// The unit that may be installed for the machine of this file; `None` where no unit can name the file.
pub(super) fn wanted(machine: &str, file: &Path) -> Option<WantedUnit> {
    let ending = runs(&std::fs::canonicalize(file).ok()?).ok()?;
    Some(WantedUnit { name: name_of(machine), ending })
}

/// A path as one word of an ExecStart= line: in quotes, with `%` and `$` doubled (systemd.service(5), Command lines).
fn quote(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8, which a unit must be", path.display()))?;
    if text.contains(|c: char| c.is_control()) {
        bail!("{text:?} has a control character, which a unit cannot hold");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=".contains(c);
    let doubled = text.replace('%', "%%").replace('$', "$$");
    Ok(match text.chars().all(plain) {
        true => doubled,
        false => format!("\"{}\"", doubled.replace('\\', "\\\\").replace('"', "\\\"")),
    })
}

fn folder() -> Result<PathBuf> {
    if Uid::effective().is_root() {
        return Ok(PathBuf::from("/etc/systemd/system"));
    }
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    Ok(config.context("neither XDG_CONFIG_HOME nor HOME is set")?.join("systemd/user"))
}

/// Has systemd read the unit; where it does not run, the next boot will.
fn reload() {
    let mut systemctl = Command::new("systemctl");
    if !Uid::effective().is_root() {
        systemctl.arg("--user");
    }
    match systemctl.arg("daemon-reload").status() {
        Ok(status) if status.success() => {}
        Ok(status) => tracing::warn!("systemctl daemon-reload: {status}"),
        Err(error) => tracing::warn!("systemd was not told ({error}); run `systemctl daemon-reload`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_systemds_reading() {
        for (path, word) in [
            ("/usr/bin/vfio-run", "/usr/bin/vfio-run"),
            ("/srv/my vms/win 11.ron", "\"/srv/my vms/win 11.ron\""),
            ("/srv/100%/$HOME.ron", "\"/srv/100%%/$$HOME.ron\""),
            ("/srv/a\"b\\c", "\"/srv/a\\\"b\\\\c\""),
        ] {
            assert_eq!(quote(Path::new(path)).unwrap(), word);
        }
        assert!(quote(Path::new("/srv/a\nExecStart=/bin/sh")).is_err());
    }

    #[test]
    fn the_guests_time_is_less_than_systemds() {
        let render = |start, end| {
            let waits = Waits { guest: 120, start, end };
            render("win11", Path::new("/usr/bin/vfio-run"), Path::new("/srv/win11.ron"), waits).unwrap()
        };
        let text = render(0, 0);
        assert!(text.contains("TimeoutStopSec=210s\n") && text.contains("TimeoutStartSec=600s\n"), "{text}");
        let with_hooks = render(30, 90);
        assert!(with_hooks.contains("TimeoutStopSec=300s\n") && with_hooks.contains("TimeoutStartSec=630s\n"));
        assert!(text.contains("ExecStopPost=/usr/bin/vfio-run recover win11\n"), "{text}");
    }
}
