//! The folders and files of a machine.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::host::Host;
use crate::machine::Machine;

/// The folders and files of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// Run directory, mode 0700, ours: sockets, lock, journal.
    pub run: PathBuf,
    /// Folder for the sockets that QEMU must make itself (VNC, SPICE), mode 0700, owned by QEMU's account.
    pub display: PathBuf,
    /// State directory: variable store, TPM. QEMU's account must be able to pass through it.
    pub state: PathBuf,
    /// QEMU's and the helpers' output.
    pub log: PathBuf,
}

impl Paths {
    /// This machine's on this host.
    pub fn of(machine: &Machine, host: &Host) -> Self {
        let process = &host.process;
        Self {
            run: process.run_dir.join(&machine.name),
            // Beside the run directory, not in it: QEMU's account may not pass through a folder that is ours alone.
            display: process.run_dir.with_file_name("vfio-run-display").join(&machine.name),
            state: process.state_dir.join(&machine.name),
            log: process.log_dir.join(format!("{}.log", machine.name)),
        }
    }
}
