//! AppArmor in force, as on most hosts: the package's profiles of QEMU and swtpm, and one of swtpm's own.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::program::{END, START};
use crate::kit::job::Job;
use crate::kit::lab::Lab;
use crate::kit::thorough;

/// As the package has them, `complain` and all.
const PROFILES: &str = include_str!("../../../scripts/packaging/vfio-run.apparmor");
/// What the machines' files name, as the profile says.
const LOCAL: &str = "/lab/guests/* r,\n/run/lab/guest.log rw,";

/// Ubuntu's swtpm has one like this; Debian's has none.
const SWTPM: &str = "include <tunables/global>
profile swtpm /usr/bin/swtpm {
  include <abstractions/base>
  include <abstractions/openssl>
  include if exists <local/usr.bin.swtpm>
  /usr/bin/swtpm rm,
  owner /var/lib/libvirt/swtpm/** rwk,
}";

const TPM: &str = r#"(
    guest: Other,
    accelerator: Kvm,
    cpu: (vcpus: 1, features: ["-xsave"]),
    memory: (size: "64 MiB"),
    kernel: (image: "/lab/guests/tiny"),
    serial: File("/run/lab/guest.log"),
    shutdown_timeout: 30,
    networks: [],
    tpm: V2,
)"#;

/// More of what a machine can have: `passt` runs under a profile of Debian 13's.
const MORE: &str = r#"pci: ["01:00.*"],
    disks: [(file: "/srv/disk.qcow2", create: "16 MiB")],
    usb: ["46f4:0001"],
    input: Auto,
    shares: [(tag: "old", folder: "/srv/old", kind: NineP), (tag: "new", folder: "/srv/new")],
    looking_glass: (width: 640, height: 480),
    scream: true,
    second_serial: Socket,
    watchdog: (),
    display: Vnc,
    networks: [(), (backend: Nat)]"#;

/// Its firmware and its variables; nothing of it need come so far as to run.
const UEFI: &str = r#"(
    guest: Other,
    accelerator: Tcg,
    cpu: (vcpus: 1),
    memory: (size: "128 MiB"),
    firmware: Uefi,
    disks: [(file: "/srv/uefi.raw", create: "16 MiB")],
    networks: [],
    display: Vnc,
    shutdown_timeout: 1,
)"#;

#[test]
fn machines_where_apparmor_is_in_force() -> Result<()> {
    for release in thorough::releases() {
        let lab = Lab::variant("apparmor", release).start()?;
        lab.load_kvm()?;
        lab.sh("touch /run/lab/guest.log && mkdir /srv/old /srv/new")?;
        in_turn!(&lab; swtpm_may_use_its_folder_once_its_profile_says_so, machines_run_under_the_packages_profiles);
        lab.finish()?;
    }
    Ok(())
}

fn load(lab: &Lab, profile: &str) -> Result<()> {
    lab.sh(&format!("apparmor_parser --replace /etc/apparmor.d/{profile}")).map(drop)
}

/// What was refused since the last look.
fn refused(lab: &Lab) -> Result<String> {
    lab.sh("dmesg --read-clear | grep -E 'apparmor=\"(DENIED|ALLOWED)\"' || :")
}

fn running<'a>(lab: &'a Lab, program: &str, file: &str) -> Result<Job<'a>> {
    lab.sh(": >/run/lab/guest.log")?;
    let job = lab.start(&format!("exec {program} -v {file}"))?;
    let ready = job.wait_until("grep -q READY /run/lab/guest.log", START);
    ready.with_context(|| refused(lab).unwrap_or_default())?;
    Ok(job)
}

fn swtpm_may_use_its_folder_once_its_profile_says_so(lab: &Lab) -> Result<()> {
    lab.write("/etc/apparmor.d/usr.bin.swtpm", SWTPM)?;
    load(lab, "usr.bin.swtpm")?;
    let file = lab.install_machine("tpm", TPM)?;
    let found = lab.run_for(&format!("vfio-run check {file}"), START)?.ok()?;
    let rule = "owner /var/lib/vfio-run/** rwk,";
    ensure!(found.contains("[tpm.apparmor]") && found.contains(rule), "{found}");
    let start = lab.run_for(&format!("vfio-run {file}"), START)?;
    ensure!(start.status == 1 && start.stderr.contains("swtpm: "), "{start}");
    ensure!(refused(lab)?.contains("profile=\"swtpm\""), "{start}");

    lab.write("/etc/apparmor.d/local/usr.bin.swtpm", rule)?;
    load(lab, "usr.bin.swtpm")?;
    let found = lab.sh(&format!("vfio-run check {file}"))?;
    ensure!(!found.contains("tpm.apparmor"), "{found}");
    let job = running(lab, "vfio-run", &file)?;
    lab.sh("vfio-run stop tpm")?;
    job.wait(END)?.ok()?;
    Ok(())
}

fn machines_run_under_the_packages_profiles(lab: &Lab) -> Result<()> {
    let enforced = PROFILES.replace("flags=(complain, ", "flags=(");
    ensure!(enforced != PROFILES, "the profiles do not complain");
    lab.write("/etc/apparmor.d/vfio-run", &enforced)?;
    lab.write("/etc/apparmor.d/local/vfio-run-qemu", LOCAL)?;
    load(lab, "vfio-run")?;
    // passt wants somewhere to go. The profile is for the program where the package has it.
    lab.sh("ip link add cable type dummy && ip address add 192.0.2.2/24 dev cable && ip link set cable up && \
         ip route add default via 192.0.2.1 && cp /lab/bin/vfio-run /usr/bin/ && dmesg --clear")?;
    let machine = TPM.replace("networks: []", MORE);
    let file = lab.install_machine("more", &machine)?;
    let uefi = lab.install_machine("uefi", UEFI)?;
    let job = running(lab, "/usr/bin/vfio-run", &file)?;
    let labels = lab.sh("ps -e -o comm= -o label=")?;
    for (program, label) in
        [("vfio-run", "vfio-run"), ("qemu-system-x86", "vfio-run-qemu"), ("swtpm", "vfio-run-swtpm")]
    {
        let is_confined = |line: &str| {
            line.split_once(' ')
                .is_some_and(|(name, shown)| name == program && shown.trim() == format!("{label} (enforce)"))
        };
        ensure!(labels.lines().any(is_confined), "{program} is not confined:\n{labels}");
    }
    lab.sh("vfio-run qmp more query-block && vfio-run stop more")?;
    job.wait(END)?.ok()?;

    let job = lab.start(&format!("exec /usr/bin/vfio-run {uefi}"))?;
    job.wait_until("vfio-run qmp uefi query-status | grep -q '\"running\": true'", START)?;
    lab.sh("vfio-run stop --force uefi")?;
    ensure!(job.wait(Duration::from_secs(60))?.status == 4, "it was not forced");
    let refused = refused(lab)?;
    // passt's own profile knows nothing of our log, where it is to write what it has to say.
    let is_ours = |line: &&str| !line.contains("profile=\"passt\"");
    ensure!(!refused.lines().any(|line| is_ours(&line)), "{refused}");
    Ok(())
}
