//! The command line: the one source of help, man pages and completions.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueHint};

const AFTER_HELP: &str = "\
Exit codes:
  0  the guest shut down, the host is as it was
  1  it could not start; the host is as it was
  2  the machine file or the arguments are wrong
  3  the check refused; nothing was touched
  4  QEMU or the guest crashed, or did not power off in time; the host is as it was
  5  something of the host could not be restored; it is named

Examples:
  vfio-run win11.ron              start the machine; Ctrl-C asks the guest to power off, twice ends it
  vfio-run check win11.ron        go or no-go, with reasons; touches nothing
  vfio-run plan --explain win11.ron   what would be done, and where each part of it comes from
  vfio-run unit --install win11.ron   a systemd unit for it: systemctl start vfio-run-win11
  vfio-run recover                give back what a killed launcher left behind";

/// Starts a GPU-passthrough virtual machine directly on QEMU and gives the host back afterwards.
///
/// One file describes the machine. `vfio-run win11.ron` plans, checks, prepares the host, starts the guest with every
/// thread on its own CPU, and puts everything back when the guest has ended, whatever happens in between.
#[derive(Debug, Parser)]
#[command(name = "vfio-run", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
#[command(arg_required_else_help = true)]
pub struct Cli {
    /// What to do; `run` where there is just a file.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// The file of the short form.
    #[command(flatten)]
    pub run: Option<RunArgs>,
    /// How much to say, and in what form.
    #[command(flatten)]
    pub output: OutputArgs,
}

/// How much to say, and in what form.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// Say more; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count, conflicts_with = "quiet")]
    pub verbose: u8,
    /// Say only what went wrong
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Print JSON for scripts: one value, or a line an event while a guest runs
    #[arg(long, global = true)]
    pub json: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the machine and stay until it has ended
    Run(RunArgs),
    /// Show what `run` would do; touches nothing
    Plan(PlanArgs),
    /// Say whether the machine can start, with reasons and remedies; touches nothing
    Check(FileArgs),
    /// Show the machines that run, or were left behind
    Status(NameArgs),
    /// Ask a guest to power off, and wait until its host is as it was
    Stop(StopArgs),
    /// Give back to the host what a killed launcher left behind
    Recover(RecoverArgs),
    /// Print a systemd unit for the machine
    Unit(UnitArgs),
    /// Show what is known about this host
    Host,
    /// Show the PCI devices by IOMMU group: what a guest can have, who holds it, and what stands in the way
    Devices(DevicesArgs),
    /// Print the JSON schema of the machine file, for editors
    Schema,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Print the man page
    Man,
    /// Write to a file of the kernel's that may never answer
    #[command(hide = true, name = crate::change::attribute::VERB)]
    WriteAttribute {
        /// The file
        path: PathBuf,
        /// The value
        value: String,
    },
}

/// A machine file.
#[derive(Debug, Args)]
pub struct FileArgs {
    /// The machine file (RON)
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

/// `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// The machine file (RON)
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
}

/// `plan`.
#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The machine file (RON)
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Say where each part comes from: a line of the file, a default, a fact of the host
    #[arg(long, conflicts_with = "argv")]
    pub explain: bool,
    /// Print just QEMU's command line, to be pasted into a shell
    #[arg(long)]
    pub argv: bool,
    /// Plan for another host: a file written by `vfio-run host --json`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub host: Option<PathBuf>,
}

/// The name of a machine, or all of them.
#[derive(Debug, Args)]
pub struct NameArgs {
    /// The machine's name; all machines where it is left out
    pub name: Option<String>,
}

/// `stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// The machine's name
    pub name: String,
    /// End the guest at once instead of asking it to power off
    #[arg(long)]
    pub force: bool,
}

/// `recover`.
#[derive(Debug, Args)]
pub struct RecoverArgs {
    /// The machine's name; all that were left behind where it is left out
    pub name: Option<String>,
    /// Supervise the guest that still runs, instead of refusing
    #[arg(long, requires = "name")]
    pub adopt: bool,
}

/// `devices`.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Only graphics cards, with what shares their groups
    #[arg(long)]
    pub gpu: bool,
}

/// `unit`.
#[derive(Debug, Args)]
pub struct UnitArgs {
    /// The machine file (RON)
    #[arg(value_hint = ValueHint::FilePath)]
    pub file: PathBuf,
    /// Write it to /etc/systemd/system (or the user's folder when not root) and tell systemd
    #[arg(long)]
    pub install: bool,
}
