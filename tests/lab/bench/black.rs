//! How long the screen is black: from the host's last picture to the guest's first, by the program and by hand, in turn.
//! The pictures are taken from outside of the host, which therefore does not notice.

use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use super::by_hand::{DESKTOP, STEPS};
use super::{PATIENCE, median};
use crate::kit::job::Job;
use crate::kit::lab::Lab;

const ROUNDS: usize = 5;
/// Between two pictures.
const PAUSE: Duration = Duration::from_millis(20);

/// Both ways give the guest a gibibyte of huge pages, and both have these reserved before the screen goes.
const MACHINE: &str = r#"(
    guest: Other,
    accelerator: Kvm,
    memory: (size: "1 GiB", pages: Huge("2 MiB")),
    cpu: (vcpus: 1, features: ["-xsave"]),
    kernel: (image: "/lab/guests/tiny"),
    networks: [],
    pci: ["01:00.*"],
    shutdown_timeout: 60,
)"#;

/// As a hook script and a start script: the pages are reserved, the card is taken, and QEMU preallocates the guest's memory.
const BY_HAND: &str = r#"
sync; echo 3 >/proc/sys/vm/drop_caches; echo 1 >/proc/sys/vm/compact_memory
echo 512 >/proc/sys/vm/nr_hugepages
take
qemu-system-x86_64 -accel kvm -cpu host,-xsave -M q35,memory-backend=ram -m 1024 -nodefaults -vga none -display none \
  -object memory-backend-memfd,id=ram,size=1G,hugetlb=on,hugetlbsize=2M,prealloc=on,share=on \
  -qmp unix:/run/lab/hand.qmp,server,wait=off -kernel /lab/guests/tiny -device pcie-root-port,id=root1,chassis=1 \
  -device vfio-pci,host=01:00.0,bus=root1,addr=0.0,multifunction=on -device vfio-pci,host=01:00.1,bus=root1,addr=0.1
echo 0 >/proc/sys/vm/nr_hugepages
give_back
udevadm settle
"#;

/// Presses the power button of the guest that was started by hand.
const PRESS: &str = "printf '{\"execute\":\"qmp_capabilities\"}{\"execute\":\"system_powerdown\"}' | \
    socat -t 2 - UNIX-CONNECT:/run/lab/hand.qmp";

/// Measures and prints.
///
/// # Errors
/// When a round fails.
pub fn run() -> Result<()> {
    let lab = Lab::variant("one-gpu", "debian13").start()?;
    lab.load_kvm()?;
    lab.sh(DESKTOP)?;
    let file = lab.install_machine("black", MACHINE)?;
    lab.run_for(&format!("/lab/bin/vfio-run -q check {file}"), PATIENCE)?.ok()?;
    let (mut hand, mut program) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let by_hand = black(&lab, &format!("{STEPS}{BY_HAND}"), PRESS)?;
        let by_program = black(&lab, &format!("/lab/bin/vfio-run -q {file}"), "/lab/bin/vfio-run stop black")?;
        // The first of both loads what the others find.
        if round == 0 {
            continue;
        }
        hand.push(by_hand);
        program.push(by_program);
        eprintln!("round {round} of {ROUNDS}: {by_hand:.0} ms by hand, {by_program:.0} ms by vfio-run");
    }
    let (hand, program) = (median(hand), median(program));
    println!("the screen is black, with 1 GiB of guest memory, medians of {ROUNDS} rounds in ms:");
    println!("  by hand              {hand:9.1}");
    println!("  vfio-run             {program:9.1}");
    println!("  vfio-run against hand {:8.2} times", program / hand);
    lab.finish()
}

/// Milliseconds from the host's last picture to the guest's first. The guest is ended by `end`, and the host is as before.
fn black(lab: &Lab, start: &str, end: &str) -> Result<f64> {
    lab.sh("printf '\\033[2J\\033[HThis is the host.\\033[?25l\\n' >/dev/tty0")?;
    let host = lab.screen()?;
    ensure!(host == lab.screen()?, "the host's picture does not stand still");
    let job = lab.start(start)?;
    let took = between_pictures(lab, &job, &host)?;
    lab.sh(end)?;
    job.wait(PATIENCE)?.ok()?;
    Ok(took.as_secs_f64() * 1e3)
}

fn between_pictures(lab: &Lab, job: &Job<'_>, host: &[u8]) -> Result<Duration> {
    let began = Instant::now();
    let mut last = began;
    loop {
        let now = Instant::now();
        let picture = lab.screen()?;
        if picture == host {
            last = now;
        } else if lab.is_tiny_guest(&picture)? {
            return Ok(last.elapsed());
        }
        if job.has_ended()? || began.elapsed() > PATIENCE {
            bail!("the guest never showed a picture: {}", job.printed()?);
        }
        std::thread::sleep(PAUSE);
    }
}
