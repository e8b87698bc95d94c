//! The verbs that ask a running launcher: `vfio-run stop NAME`, `alive NAME`, `attach NAME DEVICE`, `detach NAME DEVICE`,
//! `link NAME up`, `cd NAME FILE`.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use super::disk;
use super::recover::log_recovered;
use super::shared::asked::{asked, supervised};
use super::shared::outcome::block_on;
use super::shared::wrong_argument::WrongArgument;
use super::shared::{machines, planned};
use crate::cli::{AttachArgs, Cables, CdArgs, DeviceArgs, LinkArgs, MachineArgs, OutputArgs, StopArgs};
use crate::journal::Journal;
use crate::machine::HostDevice;
use crate::run::control::{Request, ask};
use crate::run::{Launcher, Orphan, Recovered};
use crate::units::{exit, machine_state};
use crate::{report, run};

/// How long the launcher may take beyond the guest's own time: it ends helpers and restores the host.
const GRACE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(50);

/// Asks the guest to power off and waits until the launcher has put the host back. A launcher whose guest does not run is
/// asked by a signal, unless it is about to end anyway.
pub fn stop(args: &StopArgs, output: OutputArgs) -> Result<u8> {
    let run_dir = machines::run_dir(&args.name)?;
    if args.force && run::Lock::owner(&run_dir).is_none() && run::guest_lives(&run_dir) {
        return end_orphan(&args.name, &run_dir, output);
    }
    let run_dir =
        supervised(&args.name, &format!("then stop it; `vfio-run stop --force {}` ends it as it is", args.name))?;
    let request = if args.force { Request::Force } else { Request::Stop };
    // The launcher itself ends the guest when its time is up; this limit is for a launcher that hangs.
    let deadline = Instant::now() + machines::shutdown_limit(&run_dir) + GRACE;
    let (mut launcher, mut asked, mut signalled) = (None, false, false);
    loop {
        // One that has just taken the lock has not written its number yet.
        launcher = launcher.or_else(|| Launcher::of(&run_dir));
        if !asked && ask(&run_dir, &request)?.is_some() {
            tracing::info!("waiting until {} has ended", args.name);
            asked = true;
        }
        // One that begins to attend to its guest meanwhile is asked there too, which for a stop changes nothing.
        if !asked && !signalled {
            signalled = end_unattended(&args.name, &run_dir, launcher.as_ref())?;
        }
        if has_ended(launcher.as_ref(), &run_dir)? {
            break;
        }
        if Instant::now() > deadline {
            bail!("{} has not ended; see its log, or use `vfio-run stop --force {}`", args.name, args.name);
        }
    }
    let restored = run::Lock::owner(&run_dir).is_some() || !run::is_run_dir(&run_dir);
    show_stopped(&args.name, restored, output)?;
    if !restored {
        let name = &args.name;
        tracing::error!("{name} has ended and not all of the host is as it was; `vfio-run recover {name}` tries again");
        return Ok(exit::NOT_RESTORED);
    }
    Ok(exit::OK)
}

fn show_stopped(name: &str, restored: bool, output: OutputArgs) -> Result<()> {
    if output.json {
        report::json(&serde_json::json!({ "name": name, "stopped": true, "restored": restored }))?;
    }
    Ok(())
}

/// Ends a guest that has no launcher, whether or not it still answers, and restores the host.
fn end_orphan(name: &str, run_dir: &Path, output: OutputArgs) -> Result<u8> {
    let recovered = block_on(run::recover(run_dir, &planned::root(), Orphan::Ends))?;
    show_stopped(name, matches!(&recovered, Recovered::Restored { left } if left.is_empty()), output)?;
    Ok(log_recovered(name, &recovered).1)
}

/// Waits a moment for the launcher's end. The lock alone is not enough: a rehearsal releases it between rounds.
fn has_ended(launcher: Option<&Launcher>, run_dir: &Path) -> Result<bool> {
    match launcher {
        Some(launcher) => launcher.has_ended_within(POLL),
        None => {
            std::thread::sleep(POLL);
            Ok(run::Lock::owner(run_dir).is_none())
        }
    }
}

/// Has a launcher that does not attend to a guest end. Says whether there is nothing left to be asked: a signal was sent,
/// or the end has come already.
fn end_unattended(name: &str, run_dir: &Path, launcher: Option<&Launcher>) -> Result<bool> {
    let records = Journal::read(run_dir)?.unwrap_or_default();
    let state = machines::state_without_answer(run_dir, &records);
    if state == machine_state::ENDING {
        tracing::info!("{name} is ending already; waiting until the host is restored");
        return Ok(true);
    }
    let signalled = launcher.map_or(Ok(false), Launcher::terminate)?;
    if signalled {
        tracing::info!("{name} is {state}: its launcher was asked to end (SIGTERM); waiting until it has ended");
    }
    Ok(signalled)
}

/// Tells the launcher that somebody sees the guest live.
pub fn alive(args: &MachineArgs, output: OutputArgs) -> Result<u8> {
    let name = &args.name;
    let reply = asked(name, &Request::Alive, None, "and asks for a sign of life anew")?;
    if output.json {
        report::json(&serde_json::json!({ "name": name, "state": reply.state }))?;
    } else if run::kept_plan(&machines::run_dir(name)?).is_ok_and(|plan| plan.give_back_unless.is_none()) {
        tracing::info!("{name} has no dead-man switch (`give_back_unless`), so nothing waits for a sign of life");
    } else {
        tracing::info!("{name} keeps its devices ({})", reply.state);
    }
    Ok(exit::OK)
}

/// Gives a running guest a device or a disk.
pub fn attach(args: &AttachArgs, output: OutputArgs) -> Result<u8> {
    let AttachArgs { device: DeviceArgs { name, device }, disk: of_disk } = args;
    let of_disks = [
        ("--read-only", of_disk.read_only),
        ("--serial", of_disk.serial.is_some()),
        ("--format", of_disk.format.is_some()),
    ];
    if let (false, Some((option, _))) =
        (matches!(device, HostDevice::Disk(_)), of_disks.iter().find(|(_, given)| *given))
    {
        bail!(WrongArgument::new(option, "it is for disks, whose paths have a slash"));
    }
    let request = match device {
        HostDevice::Usb(device) => Request::Attach(device.clone()),
        HostDevice::Input(path) => Request::Share(path.clone()),
        HostDevice::Disk(file) => Request::AttachDisk(disk::disk(file, of_disk)?),
    };
    change(name, &request, "attached", output)
}

/// Takes a device from a running guest.
pub fn detach(args: &DeviceArgs, output: OutputArgs) -> Result<u8> {
    let request = match &args.device {
        HostDevice::Usb(device) => Request::Detach(device.clone()),
        HostDevice::Input(path) => Request::Unshare(path.clone()),
        HostDevice::Disk(file) => Request::DetachDisk(disk::absolute(file)?),
    };
    change(&args.name, &request, "detached", output)
}

/// Puts a CD into a drive of a running guest, or takes it out.
pub fn cd(args: &CdArgs, output: OutputArgs) -> Result<u8> {
    if let Some(file) = args.image.as_deref().filter(|file| *file == Path::new("eject") && !file.exists()) {
        let instead =
            format!("there is no file {}; `vfio-run cd {} --eject` takes the CD out", file.display(), args.name);
        bail!(WrongArgument::new("IMAGE", instead));
    }
    let file = args.image.as_deref().map(disk::medium).transpose()?;
    let done = if file.is_some() { "inserted" } else { "ejected" };
    let request = Request::Medium { drive: args.drive.clone(), file: file.clone(), force: args.force };
    change_told(&args.name, &request, done, output, |device| match &file {
        // A launcher says `IMAGE in DRIVE` of a CD that is in.
        Some(file) => {
            let drive = device.strip_prefix(&format!("{} in ", file.display())).unwrap_or(device);
            serde_json::json!({ "drive": drive, done: file.display().to_string() })
        }
        None => serde_json::json!({ "drive": device, done: true }),
    })
}

/// Plugs the cables of a running guest's network cards in, or unplugs them.
pub fn link(args: &LinkArgs, output: OutputArgs) -> Result<u8> {
    match args.cables {
        Cables::Up => change(&args.name, &Request::Link { up: true }, "plugged", output),
        Cables::Down => change(&args.name, &Request::Link { up: false }, "unplugged", output),
    }
}

fn change(name: &str, request: &Request, done: &str, output: OutputArgs) -> Result<u8> {
    change_told(name, request, done, output, |device| serde_json::json!({ done: device }))
}

/// `told`: what the launcher's words about the device are as JSON.
fn change_told(
    name: &str,
    request: &Request,
    done: &str,
    output: OutputArgs,
    told: impl Fn(&str) -> serde_json::Value,
) -> Result<u8> {
    let reply = asked(name, request, None, "and then takes requests for devices")?;
    match (reply.refused, reply.device) {
        (Some(why), _) => bail!("not {done}: {why}"),
        (None, Some(device)) if output.json => {
            let mut value = serde_json::json!({ "name": name, "state": reply.state });
            if let (Some(value), serde_json::Value::Object(told)) = (value.as_object_mut(), told(&device)) {
                value.extend(told);
            }
            report::json(&value)?;
        }
        (None, Some(device)) => tracing::info!("{done}: {device}"),
        (None, None) => bail!("the launcher of {name} is of another version, and knows no such request"),
    }
    Ok(exit::OK)
}
