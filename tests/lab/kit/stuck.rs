//! Whether the emulator has lost a processor of a host that is up. What waits for that processor waits for good.

use super::boot::CRASHED;
use super::lab::Lab;

/// What the host's kernel says of one: its timer never fires again, or it never leaves its idle loop although its timer does.
const SAID: &str =
    "dmesg | grep -qE \"kthread timer wakeup didn't happen|soft lockup - CPU#[0-9]+ stuck for .*swapper\"";

/// Where a thread waits until each processor has gone by, for its own processor's timer, or for the disk, milliseconds each. A kernel in which
/// no timer fires says nothing. Asked as often as nobody would be found there by chance.
const WAITED: &str = "waits() { grep -lxE 'rcu_barrier|synchronize_rcu.*|_*wait_rcu_gp|msleep|do_get_write_access|wait_transaction_locked' /proc/[0-9]*/task/[0-9]*/wchan 2>/dev/null; }
    exec 9<> <(:); stay=$(waits)
    for time in 1 2 3 4 5 6 7 8 9 10; do
        [ \"$stay\" ] || exit 1
        read -r -t 1 -u 9; now=$(waits); stay=$(comm -12 <(sort <<<\"$stay\") <(sort <<<\"$now\"))
    done";

/// Whether one is lost, or the emulator has crashed. A host that does not answer has lost its first.
pub fn is_stuck(lab: &Lab) -> bool {
    let has_crashed = std::fs::read_to_string(lab.path().join("qemu.log")).is_ok_and(|said| said.contains(CRASHED));
    has_crashed || [SAID, WAITED].iter().any(|look| lab.run(look).map_or(true, |found| found.status == 0))
}
