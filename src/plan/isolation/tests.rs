use crate::host::{Cpusets, Host};
use crate::plan::sample::{Shape, host, plan};
use crate::plan::{Isolation, Plan, Verdict};
use crate::units::CpuSet;

fn root(own: &str, unit: Option<&str>) -> Host {
    let mut host = host(Shape::simple(4, 1));
    host.process.uid = 0;
    host.process.cgroup = Some(own.to_owned());
    host.process.unit = unit.map(str::to_owned);
    let effective = CpuSet::from_iter(0..4);
    let groups = ["dev-hugepages.mount", "init.scope", "system.slice", "user.slice", "vfiorunother.slice"];
    let groups = groups.map(str::to_owned).to_vec();
    let cpusets = Cpusets { offered: true, delegated: true, exclusive: true, effective, ..Cpusets::default() };
    host.cpusets = Some(Cpusets { groups, ..cpusets });
    host
}

fn shell() -> Host {
    root("/user.slice/user-0.slice/session-1.scope", None)
}

fn machine(host: &str) -> String {
    format!("(guest: Other, memory: (size: \"1 GiB\"), cpu: (pin: \"2-3\"){host})")
}

fn changes(isolation: &Isolation) -> Vec<String> {
    isolation.changes.iter().map(|planned| planned.change.to_string()).collect()
}

fn said(plan: &Plan) -> (Verdict, bool, &str) {
    let finding = plan.findings.iter().find(|finding| finding.key == "host.isolate").unwrap();
    (finding.ok, finding.blocks(), &finding.detail)
}

#[test]
fn a_guest_with_cpus_of_its_own_gets_a_partition_below_its_scope() {
    // Also if nobody asks for it, but then the guest starts without if need be.
    let unasked = plan(&machine(""), &shell());
    assert_eq!((said(&unasked).0, said(&unasked).1), (Verdict::Yes, false));
    let unasked = unasked.isolation.unwrap();
    let plan = plan(&machine(", host: (isolate: Partition)"), &shell());
    assert!(changes(plan.isolation.as_ref().unwrap()) == changes(&unasked) && !unasked.required);
    let isolation = plan.isolation.as_ref().unwrap();
    let scope = "/sys/fs/cgroup/system.slice/vfio-run-test.scope";
    assert_eq!(
        changes(isolation),
        [
            "remember which threads are kept on some CPUs: the kernel forgets it".to_owned(),
            format!("switch the controller cpuset on below {scope}"),
            format!("make the cgroup {scope}/vcpus for the vCPUs' threads, on CPUs 2-3"),
            "let /sys/fs/cgroup/system.slice pass CPUs 2-3 on to a partition".to_owned(),
            format!("let {scope} pass CPUs 2-3 on to a partition"),
            format!("let {scope}/vcpus pass CPUs 2-3 on to a partition"),
            format!("keep everything else off CPUs 2-3: make {scope}/vcpus a partition"),
        ]
    );
    assert_eq!(said(&plan).0, Verdict::Yes);
    assert_eq!(serde_json::from_str::<Plan>(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
}

#[test]
fn in_a_unit_the_launcher_leaves_the_group_that_is_divided() {
    let plan = plan(
        &machine(", host: (isolate: Partition)"),
        &root("/system.slice/vfio-run-test.service", Some("vfio-run-test.service")),
    );
    let isolation = plan.isolation.unwrap();
    let unit = "/sys/fs/cgroup/system.slice/vfio-run-test.service";
    let changes = changes(&isolation);
    assert_eq!(
        changes[1..3],
        [
            format!("switch the controller cpuset on below {unit}, whose processes move to its group launcher"),
            format!("switch the controller cpuset on below {unit}/guest"),
        ]
    );
    assert_eq!(changes.iter().filter(|change| change.starts_with("let ")).count(), 4);
    assert_eq!(isolation.threads.unwrap(), std::path::Path::new(unit).join("guest/vcpus"));
}

#[test]
fn without_systemd_the_controller_is_switched_on_from_the_top() {
    let mut host = shell();
    host.process.systemd = false;
    host.process.cgroup = Some("/".to_owned());
    let plan = plan(&machine(", host: (isolate: Partition)"), &host);
    let changes = changes(&plan.isolation.unwrap());
    let groups = ["", "/vfio-run", "/vfio-run/test"];
    assert_eq!(
        changes[1..4],
        groups.map(|group| format!("switch the controller cpuset on below /sys/fs/cgroup{group}"))
    );
    assert_eq!(changes[5], "let /sys/fs/cgroup/vfio-run pass CPUs 2-3 on to a partition");
}

#[test]
fn what_is_in_the_way_is_said() {
    type Spoil = fn(&mut Host);
    let cases: [(Spoil, &str); 8] = [
        (
            |host| {
                host.cpusets.as_mut().unwrap().exclusive = false;
                host.process.systemd = false;
            },
            "Linux 6.7",
        ),
        (
            |host| {
                host.cpusets.as_mut().unwrap().exclusive = false;
                host.process.unit = Some("vfio-run-test.service".to_owned());
                host.process.cgroup = Some("/system.slice/vfio-run-test.service".to_owned());
            },
            "vfio-run-test.service is not in a slice of its own",
        ),
        (
            |host| {
                let cpusets = host.cpusets.as_mut().unwrap();
                cpusets.exclusive = false;
                cpusets.groups.clear();
                cpusets.lists = [("system.slice".to_owned(), CpuSet::from_iter([0, 1, 2]))].into();
            },
            "system.slice was given CPUs 0-2",
        ),
        (|host| host.cpusets.as_mut().unwrap().offered = false, "no cgroup v2"),
        (
            |host| host.cpusets.as_mut().unwrap().effective = CpuSet::from_iter([0, 1, 2]),
            "another cpuset partition has CPU 3",
        ),
        (|host| host.process.cgroup = None, "no cgroup v2"),
        (|host| host.process.unit = Some("other.service".to_owned()), "runs in other.service"),
        (
            |host| {
                host.process.unit = Some("vfio-run-test.service".to_owned());
                host.process.cgroup = Some("/system.slice/vfio-run-test.service".to_owned());
                host.cpusets.as_mut().unwrap().delegated = false;
            },
            "`Delegate=` is without cpuset",
        ),
    ];
    for (spoil, words) in cases {
        let mut host = shell();
        spoil(&mut host);
        let plan = plan(&machine(", host: (isolate: Partition)"), &host);
        let (ok, blocks, detail) = said(&plan);
        assert!(ok == Verdict::No && blocks && detail.contains(words), "{detail}");
        assert_eq!(plan.isolation, None);
    }
}

#[test]
fn what_is_in_the_way_of_what_nobody_asked_for_forbids_no_start() {
    let mut old = shell();
    old.cpusets.as_mut().unwrap().exclusive = false;
    let mut taken = shell();
    taken.cpusets.as_mut().unwrap().effective = CpuSet::from_iter([0, 1, 2]);
    let mut user = shell();
    user.process.uid = 1000;
    // What no host of the kind can is no warning.
    for (host, verdict, words) in [
        (old, Verdict::Yes, "before Linux 6.7"),
        (taken, Verdict::No, "another cpuset partition has CPU 3"),
        (user, Verdict::Yes, "others may come"),
    ] {
        let plan = plan(&machine(""), &host);
        let (ok, blocks, detail) = said(&plan);
        assert!(ok == verdict && !blocks && detail.contains(words), "{ok:?} {detail}");
        assert_eq!(plan.isolation, None);
    }
    let mut unread = shell();
    unread.cpusets = None;
    assert!(plan(&machine(""), &unread).findings.iter().all(|finding| finding.key != "host.isolate"));
}

#[test]
fn a_user_has_affinities_alone_and_is_told() {
    let mut host = shell();
    host.process.uid = 1000;
    assert!(said(&plan(&machine(", host: (isolate: Partition)"), &host)).1);
}

#[test]
fn nothing_is_isolated_without_cpus_for_it() {
    let unpinned = "(guest: Other, memory: (size: \"1 GiB\"), cpu: (vcpus: 9)";
    assert!(plan(&format!("{unpinned})"), &shell()).findings.iter().all(|finding| finding.key != "host.isolate"));
    assert!(said(&plan(&format!("{unpinned}, host: (isolate: Partition))"), &shell())).1);
    let none = plan(&machine(", host: (isolate: None)"), &shell());
    assert!(none.isolation.is_none() && none.findings.iter().all(|finding| finding.key != "host.isolate"));
    let all =
        plan("(guest: Other, memory: (size: \"1 GiB\"), cpu: (pin: \"0-3\"), host: (isolate: Partition))", &shell());
    assert!(said(&all).2.contains("all CPUs of the host"));
    let but_one =
        plan("(guest: Other, memory: (size: \"1 GiB\"), cpu: (pin: \"1-3\"), host: (isolate: Partition))", &shell());
    assert_eq!(but_one.isolation.unwrap().cpus.to_string(), "1-3");
}

#[test]
fn an_older_kernel_isolates_a_slice_with_all_of_qemus_threads() {
    let mut host = shell();
    host.cpusets.as_mut().unwrap().exclusive = false;
    let with = |more: &str, host: &Host| {
        plan(
            &format!(
                "(name: \"a-b\", guest: Other, memory: (size: \"1 GiB\"), cpu: (pin: \"2-3\"{more}), host: (isolate: Partition))"
            ),
            host,
        )
    };
    let made = with("", &host);
    let isolation = made.isolation.as_ref().unwrap();
    assert_eq!((isolation.slice.as_deref(), &isolation.threads), (Some("vfioruna\\x2db.slice"), &None));
    assert_eq!(
        changes(isolation),
        [
            "remember which threads are kept on some CPUs: the kernel forgets it",
            "give vfioruna\\x2db.slice CPUs 1-3",
            "keep everything else off CPUs 1-3: make /sys/fs/cgroup/vfioruna\\x2db.slice a partition",
        ]
    );
    // The other threads get one CPU, which the host loses too, or those that the file names.
    assert_eq!(made.placement.emulator.to_string(), "1");
    assert_eq!(with(", emulator: \"0\"", &host).placement.emulator.to_string(), "0");
    // If the host can spare none of them, its slices leave the vCPUs' CPUs alone.
    let spared = with(", emulator: \"0-1\"", &host);
    assert!(said(&spared).2.contains("systemd keeps") && said(&spared).2.contains("all CPUs of the host"));
    host.cpusets.as_mut().unwrap().groups.clear();
    assert!(said(&with(", emulator: \"0-1\"", &host)).2.contains("all CPUs of the host"));
}

#[test]
fn the_hosts_slices_leave_the_cpus_if_they_are_asked_to() {
    let made = |host: &Host| plan(&machine(", host: (isolate: Slices)"), host);
    // Whatever the kernel could do.
    for exclusive in [true, false] {
        let mut host = shell();
        host.cpusets.as_mut().unwrap().exclusive = exclusive;
        let plan = made(&host);
        let isolation = plan.isolation.as_ref().unwrap();
        assert_eq!(
            changes(isolation),
            [
                "remember which threads are kept on some CPUs: the kernel forgets it",
                "keep init.scope, system.slice, user.slice off CPUs 2-3",
            ]
        );
        assert_eq!((isolation.slice.as_deref(), &isolation.threads), (Some("vfioruntest.slice"), &None));
        // The host keeps the CPUs of QEMU's other threads.
        assert_eq!((plan.placement.emulator.to_string().as_str(), isolation.cpus.to_string().as_str()), ("0-1", "2-3"));
        assert_eq!((said(&plan).0, isolation.partition()), (Verdict::Yes, None));
        assert!(plan.findings.iter().all(|finding| finding.key != "host.isolate.groups"));
    }
    let mut host = shell();
    host.cpusets.as_mut().unwrap().groups.push("docker".to_owned());
    let finding = made(&host).findings.into_iter().find(|finding| finding.key == "host.isolate.groups").unwrap();
    assert!(
        finding.ok == Verdict::No && !finding.blocks() && finding.detail.contains("groups docker may"),
        "{finding:?}"
    );
    let refused = |spoil: fn(&mut Host), words: &str| {
        let mut host = shell();
        spoil(&mut host);
        let plan = made(&host);
        let (ok, blocks, detail) = said(&plan);
        assert!(ok == Verdict::No && blocks && detail.contains(words) && plan.isolation.is_none(), "{detail}");
    };
    refused(|host| host.process.systemd = false, "without systemd");
    refused(|host| host.process.uid = 1000, "others may come");
    refused(|host| host.process.unit = Some("other.service".to_owned()), "runs in other.service");
    let partition_of_another: fn(&mut Host) = |host| {
        let cpusets = host.cpusets.as_mut().unwrap();
        cpusets.effective = CpuSet::from_iter([1, 2, 3]);
        cpusets.exclusive = false;
    };
    refused(partition_of_another, "another cpuset partition has CPU 0");
}

#[test]
fn a_unit_on_an_older_kernel_has_the_slices_leave_its_cpus() {
    let host = |slice: &str, delegated: bool| {
        let own = format!("/{slice}/vfio-run-test.service");
        let mut host = root(&own, Some("vfio-run-test.service"));
        let cpusets = host.cpusets.as_mut().unwrap();
        (cpusets.exclusive, cpusets.delegated) = (false, delegated);
        host
    };
    for asked in ["Partition", "Slices"] {
        let made = plan(&machine(&format!(", host: (isolate: {asked})")), &host("vfioruntest.slice", false));
        assert_eq!(made.isolation.as_ref().unwrap().slice.as_deref(), Some("vfioruntest.slice"));
        let no_partition = "there is no partition: before Linux 6.7 a machine that is a unit cannot have one";
        assert_eq!(said(&made).2.contains(no_partition), asked == "Partition", "{}", said(&made).2);
    }
    // One that was written for another kernel, or machine file; also if systemd would switch the controller off after its end.
    for (slice, delegated) in [("system.slice", false), ("vfioruntest.slice", true)] {
        let refused = plan(&machine(", host: (isolate: Partition)"), &host(slice, delegated));
        assert!(said(&refused).1 && said(&refused).2.contains("not in a slice of its own"), "{}", said(&refused).2);
    }
}
