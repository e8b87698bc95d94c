//! What guests on hosts of many shapes are told.

use super::super::Plan;
use super::super::sample::{self, Shape, host};
use crate::host::{Cache, CacheKind, CoreKind, Cpus, Host};
use crate::qemu::QemuFacts;
use crate::units::{CpuSet, Size};

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

fn plan_with(guest: &str, cpu: &str, host: &Host, qemu: &QemuFacts) -> Plan {
    let text = format!("(guest: {guest}, memory: (size: \"1 GiB\"), accelerator: Kvm, cpu: ({cpu}))");
    super::super::plan(&sample::machine(&text), &|_| None, host, qemu)
}

/// The topology, sockets first, whether the host's caches are copied, and whether Windows is told that its cores are whole.
fn told(cpu: &str, host: &Host) -> ([u32; 4], bool, bool) {
    let plan = plan_with("Windows10", cpu, host, &sample::qemu());
    let topology = plan.placement.topology;
    let argv = plan.command.argv().join(" ");
    let parts = [topology.sockets, topology.dies, topology.cores, topology.threads];
    (parts, argv.contains("host-cache-info=on"), argv.contains("hv-no-nonarch-coresharing=on"))
}

fn order(cpu: &str, host: &Host) -> Vec<u32> {
    let plan = plan_with("Linux", cpu, host, &sample::qemu());
    plan.placement.vcpus.iter().map(|set| set.iter().next().unwrap()).collect()
}

/// Cores of two threads, so many below an L3.
fn dies(cores: u32, per_die: u32) -> Host {
    host(Shape { cores_per_l3: per_die, ..Shape::simple(cores, 2) })
}

/// The same in so many packages.
fn packages(cores: u32, count: u32) -> Host {
    let mut host = dies(cores, cores / count);
    for cpu in &mut host.cpus.list {
        cpu.package = cpu.core / (cores / count);
    }
    host
}

#[test]
fn within_one_cache_the_hosts_caches_fit() {
    assert_eq!(told("vcpus: 8", &dies(16, 8)), ([1, 1, 4, 2], true, true));
    assert_eq!(told("vcpus: 12", &dies(12, 6)), ([1, 1, 6, 2], true, true));
}

#[test]
fn a_part_of_each_cache_is_a_die_and_qemu_makes_the_caches_up() {
    // The host's number of ids, 16, would have all four cores share one L3.
    assert_eq!(told("pin: \"6-9,22-25\"", &dies(16, 8)), ([1, 2, 2, 2], false, true));
    assert_eq!(told("pin: \"0-3,6-9,12-15,18-21\"", &dies(12, 6)), ([1, 2, 4, 2], false, true));
    // Five cores have room for eight in the guest, as six have on the host.
    assert_eq!(told("pin: \"1-5,7-11,13-17,19-23\"", &dies(12, 6)), ([1, 2, 5, 2], true, true));
}

#[test]
fn a_cache_that_is_had_whole_comes_first_and_so_unequal_ones_fit() {
    assert_eq!(told("pin: \"6-15,22-31\"", &dies(16, 8)), ([1, 1, 10, 2], true, true));
    assert_eq!(order("pin: \"3-7,11-15\"", &dies(8, 4)), [4, 12, 5, 13, 6, 14, 7, 15, 3, 11]);
    // Twelve ids and then four: the first border is at 16.
    assert_eq!(told("pin: \"4-11,16-23\"", &dies(12, 6)), ([1, 1, 8, 2], false, false));
    // The user's own topology is held against the same host.
    assert_eq!(told("pin: \"0-31\", topology: (cores: 16, threads: 2)", &dies(16, 8)), ([1, 1, 16, 2], true, true));
    assert_eq!(told("pin: \"0-31\", topology: (cores: 32)", &dies(16, 8)), ([1, 1, 32, 1], false, false));
    assert_eq!(
        told("pin: \"6-9,22-25\", topology: (cores: 4, threads: 2)", &dies(16, 8)),
        ([1, 1, 4, 2], false, false)
    );
}

#[test]
fn the_first_zens_have_eight_ids_for_an_l3_however_many_cores_it_has() {
    let zen = |cores: u32, per_die: u32, model: u32| {
        let mut zen = dies(cores, per_die);
        (zen.cpus.family, zen.cpus.model_number) = (Some(0x17), Some(model));
        zen
    };
    // A Ryzen 5 1500X: two cores to an L3, which would look like one of all four in a guest of Linux.
    assert_eq!(told("pin: \"0-7\"", &zen(4, 2, 1)), ([1, 2, 2, 2], false, true));
    assert_eq!(told("pin: \"0-7\"", &zen(4, 2, 0x31)), ([1, 2, 2, 2], true, true));
    // A Ryzen 5 1600 has room for the fourth.
    assert_eq!(told("pin: \"0-11\"", &zen(6, 3, 1)), ([1, 2, 3, 2], true, true));
}

#[test]
fn packages_are_sockets_of_which_windows_uses_two() {
    assert_eq!(told("pin: \"0-31\"", &packages(16, 2)), ([2, 1, 8, 2], true, true));
    assert_eq!(told("pin: \"6-9,22-25\"", &packages(16, 2)), ([2, 1, 2, 2], false, true));
    assert_eq!(told("pin: \"0-31\"", &packages(16, 4)).0, [1, 4, 4, 2]);
    let plan = plan_with("Linux", "pin: \"0-31\"", &packages(16, 4), &sample::qemu());
    assert_eq!((plan.placement.topology.sockets, plan.placement.topology.dies), (4, 1));
    // One more core of the first package.
    assert_eq!(told("pin: \"5-9,21-25\"", &packages(16, 2)), ([1, 1, 5, 2], false, false));
}

#[test]
fn of_cores_with_one_thread_nobody_knows_how_many_ids_they_have() {
    assert_eq!(told("vcpus: 4", &host(Shape::simple(8, 1))), ([1, 1, 4, 1], false, true));
    assert_eq!(told("vcpus: 5", &dies(8, 8)), ([1, 1, 5, 1], false, false));
}

#[test]
fn caches_of_two_sizes_are_not_copied() {
    let mut x3d = dies(16, 8);
    x3d.cpus.caches[0].size = Some(Size::bytes(96 << 20));
    assert_eq!(told("pin: \"0-31\"", &x3d), ([1, 2, 8, 2], false, true));
}

/// The i7-13700K and its like: two threads for each P core, and an L2 for four E cores.
fn hybrid() -> Host {
    let mut hybrid = host(Shape { efficient: 8, ..Shape::simple(8, 2) });
    hybrid.cpus.vendor = Some("GenuineIntel".to_owned());
    let l2 =
        |cpus: &str| Cache { level: 2, kind: CacheKind::Unified, size: Some(Size::bytes(2 << 20)), cpus: set(cpus) };
    hybrid.cpus.caches.extend((0..8).map(|core| l2(&format!("{core},{}", core + 8))));
    hybrid.cpus.caches.extend(["16-19", "20-23"].map(l2));
    hybrid
}

#[test]
fn a_p_core_of_intel_has_more_ids_than_its_guest() {
    assert_eq!(told("vcpus: 14", &hybrid()), ([1, 1, 7, 2], false, true));
    // Nobody knows whose it is.
    let unknown = Host { cpus: Cpus { vendor: None, ..hybrid().cpus }, ..hybrid() };
    assert!(!told("vcpus: 14", &unknown).1);
    // Of two kinds, no topology is true.
    assert!(!told("pin: \"0-16\"", &hybrid()).2);
}

#[test]
fn qemu_is_born_where_the_caches_are_those_of_the_vcpus() {
    let born = |cpu: &str, host: &Host| {
        let plan = plan_with("Linux", cpu, host, &sample::qemu());
        (plan.placement.born().to_string(), plan.placement.emulator.to_string())
    };
    assert_eq!(born("vcpus: 14", &hybrid()), ("0,8".to_owned(), "16-23".to_owned()));
    // No P core is left.
    assert_eq!(born("vcpus: 16", &hybrid()), ("0-15".to_owned(), "16-23".to_owned()));
    assert_eq!(born("vcpus: 8", &dies(16, 8)), ("8-11,24-27".to_owned(), "8-11,24-27".to_owned()));
    let mut x3d = dies(16, 8);
    x3d.cpus.caches[0].size = Some(Size::bytes(96 << 20));
    assert_eq!(born("vcpus: 16", &x3d), ("0-15,16-23".replace("-15,", "-7,"), "8-15,24-31".to_owned()));
    let mut dense = dies(16, 8);
    dense.cpus.list.iter_mut().filter(|cpu| cpu.core > 7).for_each(|cpu| cpu.kind = CoreKind::Efficiency);
    assert_eq!(born("pin: \"4-7,20-23\", emulator: \"8\"", &dense).0, "0-3,16-19");
}

#[test]
fn cores_that_share_an_l2_are_modules_if_qemu_has_them() {
    let mut qemu = sample::qemu();
    qemu.q35_properties.insert("smp-cache".to_owned());
    qemu.options.insert("smp-opts".to_owned(), ["modules".to_owned()].into());
    let words = |cpu: &str, qemu: &QemuFacts| {
        let argv = plan_with("Linux", cpu, &hybrid(), qemu).command.argv();
        let after = |option: &str| argv[argv.iter().position(|word| word == option).unwrap() + 1].clone();
        (after("-smp"), after("-machine").contains("smp-cache.0.cache=l2,smp-cache.0.topology=module"))
    };
    let two = ("cpus=8,sockets=1,modules=2,cores=4,threads=1".to_owned(), true);
    assert_eq!(words("pin: \"16-23\"", &qemu), two);
    assert_eq!(words("pin: \"20-23\"", &qemu), ("cpus=4,sockets=1,cores=4,threads=1".to_owned(), true));
    assert_eq!(words("vcpus: 14", &qemu), ("cpus=14,sockets=1,cores=7,threads=2".to_owned(), false));
    let one = ("cpus=8,sockets=1,cores=8,threads=1".to_owned(), false);
    assert_eq!(words("pin: \"16-23\"", &sample::qemu()), one);
    let asked = plan_with("Linux", "topology: (modules: 2, cores: 1)", &hybrid(), &sample::qemu());
    assert!(asked.findings.iter().any(|finding| finding.key == "cpu.topology.modules" && finding.blocks()));
}

#[test]
fn more_vcpus_than_the_machine_type_takes_are_refused() {
    let mut qemu = sample::qemu();
    qemu.most_vcpus = [("q35".to_owned(), 8), ("pc-q35-7.2".to_owned(), 6)].into();
    let refused = |cpu: &str, more: &str| {
        let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), cpu: ({cpu}){more})");
        let plan = super::super::plan(&sample::machine(&text), &|_| None, &dies(16, 16), &qemu);
        plan.findings.into_iter().find(|f| f.key == "cpu.most" && f.blocks()).map(|finding| finding.detail)
    };
    assert_eq!(refused("vcpus: 8", ""), None);
    let expected =
        "the machine type \"q35\" of /usr/bin/qemu-system-x86_64 takes 8 vCPUs at most, and the guest is to have 9";
    assert_eq!(refused("vcpus: 9", "").as_deref(), Some(expected));
    assert!(refused("vcpus: 8", ", machine_type: \"pc-q35-7.2\"").unwrap().contains("takes 6 vCPUs"));
}
