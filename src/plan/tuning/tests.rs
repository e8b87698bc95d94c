use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::knobs::KNOBS;
use super::{wanted, wanted_by_any};
use crate::change::{Before, Change, Compare, UNMOVABLE_IRQ, Undone, Writes, unattended};
use crate::host::{AioRequests, Attribute, Environment, Host, Irq, Root, Tuning, Wanted};
use crate::plan::sample::{self, Shape};
use crate::plan::{Plan, Severity, Verdict};

const POLICY: &str = "/sys/devices/system/cpu/cpufreq/policy";
const WORKQUEUE: &str = "/sys/devices/virtual/workqueue/cpumask";
const WATCHDOG: &str = "/proc/sys/kernel/watchdog_cpumask";
const DEFAULT: &str = "/proc/irq/default_smp_affinity";

/// What a host with four CPUs and two policies says.
fn files() -> Vec<(String, &'static str)> {
    let mut files = vec![
        ("/proc/sys/kernel/numa_balancing".to_owned(), "1"),
        ("/proc/sys/kernel/split_lock_mitigate".to_owned(), "1"),
        ("/sys/kernel/mm/ksm/run".to_owned(), "1"),
        ("/sys/kernel/mm/transparent_hugepage/defrag".to_owned(), "always defer defer+madvise [madvise] never"),
        ("/sys/module/kvm/parameters/halt_poll_ns".to_owned(), "200000"),
        ("/sys/module/kvm/parameters/ignore_msrs".to_owned(), "N"),
        ("/sys/module/kvm/parameters/report_ignored_msrs".to_owned(), "Y"),
        ("/proc/sys/vm/stat_interval".to_owned(), "1"),
        ("/proc/sys/kernel/timer_migration".to_owned(), "1"),
        (WATCHDOG.to_owned(), "0-3"),
        ("/sys/devices/system/cpu/cpu1/power/pm_qos_resume_latency_us".to_owned(), "0"),
        ("/sys/devices/system/cpu/cpu2/power/pm_qos_resume_latency_us".to_owned(), "0"),
        ("/sys/devices/system/cpu/cpu3/power/pm_qos_resume_latency_us".to_owned(), "100"),
        (WORKQUEUE.to_owned(), "f"),
        (DEFAULT.to_owned(), "f"),
        ("/proc/irq/9/smp_affinity_list".to_owned(), "0-3"),
        ("/proc/irq/24/smp_affinity_list".to_owned(), "2"),
        ("/proc/irq/25/smp_affinity_list".to_owned(), "0-1"),
        ("/proc/irq/26/smp_affinity_list".to_owned(), "0-3"),
        ("/proc/irq/27/smp_affinity_list".to_owned(), "0-3"),
        ("/sys/kernel/irq/9/actions".to_owned(), "acpi"),
        ("/sys/kernel/irq/24/actions".to_owned(), "nvme0q1"),
        ("/sys/kernel/irq/25/actions".to_owned(), "xhci_hcd"),
        ("/sys/kernel/irq/26/actions".to_owned(), ""),
        ("/sys/kernel/irq/27/actions".to_owned(), "nvidia"),
        ("/sys/bus/pci/devices/0000:01:00.0/msi_irqs/27".to_owned(), "msi"),
    ];
    for (number, max) in [(0, "4800000"), (2, "3600000")] {
        for (name, text) in [
            ("scaling_governor", "powersave"),
            ("scaling_available_governors", "performance powersave"),
            ("scaling_min_freq", "800000"),
            ("scaling_max_freq", max),
            ("energy_performance_preference", "balance_performance"),
            ("energy_performance_available_preferences", "default performance balance_performance power"),
        ] {
            files.push((format!("{POLICY}{number}/{name}"), text));
        }
    }
    files
}

/// A folder with these files.
fn tree(files: &[(String, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = folder.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

/// What is known of the host below this folder.
fn tuning(folder: &Path) -> Tuning {
    let wanted = Wanted { tuning: Some(wanted_by_any()), ..Wanted::default() };
    Host::read_in(&Root::new(folder), &Environment::default(), &wanted).tuning.unwrap()
}

/// Root on four CPUs, of which the vCPUs have two.
fn plan_on(tuning: Option<Tuning>, written: &str) -> Plan {
    plan_with(tuning, written, "cpu: (pin: \"2-3\")", 0)
}

fn plan_with(tuning: Option<Tuning>, written: &str, cpu: &str, uid: u32) -> Plan {
    let mut host = sample::host(Shape::simple(4, 1));
    (host.process.uid, host.process.gid) = (uid, uid);
    host.tuning = tuning;
    let plan = sample::plan(&format!("(guest: Linux, memory: (size: \"1 GiB\"), {cpu}, host: ({written}))"), &host);
    // What is planned must be readable in another process.
    assert_eq!(serde_json::from_str::<Plan>(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
    plan
}

fn plan(written: &str) -> Plan {
    plan_on(Some(tuning(tree(&files()).path())), written)
}

fn writes(plan: &Plan) -> Vec<&Writes> {
    let writes = plan.changes.iter().filter_map(|planned| match &planned.change {
        Change::Writes(writes) => Some(writes),
        _ => None,
    });
    writes.collect()
}

/// Each file that is written, with its value.
fn written(plan: &Plan) -> Vec<(String, String)> {
    let files = writes(plan).into_iter().flat_map(|writes| &writes.files);
    files.map(|file| (file.path.display().to_string(), file.value.clone())).collect()
}

fn finding<'p>(plan: &'p Plan, key: &str) -> (Severity, Verdict, &'p str) {
    let finding = plan.findings.iter().find(|finding| finding.key == key).unwrap_or_else(|| panic!("no {key}"));
    if finding.ok == Verdict::No {
        assert!(finding.remedy.is_some() && finding.origin.is_some(), "{finding:?}");
    }
    (finding.severity, finding.ok, &finding.detail)
}

/// The field, what is written for it, how that reads back, and whether the host may lack it.
type Case = (&'static str, &'static str, &'static [(&'static str, &'static str)], Compare, bool);

const CASES: &[Case] = &[
    (
        "energy_preference",
        "\"performance\"",
        &[
            ("/sys/devices/system/cpu/cpufreq/policy0/energy_performance_preference", "performance"),
            ("/sys/devices/system/cpu/cpufreq/policy2/energy_performance_preference", "performance"),
        ],
        Compare::Text,
        true,
    ),
    (
        "governor",
        "\"performance\"",
        &[
            ("/sys/devices/system/cpu/cpufreq/policy0/scaling_governor", "performance"),
            ("/sys/devices/system/cpu/cpufreq/policy2/scaling_governor", "performance"),
            ("/sys/devices/system/cpu/cpufreq/policy0/energy_performance_preference", "performance"),
            ("/sys/devices/system/cpu/cpufreq/policy2/energy_performance_preference", "performance"),
        ],
        Compare::Text,
        false,
    ),
    (
        "frequency",
        "Max",
        &[
            ("/sys/devices/system/cpu/cpufreq/policy0/scaling_min_freq", "4800000"),
            ("/sys/devices/system/cpu/cpufreq/policy2/scaling_min_freq", "3600000"),
        ],
        Compare::Number,
        false,
    ),
    ("numa_balancing", "false", &[("/proc/sys/kernel/numa_balancing", "0")], Compare::Number, true),
    ("split_lock_mitigate", "false", &[("/proc/sys/kernel/split_lock_mitigate", "0")], Compare::Number, true),
    ("ksm", "false", &[("/sys/kernel/mm/ksm/run", "0")], Compare::Number, true),
    (
        "thp_defrag",
        "DeferMadvise",
        &[("/sys/kernel/mm/transparent_hugepage/defrag", "defer+madvise")],
        Compare::Choice,
        false,
    ),
    ("halt_poll_ns", "400000", &[("/sys/module/kvm/parameters/halt_poll_ns", "400000")], Compare::Number, false),
    ("ignore_msrs", "true", &[("/sys/module/kvm/parameters/ignore_msrs", "Y")], Compare::Text, false),
    ("report_ignored_msrs", "false", &[("/sys/module/kvm/parameters/report_ignored_msrs", "N")], Compare::Text, false),
    ("stat_interval", "10", &[("/proc/sys/vm/stat_interval", "10")], Compare::Number, true),
    ("timer_migration", "false", &[("/proc/sys/kernel/timer_migration", "0")], Compare::Number, true),
    (
        "guest_cpu_latency_us",
        "20",
        &[
            ("/sys/devices/system/cpu/cpu2/power/pm_qos_resume_latency_us", "20"),
            ("/sys/devices/system/cpu/cpu3/power/pm_qos_resume_latency_us", "20"),
        ],
        Compare::Text,
        true,
    ),
];

/// What is kept off the vCPUs' CPUs.
const AWAY: &[&str] = &["workqueues", "irqs", "watchdog", "kernel_threads"];

/// All of them, as a machine file asks for it.
fn all_away() -> String {
    AWAY.iter().map(|field| format!("{field}: Away")).collect::<Vec<_>>().join(", ")
}

#[test]
fn each_knob_writes_its_files_and_only_if_the_machine_says_so() {
    assert_eq!(CASES.len(), KNOBS.len(), "each row of the table has a case here");
    assert_eq!(written(&plan("")), []);
    for (field, value, expected, compare, _) in CASES {
        let plan = plan(&format!("{field}: {value}"));
        let expected: Vec<_> = expected.iter().map(|(path, value)| (path.to_string(), value.to_string())).collect();
        assert_eq!(written(&plan), expected, "{field}");
        let [change] = writes(&plan)[..] else { panic!("{field}: one change a field") };
        assert!(change.files.iter().all(|file| file.compare == *compare), "{field}");
        assert_eq!(finding(&plan, &format!("host.{field}")).1, Verdict::Yes);
        let planned = plan.changes.iter().find(|planned| matches!(planned.change, Change::Writes(_))).unwrap();
        assert_eq!(planned.origin.to_string(), format!("host.{field}"));
        assert!(!planned.change.nature().takes_from_host());
    }
    let switched = plan("numa_balancing: true, ksm: true, split_lock_mitigate: true");
    assert!(written(&switched).iter().all(|(_, value)| value == "1"), "{switched:?}");
}

#[test]
fn a_host_without_a_file_forbids_the_start_unless_there_is_nothing_to_switch_off() {
    for (field, value, expected, _, may_be_missing) in CASES {
        let mut tuning = tuning(tree(&files()).path());
        tuning.files.retain(|path, _| expected.iter().all(|(missing, _)| path != Path::new(missing)));
        let plan = plan_on(Some(tuning), &format!("{field}: {value}"));
        let severity = if *may_be_missing { Severity::Soft } else { Severity::Hard };
        let (found, verdict, detail) = finding(&plan, &format!("host.{field}"));
        assert_eq!((found, verdict), (severity, Verdict::No), "{field}");
        assert!(detail.starts_with("this host has no /"), "{detail}");
        assert_eq!(written(&plan), []);
    }
}

#[test]
fn what_the_host_does_not_offer_or_lets_nobody_write_forbids_the_start() {
    for (said, detail) in [
        ("governor: \"schedutil\"", "policy0/scaling_governor does not take \"schedutil\""),
        ("energy_preference: \"80\"", "policy0/energy_performance_preference does not take \"80\""),
        ("energy_preference: \"default\"", "policy0/energy_performance_preference does not take \"default\""),
    ] {
        let plan = plan(said);
        let key = format!("host.{}", said.split(':').next().unwrap());
        let (severity, verdict, found) = finding(&plan, &key);
        assert_eq!((severity, verdict), (Severity::Hard, Verdict::No));
        assert!(found.ends_with(detail), "{found}");
        assert_eq!(written(&plan), []);
    }
    let remedy =
        plan("governor: \"schedutil\"").findings.into_iter().find(|f| f.key == "host.governor").unwrap().remedy;
    assert!(remedy.unwrap().contains("(performance, powersave)"));

    let all = CASES.iter().map(|(field, value, ..)| format!("{field}: {value}")).collect::<Vec<_>>().join(", ");
    let all = format!("{all}, {}", all_away());
    let tuning = tuning(tree(&files()).path());
    let others = plan_with(Some(tuning.clone()), &all, "cpu: (pin: \"2-3\")", 1000);
    let mut read_only = tuning;
    read_only.files.values_mut().for_each(|file| file.read_only = true);
    for (plan, words) in [(others, "only root may "), (plan_on(Some(read_only), &all), "this kernel lets nobody write")]
    {
        for field in CASES.iter().map(|(field, ..)| *field).chain(AWAY.iter().copied()) {
            // Threads are no attribute.
            if field == "kernel_threads" && words.starts_with("this kernel") {
                continue;
            }
            let (severity, verdict, detail) = finding(&plan, &format!("host.{field}"));
            assert_eq!((severity, verdict), (Severity::Hard, Verdict::No));
            assert!(detail.starts_with(words), "{detail}");
        }
        assert_eq!(written(&plan), []);
    }
    for field in CASES.iter().map(|(field, ..)| *field).chain(AWAY.iter().copied()) {
        assert_eq!(finding(&plan_on(None, &all), &format!("host.{field}")).1, Verdict::Unknown, "{field}");
    }
}

#[test]
fn the_governor_is_restored_before_the_energy_preference() {
    let plan = plan("governor: \"performance\", energy_preference: \"performance\"");
    let order: Vec<_> = writes(&plan).iter().map(|writes| writes.files[0].path.file_name().unwrap()).collect();
    assert_eq!(order, ["energy_performance_preference", "scaling_governor"]);
    assert_eq!(writes(&plan)[0].files[0].may_refuse, [libc::EBUSY]);
}

#[test]
fn work_and_interrupts_stay_off_the_vcpus_cpus() {
    let plan = plan("workqueues: Away, irqs: Away");
    let expected = [
        (WORKQUEUE, "3"),
        ("/proc/irq/9/smp_affinity_list", "0-1"),
        // It had a CPU of the vCPUs alone.
        ("/proc/irq/24/smp_affinity_list", "0-1"),
        ("/proc/irq/27/smp_affinity_list", "0-1"),
        (DEFAULT, "3"),
    ];
    assert_eq!(written(&plan), expected.map(|(path, value)| (path.to_owned(), value.to_owned())));
    let irqs = writes(&plan)[1];
    for file in &irqs.files {
        let number = file.path.parent().unwrap().file_name().unwrap().to_str().unwrap();
        assert_eq!(file.identity, Some(format!("/sys/kernel/irq/{number}/actions").into()));
        assert_eq!((file.may_refuse.as_slice(), file.may_be_missing), (&UNMOVABLE_IRQ[..], true));
        assert_eq!(file.compare, Compare::CpuList);
    }
    assert!([0, 2].iter().all(|place| writes(&plan)[*place].files[0].compare == Compare::CpuMask));
    assert!(plan.findings.iter().all(|finding| finding.key != "host.irqs.irqbalance"));
    let mut tuning = tuning(tree(&files()).path());
    tuning.irqbalance = true;
    let plan = plan_on(Some(tuning), "irqs: Away");
    let (severity, verdict, _) = finding(&plan, "host.irqs.irqbalance");
    assert_eq!((severity, verdict), (Severity::Soft, Verdict::No));
    // A unit can be stopped, before any interrupt is moved.
    let mut tuning = self::tuning(tree(&files()).path());
    (tuning.irqbalance, tuning.irqbalance_unit) = (true, Some("irqbalance.service".to_owned()));
    let plan = plan_on(Some(tuning), "irqs: Away");
    assert_eq!(finding(&plan, "host.irqs.irqbalance").1, Verdict::Yes);
    let words = plan.changes.iter().map(|planned| planned.change.to_string());
    let order: Vec<bool> = words.filter(|w| w.contains("interrupts")).map(|w| w.starts_with("stop")).collect();
    assert_eq!(order, [true, false, false]);
    assert_eq!(plan.first_taking(), plan.changes.len(), "nobody notices that irqbalance was stopped");
}

#[test]
fn interrupts_of_a_device_that_leaves_the_host_are_left_alone() {
    let split = |device: Option<&str>| {
        let device = device.map(|address| address.parse().unwrap());
        let irq = Irq { number: 27, cpus: "0-3".parse().unwrap(), actions: Some("nvidia".to_owned()), device };
        super::away::moved_on_four(&irq, &["0000:01:00.0".parse().unwrap()]).is_some()
    };
    assert_eq!([Some("0000:01:00.0"), Some("0000:02:00.0"), None].map(split), [false, true, true]);
}

#[test]
fn what_is_away_already_is_not_written_and_a_narrower_mask_stays_narrow() {
    let with = |mask: &str, requested: Option<&str>| {
        let mut tuning = tuning(tree(&files()).path());
        let attribute = |text: &str| Attribute { text: text.to_owned(), read_only: false };
        tuning.files.insert(WORKQUEUE.into(), attribute(mask));
        tuning.files.extend(requested.map(|text| (PathBuf::from(super::away::REQUESTED), attribute(text))));
        let plan = plan_on(Some(tuning), "workqueues: Away");
        let (severity, verdict, _) = finding(&plan, "host.workqueues");
        assert_eq!(severity, Severity::Hard);
        (written(&plan).into_iter().map(|(_, value)| value).next(), verdict)
    };
    let yes = |value: Option<&str>| (value.map(str::to_owned), Verdict::Yes);
    assert_eq!(with("00000000,0000000f", None), yes(Some("3")));
    assert_eq!(with("3", None), yes(None));
    assert_eq!(with("5", Some("00000005")), yes(Some("1")));
    assert_eq!(with("c", None), yes(Some("3")));
    // A partition took CPU 3 out of it.
    assert_eq!(with("7", Some("f")), (None, Verdict::No));
}

#[test]
fn vcpus_without_cpus_of_their_own_or_with_all_of_them_leave_nothing_to_go_to() {
    for (cpu, words) in [("cpu: (vcpus: 9)", "no CPUs of their own"), ("cpu: (pin: \"0-3\")", "all CPUs of the host")] {
        let tuning = tuning(tree(&files()).path());
        let plan = plan_with(Some(tuning), &all_away(), cpu, 0);
        for field in AWAY {
            let (severity, verdict, detail) = finding(&plan, &format!("host.{field}"));
            assert_eq!((severity, verdict), (Severity::Hard, Verdict::No));
            assert!(detail.contains(words), "{detail}");
        }
        assert_eq!(written(&plan), []);
        assert!(!plan.changes.iter().any(|planned| matches!(planned.change, Change::KernelThreads(_))));
    }
}

#[test]
fn the_watchdog_and_threads_of_the_kernel_stay_off_the_vcpus_cpus() {
    let plan = plan("watchdog: Away, kernel_threads: Away");
    assert_eq!(written(&plan), [(WATCHDOG.to_owned(), "0-1".to_owned())]);
    assert_eq!(writes(&plan)[0].files[0].compare, Compare::CpuList);
    let moved = plan.changes.iter().find_map(|planned| match &planned.change {
        Change::KernelThreads(threads) => Some((threads.away_from.to_string(), threads.to.to_string())),
        _ => None,
    });
    assert_eq!(moved, Some(("2-3".to_owned(), "0-1".to_owned())));
    let with = |watched: Option<&str>| {
        let mut tuning = tuning(tree(&files()).path());
        tuning.files.remove(Path::new(WATCHDOG));
        let attribute = |text: &str| Attribute { text: text.to_owned(), read_only: false };
        tuning.files.extend(watched.map(|text| (PathBuf::from(WATCHDOG), attribute(text))));
        let plan = plan_on(Some(tuning), "watchdog: Away");
        assert_eq!(written(&plan), []);
        let (severity, verdict, _) = finding(&plan, "host.watchdog");
        (severity, verdict)
    };
    assert_eq!(with(Some("0")), (Severity::Hard, Verdict::Yes));
    assert_eq!(with(None), (Severity::Soft, Verdict::No));
}

#[test]
fn the_vcpus_cpus_do_not_sleep_at_all_with_a_latency_of_zero() {
    assert!(written(&plan("guest_cpu_latency_us: 0")).iter().all(|(_, value)| value == "n/a"));
}

#[test]
fn only_what_the_machine_tunes_is_looked_at() {
    let wanted = |written: &str| {
        let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), host: ({written}))");
        wanted(&sample::machine(&text).host)
    };
    assert_eq!(wanted("no_sleep: true"), None);
    let ksm = wanted("ksm: false").unwrap();
    assert_eq!((ksm.files, ksm.irqs), (vec!["/sys/kernel/mm/ksm/run".to_owned()], false));
    let frequency = wanted("frequency: Max").unwrap().files;
    assert_eq!(frequency, ["scaling_min_freq", "scaling_max_freq"].map(|name| format!("{POLICY}{{n}}/{name}")));
    assert!(wanted("irqs: Away").unwrap().irqs);
    assert_eq!(wanted("watchdog: Away").unwrap().files, [WATCHDOG]);
    assert!(wanted("kernel_threads: Away").is_some());
}

/// All files below a folder.
fn snapshot(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(snapshot(&path)),
            false => drop(found.insert(path.clone(), std::fs::read_to_string(path).unwrap())),
        }
    }
    found
}

#[test]
fn all_that_a_plan_tunes_is_made_and_undone_file_by_file() {
    let folder = tree(&files());
    let root = Root::new(folder.path());
    let all = CASES.iter().map(|(field, value, ..)| format!("{field}: {value}")).collect::<Vec<_>>().join(", ");
    let plan = plan_on(Some(tuning(folder.path())), &format!("{all}, {}", all_away()));
    assert!(plan.findings.iter().filter(|finding| finding.key.starts_with("host.")).all(|f| f.ok == Verdict::Yes));
    let changes: Vec<&Change> = plan.changes.iter().map(|planned| &planned.change).collect();
    let changes: Vec<&Change> = changes.into_iter().filter(|change| matches!(change, Change::Writes(_))).collect();
    assert_eq!(changes.len(), CASES.len() + 4);
    // The kernel's file shows all words, a plain one only what was written.
    let defrag = folder.path().join("sys/kernel/mm/transparent_hugepage/defrag");
    let mut before = snapshot(folder.path());
    before.insert(defrag, "madvise".to_owned());

    let mut made: Vec<(&Change, Before)> = Vec::new();
    for change in &changes {
        made.push((change, change.capture(&root).unwrap()));
        change.apply(&root, &made[made.len() - 1].1, &unattended).unwrap();
    }
    for (path, value) in written(&plan) {
        assert_eq!(root.text(&path).unwrap(), value, "{path}");
    }
    // Another program's value stays, and nothing else does.
    let theirs = "/proc/irq/9/smp_affinity_list";
    std::fs::write(root.path(theirs), "1").unwrap();
    for (change, before) in made.iter().rev() {
        let how = change.undo(&root, before).unwrap();
        let is_irqs = matches!(change, Change::Writes(writes) if writes.files[0].path == Path::new(theirs));
        let expected = if is_irqs { Undone::NotOurs { found: format!("{theirs}: 1") } } else { Undone::Restored };
        assert_eq!(how, expected, "{change}");
    }
    before.insert(root.path(theirs), "1".to_owned());
    assert_eq!(snapshot(folder.path()), before);
}

#[test]
fn one_word_tunes_a_desktop_as_far_as_its_host_goes() {
    let tuned = plan("tune: Desktop, keep: [\"governor\"], numa_balancing: true");
    let files: Vec<String> = written(&tuned).into_iter().map(|(path, _)| path).collect();
    for path in [WORKQUEUE, WATCHDOG, DEFAULT, "/proc/irq/9/smp_affinity_list", "/sys/kernel/mm/ksm/run"] {
        assert!(files.iter().any(|file| file == path), "{path}");
    }
    assert!(!files.iter().any(|file| file.contains("cpufreq")), "{files:?}");
    assert!(written(&tuned).contains(&("/proc/sys/kernel/numa_balancing".to_owned(), "1".to_owned())));
    assert_eq!(finding(&tuned, "host.tune").1, Verdict::Yes);
    let origin = |path: &str| {
        let of = |writes: &Writes| writes.files.iter().any(|file| file.path == Path::new(path));
        let planned = tuned.changes.iter().find(|p| matches!(&p.change, Change::Writes(writes) if of(writes)));
        planned.unwrap().origin.to_string()
    };
    assert_eq!([DEFAULT, WATCHDOG].map(origin), ["host.tune"; 2]);
    assert_eq!(origin("/proc/sys/kernel/numa_balancing"), "host.numa_balancing");

    // A host in a virtual machine has no frequencies; one that was not looked at, nothing; a user may do nothing.
    let mut bare = tuning(tree(&files_of_a_virtual_machine()).path());
    bare.policies = Default::default();
    let bare = plan_on(Some(bare), "tune: Desktop");
    let (severity, verdict, detail) = finding(&bare, "host.tune");
    assert_eq!((severity, verdict), (Severity::Soft, Verdict::Yes));
    assert!(detail.contains("not here: governor (this host has no "), "{detail}");
    let user = plan_with(Some(tuning(tree(&self::files()).path())), "tune: Desktop", "cpu: (pin: \"2-3\")", 1000);
    for plan in [user, plan_on(None, "tune: Desktop")] {
        assert_eq!((finding(&plan, "host.tune").0, finding(&plan, "host.tune").1), (Severity::Soft, Verdict::No));
        assert!(plan.findings.iter().all(|finding| !(finding.key.starts_with("host.") && finding.blocks())));
        assert_eq!(written(&plan), []);
        assert!(!plan.changes.iter().any(|planned| matches!(planned.change, Change::KernelThreads(_))));
    }
}

fn files_of_a_virtual_machine() -> Vec<(String, &'static str)> {
    files().into_iter().filter(|(path, _)| !path.starts_with(POLICY)).collect()
}

#[test]
fn no_file_is_written_by_two_changes() {
    let all = CASES.iter().map(|(field, value, ..)| format!("{field}: {value}")).collect::<Vec<_>>().join(", ");
    let plan = plan(&format!("tune: Desktop, {all}, {}", all_away()));
    let mut paths: Vec<String> = written(&plan).into_iter().map(|(path, _)| path).collect();
    let count = paths.len();
    paths.sort_unstable();
    paths.dedup();
    assert_eq!(paths.len(), count, "{:?}", written(&plan));
    assert!(count > 20);
    // Without a field of its own the energy preference is restored with the governor.
    assert!(written(&self::plan("governor: \"performance\"")).iter().any(|(path, _)| path.ends_with("_preference")));
}

#[test]
fn only_a_boot_parameter_keeps_the_tick_away_and_its_line_is_told() {
    let told = |written: &str, cmdline: &[&str]| {
        let mut host = sample::host(Shape::simple(4, 1));
        host.process.uid = 0;
        host.tuning = Some(tuning(tree(&files()).path()));
        host.cmdline = cmdline.iter().map(|word| (*word).to_owned()).collect();
        let machine = "guest: Linux, memory: (size: \"1 GiB\"), cpu: (pin: \"2-3\")";
        let plan = sample::plan(&format!("({machine}, host: ({written}))"), &host);
        plan.findings.into_iter().find(|finding| finding.key == "host.boot").and_then(|finding| finding.remedy)
    };
    let line = "add `nohz_full=2-3 rcu_nocbs=2-3 isolcpus=managed_irq,2-3 irqaffinity=0-1` to the kernel command line";
    assert_eq!(told("irqs: Away", &[]).as_deref(), Some(line));
    assert_eq!(told("tune: Desktop", &[]).as_deref(), Some(line));
    assert_eq!(told("irqs: Away", &["nohz_full=2-3"]), None);
    assert_eq!(told("ksm: false", &[]), None);
}

#[test]
fn room_for_native_requests_is_made_if_there_is_too_little() {
    let with = |uid: u32, used: u64, aio: &str| {
        let mut host = sample::host(Shape::simple(4, 1));
        (host.process.uid, host.process.gid) = (uid, uid);
        host.aio = Some(AioRequests { used, most: 65536 });
        let disk = format!("(file: \"/dev/sdb\", cache: None, aio: {aio})");
        sample::plan(&format!("(guest: Linux, memory: (size: \"1 GiB\"), disks: [{disk}])"), &host)
    };
    let verdict = |plan: &Plan| plan.findings.iter().find(|f| f.key == "host.aio").map(|f| f.ok);
    for (plan, expected, value) in [
        (with(0, 64512, "Native"), Some(Verdict::Yes), None),
        (with(0, 64513, "Native"), Some(Verdict::Yes), Some("65537")),
        (with(1000, 64513, "Native"), Some(Verdict::No), None),
        (with(0, 64513, "Threads"), None, None),
    ] {
        assert_eq!(verdict(&plan), expected);
        let value = value.map(|value: &str| ("/proc/sys/fs/aio-max-nr".to_owned(), value.to_owned()));
        assert_eq!(written(&plan), Vec::from_iter(value));
    }
    let remedy = with(1000, 64513, "Native").findings.into_iter().find(|f| f.key == "host.aio").unwrap().remedy;
    assert!(remedy.unwrap().contains("sysctl fs.aio-max-nr=65537"));
}
