//! `vfio-run console NAME`: joins the serial port of a running machine.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::errno::Errno;
use serde_json::json;

use super::shared::machines;
use super::shared::outcome::block_on;
use crate::cli::{MachineArgs, OutputArgs};
use crate::plan::{Inherited, Plan};
use crate::qemu::Qmp;
use crate::run::{self, Visited};
use crate::units::exit;

const SOCKET: &str = "serial.sock";
/// The port's name in QEMU.
const PORT: &str = "serial0";
/// How long QEMU may take to say who has the port.
const QEMU: Duration = Duration::from_secs(2);

/// Joins this terminal, or what is there in its place, until Ctrl-] or the guest's end.
pub fn console(args: &MachineArgs, _: OutputArgs) -> Result<u8> {
    let name = args.name.as_str();
    let run_dir = machines::run_dir(name)?;
    if !run::guest_runs(&run_dir) {
        bail!(machines::does_not_run(name));
    }
    machines::refuse_stopped_qemu(name, &run_dir)?;
    let plan = run::kept_plan(&run_dir)?;
    let listens = |path: &Path| path.ends_with(SOCKET);
    if !plan.descriptors.iter().any(|d| matches!(&d.what, Inherited::Listen(path) if listens(path))) {
        bail!("{name} has no serial port that could be joined; `serial: Socket` in its file gives it one");
    }
    let visited = block_on(async {
        if is_taken(&run_dir).await == Some(true) {
            bail!(taken(&plan, &run_dir));
        }
        let serial = UnixStream::connect(run_dir.join(SOCKET));
        run::visit_console(serial.with_context(|| format!("cannot reach the serial port of {name}"))?).await
    })?;
    match visited {
        Visited::Left => tracing::info!("left the console; {name} goes on"),
        Visited::Closed => tracing::info!("{name} has closed its serial port: it has ended, or restarts"),
        // The reader has enough (`| head`).
        Visited::Unwritten(Errno::EPIPE) => {}
        Visited::Unwritten(error) => {
            bail!("left the console, since standard output cannot be written ({}); {name} goes on", error.desc())
        }
        Visited::Signal(signal) => tracing::info!("{signal}: left the console; {name} goes on"),
    }
    Ok(exit::OK)
}

/// Whether somebody has the port: QEMU serves one at a time, and lets others wait without a word. `None` if it cannot be asked.
async fn is_taken(run_dir: &Path) -> Option<bool> {
    let stream = tokio::net::UnixStream::connect(run_dir.join("qmp.sock")).await.ok()?;
    let mut qmp = Qmp::negotiate(stream, QEMU).await.ok()?;
    let chardevs = qmp.execute_raw_within("query-chardev", json!({}), QEMU).await.ok()?;
    let port = chardevs.as_array()?.iter().find(|chardev| chardev["label"] == PORT)?;
    Some(!port["filename"].as_str()?.starts_with("disconnected:"))
}

/// Who has the port, as far as that is known.
fn taken(plan: &Plan, run_dir: &Path) -> String {
    let name = &plan.name;
    match run::Lock::owner(run_dir) {
        Some(owner) if plan.console => {
            let pid = owner.pid.map_or_else(String::new, |pid| format!(" (process {pid})"));
            format!(
                "the launcher of {name}{pid} has its serial port, as `serial: Console` says: its terminal is the console, or the \
                 journal of its unit. With `serial: Socket` in its file the port is free for `vfio-run console {name}`"
            )
        }
        _ => format!("another program has the serial port of {name}, which serves one at a time"),
    }
}
