//! Which CPUs each thread of QEMU runs on: the threads are found by QMP's thread ids and `/proc/PID/task`, placed one by one.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use qapi::{Command as _, qmp};

use super::affinity::place;
use super::scheduler;
use crate::plan::{Isolation, Placement};
use crate::qemu::qmp::{Answer, Qmp, QmpError, typed};
use crate::units::CpuSet;

/// When to look for threads that the kernel has added to QEMU, after the guest was started.
///
/// KVM makes its thread that takes huge pages of code apart (`kvm-nx-lpage-recovery`, the kernel's
/// `arch/x86/kvm/mmu/mmu.c`) when a vCPU runs for the first time, as a child of that vCPU's thread, whose CPU it
/// inherits: it would take time from the guest there for as long as the guest runs. No event announces it, so it is
/// looked for twice and then never again.
pub const LATER_LOOKS: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(900)];

/// What QEMU says of its threads.
#[derive(Debug)]
pub struct Threads {
    vcpus: Vec<qmp::CpuInfoFast>,
    iothreads: Vec<qmp::IOThreadInfo>,
}

impl Threads {
    /// The commands that ask for them.
    pub const COMMANDS: [&str; 2] = [qmp::query_cpus_fast::NAME, qmp::query_iothreads::NAME];

    /// Reads the answers to these commands.
    pub fn read([vcpus, iothreads]: [Answer; 2]) -> Result<Self, QmpError> {
        let (vcpus, iothreads) = (typed::<qmp::query_cpus_fast>(vcpus?)?, typed::<qmp::query_iothreads>(iothreads?)?);
        Ok(Self { vcpus, iothreads })
    }
}

/// Does [`place_threads`] with them as QEMU says that they are now.
pub async fn place_all(qmp: &mut Qmp, qemu: i32, placement: &Placement, isolation: Option<&Isolation>) -> Result<()> {
    let vcpus = qmp.execute(qmp::query_cpus_fast {}).await?;
    let iothreads = qmp.execute(qmp::query_iothreads {}).await?;
    place_threads(Threads { vcpus, iothreads }, qemu, placement, isolation)
}

/// Puts every vCPU and I/O thread onto its CPUs, and every other thread of QEMU onto the emulator's; those that they
/// make later inherit them. The guest has not executed an instruction yet (`-S`). With an isolation, the vCPUs' threads
/// move to its group first.
pub fn place_threads(said: Threads, qemu: i32, placement: &Placement, isolation: Option<&Isolation>) -> Result<()> {
    let mut seen = 0;
    let mut named = BTreeSet::new();
    for cpu in said.vcpus {
        let (qmp::CpuInfoFast::x86_64(cpu) | qmp::CpuInfoFast::i386(cpu)) = cpu else {
            bail!("QEMU has vCPUs that are not x86");
        };
        let (index, thread) = (cpu.cpu_index, cpu.thread_id);
        let cpus = usize::try_from(index).ok().and_then(|i| placement.vcpus.get(i));
        let cpus = cpus.with_context(|| format!("QEMU has a vCPU {index} that the plan does not"))?;
        let group = isolation.and_then(|isolation| isolation.threads.as_deref());
        let placed = place_own(qemu, thread, cpus, group)
            .and_then(|thread| placement.scheduler.map_or(Ok(()), |scheduler| scheduler::set(thread, scheduler)));
        placed.with_context(|| format!("vCPU {index} (thread {thread})"))?;
        named.insert(thread);
        seen += 1;
    }
    if seen != placement.vcpus.len() {
        bail!("QEMU has {seen} vCPUs and the plan {}", placement.vcpus.len());
    }
    for thread in said.iothreads {
        let Some((_, cpus)) = placement.iothreads.iter().find(|(id, _)| *id == thread.id) else { continue };
        place_own(qemu, thread.thread_id, cpus, None)
            .with_context(|| format!("I/O thread {} (thread {})", thread.id, thread.thread_id))?;
        named.insert(thread.thread_id);
    }
    for thread in threads(qemu) {
        // One that has ended since it was listed needs no place.
        if !named.contains(&thread) && is_thread(qemu, thread) {
            place_own(qemu, thread, &placement.emulator, None).with_context(|| format!("QEMU's thread {thread}"))?;
        }
    }
    Ok(())
}

fn threads(qemu: i32) -> Vec<i64> {
    let tasks = std::fs::read_dir(format!("/proc/{qemu}/task")).into_iter().flatten().flatten();
    tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).collect()
}

fn is_thread(qemu: i32, thread: i64) -> bool {
    Path::new(&format!("/proc/{qemu}/task/{thread}")).exists()
}

/// Places a thread only if it is one of QEMU's: a guest that took QEMU over must not make root move other programs.
/// `group`: the cgroup that it moves to first, below that of QEMU's other threads, or that one.
/// Returns its number.
fn place_own(qemu: i32, thread: i64, cpus: &CpuSet, group: Option<&Path>) -> Result<i32> {
    let tid = i32::try_from(thread).ok().filter(|t| *t > 0).context("QEMU named a thread that cannot be")?;
    if !is_thread(qemu, thread) {
        bail!("QEMU named a thread that is not its own");
    }
    if let Some(group) = group {
        let file = group.join("cgroup.threads");
        std::fs::write(&file, tid.to_string()).with_context(|| format!("cannot write to {}", file.display()))?;
    }
    place(tid, cpus).map(|()| tid)
}

/// Takes the threads that KVM has added to QEMU off the guest's CPUs; they began in their vCPU's group.
pub fn place_kernel_threads(qemu: i32, placement: &Placement, isolation: Option<&Isolation>) {
    let group = isolation.and_then(|isolation| isolation.threads.as_deref()?.parent());
    for thread in threads(qemu) {
        let name = std::fs::read_to_string(format!("/proc/{qemu}/task/{thread}/comm")).unwrap_or_default();
        if !name.starts_with("kvm-") {
            continue;
        }
        match place_own(qemu, thread, &placement.emulator, group.filter(|group| group.exists())) {
            Ok(_) => {
                tracing::debug!("the kernel's thread {} runs on {}", name.trim_end(), placement.emulator.numbered())
            }
            Err(error) => tracing::warn!("the kernel's thread {} stays where it is: {error:#}", name.trim_end()),
        }
    }
}
