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
    x3d.cpus.caches[0].size = Some(crate::units::Size::bytes(96 << 20));
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

#[test]
fn an_odd_number_is_whole_cores_and_one_half() {
    let smt = host(Shape::simple(8, 2));
    let odd = placed("vcpus: 5", &smt);
    assert_eq!(odd.placement.vcpu_set(), set("5-7,14-15"));
    assert_eq!(topology(&odd), (1, 5, 1));
    assert_eq!(against(&odd), ["cpu.siblings"]);
    let remedy = odd.findings.iter().find(|f| f.key == "cpu.siblings").unwrap().remedy.clone().unwrap();
    assert_eq!(remedy, "make the number of `cpu.vcpus` even");
}

#[test]
fn cores_of_four_threads_are_given_whole() {
    let plan = placed("vcpus: 8", &host(Shape::simple(8, 4)));
    assert_eq!(order(&plan), [6, 14, 22, 30, 7, 15, 23, 31]);
    assert_eq!(topology(&plan), (1, 2, 4));
    assert_eq!(against(&plan), [""; 0]);
}

/// Two dies of 8 cores, of which the first has three times the cache.
fn x3d() -> Host {
    let mut x3d = host(Shape { cores_per_l3: 8, ..Shape::simple(16, 2) });
    x3d.cpus.caches[0].size = Some(crate::units::Size::bytes(96 << 20));
    x3d
}

#[test]
fn the_larger_cache_is_worth_cpu_0s_core_unless_the_clock_is_preferred() {
    let whole = placed("vcpus: 16", &x3d());
    assert_eq!(whole.placement.vcpu_set(), set("0-7,16-23"));
    assert_eq!(whole.placement.emulator, set("8-15,24-31"));
    assert_eq!(against(&whole), ["cpu.zero"]);
    let zero = whole.findings.iter().find(|f| f.key == "cpu.zero").unwrap();
    assert!(zero.detail.ends_with("the guest has all of the largest L3 cache"), "{}", zero.detail);
    assert!(zero.remedy.as_ref().unwrap().starts_with("`cpu.vcpus: 14` leaves that core to the host"), "{zero:?}");
    let why = whole.placement.why.unwrap().to_string();
    let expected =
        "CPUs 0-7,16-23: one L3 cache of 96 MiB; not 8-15,24-31 (one L3 cache of 32 MiB), which have less cache";
    assert!(why.starts_with(expected), "{why}");
    assert_eq!(placed("vcpus: 16, prefer: Clock", &x3d()).placement.vcpu_set(), set("8-15,24-31"));
}

#[test]
fn who_has_a_part_of_the_larger_cache_is_not_told_to_have_all_of_it() {
    let plan = placed("pin: \"0-1,16-17\"", &x3d());
    let zero = plan.findings.iter().find(|f| f.key == "cpu.zero").unwrap();
    assert!(
        zero.detail.ends_with("interrupts are") && zero.remedy.as_deref() == Some("write `cpu.pin: \"6-7,22-23\"`")
    );
}

#[test]
fn wishes_without_numbers_make_a_number() {
    let hybrid = host(Shape { efficient: 8, ..Shape::simple(8, 2) });
    let efficient = placed("cores: Efficiency", &hybrid);
    assert_eq!(efficient.placement.vcpu_set(), set("17-23"));
    assert_eq!(against(&efficient), [""; 0]);
    assert_eq!(placed("leave: 2", &hybrid).placement.vcpu_set(), set("2-7,10-15"));
    let too_many = placed("leave: 2, vcpus: 14", &hybrid);
    assert_eq!(against(&too_many), ["cpu.leave"]);
    assert!(too_many.findings.iter().any(|finding| finding.key == "cpu.leave" && finding.blocks()));
}

#[test]
fn low_power_cores_are_the_last_choice_also_for_the_emulator() {
    let mut host = host(Shape { efficient: 4, ..Shape::simple(4, 1) });
    for cpu in [6, 7] {
        host.cpus.list[cpu].kind = crate::host::CoreKind::LowPower;
    }
    let plan = placed("vcpus: 3", &host);
    assert_eq!((plan.placement.vcpu_set(), plan.placement.emulator), (set("1-3"), set("4-5")));
    // Performance cores with CPU 0's before efficiency cores, and these before the others.
    assert_eq!(placed("vcpus: 5", &host).placement.vcpu_set(), set("0-3,5"));
}

#[test]
fn favoured_cores_come_first_among_equals() {
    let mut host = host(Shape { cores_per_l3: 4, ..Shape::simple(8, 1) });
    for (cpu, speed) in host.cpus.list.iter_mut().zip([200, 195, 190, 185, 166, 176, 171, 181]) {
        cpu.capacity = Some(speed);
    }
    assert_eq!(placed("vcpus: 2", &host).placement.vcpu_set(), set("5,7"));
}

#[test]
fn cpus_of_machines_that_run_are_left_alone() {
    let mut host = host(Shape { cores_per_l3: 4, ..Shape::simple(8, 2) });
    host.machines = [("win11".to_owned(), set("4-7,12-15"))].into();
    let plan = placed("vcpus: 6", &host);
    assert_eq!(plan.placement.vcpu_set(), set("1-3,9-11"));
    assert_eq!(plan.placement.emulator, set("0,8"));
    assert_eq!(against(&plan), [""; 0]);
    let pinned = placed("pin: \"3-4\"", &host);
    let finding = pinned.findings.iter().find(|finding| finding.key == "cpu.machines").unwrap();
    assert!(finding.detail.starts_with("the vCPUs share CPU 4 with the machine `win11`, which runs"), "{finding:?}");
    assert_eq!(finding.remedy.as_deref(), Some("write `cpu.pin: \"3,11\"`"));
}

/// So many nodes of two cores each, without SMT, with caches that cores of all of them share.
fn nodes_of_two(nodes: u32) -> Host {
    host(Shape { cores_per_node: 2, ..Shape::simple(2 * nodes, 1) })
}

#[test]
fn isolation_does_not_outweigh_a_node_and_says_so() {
    let mut spread = nodes_of_two(4);
    spread.cpus.isolated = set("1,3");
    let plan = placed("vcpus: 2", &spread);
    assert_eq!(plan.placement.vcpu_set(), set("2-3"));
    assert_eq!(against(&plan), ["cpu.isolated"]);
}

#[test]
fn memory_that_no_node_has_takes_the_nearest_nodes() {
    let mut host = nodes_of_two(4);
    let distances = [[10, 12, 20, 20], [12, 10, 20, 20], [20, 20, 10, 12], [20, 20, 12, 10]];
    for (node, distances) in host.memory.nodes.iter_mut().zip(distances) {
        node.distances = distances.to_vec();
    }
    // 16 GiB a node.
    let text = "(guest: Other, memory: (size: \"24 GiB\"), cpu: (vcpus: 2))";
    let large = plan(text, &host);
    assert_eq!(large.placement.vcpu_set(), set("5,7"));
    let argv = large.command.argv().join(" ");
    assert!(argv.contains(r#""host-nodes":[2,3],"policy":"interleave""#), "{argv}");
    assert!(large.findings.iter().all(|finding| !finding.blocks()));
    assert!(large.findings.iter().any(|finding| finding.key == "memory.nodes" && finding.ok == Verdict::No));
    // A node of CPUs alone has none, and is not chosen for its place.
    host.memory.nodes[3].total = Some(crate::units::Size::bytes(0));
    assert_eq!(placed("vcpus: 2", &host).placement.vcpu_set(), set("4-5"));
    let pinned = placed("pin: \"6-7\"", &host).command.argv().join(" ");
    assert!(pinned.contains(r#""host-nodes":[2],"policy":"bind""#), "{pinned}");
    host.memory.allowed = Some(set("0-1"));
    let pinned = placed("pin: \"6-7\"", &host).command.argv().join(" ");
    assert!(pinned.contains(r#""host-nodes":[0],"policy":"bind""#), "{pinned}");
}

#[test]
fn a_cpuset_that_is_smaller_than_the_host_may_be_used_to_the_last_cpu() {
    let mut small = host(Shape::simple(8, 1));
    small.cpus.allowed = set("2-5");
    let plan = placed("vcpus: 4", &small);
    assert_eq!((plan.placement.vcpu_set(), plan.placement.emulator.clone()), (set("2-5"), set("2-5")));
    assert!(against(&plan).contains(&"cpu.emulator.overlap"), "{:?}", against(&plan));
    assert!(!placed("vcpus: 5", &small).placement.pinned);
}

#[test]
fn a_better_pin_is_named() {
    let two = host(Shape { cores_per_l3: 4, ..Shape::simple(8, 1) });
    let plan = placed("pin: \"3-5\"", &two);
    let finding = plan.findings.iter().find(|finding| finding.key == "cpu.l3").unwrap();
    assert_eq!(finding.remedy.as_deref(), Some("write `cpu.pin: \"5-7\"`"));
    // Six CPUs have no better place.
    assert_eq!(against(&placed("pin: \"2-7\"", &two)), [""; 0]);
}

#[test]
fn a_list_says_what_each_vcpu_has() {
    let smt = host(Shape::simple(8, 2));
    let sets = |plan: &Plan| plan.placement.vcpus.iter().map(ToString::to_string).collect::<Vec<_>>();
    // One CPU for each is as good as a text, in the order that was written.
    let whole = placed(r#"pin: ["6", "14", "5", "13"]"#, &smt);
    assert_eq!((order(&whole), topology(&whole), whole.placement.pinned), (vec![6, 14, 5, 13], (1, 2, 2), true));
    assert_eq!(against(&whole), [""; 0]);
    let mixed = placed(r#"pin: ["5", "13", "6-7,14-15", "Any"]"#, &smt);
    assert_eq!(sets(&mixed), ["5", "13", "6-7,14-15", "0-4,6-12,14-15"]);
    assert_eq!((topology(&mixed), mixed.placement.pinned), ((1, 4, 1), false));
    assert_eq!(mixed.placement.emulator, set("1-4,9-12"));
    assert_eq!(against(&mixed), [""; 0]);
    let said = mixed.findings.iter().find(|finding| finding.key == "cpu.pinned").unwrap();
    assert!(said.detail.starts_with("vCPUs that have a CPU for themselves: 2 of 4; "), "{said:?}");
    for few in [r#"["5", "5", "Any"]"#, r#"["5-6", "5", "5-6"]"#] {
        let plan = placed(&format!("pin: {few}"), &smt);
        assert_eq!(against(&plan), ["cpu.pin.shared"], "{few}");
        let said = plan.findings.iter().find(|finding| finding.key == "cpu.pinned").unwrap();
        assert!(said.detail.starts_with("vCPUs that have a CPU for themselves: 0 of 3; "), "{said:?}");
    }
    let gone = placed(r#"pin: ["5", "99"]"#, &smt);
    assert!(gone.findings.iter().any(|finding| finding.key == "cpu.pin.online" && finding.blocks()));
}

#[test]
fn an_order_that_no_topology_has_is_told() {
    let smt = host(Shape::simple(8, 2));
    let plan = placed(r#"pin: ["6", "7", "14", "15"]"#, &smt);
    assert_eq!((order(&plan), topology(&plan)), (vec![6, 7, 14, 15], (1, 4, 1)));
    assert_eq!(against(&plan), ["cpu.pin.order"]);
    let remedy = plan.findings.iter().find(|f| f.key == "cpu.pin.order").unwrap().remedy.clone().unwrap();
    assert_eq!(remedy, r#"write `cpu.pin: ["6", "14", "7", "15"]`, or the CPUs as one text"#);
    // The topology is the user's own.
    assert_eq!(against(&placed(r#"pin: ["6", "7", "14", "15"], topology: (cores: 4)"#, &smt)), [""; 0]);
}

proptest::proptest! {
    #[test]
    fn every_placement_keeps_its_promises(
        (cores, threads, l3, node, efficient) in (1u32..24, 1u32..=2, 1u32..12, 1u32..24, 0u32..6),
        vcpus in 1u32..40,
        gone in proptest::collection::btree_set(0u32..48, 0..12),
        isolated in proptest::collection::btree_set(0u32..48, 0..12),
        taken in proptest::collection::btree_set(0u32..48, 0..12),
    ) {
        let mut any = host(Shape { cores, threads, cores_per_l3: l3, cores_per_node: node, efficient });
        any.cpus.allowed = any.cpus.allowed.iter().filter(|cpu| !gone.contains(cpu)).collect();
        any.cpus.isolated = isolated.into_iter().collect();
        any.machines = [("other".to_owned(), taken.into_iter().collect())].into();
        let usable = if any.cpus.allowed.is_empty() { any.cpus.online.clone() } else { any.cpus.allowed.clone() };
        let wish = format!("vcpus: {vcpus}");
        let placement = placed(&wish, &any).placement;
        proptest::prop_assert_eq!(&placement, &placed(&wish, &any).placement);
        proptest::prop_assert_eq!(placement.vcpus.len() as u32, vcpus);
        proptest::prop_assert_eq!(placement.topology.vcpus(), Some(vcpus));
        // What a cpuset leaves may be used to the last CPU.
        let limited = usable.len() < any.cpus.online.len();
        proptest::prop_assert_eq!(placement.pinned, (vcpus as usize) < usable.len() + usize::from(limited));
        proptest::prop_assert!(placement.vcpu_set().is_subset(&usable));
        proptest::prop_assert!(placement.emulator.is_subset(&usable) && !placement.emulator.is_empty());
        if placement.pinned {
            proptest::prop_assert_eq!(placement.vcpu_set().len() as u32, vcpus);
            let shared = placement.emulator.intersection(&placement.vcpu_set());
            proptest::prop_assert!(shared.is_empty() || vcpus as usize == usable.len());
            let of_node = |node: &crate::host::Node| node.cpus.intersection(&usable).len();
            // With cores of two kinds, those of the right kind count more than the node.
            if efficient == 0 && any.memory.nodes.iter().any(|node| of_node(node) >= vcpus as usize) {
                let nodes: std::collections::BTreeSet<_> =
                    placement.vcpu_set().iter().map(|cpu| any.cpus.get(cpu).unwrap().node).collect();
                proptest::prop_assert_eq!(nodes.len(), 1);
            }
        }
    }
}
