//! The lab leaves nothing behind on the machine that it runs on.

use std::fs;
use std::path::Path;

use anyhow::{Result, ensure};

use crate::kit::lab::Lab;

#[test]
fn a_good_run_leaves_neither_process_nor_folder() -> Result<()> {
    let lab = Lab::variant("one-gpu", "debian12").start()?;
    let (folder, emulator) = (lab.path(), lab.emulator()?);
    ensure!(folder.is_dir() && is_running(emulator));
    ensure!(folder.join("l0-command").is_file(), "the command line is not kept");
    lab.finish()?;
    ensure!(!folder.exists(), "{} is still there", folder.display());
    ensure!(!is_running(emulator), "the emulator still runs");
    Ok(())
}

#[test]
fn a_bad_run_leaves_its_evidence_and_no_process() -> Result<()> {
    let lab = Lab::variant("one-gpu", "debian12").start()?;
    let (folder, emulator) = (lab.path(), lab.emulator()?);
    lab.sh("echo evidence of a fault >/dev/kmsg")?;
    drop(lab);
    ensure!(!is_running(emulator), "the emulator still runs");
    for name in ["console.log", "journal.log", "transcript.log", "l0-command", "host.json", "at-the-end.png", "README"]
    {
        ensure!(folder.join(name).is_file(), "{name} is missing");
    }
    ensure!(fs::read_to_string(folder.join("journal.log"))?.contains("evidence of a fault"));
    ensure!(fs::read_to_string(folder.join("README"))?.contains("./scripts/lab shell"));
    fs::remove_dir_all(folder)?;
    Ok(())
}

fn is_running(pid: u32) -> bool {
    Path::new("/proc").join(pid.to_string()).exists()
}
