//! All facts about the host together, and which of them are read for a machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::acpi::{self, AcpiTable};
use super::apparmor;
use super::files::{firmware, images, writable};
use super::input::Inputs;
use super::tpm_state::{self, TpmState};
use super::usb::Plugged;
use super::{
    Boot, Cpus, Cpusets, Descriptor, Desktop, Environment, FileFact, Group, InstalledUnit, Kvm, Logind, Memory,
    Network, Passt, Pci, Process, RenderNode, Root, SessionBus, Tcp, Tuning, UserNetwork, Virtiofsd, WantedBus,
    WantedDesktop, WantedTuning, WantedUnit, Writable, environment, groups, io_uring, lease, listening, machines, pci,
    process, render_nodes, smbios, usb, user_network,
};
use crate::units::{CpuSet, Forward, Protocol, Size};

/// What is known about the host: all that a plan may depend on. Plain data, so that a host captured with
/// `vfio-run host --json` can be planned for elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Host {
    /// Kernel release, as `uname -r`.
    pub kernel: String,
    /// Kernel command line, word by word.
    pub cmdline: Vec<String>,
    /// How the command line of the next boot is changed, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// How many requests of native asynchronous I/O all programs may have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aio: Option<AioRequests>,
    /// Microseconds of each period in which threads in real time may run on a CPU (`kernel.sched_rt_runtime_us`); -1: all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rt_runtime: Option<i64>,
    /// CPU topology.
    pub cpus: Cpus,
    /// Memory and huge pages by NUMA node.
    pub memory: Memory,
    /// What KVM can do here.
    pub kvm: Kvm,
    /// Whether the kernel refuses io_uring to a QEMU of the account that it is to have.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub refuses_io_uring: bool,
    /// Firmware descriptors in order of priority, overrides applied.
    pub firmware: Vec<Descriptor>,
    /// The session, unit, cgroup and user that this program runs in.
    pub process: Process,
    /// Where programs were found in PATH: QEMU and its helpers.
    pub programs: BTreeMap<String, PathBuf>,
    /// The files that the machine names, as they are: images, kernels, variable stores.
    pub files: BTreeMap<PathBuf, FileFact>,
    /// The accounts that the machine names: user and group id by name.
    #[serde(default)]
    pub accounts: BTreeMap<String, (u32, u32)>,
    /// PCI devices, if the machine has any passed through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pci: Option<Pci>,
    /// The nodes of GPUs that render, if the machine has one render for the guest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub render_nodes: Option<Vec<RenderNode>>,
    /// The virtiofsd that is installed, if a machine may need it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub virtiofsd: Option<Virtiofsd>,
    /// USB devices that are plugged in, if the machine has some of them or of `input`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usb: Option<Vec<Plugged>>,
    /// Keyboards, mice and other event devices, if the machine has some of them or of `usb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Inputs>,
    /// What a network without privileges depends on, if the machine has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_network: Option<UserNetwork>,
    /// systemd-logind, which keeps the host from suspending and holds up its shutdown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub logind: Option<Logind>,
    /// What can be tuned for a run, if the machine tunes its host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuning: Option<Tuning>,
    /// What the cgroups say about CPUs, if the machine's vCPUs may get CPUs of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpusets: Option<Cpusets>,
    /// The groups of processes that the machine names; `None`: there is none of this name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub groups: BTreeMap<String, Option<Group>>,
    /// The network interfaces, if the machine uses any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<Network>,
    /// Who listens on the TCP ports that the machine listens on, if it does on any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Tcp>,
    /// The files with ACPI tables that the machine names; `None`: it could not be read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub acpi_tables: BTreeMap<PathBuf, Option<AcpiTable>>,
    /// What the folder with a TPM's state is like, if the machine names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm_state: Option<TpmState>,
    /// What the folder with the state of the machine's own TPM is like, if it may have one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_tpm_state: Option<TpmState>,
    /// The types of structures that the host's SMBIOS tables have, if the machine wants them and they can be read. Not what
    /// stands in them: serial numbers belong in no captured host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub smbios: Option<BTreeSet<u8>>,
    /// The memory of the kernel module kvmfr (Looking Glass), if it is loaded; 0 if it was told none, and has no device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kvmfr: Option<Size>,
    /// The machine that has the memory of Looking Glass, or had it and did not remove it, if the machine wants that memory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub looking_glass: Option<String>,
    /// The desktop's user and that user's sound servers, if the machine needs them and there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desktop: Option<Desktop>,
    /// The session bus, if the machine needs it and its place is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_bus: Option<SessionBus>,
    /// The CPUs of the vCPUs of other machines that run, if these are pinned.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub machines: BTreeMap<String, CpuSet>,
    /// The unit that is installed under the name of the machine's unit, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub installed_unit: Option<InstalledUnit>,
    /// Whether AppArmor's profile of swtpm names the folder that the program keeps a TPM's state in. `None` if swtpm is not
    /// confined, or that was not looked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swtpm_profile: Option<bool>,
    /// The file or folder by which users other than root can change the machine file, or one that it is based on, if there is
    /// one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub machine_file: Option<Writable>,
}

/// How many requests of native asynchronous I/O there may be (`Documentation/admin-guide/sysctl/fs.rst`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct AioRequests {
    /// Room that programs have reserved (`fs.aio-nr`).
    pub used: u64,
    /// Room for all of them (`fs.aio-max-nr`).
    pub most: u64,
}

/// What a machine refers to, so that no more is looked at than a plan needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Images, kernels, variable stores: absolute paths.
    pub files: Vec<PathBuf>,
    /// Programs: a name that is looked up in PATH, or a path.
    pub programs: Vec<String>,
    /// The machine's name; `None`: a host is captured before there is one.
    pub machine: Option<String>,
    /// The program among them that is QEMU.
    pub qemu: Option<String>,
    /// Accounts by name.
    pub accounts: Vec<String>,
    /// What is kept for the machine, by its path below the state folder: `win11/vars.fd`. With any, the templates of the
    /// firmware are looked at too.
    pub kept: Vec<PathBuf>,
    /// Functions that are to be looked at closely; `None`: PCI is not looked at.
    pub pci: Option<pci::WantedPci>,
    /// Whether the GPUs that render are looked for.
    pub render_nodes: bool,
    /// Whether virtiofsd is looked for, and asked what it can do.
    pub virtiofsd: bool,
    /// Paths of event devices; `None`: neither USB devices nor event devices are looked at.
    pub desk: Option<Vec<PathBuf>>,
    /// Whether the machine has a network without privileges.
    pub user_network: bool,
    /// Ports that lead to the guest.
    pub forwards: Vec<Forward>,
    /// What is to be tuned; `None`: nothing of it is looked at.
    pub tuning: Option<WantedTuning>,
    /// Whether the cgroups' CPUs are looked at.
    pub cpusets: bool,
    /// Groups of processes, by their units.
    pub groups: Vec<String>,
    /// Whether the network interfaces are looked at.
    pub network: bool,
    /// TCP ports; if there are none, nothing of TCP is looked at.
    pub ports: BTreeSet<u16>,
    /// Files with ACPI tables.
    pub acpi_tables: Vec<PathBuf>,
    /// The folder with a TPM's state.
    pub tpm_state: Option<PathBuf>,
    /// The folder with the state of the machine's own TPM, below the state folder: `win11/tpm`.
    pub own_tpm_state: Option<PathBuf>,
    /// The host's SMBIOS tables.
    pub smbios: bool,
    /// Whether the machine shares memory with Looking Glass.
    pub looking_glass: bool,
    /// The desktop's user; `None`: not looked for.
    pub desktop: Option<WantedDesktop>,
    /// The session bus; `None`: not looked for.
    pub session_bus: Option<WantedBus>,
    /// The unit that may be installed for the machine.
    pub unit: Option<WantedUnit>,
    /// The machine file, and those that it is based on.
    pub machine_files: Vec<PathBuf>,
}

impl Host {
    /// Reads the host for this process, in its own environment.
    pub fn read(root: &Root, wanted: &Wanted) -> Self {
        Self::read_in(root, &Environment::of_this_process(), wanted)
    }

    /// Reads the host as a process with this environment sees it.
    pub fn read_in(root: &Root, environment: &Environment, wanted: &Wanted) -> Self {
        let status = process::Status::read(root);
        let memory = Memory::read(root, status.mems_allowed.as_ref());
        let cpus = Cpus::read(root, &memory, Cpusets::own(root, &status.cgroups), status.cpus_allowed.clone());
        let process = Process::read(root, environment, &status);
        let leases = lease::folder(&process.run_dir);
        let of_itself = wanted.machine.as_ref().is_some_and(|name| lease::has_journal(&root.path(&leases), name));
        let programs = environment::find_programs(root, environment, &wanted.programs);
        // They answer while the rest is read.
        let cache = process.cache_dir.as_deref();
        let passt = programs.get(Passt::PROGRAM).filter(|_| wanted.user_network);
        let passt = passt.map(|path| Passt::ask(root, path, cache));
        let virtiofsd = if wanted.virtiofsd { Virtiofsd::ask(root, environment, cache) } else { None };
        let qemu = wanted.qemu.as_ref().and_then(|name| programs.get(name));
        let firmware = firmware::read(root, environment, process.uid, qemu.map(PathBuf::as_path));
        let mut files = wanted.files.clone();
        if !wanted.kept.is_empty() {
            files.extend(wanted.kept.iter().map(|path| process.state_dir.join(path)));
            files.extend(firmware.iter().map(|descriptor| descriptor.vars.clone()));
        }
        let listens = wanted.user_network || !wanted.ports.is_empty();
        let listening = if listens { listening::sockets(root, Protocol::Tcp) } else { Vec::new() };
        let kernel = root.text("/proc/sys/kernel/osrelease").unwrap_or_default();
        // A user's own state is in the home, which the profile names.
        let swtpm = wanted.programs.iter().any(|name| name == "swtpm") && process.uid == 0;
        Self {
            swtpm_profile: swtpm.then(|| apparmor::swtpm_names(root, &process.state_dir)).flatten(),
            boot: Boot::read(root, &kernel),
            aio: AioRequests::read(root),
            rt_runtime: root.parse("/proc/sys/kernel/sched_rt_runtime_us"),
            kernel,
            cmdline: words(&root.text("/proc/cmdline").unwrap_or_default()),
            kvm: Kvm::read(root, &cpus),
            refuses_io_uring: !io_uring::allowed(root, &status.groups_of_qemu()),
            firmware,
            pci: wanted.pci.as_ref().map(|wanted| Pci::read(root, wanted, &leases)),
            render_nodes: wanted.render_nodes.then(|| render_nodes::read(root)),
            usb: wanted.desk.as_ref().map(|_| usb::plugged(root, &leases)),
            input: wanted.desk.as_ref().map(|paths| Inputs::read(root, paths)),
            logind: Some(Logind::read(root)),
            tuning: wanted.tuning.as_ref().map(|wanted| Tuning::read(root, wanted)),
            cpusets: wanted.cpusets.then(|| Cpusets::read(root, process.cgroup.as_deref())),
            groups: groups::find(root, &wanted.groups),
            network: wanted.network.then(|| Network::read(root)),
            tcp: (!wanted.ports.is_empty()).then(|| Tcp::read(root, &wanted.ports, &listening)),
            acpi_tables: wanted.acpi_tables.iter().map(|path| (path.clone(), acpi::look(root, path))).collect(),
            tpm_state: wanted.tpm_state.as_ref().map(|folder| tpm_state::look(root, folder)),
            own_tpm_state: wanted
                .own_tpm_state
                .as_ref()
                .map(|folder| tpm_state::look(root, &process.state_dir.join(folder))),
            smbios: if wanted.smbios { smbios::types(root) } else { None },
            kvmfr: kvmfr(root),
            looking_glass: wanted
                .looking_glass
                .then(|| lease::owner(&root.path(&leases), lease::LOOKING_GLASS))
                .flatten(),
            desktop: wanted.desktop.as_ref().and_then(|wanted| Desktop::read(root, environment, &process, wanted)),
            session_bus: wanted
                .session_bus
                .as_ref()
                .and_then(|wanted| SessionBus::read(root, environment, &process, wanted)),
            installed_unit: wanted.unit.as_ref().and_then(|wanted| InstalledUnit::find(root, wanted)),
            machines: machines::cpus(root, &process.run_dir, wanted.machine.as_deref()),
            machine_file: wanted.machine_files.iter().find_map(|file| writable::by_others(root, environment, file)),
            process,
            programs,
            files: images::read(root, &files),
            accounts: accounts(&wanted.accounts),
            cpus,
            memory,
            virtiofsd: virtiofsd.map(|asked| asked.answer(root)),
            user_network: wanted.user_network.then(|| {
                let passt = passt.map(user_network::Asked::answer);
                UserNetwork::read(root, passt, of_itself, &wanted.forwards, &listening)
            }),
        }
    }
}

impl AioRequests {
    fn read(root: &Root) -> Option<Self> {
        let number = |name| root.parse(format!("/proc/sys/fs/{name}"));
        Some(Self { used: number("aio-nr")?, most: number("aio-max-nr")? })
    }
}

/// The size that the module has its first device make, in MiB (`static_size_mb`, one number a device).
fn kvmfr(root: &Root) -> Option<Size> {
    let sizes = root.text_up_to("/sys/module/kvmfr/parameters/static_size_mb", 4096)?;
    let first: u64 = if sizes.is_empty() { 0 } else { sizes.split(',').next()?.parse().ok()? };
    first.checked_mul(Size::MIB).map(Size::bytes)
}

/// User and group id of each account that the system knows (getpwnam(3)), wherever it keeps them.
fn accounts(names: &[String]) -> BTreeMap<String, (u32, u32)> {
    let known = names.iter().filter_map(|name| {
        let user = nix::unistd::User::from_name(name).ok().flatten()?;
        Some((name.clone(), (user.uid.as_raw(), user.gid.as_raw())))
    });
    known.collect()
}

/// Splits a kernel command line at white space outside double quotes, as the kernel does (`next_arg()` in
/// `lib/cmdline.c`); the quotes stay.
fn words(line: &str) -> Vec<String> {
    let mut quoted = false;
    line.split(|c: char| {
        quoted ^= c == '"';
        c.is_ascii_whitespace() && !quoted
    })
    .filter(|word| !word.is_empty())
    .map(str::to_owned)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_root_is_read_as_unknown_not_as_no() {
        let folder = tempfile::tempdir().unwrap();
        let host = Host::read_in(&Root::new(folder.path()), &Environment::default(), &Wanted::default());
        assert_eq!(host.memory.total, None);
        assert_eq!(host.kvm.virtualization, None);
        assert_eq!(host.cpus.vendor, None);
        assert!(host.cpus.list.is_empty());
    }

    #[test]
    fn the_memory_of_looking_glass_is_that_of_the_modules_first_device() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(kvmfr(&root), None);
        let parameter = root.path("/sys/module/kvmfr/parameters/static_size_mb");
        std::fs::create_dir_all(parameter.parent().unwrap()).unwrap();
        for (text, mib) in [("128,64\n", Some(128)), ("32\n", Some(32)), ("\n", Some(0)), ("x\n", None)] {
            std::fs::write(&parameter, text).unwrap();
            assert_eq!(kvmfr(&root), mib.map(|mib| Size::bytes(mib << 20)), "{text}");
        }
    }

    #[test]
    fn survives_serde() {
        let wanted = Wanted {
            files: vec!["/etc/passwd".into()],
            programs: vec!["sh".into()],
            qemu: Some("sh".into()),
            machine: Some("win11".to_owned()),
            accounts: vec!["root".into(), "nobody at all".into()],
            kept: vec![],
            pci: Some(pci::WantedPci { all: true, ..Default::default() }),
            render_nodes: true,
            virtiofsd: true,
            desk: Some(vec![]),
            user_network: true,
            forwards: Vec::new(),
            tuning: Some(WantedTuning::default()),
            cpusets: true,
            groups: vec!["init.scope".to_owned()],
            network: true,
            ports: [22].into(),
            acpi_tables: vec!["/etc/passwd".into()],
            looking_glass: true,
            tpm_state: Some("/etc".into()),
            own_tpm_state: Some("win11/tpm".into()),
            smbios: true,
            desktop: None,
            session_bus: None,
            unit: None,
            machine_files: vec![],
        };
        let host = Host::read(&Root::new("/"), &wanted);
        assert_eq!(host.accounts.into_iter().collect::<Vec<_>>(), [("root".to_owned(), (0, 0))]);
        let host = Host::read(&Root::new("/"), &wanted);
        let text = serde_json::to_string(&host).unwrap();
        assert_eq!(serde_json::from_str::<Host>(&text).unwrap(), host);
    }

    #[test]
    fn quoted_words_of_the_command_line_stay_whole() {
        assert_eq!(
            words("quiet dyndbg=\"file a +p\"  isolcpus=4-7"),
            ["quiet", "dyndbg=\"file a +p\"", "isolcpus=4-7"]
        );
        assert_eq!(words(""), Vec::<String>::new());
    }
}
