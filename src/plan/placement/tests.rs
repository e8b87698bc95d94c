use super::super::sample::{Shape, host, plan};
use super::super::{Plan, Verdict};
use crate::host::Host;
use crate::units::CpuSet;

fn placed(cpu: &str, host: &Host) -> Plan {
    plan(&format!("(guest: Other, memory: (size: \"1 GiB\"), cpu: ({cpu}), disks: [(file: \"/d.raw\")])"), host)
}

fn order(plan: &Plan) -> Vec<u32> {
    plan.placement.vcpus.iter().map(|set| set.iter().next().unwrap()).collect()
}

fn set(text: &str) -> CpuSet {
    text.parse().unwrap()
}

fn topology(plan: &Plan) -> (u32, u32, u32) {
    let topology = plan.placement.topology;
    (topology.dies, topology.cores, topology.threads)
}

/// The keys of the placement's findings that say no.
fn against(plan: &Plan) -> Vec<&str> {
    let no = plan.findings.iter().filter(|f| f.ok == Verdict::No && f.key.starts_with("cpu."));
    no.map(|finding| finding.key.as_str()).collect()
}

#[test]
fn whole_cores_with_siblings_adjacent_away_from_cpu_0() {
    let plan = placed("vcpus: 8", &host(Shape::simple(8, 2)));
    assert_eq!(order(&plan), [4, 12, 5, 13, 6, 14, 7, 15]);
    assert_eq!(topology(&plan), (1, 4, 2));
    assert_eq!(plan.placement.emulator, set("1-3,9-11"));
    assert_eq!(plan.placement.iothreads, [("io-disk0".to_owned(), set("1-3,9-11"))]);
    assert_eq!(against(&plan), [""; 0]);
}

#[test]
fn one_l3_where_it_fits_and_two_halves_where_not() {
    let two_ccds = host(Shape { cores_per_l3: 8, ..Shape::simple(16, 2) });
    let one = placed("vcpus: 16", &two_ccds);
    assert_eq!(one.placement.vcpu_set(), set("8-15,24-31"));
    assert_eq!(one.placement.emulator, set("1-7,17-23"));
    assert_eq!(topology(&one), (1, 8, 2));
    let both = placed("vcpus: 24", &two_ccds);
    assert_eq!(both.placement.vcpu_set(), set("2-7,10-15,18-23,26-31"));
    assert_eq!(topology(&both), (2, 6, 2));
    assert_eq!(against(&both), ["cpu.l3"]);
}

#[test]
fn the_larger_cache_is_preferred() {
    let mut x3d = host(Shape { cores_per_l3: 8, ..Shape::simple(16, 2) });
    x3d.cpus.caches[0].size = crate::units::Size::bytes(96 << 20);
    assert_eq!(placed("vcpus: 8", &x3d).placement.vcpu_set(), set("4-7,20-23"));
}

#[test]
fn performance_cores_for_vcpus_and_efficiency_cores_for_the_rest() {
    let hybrid = host(Shape { efficient: 8, ..Shape::simple(8, 2) });
    let plan = placed("vcpus: 14", &hybrid);
    assert_eq!(plan.placement.vcpu_set(), set("1-7,9-15"));
    assert_eq!(plan.placement.emulator, set("16-23"));
    let mixed = placed("vcpus: 20", &hybrid);
    assert!(against(&mixed).contains(&"cpu.kinds"), "{:?}", against(&mixed));
}

#[test]
fn isolated_cpus_are_for_vcpus_and_never_for_the_emulator() {
    let mut isolated = host(Shape::simple(8, 2));
    isolated.cpus.isolated = set("1-3,9-11");
    let plan = placed("vcpus: 4", &isolated);
    assert_eq!(plan.placement.vcpu_set(), set("2-3,10-11"));
    assert_eq!(plan.placement.emulator, set("4-7,12-15"));
}

#[test]
fn a_user_s_pins_are_ordered_and_their_topology_derived() {
    let smt = host(Shape::simple(8, 2));
    let plan = placed("pin: \"4-7,12-15\"", &smt);
    assert_eq!(order(&plan), [4, 12, 5, 13, 6, 14, 7, 15]);
    assert_eq!(topology(&plan), (1, 4, 2));
    let split = placed("pin: \"0,4-7\"", &smt);
    assert_eq!(order(&split), [0, 4, 5, 6, 7]);
    assert_eq!(topology(&split), (1, 5, 1));
    assert_eq!(against(&split), ["cpu.siblings", "cpu.zero"]);
    let overlap = placed("pin: \"4-7,12-15\", emulator: \"4\", iothreads: \"1,5\"", &smt);
    assert_eq!(against(&overlap), ["cpu.emulator.overlap", "cpu.iothreads.overlap"]);
}

#[test]
fn what_can_not_be_is_a_hard_finding_and_never_a_panic() {
    let mut small = host(Shape::simple(4, 1));
    small.cpus.allowed = set("0-2");
    let hard = |cpu: &str| {
        let plan = placed(cpu, &small);
        let blocking: Vec<String> = plan.findings.iter().filter(|f| f.blocks()).map(|f| f.key.clone()).collect();
        blocking
    };
    assert_eq!(hard("pin: \"2-3\""), ["cpu.pin.allowed"]);
    assert_eq!(hard("pin: \"9\""), ["cpu.pin.online"]);
    assert_eq!(hard("pin: \"\""), [""; 0]);
    assert_eq!(hard("vcpus: 3, pin: \"1-2\""), ["cpu.vcpus"]);
    assert_eq!(hard("emulator: \"77\""), ["cpu.emulator.online"]);
    assert_eq!(hard("vcpus: 4, topology: (cores: 3)"), ["cpu.topology"]);
    assert_eq!(hard("vcpus: 4, topology: (cores: 4294967295, threads: 2)"), ["cpu.topology"]);
}

#[test]
fn a_host_with_too_few_cpus_pins_nothing() {
    let tiny = host(Shape::simple(1, 2));
    let plan = placed("vcpus: 2", &tiny);
    assert!(!plan.placement.pinned);
    assert_eq!(plan.placement.vcpus, vec![set("0-1"); 2]);
    assert_eq!(plan.placement.emulator, set("0-1"));
    assert_eq!(against(&plan), ["cpu.pinned"]);
    assert_eq!(placed("vcpus: 1", &tiny).placement.vcpu_set().len(), 1);
}

#[test]
fn unknown_topology_is_no_panic() {
    let mut unknown = host(Shape::simple(4, 1));
    unknown.cpus = Default::default();
    let plan = placed("vcpus: 2, pin: \"1-2\"", &unknown);
    assert!(!plan.placement.pinned);
    unknown.cpus.online = set("0-3");
    assert!(!placed("vcpus: 2", &unknown).placement.pinned);
}

#[test]
fn memory_follows_the_vcpus_to_their_node() {
    let numa = host(Shape { cores_per_l3: 8, cores_per_node: 8, ..Shape::simple(16, 2) });
    let plan = placed("vcpus: 8", &numa);
    let memory = plan.command.argv().into_iter().find(|word| word.contains("memory-backend-ram")).unwrap();
    assert!(memory.contains(r#""host-nodes":[1],"policy":"bind""#), "{memory}");
}

proptest::proptest! {
    #[test]
    fn every_placement_keeps_its_promises(
        (cores, threads, l3, node, efficient) in (1u32..24, 1u32..=2, 1u32..12, 1u32..24, 0u32..6),
        vcpus in 1u32..40,
        gone in proptest::collection::btree_set(0u32..48, 0..12),
        isolated in proptest::collection::btree_set(0u32..48, 0..12),
    ) {
        let mut any = host(Shape { cores, threads, cores_per_l3: l3, cores_per_node: node, efficient });
        any.cpus.allowed = any.cpus.allowed.iter().filter(|cpu| !gone.contains(cpu)).collect();
        any.cpus.isolated = isolated.into_iter().collect();
        let usable = if any.cpus.allowed.is_empty() { any.cpus.online.clone() } else { any.cpus.allowed.clone() };
        let placement = placed(&format!("vcpus: {vcpus}"), &any).placement;
        proptest::prop_assert_eq!(placement.vcpus.len() as u32, vcpus);
        proptest::prop_assert_eq!(placement.topology.vcpus(), Some(vcpus));
        proptest::prop_assert_eq!(placement.pinned, (vcpus as usize) < usable.len());
        proptest::prop_assert!(placement.vcpu_set().is_subset(&usable));
        proptest::prop_assert!(placement.emulator.is_subset(&usable) && !placement.emulator.is_empty());
        if placement.pinned {
            proptest::prop_assert_eq!(placement.vcpu_set().len() as u32, vcpus);
            proptest::prop_assert!(placement.emulator.intersection(&placement.vcpu_set()).is_empty());
        }
    }
}
