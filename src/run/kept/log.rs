//! The machine's log: QEMU's and the helpers' output, and the command lines that produced it.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{MemfdFlags, memfd_create};

use super::folders::shared_folder;
use crate::plan::Helper;
use crate::qemu::command::{CommandLine, QemuOption};

/// How much of the log's end an error quotes.
const QUOTE: u64 = 64 * 1024;
const QUOTE_LINES: usize = 12;
/// A line that is longer is cut.
const QUOTE_COLUMNS: usize = 1000;
/// How the lines begin that are ours.
const OURS: &str = concat!("vfio-run ", env!("CARGO_PKG_VERSION"), " ");
/// How many logs of earlier runs are kept, `NAME.log.1` being the last run's.
const KEPT: u32 = 3;

/// The log of one run, or of a part of it.
#[derive(Debug)]
pub struct Log {
    path: PathBuf,
    /// Whether it is in memory, and goes with this: then nobody is sent to it.
    passing: bool,
    file: File,
    /// Where this part begins.
    start: u64,
    /// The sets of descriptors that QEMU has its files in, with the files.
    sets: Vec<(String, String)>,
}

impl Log {
    /// Opens the log and writes QEMU's command line into it, as it is executed.
    pub fn open(path: &Path, command: &CommandLine) -> Result<Self> {
        Ok(Self::begin(path, started(command))?.with_sets(command))
    }

    /// A log in memory, which nobody has afterwards: of a QEMU that is started for what it says alone.
    pub fn passing(command: &CommandLine) -> Result<Self> {
        let fd = memfd_create("vfio-run-log", MemfdFlags::CLOEXEC).context("cannot make a log in memory")?;
        let path = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        Ok(Self { path, passing: true, file: File::from(fd), start: 0, sets: Vec::new() }.with_sets(command))
    }

    /// With the names of the sets of descriptors in this command line.
    fn with_sets(self, command: &CommandLine) -> Self {
        let sets = command.options.iter().filter(|option| option.name == "-add-fd");
        let named = |option: &QemuOption| {
            Some((format!("{}{}", QemuOption::FD_SET, option.get("set")?), option.get("opaque")?.to_owned()))
        };
        let mut sets: Vec<_> = sets.filter_map(named).collect();
        // /dev/fdset/12 before /dev/fdset/1.
        sets.sort_by_key(|(set, _)| std::cmp::Reverse(set.len()));
        Self { sets, ..self }
    }

    /// The same for the helpers' command lines.
    pub fn of_helpers(path: &Path, helpers: &[Helper]) -> Result<Self> {
        let lines: Vec<String> = helpers.iter().map(|h| format!("{OURS}starts {} {:?}", h.name, h.argv)).collect();
        Self::begin(path, lines.join("\n"))
    }

    /// Opens the log for a part that begins with this line.
    pub fn begin(path: &Path, mut line: String) -> Result<Self> {
        let mut file = open_log(path)?;
        // One write: a formatted one would be a system call for each of some hundred parts.
        line.push('\n');
        file.write_all(line.as_bytes())?;
        let start = file.seek(SeekFrom::End(0))?;
        Ok(Self { path: path.to_owned(), passing: false, file, start, sets: Vec::new() })
    }

    /// A descriptor for a child's output.
    pub fn output(&self) -> Result<File> {
        Ok(self.file.try_clone()?)
    }

    /// The last lines of this part, for an error about what wrote them: a colon and the lines, or that there are none. They end
    /// with the log's name, if it stays. Command lines of later parts are not among them. Where QEMU names a set of descriptors,
    /// they name the file.
    pub fn quote(&self) -> String {
        let mut text = String::new();
        let read = || -> std::io::Result<Vec<u8>> {
            let mut file = File::open(&self.path)?;
            let end = file.seek(SeekFrom::End(0))?;
            // QEMU can cut its own log; what it wrote after that is its part too.
            let start = if end < self.start { 0 } else { self.start };
            file.seek(SeekFrom::Start(start.max(end.saturating_sub(QUOTE))))?;
            let mut bytes = Vec::new();
            file.take(QUOTE).read_to_end(&mut bytes)?;
            Ok(bytes)
        };
        if let Ok(bytes) = read() {
            let all = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = all.lines().filter(|line| !line.starts_with(OURS)).collect();
            for line in &lines[lines.len().saturating_sub(QUOTE_LINES)..] {
                // Escape sequences of a guest or device name must not reach a terminal.
                let clean: String = line.chars().filter(|c| !c.is_control()).take(QUOTE_COLUMNS).collect();
                let named = self.sets.iter().fold(clean, |line, (set, file)| line.replace(set, file));
                text.push_str("\n  ");
                text.push_str(&named);
            }
        }
        text.insert_str(0, if text.is_empty() { ", and it said nothing" } else { ":" });
        if !self.passing {
            text.push_str(&format!("\nthe whole log: {}", self.path.display()));
        }
        text
    }
}

/// The line before what QEMU says.
fn started(command: &CommandLine) -> String {
    format!("{OURS}starts {} {:?}", command.binary.display(), command.argv())
}

/// Opens the machine's log for appending, mode 0600.
fn open_log(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        shared_folder(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(nix::libc::O_NOFOLLOW)
        .open(path)
        .with_context(|| format!("cannot open the log {}", path.display()))
}

/// Puts the log of the run before aside, as `NAME.log.1`; what had that name becomes `NAME.log.2`, and so on. A run has a log
/// of its own since its QEMU can write to it, and cut it, if a guest has taken QEMU over: what earlier runs said stays.
pub fn put_aside(path: &Path) {
    if !std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() > 0) {
        return;
    }
    let earlier = |number: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{number}"));
        PathBuf::from(name)
    };
    for number in (1..KEPT).rev() {
        // Most have never been.
        drop(std::fs::rename(earlier(number), earlier(number + 1)));
    }
    // A log that cannot be put aside goes on growing, and the guest starts all the same.
    if let Err(error) = std::fs::rename(path, earlier(1)) {
        tracing::warn!("cannot put the log {} aside: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quote_has_the_words_of_its_part_without_later_command_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        Log::begin(&path, "an earlier part".to_owned()).unwrap();
        let log = Log::begin(&path, format!("{OURS}starts swtpm")).unwrap();
        writeln!(log.output().unwrap(), "no \u{1b}[31mstate {}", "x".repeat(2 * QUOTE_COLUMNS)).unwrap();
        Log::begin(&path, format!("{OURS}starts QEMU")).unwrap();
        let quote = log.quote();
        let lines: Vec<&str> = quote.lines().collect();
        assert_eq!(lines.len(), 3, "{quote}");
        assert!(lines[1].starts_with("  no [31mstate x"), "{quote}");
        assert_eq!(lines[1].len(), 2 + QUOTE_COLUMNS);
        assert_eq!(lines[2], format!("the whole log: {}", path.display()));
    }

    #[test]
    fn a_log_that_its_writer_cuts_or_blows_up_is_quoted_all_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        Log::begin(&path, "earlier runs ".repeat(1000)).unwrap();
        let log = Log::begin(&path, format!("{OURS}starts QEMU")).unwrap();
        let mut qemu = log.output().unwrap();
        qemu.set_len(0).unwrap();
        writeln!(qemu, "the last words").unwrap();
        assert!(log.quote().contains("\n  the last words\n"), "{}", log.quote());
        qemu.set_len(1 << 40).unwrap();
        writeln!(qemu, "\nmore words").unwrap();
        let quote = log.quote();
        assert!(quote.contains("\n  more words\n") && quote.len() < 2 * QUOTE_COLUMNS, "{quote}");
    }

    #[test]
    fn a_passing_log_is_quoted_and_nobody_is_sent_to_it() {
        let log = Log::passing(&CommandLine { binary: "/q".into(), options: Vec::new() }).unwrap();
        writeln!(log.output().unwrap(), "no such device").unwrap();
        assert_eq!(log.quote(), ":\n  no such device");
        let silent = Log::passing(&CommandLine { binary: "/q".into(), options: Vec::new() }).unwrap();
        assert_eq!(silent.quote(), ", and it said nothing");
    }

    #[test]
    fn a_quote_names_files_and_not_their_sets() {
        let folder = tempfile::tempdir().unwrap();
        let set = |number: &str, file: &str| {
            let option = QemuOption::keys("-add-fd", None, crate::units::Origin::Default(String::new()));
            option.with("fd", number).with("set", number).with("opaque", file)
        };
        let options = vec![set("1", "/one"), set("12", "/twelve")];
        let log = Log::open(&folder.path().join("a.log"), &CommandLine { binary: "/q".into(), options }).unwrap();
        writeln!(log.output().unwrap(), "Is another process using the image [/dev/fdset/12]? Or /dev/fdset/1?")
            .unwrap();
        assert!(log.quote().contains("the image [/twelve]? Or /one?"), "{}", log.quote());
    }

    #[test]
    fn a_run_begins_its_own_log_and_those_of_the_last_three_stay() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("a.log");
        for run in 1..=5 {
            put_aside(&log);
            // One that wrote nothing takes no place.
            put_aside(&log);
            Log::begin(&log, format!("run {run}")).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap_or_default();
        let all = ["a.log", "a.log.1", "a.log.2", "a.log.3", "a.log.4"].map(read);
        assert_eq!(all, ["run 5\n", "run 4\n", "run 3\n", "run 2\n", ""]);
    }
}
