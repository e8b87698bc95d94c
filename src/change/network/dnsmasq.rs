//! dnsmasq(8) for the network that machines share: DHCP and names.
//!
//! It outlives the machine that starts it if another uses the network then, so under systemd it runs in a unit of its own,
//! and elsewhere as a daemon: it leaves its parent when it serves, so its start's exit status says whether it does.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use zbus::zvariant::Value;

use crate::change::error::{FileError, NetworkError};
use crate::change::program::run;
use crate::change::wait::wait_for;
use crate::child::Command;
use crate::host::Root;
use crate::systemd::blocking;
use crate::units::Subnet;

/// How long its start and its end may take.
const LIMIT: Duration = Duration::from_secs(20);
/// Its unit under systemd.
const UNIT: &str = "vfio-run-nat.service";

/// The dnsmasq of the shared network.
pub(super) struct Dnsmasq<'a> {
    /// The program.
    pub program: &'a Path,
    /// The network's folder.
    pub folder: &'a Path,
}

impl Dnsmasq<'_> {
    /// Has DHCP give this machine's card this address, from its next request on.
    pub fn keep_address(&self, machine: &str, guest: Option<(&str, Ipv4Addr)>) -> Result<(), FileError> {
        let path = self.folder.join("hosts").join(machine);
        let Some((mac, address)) = guest else { return Ok(()) };
        // It is told of new files by the kernel, and takes them up when it starts.
        std::fs::write(&path, format!("{mac},{address}\n")).map_err(FileError::io("write", &path))
    }

    /// Starts it, if it does not run.
    pub fn start(&self, root: &Root, bridge: &str, subnet: Subnet) -> Result<(), NetworkError> {
        if self.process(root).is_some() {
            return Ok(());
        }
        let failed = |why: String| NetworkError::Program { program: self.program.to_owned(), why };
        let arguments = self.arguments(bridge, subnet);
        if !root.path("/run/systemd/system").is_dir() {
            let mut command = Command::new(self.program);
            // It may outlive the machine, whose environment is none of its business.
            command.args(arguments).env_clear().current_dir(Path::new("/"));
            return run(command, "dnsmasq", LIMIT).map(drop).map_err(failed);
        }
        let program = self.program.to_string_lossy().into_owned();
        let argv: Vec<String> = std::iter::once(program.clone()).chain(arguments).collect();
        let pid_file = self.pid_file().to_string_lossy().into_owned();
        let asked = blocking(async |systemd| {
            systemd.reset_failed(UNIT).await;
            let properties = vec![
                ("Description", Value::from("DHCP and names for the guests of vfio-run")),
                ("Type", Value::from("forking")),
                ("PIDFile", Value::from(pid_file.clone())),
                ("ExecStart", Value::from(vec![(program.clone(), argv.clone(), false)])),
                ("CollectMode", Value::from("inactive-or-failed")),
            ];
            systemd.start_transient(UNIT, properties, Some(LIMIT)).await
        });
        asked.map_err(|error| failed(error.to_string()))?;
        match self.process(root) {
            Some(_) => Ok(()),
            None => Err(failed(format!("it ended at once; `journalctl -u {UNIT}` says why"))),
        }
    }

    /// Ends it, and waits for its end.
    pub fn stop(&self, root: &Root) -> Result<(), NetworkError> {
        let failed = |why: String| NetworkError::Program { program: self.program.to_owned(), why };
        let Some(pid) = self.process(root) else { return Ok(()) };
        // Held before it is looked at again, so that the number is no other process's.
        let Ok(held) = pidfd_open(pid, PidfdFlags::empty()) else { return Ok(()) };
        if self.process(root) != Some(pid) {
            return Ok(());
        }
        // Once it is gone there is nothing to end.
        let _ = pidfd_send_signal(&held, Signal::TERM);
        match wait_for(root, LIMIT, || self.process(root).is_none()) {
            true => Ok(()),
            false => Err(failed(format!("process {} does not end", pid.as_raw_nonzero()))),
        }
    }

    /// The process whose number it has written, if that is it: its arguments name its file.
    fn process(&self, root: &Root) -> Option<Pid> {
        let pid: i32 = std::fs::read_to_string(self.pid_file()).ok()?.trim().parse().ok()?;
        let arguments = root.text(format!("/proc/{pid}/cmdline"))?;
        let named = format!("--pid-file={}", self.pid_file().display());
        arguments.split('\0').any(|word| word == named).then(|| Pid::from_raw(pid))?
    }

    fn pid_file(&self) -> PathBuf {
        self.folder.join("dnsmasq.pid")
    }

    /// No other file of the host's has a say, no lease is written, and it serves the bridge alone.
    fn arguments(&self, bridge: &str, subnet: Subnet) -> Vec<String> {
        let (first, last) = (subnet.host(2), subnet.host(subnet.last_given()));
        let mut arguments = vec![
            "--conf-file=/dev/null".to_owned(),
            format!("--interface={bridge}"),
            "--except-interface=lo".to_owned(),
            format!("--dhcp-range={first},{last},12h"),
            format!("--dhcp-hostsdir={}", self.folder.join("hosts").display()),
            format!("--pid-file={}", self.pid_file().display()),
        ];
        let flags =
            ["--bind-dynamic", "--dhcp-leasefile=/dev/null", "--dhcp-authoritative", "--domain-needed", "--bogus-priv"];
        arguments.extend(flags.map(str::to_owned));
        arguments
    }
}
