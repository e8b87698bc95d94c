//! What only a boot parameter does for the vCPUs' CPUs, told with the line for this host. It is for good, so that the program
//! never writes it.
//!
//! `domain` is not among the flags of `isolcpus`: it would take the CPUs from the host also while no guest runs. Sources:
//! `Documentation/timers/no_hz.rst`, `Documentation/admin-guide/kernel-parameters.txt`.

use super::super::Placement;
use super::super::Severity::Soft;
use super::super::boot_line;
use super::super::draft::Draft;

/// Tells it if the machine asks for quiet CPUs and they have the scheduler's tick.
pub(super) fn tell(draft: &mut Draft, placement: &Placement) {
    let guest = placement.vcpu_set();
    let host = draft.host.cpus.online.difference(&guest);
    let asked = draft.machine.host.tuned().irqs.is_some();
    let has = |name: &str| draft.host.cmdline.iter().any(|word| word.starts_with(name));
    if !asked || !placement.pinned || host.is_empty() || has("nohz_full=") {
        return;
    }
    let words = [
        format!("nohz_full={guest}"),
        format!("rcu_nocbs={guest}"),
        format!("isolcpus=managed_irq,{guest}"),
        format!("irqaffinity={host}"),
    ];
    let detail = format!(
        "the scheduler's tick and the interrupts of queues that the kernel manages itself reach {}, and only boot \
         parameters keep them away, for good: system calls of the host's programs take longer there",
        guest.numbered()
    );
    draft.yes("host.boot", Soft, detail);
    draft.remedy(&boot_line::add(draft.host, &words));
}
