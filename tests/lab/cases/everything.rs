//! A desk shares with its guest all that it can at once: the only card, the keyboard, a USB disk, a folder, memory, a TPM.
//! Whenever its launcher is killed, the host has all of it back.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::crash::{Desk, OBEDIENT, Rests, killed_at_each, killed_while_it_gives_back, records};
use super::desk::PLUGGED_ANEW;
use crate::kit::thorough;

fn machine() -> String {
    format!(
        r#"(
    guest: Other,
    accelerator: Kvm,
    memory: (size: "64 MiB", pages: Huge("2 MiB")),
    cpu: (vcpus: 1, features: ["-xsave"]),
    serial: File("/run/lab/guest.log"),
    {OBEDIENT},
    usb: ["46f4:0001"],
    input: Auto,
    networks: [()],
    shares: [(tag: "data", folder: "/srv")],
    tpm: V2,
    looking_glass: (width: 640, height: 480),
    scream: true,
    battery: true,
    watchdog: (),
    second_serial: Socket,
    audio: Auto,
)"#
    )
}

/// The kernel looks at a disk that comes back, and udev at what the kernel says.
const RESTS: Rests = Rests { when: "head -c 1 /dev/sda >/dev/null && udevadm settle", except: PLUGGED_ANEW };

#[test]
fn a_desk_that_shares_all_it_has_gets_it_back_from_a_launcher_that_is_killed() -> Result<()> {
    for release in thorough::releases() {
        let desk = Desk::with("usb", release, &machine(), RESTS)?;
        let since = Instant::now();
        let records = records(&desk)?;
        eprintln!("{release}: {} records; a run takes {:.0} s", records.len(), since.elapsed().as_secs_f32());
        for kind in ["shared_file", "node_folder", "take_usb", "bind_driver", "huge_pages", "swtpm"] {
            ensure!(records.iter().any(|record| record.contains(kind)), "no {kind}: {records:#?}");
        }
        killed_at_each(&desk, &records, 6)?;
        killed_while_it_gives_back(&desk, records.len(), 12)?;
        desk.lab.finish()?;
    }
    Ok(())
}
