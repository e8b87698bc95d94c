//! The command line: the one source of help, man pages and completions.

mod keys;
mod known;
mod read;
mod running;
#[cfg(test)]
mod tests;
mod words;

use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueHint};
pub use keys::Keys;
pub use known::MACHINE_NAMES;
use known::{Known, machine_name};
pub use running::{
    AgentArgs, AgentVerb, AttachArgs, Cables, CdArgs, DeviceArgs, DiskArgs, LinkArgs, MachineArgs, QmpArgs,
    ScreenshotArgs, SendKeyArgs, StopArgs, TopArgs, ViewArgs,
};

use crate::machine::Fields;
use crate::manual;

/// The verb of what systemd starts as a generator.
const GENERATOR_VERB: &str = "generate-units";

const AFTER_HELP: &str = "\
Exit codes:
  0  the guest shut down and the host is as it was; or the command did what was asked
  1  the machine could not start, or the command could not do it; the host is as it was
  2  the machine file or the arguments are wrong
  3  the check refused (also `plan` and `check`); nothing was changed
  4  QEMU or the guest crashed, was ended by force, or showed no life in time
     (`give_back_unless`); the host is as it was
  5  something of the host could not be restored; the messages name it

Ending a guest:
  Ctrl-C, SIGTERM or `vfio-run stop NAME` press its power button until its time is up
  (`shutdown_timeout`). A second Ctrl-C, two seconds later, or `stop --force` forces QEMU
  to quit, a third kills QEMU.
  If the terminal is the guest's console, press Ctrl-] instead of Ctrl-C.

Examples:
  vfio-run new                       write a machine file: asks, and looks at this host
  vfio-run win11.ron                 start the machine
  vfio-run check win11.ron           go or no-go, with reasons
  vfio-run plan --explain win11.ron  what would be done, and why
  vfio-run cpus win11.ron            a picture of the host's CPUs with the machine's threads
  vfio-run unit --install win11.ron  a systemd unit: systemctl start vfio-run-win11
  vfio-run recover                   restore what a killed launcher left behind
  vfio-run help disks.cache          a field of the machine file
  vfio-run man troubleshooting       what to do, by symptom";

/// Starts a GPU-passthrough virtual machine directly on QEMU and restores the host afterwards.
///
/// One file describes the machine. `vfio-run win11.ron` plans, checks, prepares the host, starts the guest with every
/// thread placed on its CPUs, and restores the host when the guest has ended, whatever happens in between.
#[derive(Debug, Parser)]
#[command(name = "vfio-run", version, after_help = AFTER_HELP)]
#[command(override_usage = "vfio-run [OPTIONS] FILE\n       vfio-run [OPTIONS] COMMAND")]
#[command(arg_required_else_help = true, subcommand_required = true, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do; `run` if there is just a file.
    #[command(subcommand)]
    pub command: Command,
    /// How much to say, and in what form.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl Cli {
    /// How messages look. With `--json`, a command that stays while a guest runs prints all of them as JSON lines on
    /// standard output; any other prints the one value that was asked for there, and messages as plain lines on standard
    /// error.
    pub fn messages(&self) -> OutputArgs {
        let stays = match &self.command {
            Command::Run(_) => true,
            Command::Recover(args) => args.adopt,
            _ => false,
        };
        OutputArgs { json: self.output.json && stays, ..self.output }
    }
}

/// How much to say, and in what form.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// Say more; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say only what went wrong: no advice, and nothing that is as it should be
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print JSON for scripts on standard output: one value, or with `run` and `recover --adopt` one line for each message
    #[arg(long, global = true)]
    pub json: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the machine and stay until it has ended
    Run(RunArgs),
    /// Show what `run` would do; changes nothing
    ///
    /// It starts QEMU for a moment to ask what it can do, and keeps the answer in the cache directory. It asks again when
    /// the binary or its modules have changed. Whether KVM runs a guest is also asked again after a boot, when /dev/kvm
    /// was made anew or may be opened now, and ten minutes after the answer was no. It is not asked for
    /// `accelerator: Tcg`, nor if the host's own facts say that KVM cannot run a guest.
    ///
    /// With `--argv` the command prints one line, to be pasted into a shell, for use without this program: sockets become
    /// paths, and the guest runs at once. The line makes no changes to the host besides the machine's own folders, its
    /// variable store and its helpers, which it makes and starts before QEMU.
    Plan(PlanArgs),
    /// Draw the host's CPUs, and which of them the machine's threads and those of running machines have
    ///
    /// Packages, NUMA nodes, L3 caches, cores and their threads, with devices at their nodes. `v3` is the machine's vCPU 3, `Q`
    /// are QEMU's main thread, its workers and the helpers, `I` its I/O threads. On hosts of more than 64 CPUs, those that
    /// nothing runs on are told as ranges. The picture is as wide as the terminal, or as $COLUMNS says.
    Cpus(CpusArgs),
    /// Say whether the machine can start, with reasons and remedies; changes nothing
    ///
    /// It starts QEMU for a moment to ask what it can do, as `plan` does. With `--try` it also starts QEMU with the machine's
    /// command line, stopped, without the host's devices and without anything that the first start would make.
    Check(CheckArgs),
    /// Hand the host's devices over and take them back without a guest; times each step, and names what leaks
    ///
    /// It takes the screen away as a start does, and ends the session that is on it. `vfio-run man handover` tells what it
    /// compares, and how it ends.
    Rehearse(RehearseArgs),
    /// Show this user's machines that run, or were left behind
    Status(StatusArgs),
    /// Show what running guests do, refreshed: load, waiting, exits, interrupts, memory, disks and networks
    ///
    /// The busiest comes first. On a terminal it takes the whole screen; `q` or Ctrl-C leaves. Elsewhere it is plain text, one part
    /// a refresh, or with `--json` one line. It looks from outside, so it costs nothing when nobody looks.
    Top(TopArgs),
    /// Show what a machine's last run came to: the time of each step of start and end, and what was restored
    ///
    /// Of a machine that runs it shows the start. How long the screen was black, how long the vCPUs waited for a CPU, which changes
    /// to the host were restored, and with `report: true` what made the guest stutter. The picture is as wide as the terminal, or
    /// as $COLUMNS says.
    Report(ReportArgs),
    /// Ask a guest to power off, or a launcher to give up its start, and wait until the launcher has ended
    Stop(StopArgs),
    /// Say that a guest lives, if its machine file has a dead-man switch (`give_back_unless`)
    Alive(MachineArgs),
    /// Give a running guest a USB device of the host's or a disk, or share a keyboard or mouse with it
    ///
    /// The guest keeps it until it ends, also when the device is unplugged and plugged in again, or until `detach`. For a USB
    /// device the machine must have a USB controller: `usb: []` in its file is enough. A disk is on the machine's virtio-scsi
    /// controller if it has one, else it is a USB disk. The image stays its owner's: the launcher opens it for QEMU.
    Attach(AttachArgs),
    /// Take a device from a running guest and give it back to the host
    ///
    /// A device that the machine file names is the guest's again at its next start. Have the guest eject a disk first: what it
    /// has not written yet is lost. A disk that the machine file names stays.
    Detach(DeviceArgs),
    /// Put a CD into a drive of a running guest, or take it out
    ///
    /// The machine must have the drive: `disks: [(media: Cd)]`. At its next start the drive has what the machine file says.
    Cd(CdArgs),
    /// Plug in the cables of a running guest's network cards, or unplug them
    Link(LinkArgs),
    /// Open a running guest's screen, with the viewer that fits and is installed
    ///
    /// Looking Glass, SPICE (remote-viewer) or VNC (vncviewer). A viewer is a program of your desktop: no sudo, also for a machine of
    /// root's whose screen is yours.
    View(ViewArgs),
    /// Join this terminal to a running guest's serial port; Ctrl-] leaves, and the guest goes on
    ///
    /// Without a terminal (a pipe) what comes in goes to the guest, and what the guest says comes out, until it ends.
    Console(MachineArgs),
    /// Stop a guest's vCPUs until `resume`
    ///
    /// Its memory stays where it is, and devices that were passed through stay its own.
    Pause(MachineArgs),
    /// Let a paused guest go on, or wake one that sleeps
    Resume(MachineArgs),
    /// Restart a guest at once, as a board's reset button does: what it has not written yet is lost
    Reset(MachineArgs),
    /// Press a guest's power button once, and do not wait (`stop` does)
    ///
    /// What the guest makes of it is its own affair: power off, sleep, or ask the user. One that is paused or sleeps goes on first.
    Powerdown(MachineArgs),
    /// Press keys of a running guest's keyboard together, and let them go: ctrl+alt+delete
    ///
    /// The guest sees them on the keyboard that QEMU gives it. A keyboard of the host's that was passed through is not touched.
    SendKey(SendKeyArgs),
    /// Write a picture of a running guest's emulated screen into a file (PNG)
    ///
    /// The picture of a graphics card that was passed through is on the card's own outputs, and nowhere else.
    Screenshot(ScreenshotArgs),
    /// Have the guest agent do something: the program in the guest that knows QEMU
    ///
    /// The machine has a channel to it unless it is `guest: Other`. In the guest it is the package qemu-guest-agent, or in Windows
    /// virtio-win-guest-tools.exe.
    Agent(AgentArgs),
    /// Have QEMU's monitor do something, and print its answer
    ///
    /// What the launcher does not know of, it cannot put back: a device that was added here is gone when QEMU is started anew.
    Qmp(QmpArgs),
    /// Restore what a killed launcher left behind on the host
    Recover(RecoverArgs),
    /// Print a systemd unit for the machine
    Unit(UnitArgs),
    /// Make a machine file from a libvirt domain and its hooks, or from a QEMU script
    ///
    /// It reads, and starts nothing: libvirt need not be there. Without `-o` the machine file is printed, and the report goes to
    /// standard error. `vfio-run man libvirt` tells what becomes of what.
    Import(ImportArgs),
    /// Write a machine file: asks what the machine is to be, and looks at what this host has
    ///
    /// It changes nothing else, and overwrites nothing. Without `--guest`, or on a terminal, it asks for what no option says;
    /// an empty answer is what stands in brackets. With `--iso` it writes a second file, with which the guest is installed.
    /// Both are planned before they are written.
    New(NewArgs),
    /// Show what is known about this host; with `--json`, for `plan --host`
    Host(HostArgs),
    /// Show the PCI devices by IOMMU group: what a guest can have, who holds it, and what forbids it
    Devices(DevicesArgs),
    /// Print the JSON schema of the machine file, for editors
    Schema,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Show a page of the manual
    ///
    /// On a terminal through $PAGER (`less` if it is not set), else as plain text.
    Man(ManArgs),
    /// Explain a command, or a field of the machine file: `help run`, `help disks.cache`
    Help(HelpArgs),
    /// Write to a file of the kernel's that may never answer
    #[command(hide = true, name = crate::change::attribute::VERB)]
    WriteAttribute {
        /// The file
        path: PathBuf,
        /// The value
        value: String,
    },
    /// Fill a file in memory, the standard input, with pages
    #[command(hide = true, name = crate::fill::VERB)]
    FillMemory {
        /// Its parts: BYTES@NODES
        parts: Vec<crate::fill::Part>,
    },
    /// Add to the units of the template what follows from the machine files: a generator of systemd's
    #[command(hide = true, name = GENERATOR_VERB)]
    GenerateUnits {
        /// Where systemd reads it from, before what a user writes
        normal: PathBuf,
        /// The other two places that systemd names
        others: Vec<PathBuf>,
    },
    /// Read files of the kernel's that may never answer
    #[command(hide = true, name = crate::change::attribute::ASK_VERB)]
    ReadAttributes {
        /// The files
        files: Vec<PathBuf>,
    },
}

impl Command {
    /// The names of the machines that it is for.
    pub fn machines(&mut self) -> &mut [String] {
        let one = std::slice::from_mut;
        match self {
            Self::Status(args) => args.name.as_mut_slice(),
            Self::Recover(args) => args.name.as_mut_slice(),
            Self::Top(args) => &mut args.names,
            Self::Report(args) => one(&mut args.name),
            Self::Stop(args) => one(&mut args.name),
            Self::Alive(args)
            | Self::Console(args)
            | Self::Pause(args)
            | Self::Resume(args)
            | Self::Reset(args)
            | Self::Powerdown(args) => one(&mut args.name),
            Self::Attach(args) => one(&mut args.device.name),
            Self::Detach(args) => one(&mut args.name),
            Self::Cd(args) => one(&mut args.name),
            Self::Link(args) => one(&mut args.name),
            Self::SendKey(args) => one(&mut args.name),
            Self::Screenshot(args) => one(&mut args.name),
            Self::View(args) => one(&mut args.name),
            Self::Qmp(args) => one(&mut args.name),
            Self::Agent(args) => one(&mut args.name),
            _ => &mut [],
        }
    }
}

/// `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The machine file (RON)
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Also try whether QEMU accepts the machine's command line; its disks are opened for a moment
    #[arg(long = "try")]
    pub try_qemu: bool,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The machine file (RON)
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Report after the run what made the guest stutter, as `report: true` in the machine file does
    #[arg(long)]
    pub report: bool,
}

/// `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The machine file (RON)
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Show the reason for each part: a line of the file, a default, a fact about the host
    #[arg(long, conflicts_with = "argv")]
    pub explain: bool,
    /// Print just QEMU's command line, with what prepares it, to be pasted into a shell (the host changes are not in it)
    #[arg(long)]
    pub argv: bool,
    /// Plan for another host: a file written by `vfio-run host --json`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub host: Option<PathBuf>,
}

/// `cpus`.
#[derive(Debug, Args)]
pub struct CpusArgs {
    /// The machine file (RON); without it, the host and the machines that run
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: Option<PathBuf>,
    /// Write the picture as SVG into this file, `-` for standard output; only a file that holds an SVG is replaced
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub svg: Option<PathBuf>,
    /// Draw another host: a file written by `vfio-run host --json`
    #[arg(long, value_name = "FACTS", value_hint = ValueHint::FilePath)]
    pub host: Option<PathBuf>,
}

/// `rehearse`.
#[derive(Debug, Args)]
pub struct RehearseArgs {
    /// The machine file (RON)
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// How many times to go there and back
    #[arg(short = 'n', long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rounds: u32,
    /// Run the machine's hooks too, except those of a running guest
    #[arg(long)]
    pub hooks: bool,
}

/// `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The machine's name; all machines if it is left out
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: Option<String>,
    /// Print only the names of the machines that run or were left behind, one a line; completions use it
    #[arg(long, conflicts_with = "name")]
    pub names: bool,
}

/// `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The machine's name, or its file
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: String,
    /// Write it as an SVG picture into this file, `-` for standard output; only a file that holds an SVG is replaced
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub svg: Option<PathBuf>,
}

/// `import`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("from").args(["domain", "libvirt", "qemu"]).required(true))]
pub struct ImportArgs {
    /// A domain in XML, as `virsh dumpxml` prints it; `-` reads it from standard input
    #[arg(value_name = "DOMAIN", value_hint = ValueHint::FilePath)]
    pub domain: Option<PathBuf>,
    /// The domain of this name in /etc/libvirt/qemu, with its hooks
    #[arg(long, value_name = "NAME")]
    pub libvirt: Option<String>,
    /// A shell script that starts QEMU, or a QEMU command line
    #[arg(long, value_name = "SCRIPT", value_hint = ValueHint::FilePath)]
    pub qemu: Option<PathBuf>,
    /// The machine file to write; a file that exists is never overwritten
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
    /// The folder of libvirt's hooks: `qemu`, `qemu.d`, `kvm.conf`; /etc/libvirt/hooks with --libvirt
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub hooks: Option<PathBuf>,
    /// Fail if a person must decide anything; then nothing is written
    #[arg(long)]
    pub strict: bool,
}

/// `new`.
#[derive(Debug, Args)]
pub struct NewArgs {
    /// What runs in it: windows11, windows10, linux, other
    #[arg(long, value_name = "FAMILY")]
    pub guest: Option<String>,
    /// The machine's name; the file is NAME.ron
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// The graphics card for the guest, by its address (`01:00`), or `none` for an emulated screen
    #[arg(long, value_name = "ADDRESS")]
    pub gpu: Option<String>,
    /// The ISO that the guest is installed from
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub iso: Option<PathBuf>,
    /// The ISO with virtio's drivers for Windows (virtio-win)
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub virtio_iso: Option<PathBuf>,
    /// The size of a disk image that is made at the first start (`128G`), or the path of one, or of a block device
    #[arg(long, value_name = "SIZE|PATH", value_hint = ValueHint::FilePath)]
    pub disk: Option<String>,
    /// For another host: a file written by `vfio-run host --json`
    #[arg(long, value_name = "FACTS", value_hint = ValueHint::FilePath)]
    pub host: Option<PathBuf>,
    /// The machine file to write; a file that exists is never overwritten
    #[arg(short, long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub output: Option<PathBuf>,
}

/// `recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The machine's name; all that were left behind if it is left out
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: Option<String>,
    /// Supervise the guest that still runs, instead of refusing
    #[arg(long, requires = "name")]
    pub adopt: bool,
    /// Forget why the machine's last start failed, which `status` and `check` tell until one succeeds
    #[arg(long, requires = "name", conflicts_with = "adopt")]
    pub forget: bool,
}

/// `devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Only graphics cards, with what shares their groups
    #[arg(long)]
    pub gpu: bool,
}

/// `host`.
#[derive(Debug, Args)]
pub struct HostArgs {
    /// Print the facts without what belongs to somebody, for a report of a fault
    ///
    /// Serial numbers, addresses of networks, UUIDs, and names of users, hosts, folders and machines are replaced, each by the
    /// same stand-in throughout. Look through it before you publish it.
    #[arg(long)]
    pub anonymous: bool,
}

/// `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The page: a command, or a topic; the program's own if it is left out
    #[arg(value_parser = Known(pages))]
    pub page: Option<String>,
    /// Print the source of the man page, for `man -l -`
    #[arg(long)]
    pub roff: bool,
    /// Write all man pages into this folder's man1, man5 and man7 (given as …/man1, into that and its neighbours)
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["page", "roff"], value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
}

/// `help`.
#[derive(Debug, Args)]
pub struct HelpArgs {
    /// A command, a field such as `disks.cache`, or a page of the manual
    #[arg(value_parser = Known(helped), hide_possible_values = true)]
    pub name: Option<String>,
}

/// The definition without the hidden commands, for completions.
pub fn visible() -> clap::Command {
    let all = Cli::command();
    let verbs = all.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    clap::Command::new("vfio-run")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .args(all.get_arguments().cloned())
        .subcommands(verbs)
}

/// The commands, but for hidden ones.
pub fn verbs() -> Vec<String> {
    // By derive, not by `Cli`: its arguments ask for these names.
    shown(&Command::augment_subcommands(clap::Command::new("vfio-run")))
}

fn shown(command: &clap::Command) -> Vec<String> {
    let shown = command.get_subcommands().filter(|verb| !verb.is_hide_set());
    shown.map(|verb| verb.get_name().to_owned()).collect()
}

/// The pages of the manual: commands, then topics.
pub fn pages() -> Vec<String> {
    verbs().into_iter().chain(manual::TOPICS.iter().map(|topic| topic.name.to_owned())).collect()
}

/// What `help` explains: commands, fields, and topics with a name of their own.
pub fn helped() -> Vec<String> {
    let mut names = verbs();
    for name in Fields::of_machine().paths().into_iter().chain(pages()) {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// `unit`.
#[derive(Debug, Args)]
pub struct UnitArgs {
    /// The machine file (RON)
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "template")]
    pub file: Option<PathBuf>,
    /// Write it to /etc/systemd/system (for others than root, to the user's folder) and tell systemd
    #[arg(long)]
    pub install: bool,
    /// An entry for the desktop's menu in place of the unit, which it starts; `--install` writes it to the user's applications
    #[arg(long)]
    pub desktop: bool,
    /// Print the template vfio-run@.service instead, for all machines in /etc/vfio-run; packages install it
    #[arg(long, conflicts_with_all = ["file", "install", "desktop"])]
    pub template: bool,
}
