//! How QEMU and the helpers are started.

use std::fs::OpenOptions;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::child::{Command, Session};
use crate::journal::{Journal, Record};
use crate::plan::{Account, Cgroup, Plan};
use crate::run::kept::log::Log;
use crate::run::process::{Watched, start_time};

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

/// What QEMU and the helpers have in common: no terminal, a session and an environment of their own, their own user,
/// started on the emulator's CPUs in the guest's cgroup, output into the log. `account`: `None` is ours.
pub(in crate::run) fn prepare(command: &mut Command, plan: &Plan, account: Option<&Account>, log: &Log) -> Result<()> {
    command.env_clear().session(Session::Own).umask(0o077).affinity(&plan.placement.emulator);
    command.current_dir(Path::new("/"));
    join_cgroup(command, plan)?;
    for name in PASSED_ON {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command.stdout(Stdio::from(log.output()?)).stderr(Stdio::from(log.output()?));
    if let Some(Account { uid, gid, groups }) = account {
        command.user(*uid, *gid, groups);
    }
    Ok(())
}

/// Has it start in the guest's cgroup, if the launcher makes that.
pub(super) fn join_cgroup(command: &mut Command, plan: &Plan) -> Result<()> {
    if let Cgroup::Made(path) = &plan.cgroup {
        let procs = path.join("cgroup.procs");
        let procs =
            OpenOptions::new().write(true).open(&procs).with_context(|| format!("cannot open {}", procs.display()))?;
        command.cgroup_procs(procs.into());
    }
    Ok(())
}

/// Notes in the journal that a process was started.
pub(in crate::run) fn note_start(journal: &mut Journal, name: &str, process: &Watched) -> Result<()> {
    let pid = process.pid();
    // If the process has exited already, the next wait finds that out; 0 matches no process.
    let start_time = start_time(pid).unwrap_or(0);
    journal.append(Record::Started { name: name.to_owned(), pid, start_time })?;
    Ok(())
}
