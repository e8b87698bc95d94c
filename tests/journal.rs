//! For random hosts and random changes: whatever is made and wherever the launcher dies, undoing from the journal alone
//! restores the host.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use proptest::prelude::*;
use vfio_run::change::{
    Affinities, Cgroup, Change, ChangeError, CpusetController, ExclusiveCpus, FileError, Freeze, HugePages,
    KernelThreads, Macvtap, MacvtapMode, NarrowSlices, Nat, NodeFolder, Own, OwnSlice, Partition, Setting, SharedFile,
    TakeUsb, VcpuGroup, Write, Writes, affinity, unattended,
};
use vfio_run::host::Root;
use vfio_run::journal::{Journal, MakeError, Record, open_changes};
use vfio_run::units::{CpuSet, Size, Stage};

/// Files of a fake host, by path.
type Files = BTreeMap<PathBuf, String>;

const POOL: &str = "sys/devices/system/node/node0/hugepages/hugepages-2048kB";

const GROUP: &str = "sys/fs/cgroup/a.slice";

struct Host {
    folder: tempfile::TempDir,
}

impl Host {
    fn new(values: &[String], pool: (u64, u64)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = Self { folder };
        for (index, value) in values.iter().enumerate() {
            host.put(&format!("sys/knob{index}"), value);
        }
        host.put(&format!("{POOL}/nr_hugepages"), &pool.0.to_string());
        host.put(&format!("{POOL}/free_hugepages"), &pool.1.min(pool.0).to_string());
        host.put(&format!("{POOL}/surplus_hugepages"), "0");
        host.put("sys/fs/cgroup/cgroup.procs", "");
        host.put("sys/fs/cgroup/cgroup.subtree_control", "memory pids");
        for (file, text) in [
            ("cgroup.subtree_control", "pids"),
            ("cgroup.freeze", "0"),
            ("cpuset.cpus", ""),
            ("cpuset.cpus.exclusive", "0-1"),
            ("cpuset.cpus.partition", "member"),
        ] {
            host.put(&format!("{GROUP}/{file}"), text);
        }
        // A USB device whose interface has no driver.
        host.put("sys/bus/usb/devices/1-1/bConfigurationValue", "1");
        host.put("sys/bus/usb/devices/1-1:1.0/bInterfaceClass", "ff");
        host.put("dev/null", "");
        for (file, text) in [("ifindex", "2"), ("iflink", "2"), ("address", "52:54:00:00:00:01")] {
            host.put(&format!("sys/class/net/eth0/{file}"), text);
        }
        host.put("proc/sys/net/ipv4/conf/eth0/forwarding", "0");
        host.put("run/vfio-run/test/journal", "");
        host.put("run/systemd/notify", "");
        // The thread of this test stands for one of the kernel's.
        let own = nix::unistd::gettid();
        let flags = 0x0020_0040;
        host.put("proc/2/task/2/children", &own.to_string());
        host.put(&format!("proc/{own}/stat"), &format!("{own} (kswapd0) S 2 0 0 0 -1 {flags} {} 7", "0 ".repeat(12)));
        std::fs::create_dir_all(host.run()).unwrap();
        host
    }

    fn put(&self, path: &str, value: &str) {
        let path = self.folder.path().join("root").join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, value).unwrap();
    }

    fn root(&self) -> Root {
        Root::new(self.folder.path().join("root"))
    }

    fn run(&self) -> PathBuf {
        self.folder.path().join("run")
    }

    fn state(&self) -> Files {
        fn walk(folder: &Path, files: &mut Files) {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    files.insert(path.clone(), "a folder".to_owned());
                    walk(&path, files);
                } else {
                    let meta = entry.metadata().unwrap();
                    let text = std::fs::read_to_string(&path).unwrap();
                    files.insert(path.clone(), format!("{text} of {}:{}", meta.uid(), meta.gid()));
                }
            }
        }
        let mut files = Files::new();
        walk(&self.folder.path().join("root"), &mut files);
        files.insert("CPUs of kswapd0".into(), affinity::read(0).unwrap().to_string());
        files
    }

    fn journal(&self) -> Journal {
        Journal::open(&self.run()).unwrap()
    }

    /// Does what `vfio-run recover` does in a new process.
    fn recover(&self) {
        let mut journal = self.journal();
        for report in journal.undo_all(&self.root()) {
            report.result.unwrap();
        }
        assert!(journal.close().unwrap());
    }
}

/// Where the launcher dies, within one change.
#[derive(Debug, Clone, Copy)]
enum Death {
    Intent,
    Apply,
    Done,
}

fn write(path: &str, value: &str) -> Change {
    Write { path: path.into(), value: value.into(), set_by: None }.into()
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let writes = (0..4usize, "[a-z0-9]{1,8}").prop_map(|(knob, value)| write(&format!("/sys/knob{knob}"), &value));
    let pages = (1..64u64).prop_map(|pages| HugePages { node: 0, size: Size::bytes(2 * Size::MIB), pages }.into());
    // A user other than root cannot change a file's owner.
    let root = nix::unistd::geteuid().is_root();
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let own = (0..4usize, 0..3u32).prop_map(move |(knob, id)| {
        let (uid, gid) = if root { (61184 + id, 61184 + id) } else { (uid, gid) };
        Own { path: format!("/sys/knob{knob}").into(), uid, gid }.into()
    });
    let cgroup = (0..2u32).prop_map(|n| Cgroup { path: format!("/sys/fs/cgroup/guest{n}").into() }.into());
    // Made but once, since one that is there is refused.
    let shared = (0..1u32 << 30, 0..4096u64).prop_map(move |(n, size)| {
        SharedFile { path: format!("/sys/shared{n}").into(), size, uid, gid, mode: 0o660 }.into()
    });
    let macvtap = (0..2u32).prop_map(|n| {
        let (name, address) = (format!("vfio-{n}"), format!("52:54:00:00:01:{n:02}"));
        Macvtap { name, parent: "eth0".to_owned(), mode: MacvtapMode::Bridge, address }.into()
    });
    let nat = Just(()).prop_map(|()| {
        let nat = Nat {
            machine: "test".to_owned(),
            run: "/run/vfio-run/test".into(),
            subnet: "192.168.177.0/24".parse().unwrap(),
            uplinks: vec!["eth0".to_owned(), "gone".to_owned()],
            guest: None,
            dnsmasq: "dnsmasq".into(),
            nft: "nft".into(),
        };
        nat.into()
    });
    let many = proptest::collection::vec((0..6usize, "[a-z0-9]{1,8}"), 1..6).prop_map(|files| {
        // Of the six, two are missing.
        let setting =
            |(knob, value)| Setting { may_be_missing: true, ..Setting::new(format!("/sys/knob{knob}"), value) };
        let files: BTreeMap<usize, String> = files.into_iter().collect();
        Writes { what: "tune".to_owned(), files: files.into_iter().map(setting).collect() }.into()
    });
    let nodes = (0..2u32).prop_map(|n| NodeFolder::of(&format!("guest{n}")).into());
    // The second can only be made of the CPUs that the first left.
    let cpus: Vec<u32> = affinity::read(0).unwrap().iter().collect();
    let threads = (0..cpus.len()).prop_map(move |n| {
        let to = cpus.iter().copied().find(|cpu| *cpu != cpus[n]).unwrap_or(cpus[n]);
        KernelThreads { away_from: [cpus[n]].into_iter().collect(), to: [to].into_iter().collect() }.into()
    });
    let in_group = (0..8u32, proptest::collection::btree_set(1..6u32, 1..4)).prop_map(|(kind, cpus)| {
        let (group, cpus): (PathBuf, CpuSet) = (Path::new("/").join(GROUP), cpus.into_iter().collect());
        match kind {
            0 => CpusetController { group, clears: cpus.len() > 1 }.into(),
            1 => VcpuGroup { path: group.join("vcpus"), cpus }.into(),
            2 => ExclusiveCpus { group, cpus }.into(),
            4 => Affinities { all: cpus, machine: Some("test".to_owned()), run: Some("/run/vfio-run/test".into()) }
                .into(),
            5 => NarrowSlices {
                machine: "test".to_owned(),
                run: "/run/vfio-run/test".into(),
                own: "vfioruntest.slice".to_owned(),
                units: vec!["a.slice".to_owned(), "gone.slice".to_owned()],
                cpus,
                all: (0..8).collect(),
            }
            .into(),
            3 => Partition { group, cpus }.into(),
            6 => OwnSlice { slice: "vfioruntest.slice".to_owned() }.into(),
            _ => Freeze { group }.into(),
        }
    });
    let usb = (1..3u32).prop_map(|n| TakeUsb { port: format!("1-{n}").parse().unwrap() }.into());
    let others = prop_oneof![2 => macvtap, 2 => nat, 2 => threads, 4 => in_group];
    let any = prop_oneof![3 => many, 4 => writes, 1 => pages, 2 => own, 1 => cgroup, 1 => nodes, 1 => usb, 1 => shared, 2 => others];
    proptest::collection::vec(any, 1..6)
        .prop_map(|mut changes: Vec<Change>| {
            // A network interface is made once.
            let mut made = Vec::new();
            changes.retain(|change| match change {
                Change::Macvtap(macvtap) => {
                    !made.contains(&macvtap.name) && {
                        made.push(macvtap.name.clone());
                        true
                    }
                }
                _ => true,
            });
            changes
        })
        .prop_filter("nothing is left", |changes| !changes.is_empty())
}

fn hosts() -> impl Strategy<Value = (Vec<String>, (u64, u64))> {
    (proptest::collection::vec("[A-Z]{0,6}", 4), (0..32u64, 0..32u64))
}

#[test]
fn a_second_machine_reserves_its_pages_when_the_first_has_its_own() {
    let host = Host::new(&[], (0, 0));
    let pages = |pages| HugePages { node: 0, size: Size::bytes(2 << 20), pages }.into();
    let journal = |name: &str| {
        let run = host.folder.path().join(name);
        std::fs::create_dir_all(&run).unwrap();
        Journal::open(&run).unwrap()
    };
    let (mut first, mut second) = (journal("first"), journal("second"));
    first.make(&host.root(), &pages(8), &unattended).unwrap();
    // The signal is seen while it waits.
    let stopped = second.make(&host.root(), &pages(4), &|_, _| ControlFlow::Break(()));
    assert!(matches!(stopped, Err(MakeError::Change(ChangeError::Stopped))), "{stopped:?}");
    let (waits, waiting) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        let root = host.root();
        let second = scope.spawn(move || {
            let progress = |_, _| {
                let _ = waits.send(());
                ControlFlow::Continue(())
            };
            second.make(&root, &pages(4), &progress).unwrap();
            second
        });
        waiting.recv().unwrap();
        first.settle(&host.root());
        let mut second = second.join().unwrap();
        // What it found is what the host had without the first.
        let found: Vec<String> = second.open_changes().iter().map(|open| open.before.to_string()).collect();
        assert_eq!(found.len(), 1);
        assert!(found[0].contains(r#""persistent":0"#), "{found:?}");
        second.settle(&host.root());
    });
    assert_eq!(std::fs::read_to_string(host.folder.path().join("root").join(POOL).join("nr_hugepages")).unwrap(), "0");
    assert!(!host.folder.path().join(".pool").exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn apply_then_undo_is_the_identity((values, pool) in hosts(), changes in changes()) {
        let host = Host::new(&values, pool);
        let before = host.state();
        let mut journal = host.journal();
        for change in &changes {
            journal.make(&host.root(), change, &unattended).unwrap();
        }
        for report in journal.undo_all(&host.root()) {
            report.result.unwrap();
        }
        prop_assert!(journal.close().unwrap());
        prop_assert_eq!(host.state(), before);
    }

    #[test]
    fn a_death_at_any_step_is_recovered_from((values, pool) in hosts(), changes in changes()) {
        for dies_at in 0..changes.len() {
            for death in [Death::Intent, Death::Apply, Death::Done] {
                let host = Host::new(&values, pool);
                let before = host.state();
                let mut journal = host.journal();
                for change in &changes[..dies_at] {
                    journal.make(&host.root(), change, &unattended).unwrap();
                }
                let (change, root) = (&changes[dies_at], host.root());
                let found = change.capture(&root).unwrap();
                let seq = dies_at as u32 + 1;
                journal.append(Record::Intent { seq, change: change.clone(), before: found.clone() }).unwrap();
                if !matches!(death, Death::Intent) {
                    change.apply(&root, &found, &unattended).unwrap();
                }
                if matches!(death, Death::Done) {
                    journal.append(Record::Done { seq }).unwrap();
                }
                drop(journal);
                host.recover();
                prop_assert_eq!(host.state(), before.clone(), "{:?} of change {}", death, seq);
            }
        }
    }

    #[test]
    fn a_death_while_undoing_is_recovered_from((values, pool) in hosts(), changes in changes()) {
        for undone in 0..=changes.len() {
            let host = Host::new(&values, pool);
            let before = host.state();
            let mut journal = host.journal();
            for change in &changes {
                journal.make(&host.root(), change, &unattended).unwrap();
            }
            let open = journal.open_changes();
            for (step, change) in open.iter().rev().take(undone).enumerate() {
                let how = change.change.undo(&host.root(), &change.before).unwrap();
                // The last one was undone and not noted.
                if step + 1 < undone {
                    journal.append(Record::Undone { seq: change.seq, how }).unwrap();
                }
            }
            drop(journal);
            host.recover();
            prop_assert_eq!(host.state(), before);
        }
    }

    #[test]
    fn a_journal_that_was_shortened_undoes_the_same((values, pool) in hosts(), changes in changes()) {
        let host = Host::new(&values, pool);
        let before = host.state();
        let mut journal = host.journal();
        for some in changes.chunks(3) {
            for change in some {
                journal.make(&host.root(), change, &unattended).unwrap();
            }
            journal.settle(&host.root());
            journal.append(Record::Running).unwrap();
            journal.shorten().unwrap();
            prop_assert_eq!(journal.records().last(), Some(&Record::Relaunch));
        }
        let open = journal.open_changes();
        prop_assert!(journal.records().len() <= 2 * open.len() + 1, "{:?}", journal.records());
        prop_assert_eq!(host.journal().open_changes(), open);
        drop(journal);
        host.recover();
        prop_assert_eq!(host.state(), before);
        prop_assert_eq!(std::fs::read_dir(host.run()).unwrap().count(), 0);
    }

    #[test]
    fn a_torn_last_line_is_a_change_that_was_never_begun(cut in 1..200usize) {
        let host = Host::new(&["a".into(), "b".into(), "c".into(), "d".into()], (0, 0));
        let mut journal = host.journal();
        let write = |value: &str| write("/sys/knob0", value);
        journal.make(&host.root(), &write("x"), &unattended).unwrap();
        let whole = std::fs::read(host.run().join(Journal::FILE)).unwrap();
        let found = write("y").capture(&host.root()).unwrap();
        journal.append(Record::Intent { seq: 2, change: write("y"), before: found }).unwrap();
        drop(journal);
        let text = std::fs::read(host.run().join(Journal::FILE)).unwrap();
        let cut = whole.len() + cut.min(text.len() - whole.len() - 1);
        std::fs::write(host.run().join(Journal::FILE), &text[..cut]).unwrap();
        prop_assert_eq!(open_changes(&Journal::read(&host.run()).unwrap().unwrap()).len(), 1);
        // What is written next must not hang on to the torn line.
        let mut journal = host.journal();
        journal.append(Record::Running).unwrap();
        drop(journal);
        prop_assert!(host.journal().records().contains(&Record::Running));
        host.recover();
        let knob = std::fs::read_to_string(host.folder.path().join("root/sys/knob0")).unwrap();
        prop_assert_eq!(knob, "a");
    }
}

#[test]
fn a_file_that_was_replaced_meanwhile_keeps_its_owner() {
    let host = Host::new(&["a".into(), "b".into()], (0, 0));
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let change = Change::from(Own { path: "/sys/knob0".into(), uid, gid });
    let found = change.capture(&host.root()).unwrap();
    let path = host.root().path("/sys/knob0");
    std::fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("knob1", &path).unwrap();
    let refused = change.apply(&host.root(), &found, &unattended);
    assert!(matches!(refused, Err(ChangeError::File(FileError::Exchanged { .. }))), "{refused:?}");
}

#[test]
fn what_another_program_changed_is_left_alone_and_the_rest_is_undone() {
    let host = Host::new(&["a".into(), "b".into()], (0, 0));
    let mut journal = host.journal();
    for (knob, value) in [("/sys/knob0", "x"), ("/sys/knob1", "y")] {
        journal.make(&host.root(), &write(knob, value), &unattended).unwrap();
    }
    host.put("sys/knob1", "theirs");
    let reports = journal.undo_all(&host.root());
    assert_eq!(format!("{:?}", reports[0].result), r#"Ok(NotOurs { found: "theirs" })"#);
    assert_eq!(format!("{:?}", reports[1].result), "Ok(Restored)");
    assert!(journal.close().unwrap());
    let root = host.folder.path().join("root/sys");
    assert_eq!(std::fs::read_to_string(root.join("knob0")).unwrap(), "a");
    assert_eq!(std::fs::read_to_string(root.join("knob1")).unwrap(), "theirs");
}

#[test]
fn a_failed_undo_stays_in_the_journal_and_the_rest_is_undone() {
    let host = Host::new(&["a".into(), "b".into()], (0, 0));
    let mut journal = host.journal();
    for (knob, value) in [("/sys/knob0", "x"), ("/sys/knob1", "y")] {
        journal.make(&host.root(), &write(knob, value), &unattended).unwrap();
    }
    // It is there, and cannot be read.
    let knob = host.folder.path().join("root/sys/knob1");
    std::fs::remove_file(&knob).unwrap();
    std::fs::create_dir(&knob).unwrap();
    let reports = journal.undo_all(&host.root());
    assert!(reports[0].result.is_err());
    assert!(reports[1].result.is_ok());
    assert!(!journal.close().unwrap());
    std::fs::remove_dir(&knob).unwrap();
    host.put("sys/knob1", "y");
    host.recover();
    assert_eq!(std::fs::read_to_string(host.folder.path().join("root/sys/knob1")).unwrap(), "b");
}

/// The environment variable of the process in which the journal has no room at the end.
const NO_ROOM: &str = "VFIO_RUN_TEST_NO_ROOM";

#[test]
fn what_was_undone_and_could_not_be_noted_leaves_no_journal() {
    if std::env::var_os(NO_ROOM).is_none() {
        let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
        itself.args(["--exact", "what_was_undone_and_could_not_be_noted_leaves_no_journal"]).env(NO_ROOM, "");
        let output = itself.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let host = Host::new(&["a".into(), "b".into()], (0, 0));
    let before = host.state();
    let mut journal = host.journal();
    for (knob, value) in [("/sys/knob0", "x"), ("/sys/knob1", "y")] {
        journal.make(&host.root(), &write(knob, value), &unattended).unwrap();
    }
    assert!(journal.unnoted().is_none());
    let length = std::fs::metadata(host.run().join(Journal::FILE)).unwrap().len();
    let mut signal = SigSet::empty();
    signal.add(Signal::SIGXFSZ);
    signal.thread_block().unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, length, hard).unwrap();
    let reports = journal.undo_all(&host.root());
    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
    assert!(reports.iter().all(|report| report.result.is_ok()), "{reports:?}");
    assert_eq!(host.state(), before);
    assert!(journal.unnoted().is_some());
    // Whoever reads the file meanwhile undoes it once more, which does nothing.
    assert_eq!(open_changes(&Journal::read(&host.run()).unwrap().unwrap()).len(), 2);
    assert!(journal.close().unwrap());
    assert!(!host.run().join(Journal::FILE).exists());
}

#[test]
fn a_long_change_can_be_stopped_between_its_steps_and_is_undone() {
    let host = Host::new(&[], (3, 1));
    let before = host.state();
    let mut journal = host.journal();
    // 4 GiB, reserved 1 GiB at a time.
    let change = HugePages { node: 0, size: Size::bytes(2 * Size::MIB), pages: 2048 }.into();
    let steps = RefCell::new(Vec::new());
    let stopped = journal.make(&host.root(), &change, &|done, of| {
        steps.borrow_mut().push((done, of));
        if done > 600 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(stopped, Err(MakeError::Change(ChangeError::Stopped))), "{stopped:?}");
    assert_eq!(*steps.borrow(), [(512, 2047), (1024, 2047)]);
    assert_ne!(host.state(), before);
    drop(journal);
    host.recover();
    assert_eq!(host.state(), before);
}

/// The environment variable of the process in which files may not grow.
const CUT_SHORT: &str = "VFIO_RUN_TEST_CUT_SHORT";

#[test]
fn a_record_that_is_cut_short_leaves_the_journal_readable() {
    if std::env::var_os(CUT_SHORT).is_none() {
        // A limit is a whole process's, so this test has one of its own.
        let mut itself = std::process::Command::new(std::env::current_exe().unwrap());
        itself.args(["--exact", "a_record_that_is_cut_short_leaves_the_journal_readable"]).env(CUT_SHORT, "");
        let output = itself.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(folder.path()).unwrap();
    journal.append(Record::Rehearsal).unwrap();
    let length = std::fs::metadata(folder.path().join(Journal::FILE)).unwrap().len();
    // As on a full /run, part of a line is written, and then no more. The signal that says so would end us.
    let mut signal = SigSet::empty();
    signal.add(Signal::SIGXFSZ);
    signal.thread_block().unwrap();
    let (soft, hard) = getrlimit(Resource::RLIMIT_FSIZE).unwrap();
    setrlimit(Resource::RLIMIT_FSIZE, length + 5, hard).unwrap();
    let cut_short = journal.append(Record::Running).unwrap_err();
    assert_eq!(cut_short.raw_os_error(), Some(nix::libc::EFBIG));
    setrlimit(Resource::RLIMIT_FSIZE, soft, hard).unwrap();
    journal.append(Record::Hooks { stage: Stage::Before }).unwrap();
    let read = Journal::read(folder.path()).unwrap().unwrap();
    assert_eq!(read, [Record::Rehearsal, Record::Hooks { stage: Stage::Before }]);
    assert_eq!(read, journal.records());
}
