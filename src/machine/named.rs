//! What a machine names of its host, so that it can be looked up before a plan is made.

use std::collections::BTreeSet;
use std::path::PathBuf;

use crate::units::PciSlot;

/// What the host must be asked about for a machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Named {
    /// Files and device nodes: absolute paths.
    pub files: Vec<PathBuf>,
    /// Programs: a name that is looked up in PATH, or a path.
    pub programs: Vec<String>,
    /// Accounts, by name or number.
    pub accounts: Vec<String>,
    /// Files that are kept for the machine from run to run, by their names in its folder.
    pub kept: Vec<&'static str>,
    /// Whether the desktop's user is to be found, and that user's sound servers.
    pub desktop: bool,
    /// The account that is meant by it, by name or number; `None`: whose desktop it is.
    pub desktop_user: Option<String>,
    /// The bus that the screen is shown on; `Some(None)`: the session bus.
    pub session_bus: Option<Option<String>>,
    /// Whether virtiofsd may be needed.
    pub virtiofsd: bool,
    /// PCI devices.
    pub slots: Vec<PciSlot>,
    /// Files with ROMs of PCI devices; they are among `files` too.
    pub roms: Vec<PathBuf>,
    /// Files with ACPI tables; they are among `files` too.
    pub acpi_tables: Vec<PathBuf>,
    /// The folder with a TPM's state; it is among `files` too.
    pub tpm_state: Option<PathBuf>,
    /// Whether swtpm may keep a TPM's state for the machine.
    pub own_tpm: bool,
    /// The host's SMBIOS tables.
    pub smbios: bool,
    /// Whether the GPUs that render are looked for.
    pub render_nodes: bool,
    /// Whether it has USB devices or event devices of the host.
    pub desk: bool,
    /// Event devices; they are among `files` too.
    pub inputs: Vec<PathBuf>,
    /// Units of the system.
    pub units: Vec<String>,
    /// Units of users' service managers.
    pub user_units: Vec<String>,
    /// Groups of processes, by their units.
    pub groups: Vec<String>,
    /// Whether the host's network interfaces matter.
    pub network: bool,
    /// TCP ports of the host that QEMU or a helper listens on.
    pub ports: BTreeSet<u16>,
}
