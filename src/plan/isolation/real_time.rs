//! Whether the vCPUs' threads may run in real time: only where nothing else has to.
//!
//! Sources: sched(7); `Documentation/scheduler/sched-rt-group.rst` for the share that threads in real time have of each CPU.

use super::super::Placement;
use super::super::Severity::{Hard, Soft};
use super::super::draft::Draft;
use super::partition::Isolation;
use crate::units::CpuSet;

const FIELD: &str = "cpu.scheduler";

/// Says it, if the machine asks for it.
pub(in super::super) fn check(draft: &mut Draft, placement: &Placement, isolation: Option<&Isolation>) {
    let Some((scheduler, priority)) = placement.scheduler.and_then(|s| Some((s, s.priority()?))) else { return };
    if let Some((detail, remedy)) = in_the_way(draft, placement, isolation, priority) {
        draft.no(FIELD, Hard, detail, &remedy);
        return draft.about(FIELD);
    }
    draft.yes(FIELD, Hard, format!("the vCPUs run in real time, {scheduler:?}"));
    if let Some(runtime) = draft.host.rt_runtime.filter(|runtime| *runtime >= 0) {
        let detail = format!(
            "the kernel stops a vCPU that is always busy again and again: threads in real time have {runtime} µs of each \
             `kernel.sched_rt_period_us`, 1000000 by default"
        );
        draft.no("cpu.scheduler.share", Soft, detail, "`sysctl kernel.sched_rt_runtime_us=-1` gives them all");
        draft.about(FIELD);
    }
}

/// What forbids it, and what to do about that.
fn in_the_way(
    draft: &Draft,
    placement: &Placement,
    isolation: Option<&Isolation>,
    priority: u32,
) -> Option<(String, String)> {
    let (vcpus, process) = (placement.vcpu_set(), &draft.host.process);
    if !placement.pinned {
        let detail = "a vCPU in real time needs a CPU of its own: everything else there would wait for it";
        return Some((detail.to_owned(), "use fewer vCPUs, or name one CPU for each in `cpu.pin`".to_owned()));
    }
    let io = placement.iothreads.iter().flat_map(|(_, cpus)| cpus.iter());
    let shared = placement.emulator.iter().chain(io).collect::<CpuSet>().intersection(&vcpus);
    if !shared.is_empty() {
        let detail =
            format!("QEMU's other threads run on {} too, and would wait for the vCPUs in real time", shared.numbered());
        return Some((
            detail,
            "take these CPUs out of `cpu.emulator` and `cpu.iothreads`, or use fewer vCPUs".to_owned(),
        ));
    }
    let alone = isolation.filter(|isolation| isolation.partition().is_some()).map(|isolation| isolation.cpus.clone());
    let others = vcpus.difference(&draft.host.cpus.isolated.union(&alone.unwrap_or_default()));
    if !others.is_empty() {
        let detail = format!(
            "the host's programs may run on {} too, and would wait for the vCPUs in real time",
            others.numbered()
        );
        let remedy = format!("`host: (isolate: Partition)` keeps them off, as does the kernel's `isolcpus={vcpus}`");
        return Some((detail, remedy));
    }
    let limit = process.rtprio.filter(|limit| process.uid != 0 && *limit < u64::from(priority))?;
    let detail =
        format!("this user may have threads of a priority up to {limit} in real time, and `{FIELD}` has {priority}");
    Some((detail, "raise `rtprio` in /etc/security/limits.conf, or start as root".to_owned()))
}

#[cfg(test)]
mod tests {
    use crate::host::{Cpusets, Host};
    use crate::plan::sample::{Shape, host, plan};
    use crate::plan::{Plan, Verdict};
    use crate::units::CpuSet;

    fn of(cpu: &str, more: &str, host: &Host) -> Plan {
        plan(&format!("(guest: Other, memory: (size: \"1 GiB\"), cpu: ({cpu}){more})"), host)
    }

    /// What is said, if it blocks.
    fn refused(plan: &Plan) -> Option<&str> {
        let finding = plan.findings.iter().find(|finding| finding.key == "cpu.scheduler").unwrap();
        finding.blocks().then_some(finding.detail.as_str())
    }

    #[test]
    fn vcpus_in_real_time_need_cpus_that_nothing_else_has() {
        let mut small = host(Shape::simple(4, 1));
        let shared = of("pin: \"2-3\", scheduler: Fifo(1)", "", &small);
        assert!(refused(&shared).unwrap().starts_with("the host's programs may run on CPUs 2-3 too"));
        small.cpus.isolated = CpuSet::from_iter([3]);
        let half = of("pin: \"2-3\", scheduler: Fifo(1)", "", &small);
        assert!(refused(&half).unwrap().starts_with("the host's programs may run on CPU 2 too"));
        small.cpus.isolated = CpuSet::from_iter([2, 3]);
        let isolated = of("pin: \"2-3\", scheduler: Fifo(1)", "", &small);
        assert_eq!((refused(&isolated), isolated.placement.scheduler.unwrap().priority()), (None, Some(1)));
        let emulator = of("pin: \"2-3\", emulator: \"3\", scheduler: Fifo(1)", "", &small);
        assert!(refused(&emulator).unwrap().starts_with("QEMU's other threads run on CPU 3 too"));
        let floating = of("pin: [\"2\", \"Any\"], scheduler: RoundRobin(1)", "", &small);
        assert!(refused(&floating).unwrap().starts_with("a vCPU in real time needs a CPU of its own"));
        let normal = of("pin: \"2-3\", scheduler: Normal", "", &small);
        assert!(normal.placement.scheduler.is_none() && normal.findings.iter().all(|f| f.key != "cpu.scheduler"));
    }

    #[test]
    fn a_partition_that_they_need_must_be_made() {
        let mut root = host(Shape::simple(4, 1));
        root.process.uid = 0;
        root.process.cgroup = Some("/user.slice/user-0.slice/session-1.scope".to_owned());
        let effective = CpuSet::from_iter(0..4);
        root.cpusets = Some(Cpusets { offered: true, exclusive: true, effective, ..Cpusets::default() });
        let plan = of("pin: \"2-3\", scheduler: Fifo(1)", "", &root);
        assert_eq!((refused(&plan), plan.isolation.as_ref().unwrap().required), (None, true));
        let none = of("pin: \"2-3\", scheduler: Fifo(1)", ", host: (isolate: None)", &root);
        assert!(refused(&none).is_some());
    }

    #[test]
    fn a_users_limit_and_the_kernels_share_are_told() {
        let mut host = host(Shape::simple(4, 1));
        host.cpus.isolated = CpuSet::from_iter([2, 3]);
        host.process.rtprio = Some(5);
        host.rt_runtime = Some(950_000);
        let high = of("pin: \"2-3\", scheduler: Fifo(6)", "", &host);
        assert_eq!(
            refused(&high),
            Some("this user may have threads of a priority up to 5 in real time, and `cpu.scheduler` has 6")
        );
        let share = |host: &Host| {
            let plan = of("pin: \"2-3\", scheduler: Fifo(5)", "", host);
            assert_eq!(refused(&plan), None);
            plan.findings.iter().any(|finding| finding.key == "cpu.scheduler.share" && finding.ok == Verdict::No)
        };
        assert!(share(&host));
        host.rt_runtime = Some(-1);
        assert!(!share(&host));
    }
}
