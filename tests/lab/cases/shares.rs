//! Folders of the host that a guest mounts: a file crosses in both directions, and belongs to the folder's owner.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::linux_machine;
use crate::kit::lab::Lab;

const GUEST_BOOT: Duration = Duration::from_secs(240);
const SOON: Duration = Duration::from_secs(60);

/// `data` is the owner's, `read` the same without writing; `old` is by 9p, open to QEMU's own user id.
const SHARES: &str = r#"shares: [
        (tag: "data", folder: "/run/lab/data"),
        (tag: "read", folder: "/run/lab/read", read_only: true),
        (tag: "old", folder: "/run/lab/old", kind: NineP),
    ],"#;

#[test]
fn files_cross_in_both_directions() -> Result<()> {
    let lab = Lab::variant("one-gpu", "debian13").start()?;
    lab.load_kvm()?;
    lab.sh(
        "cd /run/lab && mkdir data read old && for name in data read old; do echo \"a letter in $name\" >$name/letter; done && \
         chown -R 1000:1000 data read && chmod 777 old && : >guest.log && chmod 666 guest.log",
    )?;
    let file = lab.install_machine("shares", &linux_machine("guest.share", SHARES))?;
    lab.run_for(&format!("/lab/bin/vfio-run check {file}"), GUEST_BOOT)?.ok()?;
    let before = lab.snapshot_of_host()?;
    let job = lab.start(&format!("exec /lab/bin/vfio-run -v {file}"))?;
    let ready = job.wait_until("grep -q 'LINUX READY' /run/lab/guest.log", GUEST_BOOT);
    ready.with_context(|| lab.sh("cat /run/lab/guest.log").unwrap_or_default())?;
    let users = lab.sh("for pid in $(pgrep -x virtiofsd); do stat -c %u /proc/$pid; done | sort -u")?;
    ensure!(users == "1000", "virtiofsd runs as {users}");
    let said = lab.sh("cat /run/lab/guest.log")?;
    for name in ["data", "read", "old"] {
        ensure!(said.contains(&format!("LINUX LETTER {name} a letter in {name}")), "{said}");
    }
    let answers = lab.sh("cd /run/lab && cat data/answer old/answer && stat -c %u:%g data/answer && ls read")?;
    ensure!(answers == "the guest was here\nthe guest was here\n1000:1000\nletter", "{answers}\n{said}");
    lab.sh("pkill -KILL -x vfio-run && pkill -KILL -x qemu-system-x86")?;
    ensure!(job.wait(SOON)?.status != 0, "the launcher was killed");
    lab.sh("/lab/bin/vfio-run recover shares && ! pgrep -x virtiofsd")?;
    let left = before.diff(&lab.snapshot_of_host()?);
    ensure!(left.is_empty(), "left behind:\n{left}");
    lab.finish()
}
