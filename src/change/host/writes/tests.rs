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
    assert!(change.set(&kernel, &change.find(&kernel).unwrap()).is_err(), "another error is none that it may answer");
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
