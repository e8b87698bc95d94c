//! Templates: a lab host that has booted, saved so that any number of tests continue from there in a third of a second.
//!
//! The memory is a file that clones map privately, so the saved state is only that of the devices (about 1 MB); QEMU's
//! `x-ignore-shared` capability leaves the memory out. The state depends on the very QEMU that wrote it.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;

use super::agent::Agent;
use super::argv::{self, Files, Memory, Watch};
use super::boot::{BOOT, boot};
use super::cache::{self, Entry, Key};
use super::host::{Device, Firmware, Host};
use super::l0::L0;
use super::lab::LOAD_KVM;
use super::qmp::Qmp;
use super::tools;

/// The template for a host, made when it is not there: `ram0…`, `state`, `disk.qcow2` and the files of [`prepare`].
pub fn get(host: &Host, name: &str, files: &Files) -> Result<Entry> {
    // The command line with the places taken out: it names everything that the state depends on.
    let places = Files { folder: PathBuf::new(), disk: PathBuf::new(), payload: PathBuf::new(), ..files.clone() };
    let args = argv::arguments(host, &places, &Memory::Clone(PathBuf::new()), &Watch::default());
    let key = Key::new("template 3").with(args.join("\n")).with(tools::run(tools::qemu()?, ["--version"])?);
    cache::entry("templates", name, &key, |folder| {
        eprintln!("booting `{name}` once, for its template …");
        let start = Instant::now();
        make(host, files, folder)?;
        eprintln!("template `{name}`: ready after {:.1} s", start.elapsed().as_secs_f32());
        Ok(())
    })
}

/// Makes the files that a host writes, in its folder.
pub fn prepare(host: &Host, folder: &Path) -> Result<()> {
    if host.firmware == Firmware::Ovmf {
        fs::copy(argv::OVMF_VARS, folder.join("uefi-vars")).context("no UEFI firmware (Debian package `ovmf`)")?;
    }
    for device in &host.devices {
        match device {
            Device::Usb { disk: true, .. } => File::create(folder.join("usb.img"))?.set_len(16 << 20)?,
            Device::Nvme => File::create(folder.join("nvme.img"))?.set_len(64 << 20)?,
            _ => {}
        }
    }
    Ok(())
}

/// Makes a disk that holds only what differs from another.
pub fn overlay(disk: &Path, on: &Path) -> Result<()> {
    let format = if on.extension().is_some_and(|it| it == "raw") { "raw" } else { "qcow2" };
    let fixed: [&std::ffi::OsStr; 7] = [
        "create".as_ref(),
        "-q".as_ref(),
        "-f".as_ref(),
        "qcow2".as_ref(),
        "-F".as_ref(),
        format.as_ref(),
        "-b".as_ref(),
    ];
    let mut args: Vec<&std::ffi::OsStr> = fixed.to_vec();
    args.extend([on.as_os_str(), disk.as_os_str()]);
    tools::run("qemu-img", args)?;
    Ok(())
}

fn make(host: &Host, files: &Files, folder: &Path) -> Result<()> {
    let console = folder.join("console.log");
    let switch_on = || {
        // A boot before this one may have left its memory.
        fs::remove_dir_all(folder)?;
        fs::create_dir(folder)?;
        prepare(host, folder)?;
        overlay(&folder.join("disk.qcow2"), &files.disk)?;
        let files = Files { disk: folder.join("disk.qcow2"), folder: folder.to_owned(), ..files.clone() };
        let args = argv::arguments(host, &files, &Memory::Shared(folder.to_owned()), &Watch::default());
        let (l0, lines) = L0::start(&args, &folder.join("qemu.log"), false)?;
        Ok((l0, Agent::new(lines.agent, File::create(folder.join("transcript.log"))?)))
    };
    let booted = boot(host.init, &console, switch_on, |(l0, agent)| (l0, agent)).and_then(|(l0, mut agent)| {
        prepare_for_tests(&mut agent)?;
        Ok(l0)
    });
    let mut l0 = booted.with_context(|| format!("console:\n{}", last_lines(&console)))?;
    l0.qmp.execute("stop", json!({}))?;
    ignore_shared(&mut l0.qmp)?;
    let state = File::create(folder.join("state"))?;
    l0.qmp.hand_over("state", &state)?;
    l0.qmp.execute("migrate", json!({ "uri": "fd:state" }))?;
    wait_for_migration(&mut l0.qmp)?;
    l0.kill()
}

/// What is done in a host that has booted before its template is taken. What nearly every test begins with is done then,
/// and the programs that it runs have been read: a clone has them in memory.
fn prepare_for_tests(agent: &mut Agent) -> Result<()> {
    // A clone has another payload disk and mounts that.
    let id = agent.start(&format!(
        "{LOAD_KVM} && /usr/local/lib/lab/host-state >/dev/null && \
         qemu-system-x86_64 -M q35 -device help >/dev/null && umount /lab && sync"
    ))?;
    let prepared = agent.wait(id, Instant::now() + BOOT)?;
    ensure!(prepared.status == 0, "the host cannot be prepared for tests: {}", prepared.stderr);
    Ok(())
}

/// Continues a clone from its template.
pub fn restore(qmp: &mut Qmp, template: &Entry) -> Result<()> {
    ignore_shared(qmp)?;
    qmp.hand_over("state", &File::open(template.file("state"))?)?;
    qmp.execute("migrate-incoming", json!({ "uri": "fd:state" }))?;
    wait_for_migration(qmp)?;
    qmp.execute("cont", json!({}))?;
    Ok(())
}

fn ignore_shared(qmp: &mut Qmp) -> Result<()> {
    let capability = json!({ "capability": "x-ignore-shared", "state": true });
    qmp.execute("migrate-set-capabilities", json!({ "capabilities": [capability] }))?;
    Ok(())
}

fn wait_for_migration(qmp: &mut Qmp) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = qmp.execute("query-migrate", json!({}))?;
        match answer["status"].as_str() {
            Some("completed") => return Ok(()),
            Some("failed") => bail!("L0 cannot save or restore this host: {answer}"),
            _ if Instant::now() > deadline => bail!("L0 takes too long to save or restore this host: {answer}"),
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// The end of a console, for an error.
pub fn last_lines(path: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(25)..].join("\n")
}
