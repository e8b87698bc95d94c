//! The command line: the one source of help, man pages and completions.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueHint};

const AFTER_HELP: &str = "\
Exit codes:
  0  the guest shut down, the host is as it was; or what was asked for was done
  1  it could not start, or not be done; the host is as it was
  2  the machine file or the arguments are wrong
  3  the check refused (also `plan` and `check`); nothing was touched
  4  QEMU or the guest crashed, was ended by force, or showed no life in time
     (`give_back_unless`); the host is as it was
  5  something of the host could not be restored; it is named

Ending a guest:
  Ctrl-C, SIGTERM or `vfio-run stop NAME` press its power button until its time is up
  (`shutdown_timeout`). A second Ctrl-C, two seconds later, or `stop --force` ends it, a
  third kills QEMU.
  Where the terminal is the guest's console, Ctrl-] takes the place of Ctrl-C.

Examples:
  vfio-run win11.ron                 start the machine
  vfio-run check win11.ron           go or no-go, with reasons
  vfio-run plan --explain win11.ron  what would be done, and where each part comes from
  vfio-run unit --install win11.ron  a systemd unit: systemctl start vfio-run-win11
  vfio-run recover                   give back what a killed launcher left behind";

/// Starts a GPU-passthrough virtual machine directly on QEMU and gives the host back afterwards.
///
/// One file describes the machine. `vfio-run win11.ron` plans, checks, prepares the host, starts the guest with every
/// thread placed on its CPUs, and puts everything back when the guest has ended, whatever happens in between.
#[derive(Debug, Parser)]
#[command(name = "vfio-run", version, after_help = AFTER_HELP)]
#[command(override_usage = "vfio-run [OPTIONS] FILE\n       vfio-run [OPTIONS] COMMAND")]
#[command(arg_required_else_help = true, subcommand_required = true)]
pub struct Cli {
    /// What to do; `run` where there is just a file.
    #[command(subcommand)]
    pub command: Command,
    /// How much to say, and in what form.
    #[command(flatten)]
    pub output: OutputArgs,
}

impl Cli {
    /// Reads the process's arguments, or ends the process with help or an error, as clap does.
    pub fn of_this_process() -> Self {
        Self::parse_from(with_verb(std::env::args_os().collect()))
    }

    /// How messages look. With `--json`, what stays while a guest runs says all of them as JSON lines on standard output;
    /// for all others that has the one value that was asked for, and messages are plain lines on standard error.
    pub fn messages(&self) -> OutputArgs {
        let stays = match &self.command {
            Command::Run(_) => true,
            Command::Recover(args) => args.adopt,
            _ => false,
        };
        OutputArgs { json: self.output.json && stays, ..self.output }
    }
}

/// Puts `run` before a first word that is no verb. None of the options before it takes a value, so the first word is the
/// first argument without a dash.
fn with_verb(mut arguments: Vec<OsString>) -> Vec<OsString> {
    let dashed = |argument: &OsString| argument.as_encoded_bytes().starts_with(b"-");
    let first = arguments.iter().skip(1).position(|argument| !dashed(argument)).map(|index| index + 1);
    if let Some(first) = first {
        let is_verb = |word: &str| word == "help" || Cli::command().find_subcommand(word).is_some();
        if !arguments[first].to_str().is_some_and(is_verb) {
            arguments.insert(first, "run".into());
        }
    }
    arguments
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
    /// Print JSON for scripts on standard output: one value; with `run` and `recover --adopt` a line a message instead
    #[arg(long, global = true)]
    pub json: bool,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the machine and stay until it has ended
    Run(RunArgs),
    /// Show what `run` would do; changes nothing
    Plan(PlanArgs),
    /// Say whether the machine can start, with reasons and remedies; changes nothing
    Check(FileArgs),
    /// Hand the host's devices over and take them back without a guest; times each step, and names what leaks
    Rehearse(RehearseArgs),
    /// Show this user's machines that run, or were left behind
    Status(NameArgs),
    /// Ask a guest to power off, or give up its start, and wait until its launcher has ended
    Stop(StopArgs),
    /// Say that a guest lives, where its machine file gives the devices back unless it does (`give_back_unless`)
    Alive(AliveArgs),
    /// Give back to the host what a killed launcher left behind
    Recover(RecoverArgs),
    /// Print a systemd unit for the machine
    Unit(UnitArgs),
    /// Show what is known about this host; with `--json`, for `plan --host`
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
    /// Print the man page, or that of a command
    Man(ManArgs),
    /// Write to a file of the kernel's that may never answer
    #[command(hide = true, name = crate::change::attribute::VERB)]
    WriteAttribute {
        /// The file
        path: PathBuf,
        /// The value
        value: String,
    },
    /// Read files of the kernel's that may never answer
    #[command(hide = true, name = crate::change::attribute::ASK_VERB)]
    ReadAttributes {
        /// The files
        files: Vec<PathBuf>,
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
    /// Print just QEMU's command line, with what prepares it, to be pasted into a shell (the host changes are not in it)
    #[arg(long)]
    pub argv: bool,
    /// Plan for another host: a file written by `vfio-run host --json`
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
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
    /// Run the machine's hooks too, but for those of a running guest
    #[arg(long)]
    pub hooks: bool,
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
    /// End the guest instead of asking it to power off; again: kill QEMU
    #[arg(long)]
    pub force: bool,
}

/// `alive`.
#[derive(Debug, Args)]
pub struct AliveArgs {
    /// The machine's name
    pub name: String,
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

/// `man`.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// The command whose page is printed; the program's own where it is left out
    pub command: Option<String>,
    /// Write all pages into this folder instead: `vfio-run.1`, `vfio-run-plan.1`, …
    #[arg(long, value_name = "FOLDER", conflicts_with = "command", value_hint = ValueHint::DirPath)]
    pub dir: Option<PathBuf>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_file_alone_is_run_and_options_may_come_before_verbs() {
        let read = |line: &str| Cli::parse_from(with_verb(line.split(' ').map(OsString::from).collect()));
        for line in
            ["vfio-run win11.ron", "vfio-run -v win11.ron", "vfio-run win11.ron -v", "vfio-run -v run win11.ron"]
        {
            assert!(matches!(read(line).command, Command::Run(args) if args.file.as_os_str() == "win11.ron"), "{line}");
        }
        assert!(matches!(read("vfio-run -v recover").command, Command::Recover(_)));
        assert!(matches!(read("vfio-run --json status win11").command, Command::Status(_)));
        assert!(matches!(read("vfio-run ./plan").command, Command::Run(_)));
    }
}
