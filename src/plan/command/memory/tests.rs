use crate::change::Change;
use crate::host::{Host, HugePages};
use crate::plan::sample::{self, Shape};
use crate::plan::{GuestMemory, Inherited, Plan, Verdict};
use crate::units::Size;

fn host(uid: u32) -> Host {
    let mut host = sample::host(Shape::simple(8, 1));
    (host.process.uid, host.process.gid) = (uid, uid);
    let pool = HugePages { size: Size::bytes(2 << 20), total: 0, free: 0, surplus: 0 };
    host.memory.nodes.iter_mut().for_each(|node| node.huge_pages = vec![pool.clone()]);
    host
}

fn plan(memory: &str, more: &str, host: &Host) -> Plan {
    sample::plan(&format!("(guest: Linux, firmware: Bios, memory: (size: {memory}), {more})"), host)
}

fn filled(plan: &Plan) -> Option<&GuestMemory> {
    plan.descriptors.iter().find_map(|descriptor| match &descriptor.what {
        Inherited::Memory(memory) => Some(memory),
        _ => None,
    })
}

fn words(plan: &Plan) -> String {
    plan.command.argv().join(" ")
}

fn answer(plan: &Plan, key: &str) -> (Verdict, String) {
    let finding = plan.findings.iter().find(|finding| finding.key == key);
    finding.map(|finding| (finding.ok, finding.detail.clone())).unwrap_or_else(|| panic!("{:?}", plan.findings))
}

#[test]
fn huge_pages_are_filled_by_the_launcher_from_the_pool_that_it_has_grown() {
    let plan = plan("\"1 GiB\", pages: Huge(\"2 MiB\")", "", &host(0));
    let memory = filled(&plan).unwrap();
    assert_eq!((memory.bytes(), memory.pages, memory.or_normal), (1 << 30, Some(Size::bytes(2 << 20)), false));
    assert!(memory.parts[0].nodes.is_empty(), "a host with one node needs no policy");
    assert!(words(&plan).contains(
        r#"{"qom-type":"memory-backend-file","id":"ram0","size":1073741824,"mem-path":"/proc/self/fd/6","share":true,"prealloc":false}"#
    ));
    let grown = plan.changes.iter().position(|planned| matches!(planned.change, Change::HugePages(_))).unwrap();
    assert!(grown < plan.first_taking() && !plan.changes[grown].optional);
}

#[test]
fn each_node_gives_its_part() {
    let mut host = sample::host(Shape { cores_per_node: 4, ..Shape::simple(8, 1) });
    host.process.uid = 0;
    let plan = plan("\"5 GiB\", pages: Huge(\"1 GiB\"), nodes: \"0-1\"", "", &host);
    let parts: Vec<String> = filled(&plan).unwrap().parts.iter().map(ToString::to_string).collect();
    assert_eq!(parts, ["3 GiB on NUMA node 0", "2 GiB on NUMA node 1"]);
}

#[test]
fn auto_takes_huge_pages_if_the_host_may_have_them_and_can_do_without() {
    let auto = "\"1 GiB\", pages: Auto";
    let of_root = plan(auto, "", &host(0));
    assert!(filled(&of_root).unwrap().or_normal);
    assert!(of_root.changes.iter().any(|planned| planned.optional && matches!(planned.change, Change::HugePages(_))));
    assert_eq!(answer(&of_root, "memory.pages").0, Verdict::Yes);
    // Only root reserves pages; a user has what is there.
    let mut host = host(1000);
    let of_user = plan(auto, "", &host);
    assert!(filled(&of_user).is_none() && words(&of_user).contains("memory-backend-ram"));
    let (ok, words) = answer(&of_user, "memory.pages");
    assert!(ok == Verdict::No && words.contains("the guest has normal pages"), "{words}");
    assert!(!of_user.findings.iter().any(|finding| finding.blocks()));
    host.memory.nodes[0].huge_pages[0].free = 512;
    assert!(filled(&plan(auto, "", &host)).is_some());
    // Whole pages or none.
    let odd = plan("\"1025 MiB\", pages: Auto", "", &host);
    assert!(filled(&odd).is_none() && answer(&odd, "memory.pages").1.contains("not a whole number"));
    // What nobody knows is tried.
    host.memory.nodes[0].huge_pages.clear();
    assert_eq!(answer(&plan(auto, "", &host), "memory.pages").0, Verdict::Unknown);
}

#[test]
fn normal_pages_are_filled_early_for_devices_unless_that_costs_the_guest_its_huge_ones() {
    let pci = "pci: [\"01:00.0\"]";
    let allows = |plan: &Plan| {
        plan.changes.iter().any(|planned| matches!(&planned.change, Change::Writes(w) if w.files[0].value == "advise"))
    };
    let is = |uid, shmem: Option<&str>, memory: &str, more: &str| {
        let mut host = host(uid);
        host.memory.huge_shared = shmem.map(str::to_owned);
        let plan = plan(memory, more, &host);
        (filled(&plan).is_some(), allows(&plan))
    };
    let size = "\"1 GiB\"";
    assert_eq!(is(0, Some("never"), size, pci), (true, true));
    assert_eq!(is(0, Some("advise"), size, pci), (true, false));
    assert_eq!(is(1000, Some("always"), size, pci), (true, false));
    assert_eq!(is(1000, Some("never"), size, pci), (false, false));
    assert_eq!(is(0, Some("deny"), size, pci), (false, false));
    assert_eq!(is(0, None, size, pci), (false, false));
    // A file anyway.
    assert_eq!(is(0, None, "\"1 GiB\", shared: true", pci), (true, false));
    assert_eq!(is(0, Some("advise"), "\"1 GiB\", shared: false", pci), (false, false));
    // Nothing is taken: the guest's memory is cleared as the guest touches it.
    assert_eq!(is(0, Some("advise"), size, ""), (false, false));
    let mut host = host(0);
    host.memory.huge_shared = Some("advise".to_owned());
    assert!(words(&plan(size, pci, &host)).contains(r#""prealloc":false,"align":2097152}"#));
}

#[test]
fn switches_become_options_and_what_they_cannot_do_is_said() {
    let plain = plan("\"1 GiB\"", "", &host(0));
    assert!(words(&plain).contains("dump-guest-core=off") && !words(&plain).contains("mem-merge"));
    assert!(!plain.lock_memory && !words(&plain).contains("mem-lock"));
    let all = plan("\"1 GiB\", merge: false, lock: true, dump: true", "", &host(0));
    assert!(
        words(&all).contains("dump-guest-core=on,mem-merge=off") && words(&all).contains("-overcommit mem-lock=on")
    );
    assert!(all.lock_memory);
    let merged = plan("\"1 GiB\", merge: true, shared: true", "", &host(0));
    assert_eq!(answer(&merged, "memory.merge").0, Verdict::No);
    let mut host = host(1000);
    host.process.memlock = Some(8 << 20);
    let (ok, detail) = answer(&plan("\"1 GiB\", lock: true", "", &host), "memory.lock");
    assert!(ok == Verdict::No && detail.contains("only 8 MiB"), "{detail}");
}

/// Two nodes of four cores each.
fn two_nodes() -> Host {
    let mut host = sample::host(Shape { cores_per_l3: 4, cores_per_node: 4, ..Shape::simple(8, 1) });
    host.process.uid = 0;
    for (node, distances) in host.memory.nodes.iter_mut().zip([[10, 21], [22, 10]]) {
        node.distances = distances.to_vec();
    }
    host
}

#[test]
fn a_guest_has_the_nodes_of_its_vcpus() {
    let plan = plan("\"3 GiB\", numa: Guest", "cpu: (pin: \"2-7\")", &two_nodes());
    let all = words(&plan);
    // The second die, which the guest has whole, comes first within its package; nodes stay together all the same.
    for expected in [
        "-numa node,nodeid=0,cpus=0-1,memdev=ram0",
        "-numa node,nodeid=1,cpus=2-5,memdev=ram1",
        "-numa dist,src=0,dst=1,val=21",
        "-numa dist,src=1,dst=0,val=22",
        r#"{"qom-type":"memory-backend-ram","id":"ram0","size":1073741824,"host-nodes":[0],"policy":"bind"}"#,
        r#"{"qom-type":"memory-backend-ram","id":"ram1","size":2147483648,"host-nodes":[1],"policy":"bind"}"#,
    ] {
        assert!(all.contains(expected), "{expected}: {all}");
    }
    assert!(!all.contains("memory-backend=ram0"));
    let (ok, detail) = answer(&plan, "memory.numa");
    assert!(ok == Verdict::Yes && detail.contains("vCPUs 0-1 and 1 GiB of node 0; vCPUs 2-5 and 2 GiB of node 1"));
    assert!(!plan.findings.iter().any(|finding| finding.key == "memory.nodes"));
}

#[test]
fn each_of_the_guests_nodes_is_filled_from_its_own() {
    let huge = plan("\"3 GiB\", numa: Guest, pages: Huge(\"1 GiB\")", "cpu: (pin: \"3-6\")", &two_nodes());
    let parts = |plan: &Plan| {
        let memories = plan.descriptors.iter().filter_map(|descriptor| match &descriptor.what {
            Inherited::Memory(memory) => {
                Some(memory.parts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
            }
            _ => None,
        });
        memories.collect::<Vec<_>>()
    };
    assert!(
        answer(&huge, "memory.numa").1.contains("nodes: vCPU 0 and 1 GiB of node 0; vCPUs 1-3 and 2 GiB of node 1")
    );
    // No other CPUs are advised: on one node there would be nothing to tell.
    assert!(huge.findings.iter().all(|finding| finding.ok != Verdict::No || !finding.key.starts_with("cpu.")));
    // One vCPU and three; what is left over goes to the first.
    assert_eq!(parts(&huge), ["1 GiB on NUMA node 0", "2 GiB on NUMA node 1"]);
    assert!(words(&huge).contains(r#""id":"ram1","size":2147483648,"mem-path":"/proc/self/fd/"#));
    let pages = huge.changes.iter().filter_map(|planned| match &planned.change {
        Change::HugePages(pages) => Some((pages.node, pages.pages)),
        _ => None,
    });
    assert_eq!(pages.collect::<Vec<_>>(), [(0, 1), (1, 2)]);
}

#[test]
fn a_guest_without_nodes_of_its_own_says_why() {
    let refused = |memory: &str, cpu: &str, host: &Host| {
        let plan = plan(memory, &format!("cpu: ({cpu})"), host);
        assert!(words(&plan).contains("memory-backend=ram0"));
        let finding = plan.findings.iter().find(|finding| finding.key == "memory.numa").cloned().unwrap();
        assert!(finding.blocks());
        // Nothing advises what was asked for already.
        let advised = |said: &Option<String>| said.as_ref().is_some_and(|said| said.contains("numa: Guest"));
        assert!(!plan.findings.iter().any(|finding| advised(&finding.remedy)));
        format!("{} → {}", finding.detail, finding.remedy.unwrap())
    };
    let guest = "\"2 GiB\", numa: Guest";
    assert!(refused(guest, "pin: \"1-2\"", &two_nodes()).starts_with("all vCPUs are on NUMA node 0"));
    assert!(refused(guest, "pin: [\"1\", \"Any\"]", &two_nodes()).contains("not each vCPU has a CPU of its own"));
    let mixed = refused(guest, "pin: [\"1\", \"5\", \"2\", \"6\"]", &two_nodes());
    assert!(mixed.starts_with("in the order of `cpu.pin` the vCPUs of the NUMA nodes 0-1 do not follow"), "{mixed}");
    let mut empty = two_nodes();
    empty.memory.nodes[1].total = Some(Size::bytes(0));
    assert!(refused(guest, "pin: \"3-4\"", &empty).contains("NUMA node 1, which gives this guest no memory"));
    assert!(
        refused("\"1 GiB\", pages: Huge(\"1 GiB\"), numa: Guest", "pin: \"3-4\"", &two_nodes()).contains("too few")
    );
    let one = refused(guest, "pin: \"1-2\"", &sample::host(Shape::simple(8, 1)));
    assert!(one.ends_with("→ leave `memory.numa` out"), "{one}");
    let nobody = plan("\"2 GiB\"", "cpu: (pin: \"3-4\")", &two_nodes());
    assert!(nobody.findings.iter().all(|finding| finding.key != "memory.numa"));
}
