//! How QEMU and the helpers are started.

use std::fs::OpenOptions;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::child::{Command, Session};
use crate::plan::{Account, Cgroup, Helper, Plan};
use crate::run::kept::log::Log;
use crate::run::process::Watched;

/// The variables that QEMU's displays and sound need of the environment; it gets no others.
const PASSED_ON: [&str; 11] = [
    "PATH",
    "HOME",
    "LANG",
    "LC_ALL",
    "TZ",
    "DISPLAY",
    "XAUTHORITY",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
    "PIPEWIRE_RUNTIME_DIR",
    "PULSE_SERVER",
];

/// Starts a helper with its end of the socket pair.
pub(in crate::run) fn spawn_helper(helper: &Helper, end: OwnedFd, plan: &Plan, log: &Log) -> Result<Watched> {
    let (program, arguments) = helper.argv.split_first().context("a helper without a program")?;
    let mut command = Command::new(program);
    command.args(arguments).fd(helper.fd, end);
    prepare(&mut command, plan, log)?;
    Watched::child(command.spawn()?.id() as i32)
}

/// What QEMU and the helpers have in common: no terminal, a session and an environment of their own, their own user,
/// started on the emulator's CPUs in the guest's cgroup, output into the log.
pub(in crate::run) fn prepare(command: &mut Command, plan: &Plan, log: &Log) -> Result<()> {
    command.env_clear().session(Session::Own).umask(0o077).affinity(&plan.placement.emulator);
    command.current_dir(Path::new("/"));
    if let Cgroup::Made(path) = &plan.cgroup {
        let procs = path.join("cgroup.procs");
        let procs =
            OpenOptions::new().write(true).open(&procs).with_context(|| format!("cannot open {}", procs.display()))?;
        command.cgroup_procs(procs.into());
    }
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdout(Stdio::from(log.output()?)).stderr(Stdio::from(log.output()?));
    if let Some(Account { uid, gid, groups }) = &plan.account {
        command.user(*uid, *gid, groups);
    }
    Ok(())
}
