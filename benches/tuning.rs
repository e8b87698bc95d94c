//! How long the changes of a full tuning take, made and undone through the journal, on a host with 64 CPUs and 200 interrupts.
//! Its files lie in memory, so this is the program's own time, without the kernel's for each write.

use std::path::Path;

use vfio_run::change::{Change, unattended};
use vfio_run::host::{Environment, Host, Root};
use vfio_run::journal::Journal;
use vfio_run::machine;
use vfio_run::plan::{self, Plan};
use vfio_run::qemu::QemuFacts;

const CPUS: u32 = 64;
const IRQS: u32 = 200;

fn main() {
    divan::main();
}

/// A host below a folder in memory, and what a machine with everything tunes on it.
struct Tuned {
    folder: tempfile::TempDir,
    plan: Plan,
}

impl Tuned {
    fn new() -> Self {
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let put = |path: String, text: &str| {
            let path = folder.path().join("root").join(path.trim_start_matches('/'));
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let all = format!("0-{}", CPUS - 1);
        for cpu in 0..CPUS {
            let policy = format!("/sys/devices/system/cpu/cpufreq/policy{cpu}");
            for (name, text) in [
                ("scaling_governor", "powersave"),
                ("scaling_available_governors", "performance powersave"),
                ("scaling_min_freq", "800000"),
                ("scaling_max_freq", "4800000"),
                ("energy_performance_preference", "balance_performance"),
                ("energy_performance_available_preferences", "performance balance_performance power"),
            ] {
                put(format!("{policy}/{name}"), text);
            }
            put(format!("/sys/devices/system/cpu/cpu{cpu}/power/pm_qos_resume_latency_us"), "0");
            put(format!("/sys/devices/system/cpu/cpu{cpu}/topology/physical_package_id"), "0");
            put(format!("/sys/devices/system/cpu/cpu{cpu}/topology/core_id"), &cpu.to_string());
            put(format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"), &cpu.to_string());
        }
        for irq in 0..IRQS {
            put(format!("/proc/irq/{irq}/smp_affinity_list"), &all);
            put(format!("/sys/kernel/irq/{irq}/actions"), "driver");
        }
        for (path, text) in [
            ("/sys/devices/system/cpu/online", &*all),
            ("/proc/irq/default_smp_affinity", "ffffffff,ffffffff"),
            ("/sys/devices/virtual/workqueue/cpumask", "ffffffff,ffffffff"),
            ("/proc/sys/kernel/watchdog_cpumask", &all),
            ("/proc/sys/kernel/numa_balancing", "1"),
            ("/proc/sys/kernel/split_lock_mitigate", "1"),
            ("/proc/sys/kernel/timer_migration", "1"),
            ("/proc/sys/vm/stat_interval", "1"),
            ("/sys/kernel/mm/ksm/run", "1"),
            ("/sys/module/kvm/parameters/halt_poll_ns", "200000"),
            ("/proc/self/status", &format!("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nCpus_allowed_list:\t{all}\n")),
        ] {
            put(path.to_owned(), text);
        }
        let text = format!(
            "(guest: Other, memory: (size: \"1 GiB\"), networks: [], cpu: (pin: \"8-{}\"), host: (
                tune: Desktop, energy_preference: \"performance\", frequency: Max, split_lock_mitigate: false,
                halt_poll_ns: 0, timer_migration: false, guest_cpu_latency_us: 20, keep: [\"kernel_threads\"]))",
            CPUS - 1
        );
        let machine = machine::parse(Path::new("/machines/tuned.ron"), &text).unwrap().machine;
        let root = Root::new(folder.path().join("root"));
        let host = Host::read_in(&root, &Environment::default(), &plan::wanted(&machine));
        let plan = plan::plan(&machine, &|_| None, &host, &qemu());
        let writes = plan.changes.iter().filter(|planned| matches!(planned.change, Change::Writes(_))).count();
        let files: usize = plan.changes.iter().map(|planned| files(&planned.change)).sum();
        println!("{writes} changes of {files} files");
        assert!(writes >= 12 && files as u32 > IRQS + 4 * CPUS - 20, "not all of it is tuned");
        Self { folder, plan }
    }

    fn journal(&self) -> Journal {
        let run = self.folder.path().join("run");
        std::fs::create_dir_all(&run).unwrap();
        Journal::open(&run).unwrap()
    }

    fn root(&self) -> Root {
        Root::new(self.folder.path().join("root"))
    }

    fn make(&self) {
        let (mut journal, root) = (self.journal(), self.root());
        for planned in self.plan.changes.iter().filter(|planned| matches!(planned.change, Change::Writes(_))) {
            journal.make(&root, &planned.change, &unattended).unwrap();
        }
    }

    fn undo(&self) {
        let mut journal = self.journal();
        for report in journal.undo_all(&self.root()) {
            report.result.unwrap();
        }
        assert!(journal.close().unwrap());
    }
}

/// What a recorded QEMU can do.
fn qemu() -> QemuFacts {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/qemu/10.0.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn files(change: &Change) -> usize {
    match change {
        Change::Writes(writes) => writes.files.len(),
        _ => 0,
    }
}

#[divan::bench]
fn made(bencher: divan::Bencher) {
    let tuned = Tuned::new();
    bencher.with_inputs(|| tuned.undo()).bench_local_values(|()| tuned.make());
    tuned.undo();
}

#[divan::bench]
fn undone(bencher: divan::Bencher) {
    let tuned = Tuned::new();
    bencher.with_inputs(|| tuned.make()).bench_local_values(|()| tuned.undo());
}
