//! `vfio-run unit FILE`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};
use nix::unistd::Uid;

use super::shared::unit_file;
use crate::cli::{OutputArgs, UnitArgs};
use crate::machine;
use crate::report;
use crate::run::transient_unit::Waits;
use crate::units::{Stage, exit};

/// Prints, or installs, a systemd unit for the machine.
pub fn unit(args: &UnitArgs, output: OutputArgs) -> Result<u8> {
    let source = machine::read(&args.file)?;
    let file = std::fs::canonicalize(&args.file)?;
    let program = std::env::current_exe().context("cannot find out the path of this program")?;
    let name = unit_file::name_of(&source.machine.name);
    let limit = source.machine.shutdown_timeout().as_secs() as u32;
    let hooks = &source.machine.hooks;
    let waits = Waits {
        guest: limit,
        start: hooks.limit(&[Stage::Before, Stage::Ready]),
        end: hooks.limit(&[Stage::Ended, Stage::Restored]),
    };
    let text = unit_file::render(&source.machine.name, &program, &file, waits)?;
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

fn folder() -> Result<PathBuf> {
    if Uid::effective().is_root() {
        return Ok(PathBuf::from("/etc/systemd/system"));
    }
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".config")));
    Ok(config.context("neither XDG_CONFIG_HOME nor HOME is set")?.join("systemd/user"))
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
