//! The arguments of the commands that are for a machine that runs.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, ValueEnum, ValueHint};

use super::keys::Keys;
use super::known::machine_name;
use crate::machine::{Disk, HostDevice};
use crate::units::DiskFormat;

/// A machine that runs: `alive`, `console`, `pause`, `resume`, `reset`, `powerdown`.
#[derive(Debug, Args)]
pub struct MachineArgs {
    /// The machine's name
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: String,
}

/// `top`.
#[derive(Debug, Args)]
pub struct TopArgs {
    /// The machines' names; all of this user's (root: of root's) if they are left out
    #[arg(value_parser = machine_name(), hide_possible_values = true, value_name = "NAME")]
    pub names: Vec<String>,
    /// Seconds between two refreshes
    #[arg(long, value_name = "SECONDS", default_value_t = 1.0, value_parser = interval)]
    pub interval: f64,
    /// Measure once, over the interval, and end
    #[arg(long)]
    pub once: bool,
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds: Option<f64> = text.parse().ok();
    seconds.filter(|seconds| (0.1..=3600.0).contains(seconds)).ok_or_else(|| "a number from 0.1 to 3600".to_owned())
}

/// `stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The machine's name
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: String,
    /// Force QEMU to quit instead of asking the guest to power off; again: kill QEMU
    #[arg(long)]
    pub force: bool,
}

/// `attach`.
#[derive(Debug, Args)]
pub struct AttachArgs {
    /// What to whom.
    #[command(flatten)]
    pub device: DeviceArgs,
    /// What becomes of a disk.
    #[command(flatten)]
    pub disk: DiskArgs,
}

/// `detach`, and the most of `attach`.
#[derive(Debug, Args)]
pub struct DeviceArgs {
    /// The machine's name
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: String,
    /// A USB device: vendor and product as `lsusb` shows them (046d:c547), or its port (3-2.1); a keyboard or mouse to share, by
    /// its path below /dev/input; or a disk: the path of an image or of a block device, with a slash (./data.qcow2)
    #[arg(value_hint = ValueHint::FilePath)]
    pub device: HostDevice,
}

/// What becomes of a disk that is attached.
#[derive(Debug, Args)]
pub struct DiskArgs {
    /// The guest may only read the disk
    #[arg(long)]
    pub read_only: bool,
    /// The serial number that the guest reads
    #[arg(long, value_name = "TEXT", value_parser = serial)]
    pub serial: Option<String>,
    /// The image's format, if its header and name do not tell: raw or qcow2
    #[arg(long, value_name = "FORMAT", value_parser = format)]
    pub format: Option<DiskFormat>,
}

fn serial(text: &str) -> Result<String, String> {
    Disk::check_serial(text).map(|()| text.to_owned())
}

fn format(text: &str) -> Result<DiskFormat, String> {
    let all = [DiskFormat::Raw, DiskFormat::Qcow2];
    all.into_iter().find(|format| format.name() == text).ok_or_else(|| "raw or qcow2".to_owned())
}

/// `cd`.
#[derive(Debug, Args)]
pub struct CdArgs {
    /// The machine's name
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: String,
    /// The image of the CD
    #[arg(value_hint = ValueHint::FilePath, required_unless_present = "eject")]
    pub image: Option<PathBuf>,
    /// Take the CD out, and put none in
    #[arg(long, conflicts_with = "image")]
    pub eject: bool,
    /// The drive, if the machine has several: `disk1` is the second of `disks`, unless it has an `id`
    #[arg(long, value_name = "ID")]
    pub drive: Option<String>,
    /// Open the drive also if the guest uses the CD
    #[arg(long)]
    pub force: bool,
}

/// `link`.
#[derive(Debug, Args)]
pub struct LinkArgs {
    /// The machine's name
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: String,
    /// Whether the cables are plugged in
    pub cables: Cables,
}

/// Whether cables are plugged in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Cables {
    /// Plugged in
    Up,
    /// Unplugged
    Down,
}

/// `send-key`.
#[derive(Debug, Args)]
pub struct SendKeyArgs {
    /// The machine's name
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: String,
    /// The keys, as QEMU calls them or as they are labelled, with a plus between them: ctrl+alt+delete, win+l, f8
    pub keys: Keys,
    /// How long they are held, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub hold: u32,
}

/// `screenshot`.
#[derive(Debug, Args)]
pub struct ScreenshotArgs {
    /// The machine's name
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: String,
    /// The file to write; `-` for standard output
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Replace the file if there is one
    #[arg(long)]
    pub force: bool,
}

/// `qmp`.
#[derive(Debug, Args)]
pub struct QmpArgs {
    /// The machine's name
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: String,
    /// The command: query-status, or {"execute": "…", "arguments": {…}}
    pub command: String,
}

/// `agent`.
#[derive(Debug, Args)]
pub struct AgentArgs {
    /// The machine's name
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: String,
    /// What the agent is to do
    pub verb: AgentVerb,
    /// With `freeze`: a program that runs while the guest's file systems stand still; they go on when it has ended
    #[arg(last = true, value_name = "PROGRAM", value_hint = ValueHint::CommandWithArguments)]
    pub command: Vec<OsString>,
}

/// What the guest agent can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum AgentVerb {
    /// Say that it is there
    Ping,
    /// Tell its version, and which system the guest is
    Info,
    /// Tell the guest's network interfaces with their addresses
    Addresses,
    /// Tell the guest's time
    Time,
    /// Set the guest's clock to the host's
    SetTime,
    /// Have the guest write all that it has in memory, and write no more until `thaw`, or until PROGRAM has ended
    Freeze,
    /// Let the guest's file systems go on
    Thaw,
}

/// `view`.
#[derive(Debug, Args)]
pub struct ViewArgs {
    /// The machine's name
    #[arg(value_parser = machine_name(), hide_possible_values = true)]
    pub name: String,
    /// Print the viewer's command line, and start nothing
    #[arg(long)]
    pub print: bool,
}
