//! Everything that can fail fails here: every change of a plan, QEMU, the guest, and the host's own driver afterwards.

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::crash::{Desk, FILE, GUEST_BOOT, OBEDIENT, QEMU, SOON, machine};
use super::passthrough::shows_the_host;
use crate::kit::host::at;
use crate::kit::lab::until;
use crate::kit::thorough;

/// How one change is made to fail, by nothing that the plan could have seen.
pub struct Fault {
    /// The change, in words.
    pub change: String,
    /// Brings it about.
    make: String,
    /// Takes it away again.
    mend: String,
    /// What the program is run below.
    below: String,
}

/// The fault for a change, as the plan has it; none for one that does nothing to this host.
fn fault(desk: &Desk, change: &Value) -> Result<Option<Fault>> {
    let (kind, what) = change.as_object().and_then(|fields| fields.iter().next()).context("a change of no kind")?;
    let text = |field: &str| what[field].as_str().unwrap_or_default().to_owned();
    // A file that can be read as ever and cannot be written.
    let read_only = |path: String| Fault {
        change: format!("{kind} {what}"),
        make: format!("mount --bind {path} {path} && mount -o remount,ro,bind {path}"),
        mend: format!("umount {path}"),
        below: String::new(),
    };
    let failing = |variable: String| Fault {
        change: format!("{kind} {what}"),
        make: "true".to_owned(),
        mend: "true".to_owned(),
        below: format!("env LD_PRELOAD=/lab/bin/faults.so {variable}"),
    };
    let unwritable = |path: String| failing(format!("FAIL_WRITE={path}"));
    Ok(Some(match kind.as_str() {
        "write" if has(desk, &text("path"), &text("value"))? => return Ok(None),
        "write" => read_only(text("path")),
        // The last of its files, so that it has the others to undo.
        "writes" => {
            let files = what["files"].as_array().map(Vec::as_slice).unwrap_or_default();
            let of = |file: &Value, field: &str| file[field].as_str().unwrap_or_default().to_owned();
            // Of interrupts some are not moved by the kernel's own decision, and may fail. What says it already is not written.
            let may_fail = |path: &str| path.contains("/irq/") && !path.ends_with("default_smp_affinity");
            for file in files.iter().rev().filter(|file| !may_fail(&of(file, "path"))) {
                if !has(desk, &of(file, "path"), &of(file, "value"))? {
                    return Ok(Some(read_only(of(file, "path"))));
                }
            }
            return Ok(None);
        }
        "huge_pages" => {
            read_only(format!("/sys/devices/system/node/node{}/hugepages/hugepages-2048kB/nr_hugepages", what["node"]))
        }
        "leave_console" => read_only(format!("/sys/class/vtconsole/{}/bind", text("name"))),
        "bind_driver" => read_only(format!("/sys/bus/pci/devices/{}/driver_override", text("address"))),
        "stop_unit" => Fault {
            change: format!("{kind} {what}"),
            make: format!(
                "mkdir -p /run/systemd/system/{0}.d && printf '[Unit]\\nRefuseManualStop=yes\\n' \
                 >/run/systemd/system/{0}.d/no.conf && systemctl daemon-reload",
                text("unit")
            ),
            mend: format!("rm -r /run/systemd/system/{}.d && systemctl daemon-reload", text("unit")),
            below: String::new(),
        },
        "free_nodes" => Fault {
            change: format!("{kind} {what}"),
            // In no unit: one that nothing stops is refused before.
            make: "(echo $BASHPID >/sys/fs/cgroup/cgroup.procs; exec sleep 600 7</dev/dri/card0) >/dev/null 2>&1 & \
                   echo $! >/run/lab/holder; until grep -q '^0::/$' /proc/$!/cgroup; do :; done"
                .to_owned(),
            mend: format!("kill $(cat /run/lab/holder); {}", until("[ ! -e /proc/$(cat /run/lab/holder) ]", ":")),
            below: String::new(),
        },
        "own" => failing("FAIL_FCHOWNAT=1".to_owned()),
        // Files that are made for the run can be made read-only by nobody before it.
        "cpuset_controller" => unwritable(format!("{}/cgroup.subtree_control", text("group"))),
        "exclusive_cpus" => unwritable(format!("{}/cpuset.cpus.exclusive", text("group"))),
        "vcpu_group" => unwritable(format!("{}/cgroup.type", text("path"))),
        "partition" => unwritable(format!("{}/cpuset.cpus.partition", text("group"))),
        // systemd takes it whatever becomes of the file that it keeps it in; nothing from outside makes it fail.
        "allowed_cpus" => return Ok(None),
        // They keep something in mind, or a thread that cannot be moved is no failure.
        "revive" | "kernel_threads" | "own_slice" | "affinities" => return Ok(None),
        _ => bail!("no fault is known for {change}; add one"),
    }))
}

/// Whether a file of the host's says so already, or is not there.
fn has(desk: &Desk, path: &str, value: &str) -> Result<bool> {
    let found = desk.lab.run(&format!("cat {path}"))?;
    Ok(found.status != 0 || found.stdout.trim_end() == value)
}

#[test]
fn whatever_fails_the_host_comes_back() -> Result<()> {
    for release in thorough::releases() {
        let desk = Desk::new(release)?;
        in_turn!(
            &desk;
            each_change_that_fails_is_named_and_all_before_it_is_undone,
            whatever_qemu_and_the_guest_do_the_host_comes_back,
            a_driver_that_does_not_come_back_is_named_and_recovered_later,
            a_card_that_is_gone_when_its_guest_has_ended_is_looked_for_anew,
        );
        desk.lab.finish()?;
    }
    Ok(())
}

fn each_change_that_fails_is_named_and_all_before_it_is_undone(desk: &Desk) -> Result<()> {
    let mut faults = faults(desk)?;
    // In the middle of the handover: the driver that has the card, and the one that is to have it.
    for file in ["drivers/bochs-drm/unbind", "drivers/snd_hda_intel/unbind"] {
        let path = format!("/sys/bus/pci/{file}");
        faults.push(Fault {
            make: format!("mount --bind {path} {path} && mount -o remount,ro,bind {path}"),
            mend: format!("umount {path}"),
            change: path,
            below: String::new(),
        });
    }
    fail_at(desk, &faults)
}

/// The changes of the machine's plan, each with what makes it fail.
pub fn faults(desk: &Desk) -> Result<Vec<Fault>> {
    let plan: Value = serde_json::from_str(&desk.lab.sh(&format!("/lab/bin/vfio-run plan --json {FILE}"))?)?;
    let changes = plan["changes"].as_array().context("a plan without changes")?;
    // Those that wait for QEMU's threads.
    let isolation = plan["isolation"]["changes"].as_array();
    let mut faults: Vec<Fault> = Vec::new();
    for planned in changes.iter().chain(isolation.into_iter().flatten()) {
        faults.extend(fault(desk, &planned["change"])?);
    }
    Ok(faults)
}

/// Has one change after the other fail: each is named, and all before it is undone.
pub fn fail_at(desk: &Desk, faults: &[Fault]) -> Result<()> {
    for Fault { change, make, mend, below } in faults {
        desk.lab.sh(make)?;
        let failed = desk.run(below, FILE)?.wait(GUEST_BOOT)?;
        desk.lab.sh(mend)?;
        ensure!(failed.status == 1, "{change}: {failed}");
        ensure!(failed.stderr.contains("could not "), "{change} is not named: {failed}");
        desk.is_as_before(&format!("a failed {change}"), &failed)?;
    }
    eprintln!("{} changes failed, one after the other", faults.len());
    Ok(())
}

fn whatever_qemu_and_the_guest_do_the_host_comes_back(desk: &Desk) -> Result<()> {
    // QEMU takes the arguments and refuses the card.
    let entry = r#"pci: [(address: "01:00.*", properties: {"x-pci-vendor-id": 131071})]"#;
    let bad = machine(&OBEDIENT.replace(r#"pci: ["01:00.*"]"#, entry)).replacen('(', "(name: \"only\", ", 1);
    let bad = desk.lab.install_machine("bad", &bad)?;
    let refused = desk.run("", &bad)?.wait(GUEST_BOOT)?;
    ensure!(refused.status == 1 && refused.stderr.contains("QEMU did not start"), "{refused}");
    desk.is_as_before("a QEMU that refused the card", &refused)?;

    // A second machine wants the same card; then QEMU is killed.
    let job = desk.start(FILE)?;
    let other = desk.lab.install_machine("other", &machine(OBEDIENT))?;
    // The first writes what it has seen after the guest's first second.
    let looked = "[ -e /run/vfio-run/only/activity.json ] && [ -e /run/vfio-run/only/report.json ]";
    desk.lab.wait_until(looked, SOON)?;
    let taken = desk.lab.snapshot_of_host()?;
    let refused = desk.run("", &other)?.wait(SOON)?;
    ensure!(refused.status == 3 && refused.stderr.contains("the machine only has "), "{refused}");
    let touched = taken.diff(&desk.lab.snapshot_of_host()?);
    ensure!(touched.is_empty(), "who was refused touched the host:\n{touched}\n{refused}");
    desk.lab.sh(&format!("kill -KILL $({QEMU})"))?;
    let killed = job.wait(SOON)?;
    ensure!(killed.status == 4, "{killed}");
    desk.is_as_before("a QEMU that was killed", &killed)?;

    // The guest ignores its power button.
    let more = OBEDIENT.replace("tiny\"", "tiny\", cmdline: \"stubborn\"").replace("timeout: 30", "timeout: 3");
    desk.lab.install_machine("only", &machine(&more))?;
    let job = desk.start(FILE)?;
    desk.lab.run_for("/lab/bin/vfio-run stop only", SOON)?;
    let forced = job.wait(SOON)?;
    ensure!(forced.status == 4 && forced.stderr.contains("was forced to quit"), "{forced}");
    desk.is_as_before("a guest that ignored its power button", &forced)
}

fn a_driver_that_does_not_come_back_is_named_and_recovered_later(desk: &Desk) -> Result<()> {
    desk.lab.install_machine("only", &machine(OBEDIENT))?;
    let job = desk.start(FILE)?;
    // An update of the kernel that broke the driver, say.
    desk.lab.sh(
        "mkdir -p /run/modprobe.d && echo 'install bochs /bin/false' >/run/modprobe.d/no.conf && modprobe -r bochs",
    )?;
    // Which says the same as the launcher.
    ensure!(desk.lab.run("/lab/bin/vfio-run stop only")?.status == 5);
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 5, "{ended}");
    ensure!(ended.stderr.contains(&format!("could not undo: bind {} to vfio-pci", at::GPU)), "{ended}");
    // All else is back.
    let sound = desk.lab.sh(&format!("basename $(readlink /sys/bus/pci/devices/{}/driver)", at::GPU_SOUND))?;
    ensure!(sound == "snd_hda_intel", "{sound}: {ended}");
    ensure!(desk.lab.sh(&format!("cat /sys/bus/pci/devices/{}/power/control", at::GPU_SOUND))? == "auto", "{ended}");
    ensure!(desk.lab.sh("cat /proc/sys/vm/nr_hugepages")? == "0", "{ended}");
    let still = desk.lab.run_for("/lab/bin/vfio-run recover -v", SOON)?;
    ensure!(still.status == 5 && still.stderr.contains(at::GPU), "{still}");
    // The cause is gone.
    desk.lab.sh("rm -r /run/modprobe.d")?;
    let recovered = desk.lab.run_for("/lab/bin/vfio-run recover -v", SOON)?;
    ensure!(recovered.status == 0, "{recovered}");
    desk.lab.wait_until("systemctl is-active desktop.service", SOON)?;
    desk.is_as_before("the driver was mended", &recovered)
}

/// No emulated card dies. One that the kernel has forgotten comes back in the same way: looked for anew.
fn a_card_that_is_gone_when_its_guest_has_ended_is_looked_for_anew(desk: &Desk) -> Result<()> {
    let vanish = format!("for f in {} {}; do echo 1 >/sys/bus/pci/devices/$f/remove; done", at::GPU, at::GPU_SOUND);
    desk.lab.write("/run/lab/vanish", &vanish)?;
    let more = OBEDIENT.replace(
        r#"pci: ["01:00.*"]"#,
        r#"pci: [(address: "01:00.*", revive: [Reset, Rescan])], hooks: (ended: [["/bin/sh", "/run/lab/vanish"]])"#,
    );
    desk.lab.install_machine("only", &machine(&more))?;
    let job = desk.start(FILE)?;
    desk.lab.run_for("/lab/bin/vfio-run stop only", SOON)?;
    let ended = job.wait(SOON)?;
    ensure!(ended.status == 0 && ended.stderr.contains("looking for it anew woke it"), "{ended}");
    desk.is_as_before("a card that was gone", &ended)?;
    shows_the_host(&desk.lab, "back")
}
