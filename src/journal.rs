//! The write-ahead record of what was done to the host, and its undoing in reverse.
//!
//! One file a machine, JSON lines, in the machine's run directory below /run: a reboot resets the host and forgets the
//! journal together. An intent, with what was there before, is on disk before vfio-run touches the host; so the process that
//! finds the journal after a crash knows all that may have been done. A torn last line is an intent whose change was never
//! begun.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::change::locks::Locks;
use crate::change::{Before, Change, ChangeError, PoolLock, Progress, Undone, unattended};
use crate::host::Root;
use crate::trusted;
use crate::units::{Stage, run_files};

/// More than any journal.
const MAX_LENGTH: u64 = 64 << 20;

/// One line of the journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// This is about to be done; `before` is what was there.
    Intent {
        /// Number of the change, from 1.
        seq: u32,
        /// What is done.
        change: Change,
        /// What was there.
        before: Before,
    },
    /// It was done and read back.
    Done {
        /// Number of the change.
        seq: u32,
    },
    /// It was undone, or need not be.
    Undone {
        /// Number of the change.
        seq: u32,
        /// How that ended.
        how: Undone,
    },
    /// QEMU or a helper was started.
    Started {
        /// `qemu`, or the helper's name.
        name: String,
        /// Its process id.
        pid: i32,
        /// Its start time in clock ticks since boot (field 22 of `/proc/PID/stat`), which tells it from a later process
        /// of the same number.
        start_time: u64,
    },
    /// The guest runs: from here on a new launcher can take it over.
    Running,
    /// The stage is reached and its hooks, if it has any, are about to be run.
    Hooks {
        /// The stage.
        stage: Stage,
    },
    /// The hooks of a stage were run.
    HooksDone {
        /// The stage.
        stage: Stage,
    },
    /// QEMU was given a device of the host over its monitor.
    Given {
        /// QEMU's id for it.
        id: String,
        /// What tells the host's device from every other: `3-2.1#7`.
        device: String,
    },
    /// QEMU has it no longer.
    Withdrawn {
        /// QEMU's id for it.
        id: String,
    },
    /// Somebody gave the running guest another device, which a launcher that takes over must know.
    Attached {
        /// QEMU's id for it.
        id: String,
        /// The device as the plan would have it.
        device: serde_json::Value,
    },
    /// Somebody took a device from the running guest for good.
    Detached {
        /// QEMU's id for it.
        id: String,
    },
    /// Somebody put a CD into a drive of the running guest, or took it out.
    Medium {
        /// QEMU's id of the drive.
        drive: String,
        /// The image; `None`: the drive is empty.
        file: Option<PathBuf>,
    },
    /// Somebody plugged the cables of all network cards of the guest in, or unplugged them.
    Link {
        /// Whether they are plugged in.
        up: bool,
    },
    /// The guest restarts, and QEMU, which has ended, is started anew.
    Relaunch,
    /// The run is a rehearsal, which starts no guest: `vfio-run rehearse`.
    Rehearsal,
}

/// A change that may have been made and was not undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Open {
    /// Its number.
    pub seq: u32,
    /// What may have been done.
    pub change: Change,
    /// What was there.
    pub before: Before,
}

/// The outcome of one undo.
#[derive(Debug)]
pub struct UndoReport {
    /// Number of the change.
    pub seq: u32,
    /// The change.
    pub change: Change,
    /// How it ended.
    pub result: Result<Undone, ChangeError>,
    /// When it was begun.
    pub begun: Instant,
    /// How long it took.
    pub took: Took,
}

/// How long a change, or its undoing, took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Took {
    /// With its records in the journal and what was read before.
    pub whole: Duration,
    /// The change alone.
    pub change: Duration,
}

/// The journal of one machine.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    file: File,
    records: Vec<Record>,
    /// The length of the file up to the end of its last whole record.
    length: u64,
    /// Whether part of another record may stand behind it.
    torn: bool,
    /// Why the undoing of a change could not be written down.
    unnoted: Option<io::Error>,
    /// Held while huge pages are reserved that the guest's memory does not have yet.
    pool: Option<PoolLock>,
}

impl Journal {
    /// The journal's name in the machine's run directory.
    pub const FILE: &str = run_files::JOURNAL;

    /// Opens the machine's journal, or begins one, in its run directory.
    pub fn open(run_dir: &Path) -> io::Result<Self> {
        let path = run_dir.join(Self::FILE);
        let mut file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(&path)
            .map_err(|error| named(error, &path))?;
        trusted::is_ours(&file, &path)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)?;
        let (records, whole) = parse(&text, &path)?;
        // A torn line would swallow the next record.
        file.set_len(whole as u64)?;
        sync_folder(run_dir)?;
        Ok(Self { path, file, records, length: whole as u64, torn: false, unnoted: None, pool: None })
    }

    /// Reads the journal of a machine without opening it for writing; `None`: there is none.
    pub fn read(run_dir: &Path) -> io::Result<Option<Vec<Record>>> {
        let path = run_dir.join(Self::FILE);
        match trusted::read(&path, MAX_LENGTH) {
            Ok(text) => Ok(Some(parse(&text, &path)?.0)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(named(e, &path)),
        }
    }

    /// All records in order.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// Adds a record; on return it is on disk. A write that is cut short, as on a full /run, leaves nothing behind: half a
    /// line with another behind it would make the journal unreadable.
    pub fn append(&mut self, record: Record) -> io::Result<()> {
        let mut line = serde_json::to_vec(&record)?;
        line.push(b'\n');
        self.cut_torn_line()?;
        self.torn = true;
        if let Err(error) = self.file.write_all(&line).and_then(|()| self.file.sync_data()) {
            // If this fails too, the next record tries again, and is refused before it is written.
            drop(self.cut_torn_line());
            return Err(error);
        }
        self.torn = false;
        self.length += line.len() as u64;
        self.records.push(record);
        Ok(())
    }

    /// Cuts off what is no whole record.
    fn cut_torn_line(&mut self) -> io::Result<()> {
        if self.torn {
            self.file.set_len(self.length)?;
            self.torn = false;
        }
        Ok(())
    }

    /// Makes a change: intent and old value on disk first, then the host, then the read-back, then `Done`.
    pub fn make(&mut self, root: &Root, change: &Change, progress: Progress<'_>) -> Result<Took, MakeError> {
        let begun = Instant::now();
        let numbers = self.records.iter().filter_map(|record| match record {
            Record::Intent { seq, .. } => Some(*seq),
            _ => None,
        });
        let seq = 1 + numbers.max().unwrap_or(0);
        if change.nature().settles_with_memory && self.pool.is_none() {
            self.pool = Some(PoolLock::wait(root, self.run(), progress)?);
        }
        let before = change.capture(root)?;
        self.append(Record::Intent { seq, change: change.clone(), before: before.clone() })?;
        let applied = Instant::now();
        change.apply(root, &before, progress)?;
        let change = applied.elapsed();
        self.append(Record::Done { seq })?;
        Ok(Took { whole: begun.elapsed(), change })
    }

    /// The changes that may stand, in the order that they were made.
    pub fn open_changes(&self) -> Vec<Open> {
        open_changes(&self.records)
    }

    /// Undoes all changes that may stand, last first. Each is independent: what fails is reported, stays in the journal,
    /// and the rest goes on.
    pub fn undo_all(&mut self, root: &Root) -> Vec<UndoReport> {
        self.undo_where(root, |_| true)
    }

    /// Undoes the changes that nobody needs once the guest's memory is filled (`Nature::settles_with_memory`).
    pub fn settle(&mut self, root: &Root) -> Vec<UndoReport> {
        let reports = self.undo_where(root, |change| change.nature().settles_with_memory);
        self.pool = None;
        reports
    }

    /// The machine's run directory.
    fn run(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Undoes the changes of this kind that may stand, last first.
    pub fn undo_where(&mut self, root: &Root, which: impl Fn(&Change) -> bool) -> Vec<UndoReport> {
        let mut reports = Vec::new();
        let open: Vec<Open> = self.open_changes().into_iter().rev().filter(|o| which(&o.change)).collect();
        // Another machine may be reserving. If it does not end, the pool is lowered all the same.
        let reserves = open.iter().any(|open| open.change.nature().settles_with_memory);
        let _alone = (reserves && self.pool.is_none()).then(|| PoolLock::wait(root, self.run(), &unattended));
        let mut locks = Locks::ask(root, open.iter().map(|o| (&o.change, &o.before)));
        for open in open {
            let begun = Instant::now();
            let result = locks.undo(root, &open.change, &open.before);
            let change = begun.elapsed();
            if let Ok(how) = &result {
                let undone = Record::Undone { seq: open.seq, how: how.clone() };
                if let Err(error) = self.append(undone.clone()) {
                    // It is undone all the same: if all are, the journal goes. Else it is undone again, which does no harm.
                    self.records.push(undone);
                    self.unnoted = Some(error);
                }
            }
            let took = Took { whole: begun.elapsed(), change };
            reports.push(UndoReport { seq: open.seq, change: open.change, result, begun, took });
        }
        reports
    }

    /// Leaves out what no longer matters when QEMU and its helpers have ended and are to be started anew: a guest may restart
    /// without end. The new file replaces the old one in one step.
    pub fn shorten(&mut self) -> io::Result<()> {
        let standing: Vec<u32> = self.open_changes().iter().map(|open| open.seq).collect();
        let matters = |record: &Record| match record {
            Record::Intent { seq, .. } | Record::Done { seq } => standing.contains(seq),
            Record::Undone { .. } | Record::Started { .. } | Record::Running => false,
            Record::Given { .. } | Record::Withdrawn { .. } | Record::Relaunch => false,
            Record::Hooks { .. } | Record::HooksDone { .. } | Record::Rehearsal => true,
            Record::Attached { .. } | Record::Detached { .. } | Record::Link { .. } | Record::Medium { .. } => true,
        };
        let mut records: Vec<Record> = self.records.iter().filter(|record| matters(record)).cloned().collect();
        records.push(Record::Relaunch);
        let mut text = Vec::new();
        for record in &records {
            serde_json::to_writer(&mut text, record)?;
            text.push(b'\n');
        }
        let folder = self.path.parent().unwrap_or(Path::new("/"));
        let new = self.path.with_extension("new");
        let mut options = OpenOptions::new();
        options.read(true).append(true).create(true).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        let mut file = options.open(&new)?;
        // One may be left of a launcher that died.
        file.set_len(0)?;
        file.write_all(&text).and_then(|()| file.sync_data())?;
        std::fs::rename(&new, &self.path)?;
        sync_folder(folder)?;
        (self.file, self.length, self.torn, self.records) = (file, text.len() as u64, false, records);
        Ok(())
    }

    /// Why the undoing of a change could not be written down, as on a full /run: it was undone, and the file does not say so.
    pub fn unnoted(&self) -> Option<&io::Error> {
        self.unnoted.as_ref()
    }

    /// Removes the journal if no change in it may stand any more. Returns whether it did.
    pub fn close(self) -> io::Result<bool> {
        if !self.open_changes().is_empty() {
            return Ok(false);
        }
        std::fs::remove_file(&self.path)?;
        Ok(true)
    }
}

/// A change could not be made, or not be recorded.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The change itself failed; its intent is in the journal.
    #[error(transparent)]
    Change(#[from] ChangeError),
    /// The journal could not be written, so the host was not touched, or no further.
    #[error("cannot write the journal: {0}")]
    Journal(#[from] io::Error),
}

/// Whether the guest was let go in the QEMU that was started last, or is about to be started.
pub fn guest_ran(records: &[Record]) -> bool {
    let last = records.iter().rev().find(|record| matches!(record, Record::Running | Record::Relaunch));
    last == Some(&Record::Running)
}

/// Process id and start time of the QEMU that was started last.
pub fn last_qemu(records: &[Record]) -> Option<(i32, u64)> {
    records.iter().rev().find_map(|record| match record {
        Record::Started { name, pid, start_time } if name == "qemu" => Some((*pid, *start_time)),
        _ => None,
    })
}

/// The changes in a journal's records that may stand.
pub fn open_changes(records: &[Record]) -> Vec<Open> {
    let mut open: Vec<Open> = Vec::new();
    for record in records {
        match record {
            Record::Intent { seq, change, before } => {
                open.push(Open { seq: *seq, change: change.clone(), before: before.clone() });
            }
            Record::Undone { seq, .. } => open.retain(|o| o.seq != *seq),
            Record::Done { .. }
            | Record::Started { .. }
            | Record::Running
            | Record::Relaunch
            | Record::Hooks { .. }
            | Record::HooksDone { .. }
            | Record::Given { .. }
            | Record::Withdrawn { .. }
            | Record::Attached { .. }
            | Record::Detached { .. }
            | Record::Link { .. }
            | Record::Medium { .. }
            | Record::Rehearsal => {}
        }
    }
    open
}

/// The whole lines, and how many bytes they take.
fn parse(text: &[u8], path: &Path) -> io::Result<(Vec<Record>, usize)> {
    let mut records = Vec::new();
    let mut whole = 0;
    for line in text.split_inclusive(|b| *b == b'\n') {
        if line.last() != Some(&b'\n') {
            break;
        }
        let record = serde_json::from_slice(line).map_err(|e| {
            // What it lists of what it expected helps nobody.
            let why = e.to_string().split(", expected ").next().unwrap_or_default().to_owned();
            let words = format!(
                "line {} of {} is no record of this version of vfio-run ({why}). Recover with the version that wrote it, or \
                 reboot, which resets the host",
                records.len() + 1,
                path.display()
            );
            io::Error::new(io::ErrorKind::InvalidData, words)
        })?;
        records.push(record);
        whole += line.len();
    }
    Ok((records, whole))
}

/// The kernel's own answer, which names no file, with the file.
fn named(error: io::Error, path: &Path) -> io::Error {
    match error.raw_os_error() {
        Some(_) => io::Error::new(error.kind(), format!("{}: {error}", path.display())),
        None => error,
    }
}

/// A new file's name is on disk only when its folder was synced.
fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
