//! Whether a Linux guest understands what it is told of its CPUs: plans for hosts of several shapes, their `-smp` given to an
//! emulated guest, and what the guest says of siblings and caches held against the host's CPUs of the plan. The CPU is
//! Intel's, since emulation has no SMT for AMD's.

use std::path::Path;
use std::time::Duration;

use vfio_run::host::Host;
use vfio_run::machine;
use vfio_run::plan::{self, Plan};
use vfio_run::qemu::{KvmTrial, QemuFacts, probe};
use vfio_run::units::CpuSet;

use super::linux::Linux;
use super::world::{qemus, with_each};

fn host(name: &str) -> Host {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(name).with_extension("json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

fn planned(cpu: &str, host: &Host, qemu: &QemuFacts) -> Plan {
    let text = format!("(guest: Linux, accelerator: Kvm, cpu: ({cpu}), memory: (size: \"1 GiB\"), networks: [])");
    let machine = machine::parse(Path::new("/machines/guest.ron"), &text).unwrap().machine;
    plan::plan(&machine, &|_| None, host, qemu)
}

/// For each vCPU, those whose CPUs are among what `of` says of its own.
fn together(plan: &Plan, of: impl Fn(u32) -> CpuSet) -> Vec<CpuSet> {
    let cpus: Vec<u32> = plan.placement.vcpus.iter().filter_map(|cpus| cpus.iter().next()).collect();
    let vcpus = |set: CpuSet| (0..).zip(&cpus).filter(|(_, cpu)| set.contains(**cpu)).map(|(vcpu, _)| vcpu).collect();
    cpus.iter().map(|cpu| vcpus(of(*cpu))).collect()
}

/// What the guest says of each of its CPUs, in the order of their numbers.
fn seen(guest: &mut Linux, file: &str, count: usize) -> Vec<CpuSet> {
    let all = guest.ask(&format!("for n in $(seq 0 {}); do cat /sys/devices/system/cpu/cpu$n/{file}; done", count - 1));
    all.lines().map(|line| line.parse().unwrap()).collect()
}

/// Whether the guest is to see the L3 as the host has it.
#[derive(Clone, Copy, PartialEq)]
enum L3 {
    AsOnTheHost,
    One,
}

#[test]
fn a_guest_sees_the_siblings_and_caches_of_the_plan() {
    for qemu in qemus() {
        let facts = probe(&qemu, Duration::from_secs(60), KvmTrial::Skip).unwrap();
        let modules = facts.q35_properties.contains("smp-cache");
        with_each(&[qemu], false, |world| {
            for (name, cpu, sockets, l3) in [
                ("laptop-4c", "vcpus: 6", 1, L3::AsOnTheHost),
                ("ryzen-1600", "vcpus: 8", 1, L3::AsOnTheHost),
                // Three cores of one complex and two of the other, which no topology says.
                ("ryzen-1600", "vcpus: 10", 1, L3::One),
                ("xeon-2numa", "pin: \"2-9\"", 2, L3::AsOnTheHost),
                ("core-i7-13700k", "pin: \"16-23\"", 1, L3::AsOnTheHost),
            ] {
                let host = host(name);
                let plan = planned(cpu, &host, &facts);
                let (topology, count) = (plan.placement.topology, plan.placement.vcpus.len());
                assert!(plan.placement.pinned && topology.sockets == sockets, "{name}: {topology:?}");
                let vfio_run::machine::Topology { sockets, dies, cores, threads, .. } = topology;
                let of_module =
                    if topology.modules > 1 { format!("modules: {}, ", topology.modules) } else { String::new() };
                // QEMU 10 emulates no leaf behind the last but aborts, if that is the topology's (`cpu_x86_cpuid()`).
                let mut guest = Linux::start(
                    world,
                    &format!(
                        "accelerator: Tcg, cpu: (model: \"Skylake-Client\", features: [\"level=32\"], topology: (sockets: \
                         {sockets}, dies: {dies}, {of_module}cores: {cores}, threads: {threads}), vcpus: {count})"
                    ),
                );
                let siblings = together(&plan, |cpu| host.cpus.get(cpu).unwrap().siblings.clone());
                assert_eq!(seen(&mut guest, "topology/core_cpus_list", count), siblings, "{name}");
                let l2 = |cpu: u32| {
                    host.cpus.caches.iter().find(|c| c.level == 2 && c.cpus.contains(cpu)).unwrap().cpus.clone()
                };
                let l2 = if modules { together(&plan, l2) } else { siblings };
                assert_eq!(seen(&mut guest, "cache/index2/shared_cpu_list", count), l2, "{name}");
                let all: CpuSet = (0..count as u32).collect();
                let expected = match l3 {
                    L3::AsOnTheHost => together(&plan, |cpu| host.cpus.l3_domain(cpu)),
                    L3::One => vec![all; count],
                };
                assert_eq!(seen(&mut guest, "cache/index3/shared_cpu_list", count), expected, "{name}");
                let packages = together(&plan, |cpu| {
                    let package = host.cpus.get(cpu).unwrap().package;
                    host.cpus.list.iter().filter(|cpu| cpu.package == package).map(|cpu| cpu.id).collect()
                });
                assert_eq!(seen(&mut guest, "topology/package_cpus_list", count), packages, "{name}");
                guest.power_off();
            }
        });
    }
}
