//! The text of a systemd unit for a machine, and how a host recognises it.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::unistd::Uid;

use crate::host::WantedUnit;
use crate::plan::UnitGroup;
use crate::run::transient_unit::{OOM_SCORE_ADJUST, Waits, delegated};

/// The unit's text. `KillMode=mixed`: only the launcher gets SIGTERM, and ends the guest by its power button; when the
/// launcher itself is killed, systemd kills the rest of the cgroup (QEMU) and then runs `ExecStopPost`, which finds the
/// journal and restores the host (systemd.kill(5), systemd.service(5)). `group`: what it must be, so that its CPUs can become its own.
pub fn render(name: &str, program: &Path, file: &Path, waits: Waits, group: &UnitGroup) -> Result<String> {
    let program = quote(program)?;
    let wanted_by = if Uid::effective().is_root() { "multi-user.target" } else { "default.target" };
    Ok(format!(
        "\
# Written by `vfio-run unit`; write it anew after the machine file or the program has moved.
[Unit]
Description=Virtual machine {name}
After=network.target

[Service]
Type=notify
NotifyAccess=main
ExecStart={program}{run}
ExecStopPost={program} recover {name}
KillMode=mixed
{group}# A huge page reservation and the guest's memory can take minutes.
TimeoutStartSec={start}s
# The launcher ends a guest that does not power off after {limit} s; systemd waits longer than that.
TimeoutStopSec={stop}s
LimitMEMLOCK=infinity
OOMScoreAdjust={OOM_SCORE_ADJUST}

[Install]
WantedBy={wanted_by}
",
        group = of_group(group),
        run = runs(file)?,
        limit = waits.guest,
        start = waits.limit_of_start().as_secs(),
        stop = waits.limit_of_stop().as_secs(),
    ))
}

/// The lines about its group. A controller that is delegated is switched on for the whole host.
fn of_group(group: &UnitGroup) -> String {
    let what = if group.divided { " and a partition of CPUs below it" } else { "" };
    let slice = group.slice.as_ref().map_or_else(String::new, |slice| {
        format!("# The host's slices leave the guest's CPUs to this one.\nSlice={slice}\n")
    });
    format!(
        "# Enough to make a group for the guest{what}; more would switch controllers on for the whole host.\n\
         Delegate={}\n{slice}",
        delegated(group.divided).join(" ")
    )
}

/// The unit of the machine of this name.
pub fn name_of(machine: &str) -> String {
    format!("vfio-run-{machine}.service")
}

/// What `ExecStart=` ends with in a unit for this file.
fn runs(file: &Path) -> Result<String> {
    Ok(format!(" run {}", quote(file)?))
}

/// The unit that may be installed for the machine of this file; `None` if no unit can name the file.
pub fn wanted(machine: &str, file: &Path) -> Option<WantedUnit> {
    let ending = runs(&std::fs::canonicalize(file).ok()?).ok()?;
    Some(WantedUnit { name: name_of(machine), ending })
}

/// A path as one word of an ExecStart= line: in quotes, with `%` and `$` doubled (systemd.service(5), Command lines).
fn quote(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8, which a unit must be", path.display()))?;
    if text.contains(|c: char| c.is_control()) {
        bail!("{text:?} has a control character, which a unit cannot hold");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@,=".contains(c);
    let doubled = text.replace('%', "%%").replace('$', "$$");
    Ok(match text.chars().all(plain) {
        true => doubled,
        false => format!("\"{}\"", doubled.replace('\\', "\\\\").replace('"', "\\\"")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_survive_systemds_reading() {
        for (path, word) in [
            ("/usr/bin/vfio-run", "/usr/bin/vfio-run"),
            ("/srv/my vms/win 11.ron", "\"/srv/my vms/win 11.ron\""),
            ("/srv/100%/$HOME.ron", "\"/srv/100%%/$$HOME.ron\""),
            ("/srv/a\"b\\c", "\"/srv/a\\\"b\\\\c\""),
        ] {
            assert_eq!(quote(Path::new(path)).unwrap(), word);
        }
        assert!(quote(Path::new("/srv/a\nExecStart=/bin/sh")).is_err());
    }

    #[test]
    fn the_guests_time_is_less_than_systemds() {
        let render = |start, end| {
            let waits = Waits { guest: 120, start, end };
            let group = UnitGroup { slice: None, divided: true };
            render("win11", Path::new("/usr/bin/vfio-run"), Path::new("/srv/win11.ron"), waits, &group).unwrap()
        };
        let text = render(0, 0);
        assert!(text.contains("TimeoutStopSec=210s\n") && text.contains("TimeoutStartSec=600s\n"), "{text}");
        let with_hooks = render(30, 90);
        assert!(with_hooks.contains("TimeoutStopSec=300s\n") && with_hooks.contains("TimeoutStartSec=630s\n"));
        assert!(text.contains("\nDelegate=cpuset pids\n") && !text.contains("\nSlice="), "{text}");
        let sliced = of_group(&UnitGroup { slice: Some("vfiorunwin11.slice".to_owned()), divided: false });
        assert!(sliced.ends_with(
            "\nDelegate=pids\n# The host's slices leave the guest's CPUs to this one.\nSlice=vfiorunwin11.slice\n"
        ));
        assert!(text.contains("ExecStopPost=/usr/bin/vfio-run recover win11\n"), "{text}");
    }
}
