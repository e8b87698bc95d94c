//! Set many attributes in one change: frequencies, interrupts, sysctls.
//!
//! The old texts of all files are in the journal before the first is written, and the undo decides for each file by what it
//! reads then, so a death after any of the writes leaves nothing behind. How files read back:
//! - An interrupt that the kernel manages itself refuses its affinity with EIO (6.1) or EPERM (6.12); `kernel/irq/proc.c`.
//! - `scaling_min_freq` and `scaling_max_freq` limit each other: the kernel refuses or clamps the one that is written first if
//!   the other is in its way, so both are written again after one another. A kworker follows a limit, so that a read just
//!   after the write may still show the old one (`cpufreq_notifier_min`); `drivers/cpufreq/cpufreq.c`.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::change::compare::Compare;
use crate::change::error::{ChangeError, FileError};
use crate::change::file::read;
use crate::change::pci::function::{lock_file, write_attribute};
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::change::wait::wait_for;
use crate::host::Root;

/// How long the kernel may take to follow a limit that was written.
const FOLLOW_LIMIT: Duration = Duration::from_secs(2);

/// Set many attributes in one change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Writes {
    /// What this does, as an imperative: `keep interrupts off the guest's CPUs`.
    pub what: String,
    /// The files, in the order that they are written.
    pub files: Vec<Setting>,
}

/// A file and its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// The file, below /sys or /proc.
    pub path: PathBuf,
    /// What is written.
    pub value: String,
    /// How its value reads back.
    #[serde(default)]
    pub compare: Compare,
    /// Whether the host may not have this file; then it is skipped. Otherwise the change fails without it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_be_missing: bool,
    /// Error numbers by which the kernel may refuse this file and nothing is wrong, such as [`UNMOVABLE_IRQ`]. The file keeps
    /// its value then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub may_refuse: Vec<i32>,
    /// Whether this number and another of these files limit each other, so that one can be written only after the other.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub paired: bool,
    /// A file whose text says whose attribute this is, by names with commas between: an interrupt's number may belong to
    /// another device later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<PathBuf>,
}

/// How the kernel refuses the affinity of an interrupt that it manages itself, and of one for which the CPUs have no vector
/// left (ENOSPC).
pub const UNMOVABLE_IRQ: [i32; 3] = [libc::EIO, libc::EPERM, libc::ENOSPC];

impl Setting {
    /// A file that must be there, must take this text and reads it back as it is.
    pub fn new(path: impl Into<PathBuf>, value: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            value: value.into(),
            compare: Compare::Text,
            may_be_missing: false,
            may_refuse: Vec::new(),
            paired: false,
            identity: None,
        }
    }
}

/// The texts that were found: `{"texts": [{"text": "auto"}, null]}`, a place for each file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundTexts {
    /// Of each file; `None`: it was not there and is not touched.
    pub texts: Vec<Option<FoundText>>,
}

/// What a file said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundText {
    /// What must be written so that it says so again.
    pub text: String,
    /// Whose attribute it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,
}

impl Step for Writes {
    type Before = FoundTexts;

    fn nature(&self) -> Nature {
        Nature::PREPARES
    }

    fn capture(&self, root: &Root) -> Result<FoundTexts, ChangeError> {
        Ok(self.find(root)?)
    }

    fn apply(&self, root: &Root, before: &FoundTexts, _: Progress<'_>) -> Result<(), ChangeError> {
        Ok(self.set(root, before)?)
    }

    fn undo(&self, root: &Root, before: &FoundTexts) -> Result<Undone, ChangeError> {
        Ok(self.restore(root, before)?)
    }

    fn lock_files(&self, _: &FoundTexts) -> Vec<PathBuf> {
        self.files.iter().filter_map(|file| lock_file(&file.path)).collect()
    }

    fn observe(&self, root: &Root) -> Vec<Observed> {
        let observed = self.files.iter().filter_map(|file| {
            let text = root.text_up_to(&file.path, 4096)?;
            Some(Observed::new(file.path.display().to_string(), file.compare.writable(&text)))
        });
        observed.collect()
    }
}

impl fmt::Display for Writes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.files.as_slice() {
            [file] => write!(f, "{} (write {:?} to {})", self.what, file.value, file.path.display()),
            files => write!(f, "{} ({} files)", self.what, files.len()),
        }
    }
}

/// The files of a kernel.
trait Attributes {
    fn read(&self, path: &Path) -> Result<String, FileError>;
    fn write(&self, path: &Path, value: &str) -> Result<(), FileError>;
    /// Waits a bounded time until something holds.
    fn wait(&self, holds: &mut dyn FnMut() -> bool);
}

impl Attributes for Root {
    fn read(&self, path: &Path) -> Result<String, FileError> {
        read(self, path)
    }

    fn write(&self, path: &Path, value: &str) -> Result<(), FileError> {
        write_attribute(self, path, value)
    }

    fn wait(&self, holds: &mut dyn FnMut() -> bool) {
        wait_for(self, FOLLOW_LIMIT, holds);
    }
}

/// What an undo does with a file.
enum Fate {
    /// It reads as before.
    Back,
    /// It reads as the change left it.
    Ours,
    /// It is another device's by now, or reads as another program left it.
    Theirs(String),
}

impl Writes {
    fn find(&self, kernel: &dyn Attributes) -> Result<FoundTexts, FileError> {
        let look = |file: &Setting| {
            let text = kernel.read(&file.path)?;
            let identity = file.identity.as_deref().map(|path| kernel.read(path)).transpose()?;
            Ok(FoundText { text: file.compare.writable(&text).to_owned(), identity })
        };
        let found = self.files.iter().map(|file| match look(file) {
            Err(error) if file.may_be_missing && is_gone(&error) => Ok(None),
            found => found.map(Some),
        });
        Ok(FoundTexts { texts: found.collect::<Result<_, _>>()? })
    }

    fn set(&self, kernel: &dyn Attributes, before: &FoundTexts) -> Result<(), FileError> {
        let mut refused = Vec::new();
        for (file, old) in self.with(before) {
            if file.paired {
                // The other one of the pair may come later in the list, so what the kernel says to it counts only below.
                drop(kernel.write(&file.path, &file.value));
                continue;
            }
            match put(kernel, file, &file.value) {
                Err(error) if file.may_refuse(&error) => refused.push(error),
                // An interrupt may be freed at any time.
                Err(error) if file.may_be_missing && is_gone(&error) => {}
                Err(error @ FileError::NotTaken { .. }) => {
                    // An undo would take what it reads now for another program's.
                    drop(kernel.write(&file.path, &old.text));
                    return Err(error);
                }
                other => other?,
            }
        }
        self.with(before).filter(|(file, _)| file.paired).try_for_each(|(file, _)| put(kernel, file, &file.value))?;
        if let Some(first) = refused.first() {
            let (count, all) = (refused.len(), self.files.len());
            tracing::info!(
                "{}: the kernel refused to change {count} of {all} files, as can be expected ({first})",
                self.what
            );
        }
        Ok(())
    }

    fn restore(&self, kernel: &dyn Attributes, before: &FoundTexts) -> Result<Undone, FileError> {
        let (mut ours, mut theirs, mut failed) = (Vec::new(), Vec::new(), None);
        for (file, old) in self.with(before) {
            match fate(kernel, file, old) {
                // The kernel remembers a request beyond what it clamped, and would follow it when the other limit moves.
                Ok(Fate::Back) if file.paired => drop(kernel.write(&file.path, &old.text)),
                Ok(Fate::Back) => {}
                Ok(Fate::Ours) => ours.push((file, old)),
                Ok(Fate::Theirs(found)) => theirs.push(format!("{}: {found}", file.path.display())),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        for (file, old) in &ours {
            if file.paired {
                drop(kernel.write(&file.path, &old.text));
                continue;
            }
            match put(kernel, file, &old.text) {
                Err(error) if file.may_be_missing && is_gone(&error) => {}
                // Another program has made the kernel keep it: no later undo is certain to succeed.
                Err(error) if file.may_refuse(&error) => theirs.push(error.to_string()),
                result => failed = failed.or(result.err()),
            }
        }
        for (file, old) in ours.iter().filter(|(file, _)| file.paired) {
            failed = failed.or(put(kernel, file, &old.text).err());
        }
        match failed {
            Some(error) => Err(error),
            None if !theirs.is_empty() => Ok(Undone::NotOurs { found: theirs.join(", ") }),
            None if ours.is_empty() => Ok(Undone::AlreadyBack),
            None => Ok(Undone::Restored),
        }
    }

    /// The files that were there, each with what it said.
    fn with<'a>(&'a self, before: &'a FoundTexts) -> impl Iterator<Item = (&'a Setting, &'a FoundText)> {
        self.files.iter().zip(&before.texts).filter_map(|(file, old)| Some((file, old.as_ref()?)))
    }
}

impl Setting {
    /// Whether the kernel may refuse this file so and nothing is wrong.
    fn may_refuse(&self, error: &FileError) -> bool {
        error.errno().is_some_and(|errno| self.may_refuse.contains(&errno))
    }
}

/// Whether the file, or what it is an attribute of, vanished.
fn is_gone(error: &FileError) -> bool {
    matches!(error.errno(), Some(libc::ENOENT | libc::ENODEV))
}

/// Whether an attribute is still the same one's. Devices that share an interrupt come and go; one that nobody handles is no
/// other device's, and keeps what was written to it.
fn is_still(identity: &str, now: &str) -> bool {
    let names = |text| str::split(text, ',').map(str::trim);
    identity == now || now.is_empty() || names(identity).any(|name| names(now).any(|other| other == name))
}

/// Writes a file unless it reads so already, and reads it back.
fn put(kernel: &dyn Attributes, file: &Setting, value: &str) -> Result<(), FileError> {
    if file.compare.is_same(&kernel.read(&file.path)?, value) {
        return Ok(());
    }
    kernel.write(&file.path, value)?;
    let mut found = kernel.read(&file.path)?;
    if file.paired {
        kernel.wait(&mut || {
            if let Ok(now) = kernel.read(&file.path) {
                found = now;
            }
            file.compare.is_same(&found, value)
        });
    }
    match file.compare.is_same(&found, value) {
        true => Ok(()),
        false => Err(FileError::NotTaken { path: file.path.clone(), wanted: value.to_owned(), found }),
    }
}

fn fate(kernel: &dyn Attributes, file: &Setting, old: &FoundText) -> Result<Fate, FileError> {
    let found = match kernel.read(&file.path) {
        Err(error) if is_gone(&error) => {
            // With an interrupt or CPU that is gone, so is its setting.
            return Ok(if file.may_be_missing { Fate::Back } else { Fate::Theirs("no such file".to_owned()) });
        }
        other => other?,
    };
    let is_same = |value: &str| file.compare.is_same(&found, value);
    if is_same(&old.text) {
        return Ok(Fate::Back);
    }
    if let (Some(path), Some(identity)) = (&file.identity, &old.identity)
        && !kernel.read(path).is_ok_and(|now| is_still(identity, &now))
    {
        return Ok(Fate::Theirs("it belongs to another device now".to_owned()));
    }
    // The kernel may have clamped one of a pair if the launcher died before it wrote the other.
    let is_ours = is_same(&file.value) || file.paired && file.compare.is_between(&found, &old.text, &file.value);
    Ok(if is_ours { Fate::Ours } else { Fate::Theirs(found) })
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeMap;

    use super::*;

    const MIN: &str = "/sys/policy0/scaling_min_freq";
    const MAX: &str = "/sys/policy0/scaling_max_freq";
    const MASK: &str = "/sys/workqueue/cpumask";
    const IRQ: &str = "/proc/irq/30/smp_affinity_list";
    const ACTIONS: &str = "/sys/kernel/irq/30/actions";
    const GOVERNOR: &str = "/sys/policy0/scaling_governor";
    const PREFERENCE: &str = "/sys/policy0/energy_performance_preference";
    const THP: &str = "/sys/thp/enabled";

    /// How a kernel treats a limit that the other one is in the way of.
    #[derive(Clone, Copy, PartialEq)]
    enum Limits {
        Refused,
        Clamped,
    }

    struct Kernel {
        files: RefCell<BTreeMap<PathBuf, String>>,
        /// What was asked for, which a newer kernel remembers beyond what it clamped.
        requests: RefCell<BTreeMap<PathBuf, i64>>,
        limits: Limits,
        /// So many reads still show the limits as they were: a kworker follows a request.
        stale: Cell<usize>,
        is_late: bool,
        /// The error that a file answers to all writes.
        refuses: BTreeMap<PathBuf, i32>,
        /// So many writes go through before the launcher dies.
        writes_left: Cell<usize>,
    }

    impl Kernel {
        fn new(limits: Limits) -> Self {
            let files = [
                (MIN, "2000"),
                (MAX, "3000"),
                (MASK, "00000000,000000ff"),
                (IRQ, "0-7"),
                (ACTIONS, "eth0"),
                (THP, "always [madvise] never"),
                (GOVERNOR, "powersave"),
                (PREFERENCE, "balance_performance"),
            ];
            let files = files.map(|(path, text)| (PathBuf::from(path), text.to_owned()));
            Self {
                files: RefCell::new(files.into()),
                requests: RefCell::new([(MIN.into(), 2000), (MAX.into(), 3000)].into()),
                limits,
                stale: Cell::new(0),
                is_late: false,
                refuses: BTreeMap::new(),
                writes_left: Cell::new(usize::MAX),
            }
        }

        fn says(&self, path: &str) -> String {
            self.files.borrow()[Path::new(path)].clone()
        }

        fn now_says(&self, path: &str, text: &str) {
            self.files.borrow_mut().insert(path.into(), text.to_owned());
        }

        fn all(&self) -> BTreeMap<PathBuf, String> {
            self.files.borrow().clone()
        }

        fn set_limit(&self, path: &Path, value: i64) -> Result<(), i32> {
            let mut requests = self.requests.borrow_mut();
            let old = requests.insert(path.to_owned(), value);
            let (min, max) = (requests[Path::new(MIN)], requests[Path::new(MAX)]);
            if min > max && self.limits == Limits::Refused {
                requests.insert(path.to_owned(), old.unwrap());
                return Err(libc::EINVAL);
            }
            drop(requests);
            match self.is_late {
                true => self.stale.set(4),
                false => self.follow(),
            }
            Ok(())
        }

        fn follow(&self) {
            let requests = self.requests.borrow();
            let (min, max) = (requests[Path::new(MIN)], requests[Path::new(MAX)]);
            // `cpufreq_verify_within_limits`: the minimum gives way.
            self.now_says(MAX, &max.to_string());
            self.now_says(MIN, &min.min(max).to_string());
        }
    }

    impl Attributes for Kernel {
        fn read(&self, path: &Path) -> Result<String, FileError> {
            let missing = || FileError::io("read", path)(std::io::Error::from_raw_os_error(libc::ENOENT));
            if self.stale.get() > 0 {
                self.stale.set(self.stale.get() - 1);
                if self.stale.get() == 0 {
                    self.follow();
                }
            }
            self.files.borrow().get(path).cloned().ok_or_else(missing)
        }

        fn write(&self, path: &Path, value: &str) -> Result<(), FileError> {
            let refuse = |errno| FileError::io("write", path)(std::io::Error::from_raw_os_error(errno));
            let left = self.writes_left.get();
            self.writes_left.set(left.checked_sub(1).ok_or_else(|| refuse(libc::EINTR))?);
            if let Some(errno) = self.refuses.get(path) {
                return Err(refuse(*errno));
            }
            match path.to_str().unwrap() {
                MIN | MAX => self.set_limit(path, value.parse().unwrap()).map_err(refuse)?,
                MASK => {
                    let digits = value.replace(',', "");
                    let padded = format!("{digits:0>16}");
                    self.now_says(MASK, &format!("{},{}", &padded[..8], &padded[8..]));
                }
                THP => {
                    let words = ["always", "madvise", "never"];
                    let chosen = words.map(|word| if word == value { format!("[{word}]") } else { word.to_owned() });
                    if !words.contains(&value) {
                        return Err(refuse(libc::EINVAL));
                    }
                    self.now_says(THP, &chosen.join(" "));
                }
                GOVERNOR => {
                    self.now_says(GOVERNOR, value);
                    if value == "performance" {
                        self.now_says(PREFERENCE, "performance");
                    }
                }
                PREFERENCE if self.says(GOVERNOR) == "performance" => return Err(refuse(libc::EBUSY)),
                path => self.now_says(path, value),
            }
            Ok(())
        }

        fn wait(&self, holds: &mut dyn FnMut() -> bool) {
            (0..100).any(|_| holds());
        }
    }

    fn limit(path: &str, value: &str) -> Setting {
        Setting { compare: Compare::Number, paired: true, ..Setting::new(path, value) }
    }

    fn writes(files: Vec<Setting>) -> Writes {
        Writes { what: "tune the host".to_owned(), files }
    }

    fn everything() -> Writes {
        writes(vec![
            Setting { compare: Compare::CpuMask, ..Setting::new(MASK, "f") },
            limit(MIN, "800"),
            limit(MAX, "1400"),
            Setting { compare: Compare::Choice, ..Setting::new(THP, "never") },
            Setting { compare: Compare::CpuList, identity: Some(ACTIONS.into()), ..Setting::new(IRQ, "0,1") },
            Setting { may_be_missing: true, ..Setting::new("/sys/missing", "1") },
        ])
    }

    #[test]
    fn each_file_reads_back_in_its_own_way_and_is_restored() {
        for limits in [Limits::Refused, Limits::Clamped] {
            let kernel = Kernel::new(limits);
            let before = kernel.all();
            let change = everything();
            let found = change.find(&kernel).unwrap();
            change.set(&kernel, &found).unwrap();
            let values = [MASK, MIN, MAX, THP, IRQ].map(|path| kernel.says(path));
            assert_eq!(values, ["00000000,0000000f", "800", "1400", "always madvise [never]", "0,1"]);
            assert_eq!(change.restore(&kernel, &found).unwrap(), Undone::Restored);
            assert_eq!(kernel.all(), before);
            assert_eq!(change.restore(&kernel, &found).unwrap(), Undone::AlreadyBack);
        }
    }

    #[test]
    fn two_that_limit_each_other_are_written_in_the_order_that_works() {
        for limits in [Limits::Refused, Limits::Clamped] {
            for (low, high) in [(800, 1400), (3500, 4000), (2500, 2500), (100, 9000)] {
                for turned in [false, true] {
                    let kernel = Kernel::new(limits);
                    let mut files = vec![limit(MIN, &low.to_string()), limit(MAX, &high.to_string())];
                    if turned {
                        files.reverse();
                    }
                    let change = writes(files);
                    let found = change.find(&kernel).unwrap();
                    change.set(&kernel, &found).unwrap();
                    assert_eq!([MIN, MAX].map(|path| kernel.says(path)), [low.to_string(), high.to_string()]);
                    assert_eq!(change.restore(&kernel, &found).unwrap(), Undone::Restored);
                    assert_eq!([MIN, MAX].map(|path| kernel.says(path)), ["2000", "3000"]);
                }
            }
        }
    }

    #[test]
    fn a_death_after_any_write_is_undone() {
        for limits in [Limits::Refused, Limits::Clamped] {
            for (old_low, low, high) in [(2000, "800", "1400"), (2000, "3500", "4000"), (3000, "3500", "4000")] {
                for writes_left in 0..12 {
                    let kernel = Kernel::new(limits);
                    kernel.set_limit(Path::new(MIN), old_low).unwrap();
                    let (before, requests) = (kernel.all(), kernel.requests.borrow().clone());
                    let mut change = everything();
                    change.files[1].value = low.to_owned();
                    change.files[2].value = high.to_owned();
                    let found = change.find(&kernel).unwrap();
                    kernel.writes_left.set(writes_left);
                    // Whether it says so or not: what is on the host is all that a recovery has.
                    drop(change.set(&kernel, &found));
                    // The recovery dies once, too.
                    for again in [1, 2, usize::MAX] {
                        kernel.writes_left.set(again);
                        drop(change.restore(&kernel, &found));
                    }
                    assert_eq!(kernel.all(), before, "after {writes_left} writes");
                    assert_eq!(*kernel.requests.borrow(), requests, "after {writes_left} writes");
                }
            }
        }
    }

    #[test]
    fn a_managed_interrupt_may_refuse_and_everything_else_may_not() {
        for errno in UNMOVABLE_IRQ {
            let mut kernel = Kernel::new(Limits::Clamped);
            kernel.refuses.insert(IRQ.into(), errno);
            let mut change = everything();
            let found = change.find(&kernel).unwrap();
            let error = change.set(&kernel, &found).unwrap_err();
            assert_eq!(error.errno(), Some(errno));
            change.restore(&kernel, &found).unwrap();
            change.files[4].may_refuse = UNMOVABLE_IRQ.to_vec();
            change.set(&kernel, &found).unwrap();
            assert_eq!([IRQ, THP].map(|path| kernel.says(path)), ["0-7", "always madvise [never]"]);
            assert_eq!(change.restore(&kernel, &found).unwrap(), Undone::Restored);
        }
        let mut kernel = Kernel::new(Limits::Clamped);
        kernel.refuses.insert(IRQ.into(), libc::EINVAL);
        let change = writes(vec![Setting { may_refuse: UNMOVABLE_IRQ.to_vec(), ..Setting::new(IRQ, "0") }]);
        assert!(
            change.set(&kernel, &change.find(&kernel).unwrap()).is_err(),
            "another error is none that it may answer"
        );
    }

    #[test]
    fn a_missing_file_is_skipped_only_if_it_may_be_missing() {
        let kernel = Kernel::new(Limits::Clamped);
        let error = writes(vec![Setting::new("/sys/missing", "1")]).find(&kernel).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        let change = everything();
        let found = change.find(&kernel).unwrap();
        assert_eq!(found.texts[5], None);
        // It came after the start: it was never ours.
        kernel.now_says("/sys/missing", "0");
        change.set(&kernel, &found).unwrap();
        assert_eq!(kernel.says("/sys/missing"), "0");
        kernel.now_says("/sys/missing", "1");
        change.restore(&kernel, &found).unwrap();
        assert_eq!(kernel.says("/sys/missing"), "1");
    }

    #[test]
    fn a_value_that_is_not_taken_is_an_error_and_does_not_stay() {
        struct Rounds(Kernel);
        impl Attributes for Rounds {
            fn read(&self, path: &Path) -> Result<String, FileError> {
                self.0.read(path)
            }
            fn write(&self, path: &Path, value: &str) -> Result<(), FileError> {
                self.0.write(path, if value == "5" { "4" } else { value })
            }
            fn wait(&self, holds: &mut dyn FnMut() -> bool) {
                self.0.wait(holds)
            }
        }
        let kernel = Rounds(Kernel::new(Limits::Clamped));
        kernel.0.now_says("/proc/sys/knob", "1");
        let change = writes(vec![Setting { compare: Compare::Number, ..Setting::new("/proc/sys/knob", "5") }]);
        let error = change.set(&kernel, &change.find(&kernel).unwrap()).unwrap_err();
        assert!(matches!(&error, FileError::NotTaken { found, .. } if found == "4"), "{error}");
        assert_eq!(kernel.0.says("/proc/sys/knob"), "1");
    }

    #[test]
    fn files_that_another_program_changed_are_left_alone_and_the_others_restored() {
        let kernel = Kernel::new(Limits::Clamped);
        let change = everything();
        let found = change.find(&kernel).unwrap();
        change.set(&kernel, &found).unwrap();
        kernel.now_says(MASK, "00000000,00000003");
        let how = change.restore(&kernel, &found).unwrap();
        assert_eq!(how, Undone::NotOurs { found: format!("{MASK}: 00000000,00000003") });
        assert_eq!([MASK, MAX].map(|path| kernel.says(path)), ["00000000,00000003", "3000"]);
    }

    #[test]
    fn an_interrupt_that_is_another_devices_by_now_is_left_alone() {
        let kernel = Kernel::new(Limits::Clamped);
        let change = everything();
        let found = change.find(&kernel).unwrap();
        change.set(&kernel, &found).unwrap();
        kernel.now_says(ACTIONS, "nvme0q1");
        let how = change.restore(&kernel, &found).unwrap();
        assert_eq!(how, Undone::NotOurs { found: format!("{IRQ}: it belongs to another device now") });
        assert_eq!(kernel.says(IRQ), "0,1");
    }

    #[test]
    fn a_file_that_cannot_be_restored_is_an_error_and_the_others_are_restored() {
        let mut kernel = Kernel::new(Limits::Clamped);
        let change = everything();
        let found = change.find(&kernel).unwrap();
        change.set(&kernel, &found).unwrap();
        kernel.refuses.insert(MASK.into(), libc::EBUSY);
        assert_eq!(change.restore(&kernel, &found).unwrap_err().errno(), Some(libc::EBUSY));
        assert_eq!([IRQ, MIN].map(|path| kernel.says(path)), ["0-7", "2000"]);
    }

    #[test]
    fn a_limit_that_the_kernel_follows_later_is_waited_for() {
        for limits in [Limits::Refused, Limits::Clamped] {
            let kernel = Kernel { is_late: true, ..Kernel::new(limits) };
            let change = writes(vec![limit(MIN, "3000")]);
            let found = change.find(&kernel).unwrap();
            change.set(&kernel, &found).unwrap();
            assert_eq!(kernel.says(MIN), "3000");
            assert_eq!(change.restore(&kernel, &found).unwrap(), Undone::Restored);
            assert_eq!(kernel.says(MIN), "2000");
        }
    }

    #[test]
    fn an_interrupt_that_vanishes_meanwhile_is_skipped() {
        let change = writes(vec![Setting {
            compare: Compare::CpuList,
            may_be_missing: true,
            identity: Some(ACTIONS.into()),
            ..Setting::new(IRQ, "0")
        }]);
        let without = |kernel: &Kernel, path: &str| drop(kernel.files.borrow_mut().remove(Path::new(path)));
        // Before its write, and between the look at it and the write.
        for while_written in [false, true] {
            let mut kernel = Kernel::new(Limits::Clamped);
            let found = change.find(&kernel).unwrap();
            if while_written {
                kernel.refuses.insert(IRQ.into(), libc::ENOENT);
            } else {
                without(&kernel, IRQ);
            }
            change.set(&kernel, &found).unwrap();
            assert_eq!(change.restore(&kernel, &found).unwrap(), Undone::AlreadyBack);
        }
        // While it is restored.
        let mut kernel = Kernel::new(Limits::Clamped);
        let found = change.find(&kernel).unwrap();
        change.set(&kernel, &found).unwrap();
        kernel.refuses.insert(IRQ.into(), libc::ENOENT);
        change.restore(&kernel, &found).unwrap();
        // While it is looked at.
        let kernel = Kernel::new(Limits::Clamped);
        without(&kernel, ACTIONS);
        assert_eq!(change.find(&kernel).unwrap().texts, [None]);
    }

    #[test]
    fn an_interrupt_is_restored_though_a_device_that_shares_it_came_or_went() {
        for (before, now) in [("snd,eth0", "eth0,snd"), ("snd,eth0", "eth0"), ("eth0", "vfio,eth0"), ("eth0", "")] {
            let kernel = Kernel::new(Limits::Clamped);
            kernel.now_says(ACTIONS, before);
            let change = everything();
            let found = change.find(&kernel).unwrap();
            change.set(&kernel, &found).unwrap();
            kernel.now_says(ACTIONS, now);
            assert_eq!(change.restore(&kernel, &found).unwrap(), Undone::Restored, "{before:?} {now:?}");
            assert_eq!(kernel.says(IRQ), "0-7");
        }
    }

    #[test]
    fn what_the_kernel_sets_together_with_a_file_is_restored_after_it() {
        for writes_left in 0..5 {
            let kernel = Kernel::new(Limits::Clamped);
            let before = kernel.all();
            let forced = Setting { may_refuse: vec![libc::EBUSY], ..Setting::new(PREFERENCE, "performance") };
            let change = writes(vec![Setting::new(GOVERNOR, "performance"), forced]);
            let found = change.find(&kernel).unwrap();
            change.set(&kernel, &found).unwrap();
            assert_eq!([GOVERNOR, PREFERENCE].map(|path| kernel.says(path)), ["performance"; 2]);
            kernel.writes_left.set(writes_left);
            drop(change.restore(&kernel, &found));
            kernel.writes_left.set(usize::MAX);
            change.restore(&kernel, &found).unwrap();
            assert_eq!(kernel.all(), before);
        }
    }

    #[test]
    fn a_file_that_may_refuse_keeps_no_journal_open() {
        // Another program set the governor `performance`, under which no preference is taken.
        let mut kernel = Kernel::new(Limits::Clamped);
        let change = writes(vec![Setting { may_refuse: vec![libc::EBUSY], ..Setting::new(IRQ, "0") }]);
        let found = change.find(&kernel).unwrap();
        change.set(&kernel, &found).unwrap();
        kernel.refuses.insert(IRQ.into(), libc::EBUSY);
        let how = change.restore(&kernel, &found).unwrap();
        assert!(matches!(&how, Undone::NotOurs { found } if found.contains(IRQ)), "{how:?}");
    }
}
