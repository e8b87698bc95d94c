//! The CPUs of a unit of systemd's that has processes, in a group at the top: systemd is told, and writes the kernel's file
//! (`AllowedCPUs=`, systemd.resource-control(5)), so that it and this program never write different things there.

use std::path::{Path, PathBuf};
use std::time::Duration;

use zbus::zvariant::Value;

use super::cpuset_controller::CpusetController;
use super::files::{cpus, not_taken};
use crate::change::error::{ChangeError, FileError, UnitError};
use crate::change::wait::wait_for;
use crate::host::Root;
use crate::systemd::{Systemd, SystemdError, blocking};
use crate::units::{CGROUPS, CpuSet};

const PROPERTY: &str = "AllowedCPUs";
/// Where systemd keeps a property that was set for the time until the next boot: of a unit that it has from files, and of one
/// that it or a program has made.
const KEPT_IN: [&str; 2] = ["/run/systemd/system.control", "/run/systemd/transient"];
/// How long systemd may take until the kernel's file says what it was told.
const LIMIT: Duration = Duration::from_secs(10);
/// How long the processes of a slice may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long systemd may take, after it has answered, until it switches the controller off that nothing needs any more.
const OFF_LIMIT: Duration = Duration::from_secs(3);

/// The group of a unit at the top.
pub(super) fn group(unit: &str) -> PathBuf {
    Path::new(CGROUPS).join(unit)
}

/// The kernel's file.
pub(super) fn file(unit: &str) -> PathBuf {
    group(unit).join("cpuset.cpus")
}

/// The CPUs that systemd gives the unit; none: all.
pub(super) fn read(root: &Root, unit: &str) -> Result<CpuSet, ChangeError> {
    if !root.is_real() {
        return Ok(cpus(root, &file(unit))?);
    }
    // Each type of unit has the property in an interface of its own.
    let interface = match unit.rsplit_once('.') {
        Some((_, "scope")) => "Scope",
        Some((_, "service")) => "Service",
        _ => "Slice",
    };
    let bytes = ask(unit, async |systemd| systemd.property::<Vec<u8>>(unit, interface, PROPERTY).await)?;
    Ok(of_bytes(&bytes))
}

/// Sets them until the next boot; none: as if nobody had.
pub(super) fn set(root: &Root, unit: &str, cpus: &CpuSet) -> Result<(), ChangeError> {
    if !root.is_real() {
        let drop_in = root.path(&drop_ins(unit)[0]);
        let folder = drop_in.parent().unwrap_or(Path::new("/"));
        return std::fs::create_dir_all(folder)
            .and_then(|()| std::fs::write(&drop_in, cpus.to_string()))
            .and_then(|()| std::fs::write(root.path(file(unit)), cpus.to_string()))
            .map_err(|error| FileError::io("write", &drop_in)(error).into());
    }
    ask(unit, async |systemd| systemd.set_properties(unit, vec![(PROPERTY, Value::from(bytes(cpus)))]).await)
}

/// Waits until the kernel has these.
pub(super) fn wait(root: &Root, unit: &str, wanted: &CpuSet) -> Result<(), ChangeError> {
    let (file, mut found) = (file(unit), CpuSet::new());
    let is_there = wait_for(root, LIMIT, || {
        found = cpus(root, &file).unwrap_or_default();
        found == *wanted
    });
    match is_there {
        true => Ok(()),
        false => Err(not_taken(&file, wanted, &found).into()),
    }
}

/// What systemd keeps of the property, in one of these.
pub(super) fn drop_ins(unit: &str) -> [PathBuf; 2] {
    KEPT_IN.map(|folder| Path::new(folder).join(format!("{unit}.d/50-{PROPERTY}.conf")))
}

/// Removes what systemd has kept of the property, which stays there when it is set to nothing.
pub(super) fn forget(root: &Root, drop_in: &Path) -> Result<(), FileError> {
    match std::fs::remove_file(root.path(drop_in)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(FileError::io("remove", drop_in)(error)),
        Ok(()) => {}
    }
    // Others may have put drop-ins there. The outer folder was made for this one too, if it was the first.
    for folder in drop_in.ancestors().skip(1).take(2) {
        if std::fs::remove_dir(root.path(folder)).is_err() {
            break;
        }
    }
    Ok(())
}

/// Whether there is the group of the unit, and whether a process is in it.
pub(super) fn is_populated(root: &Root, unit: &str) -> Option<bool> {
    let group = group(unit);
    let events = root.text(group.join("cgroup.events")).unwrap_or_default();
    root.path(group).is_dir().then(|| events.lines().any(|line| line == "populated 1"))
}

/// Ends a slice that nobody is in.
pub(super) fn stop(root: &Root, slice: &str) -> Result<(), ChangeError> {
    if !root.is_real() {
        return std::fs::remove_dir_all(root.path(group(slice)))
            .map_err(|error| FileError::io("remove", &group(slice))(error).into());
    }
    ask(slice, async |systemd| systemd.stop(slice, Some(STOP_LIMIT)).await)
}

/// Waits until systemd has switched the controller off at the top, if none of the groups there but these was given CPUs.
/// The kernel forgets every thread's own CPUs while that is done (`cpuset_attach()` up to Linux 6.1), and systemd answers
/// before: what is put back next would be lost. Another program may keep the controller on; then only the time is lost.
pub(super) fn wait_for_the_controller(root: &Root, but: &[&str]) {
    let has_cpus =
        |name: &String| !but.contains(&name.as_str()) && cpus(root, &file(name)).is_ok_and(|cpus| !cpus.is_empty());
    let top = CpusetController::at_the_top();
    wait_for(root, OFF_LIMIT, || !top.is_on(root).unwrap_or(false) || root.names(CGROUPS).iter().any(has_cpus));
    // The file says so from the beginning of systemd's write on; systemd answers nothing before its end.
    if root.is_real()
        && let Err(error) = blocking(async |systemd| systemd.is_shutting_down().await)
    {
        tracing::debug!("{error}");
    }
}

fn ask<T: Send>(
    unit: &str,
    question: impl AsyncFnOnce(&Systemd) -> Result<T, SystemdError> + Send,
) -> Result<T, ChangeError> {
    let failed = |why: SystemdError| UnitError::Systemd { unit: unit.to_owned(), why: why.to_string() };
    Ok(blocking(question).map_err(failed)?)
}

/// A set of CPUs as systemd takes it: a bit for each, the lowest first (org.freedesktop.systemd1(5)).
fn bytes(cpus: &CpuSet) -> Vec<u8> {
    let mut bytes = Vec::new();
    for cpu in cpus.iter().map(|cpu| cpu as usize) {
        if bytes.len() <= cpu / 8 {
            bytes.resize(cpu / 8 + 1, 0);
        }
        bytes[cpu / 8] |= 1 << (cpu % 8);
    }
    bytes
}

/// The set that these bytes mean; systemd adds empty ones.
fn of_bytes(bytes: &[u8]) -> CpuSet {
    let bits =
        bytes.iter().zip(0u32..).flat_map(|(byte, index)| (0..8u32).map(move |bit| (byte >> bit & 1, index * 8 + bit)));
    bits.filter(|(is_set, _)| *is_set == 1).map(|(_, cpu)| cpu).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_takes_a_bit_a_cpu() {
        for (cpus, expected) in [(vec![0, 1], vec![3]), (vec![2, 9, 23], vec![4, 2, 128]), (vec![], vec![])] {
            let cpus = CpuSet::from_iter(cpus);
            assert_eq!(bytes(&cpus), expected);
            assert_eq!(of_bytes(&expected), cpus);
            assert_eq!(of_bytes(&[expected, vec![0, 0, 0]].concat()), cpus);
        }
    }
}
