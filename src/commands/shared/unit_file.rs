//! The text of a systemd unit for a machine, and of the template for many, and how a host recognises them.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use nix::unistd::Uid;

use crate::host::{Cpusets, Host, InstalledUnit, Root, Wanted, WantedUnit};
use crate::machine::{self, Machine};
use crate::plan::UnitGroup;
use crate::run::transient_unit::{Waits, delegated};
use crate::units::Stage;

/// What systemd waits for with this machine.
pub fn waits(machine: &Machine) -> Waits {
    let hooks = &machine.hooks;
    Waits {
        guest: machine.shutdown_timeout().as_secs() as u32,
        start: hooks.limit(&[Stage::Before, Stage::Ready]),
        end: hooks.limit(&[Stage::Ended, Stage::Restored]),
    }
}

/// What decides about a unit's group. The manager of a user can isolate nothing.
pub fn cpusets() -> Option<Cpusets> {
    let wanted = Wanted { cpusets: true, ..Wanted::default() };
    Uid::effective().is_root().then(|| Host::read(&Root::new("/"), &wanted).cpusets).flatten()
}

/// The text of the machine's unit. `group`: what it must be, so that its CPUs can become its own.
pub fn render(name: &str, program: &Path, file: &Path, waits: Waits, group: &UnitGroup) -> Result<String> {
    let wanted_by = if Uid::effective().is_root() { "multi-user.target" } else { "default.target" };
    let unit = Unit {
        head: "# Written by `vfio-run unit`; write it anew after the machine file or the program has moved.\n",
        name,
        more: "",
        run: format!("{}{}", quote(program)?, runs(file)?),
        recover: recovers(program, name)?,
        lines: format!("{}{}", of_group(group), of_waits(waits)),
        wanted_by,
    };
    Ok(unit.text())
}

/// The text of the template for the machines in [`InstalledUnit::MACHINES`]. It has what holds for a machine that says nothing of its unit, on
/// every kernel; the generator adds what is otherwise ([`drop_in`]).
pub fn template(program: &Path) -> Result<String> {
    let program = quote(program)?;
    let file = format!("{}/%i.ron", InstalledUnit::MACHINES);
    let unit = Unit {
        head: "# What `vfio-run unit --template` prints. vfio-run-generator adds what follows from a machine's file and from the kernel,\n\
               # at each boot and each `systemctl daemon-reload`.\n",
        name: "%i",
        more: "# One of both is enough: this is a unit of the machine's own, written by `vfio-run unit --install`.\n\
               AssertPathExists=!/etc/systemd/system/vfio-run-%i.service\n",
        run: format!("{program} run {file}"),
        // The machine may be called otherwise than its file.
        recover: format!("{program} recover {file}"),
        // Not the slice that systemd makes for the instances of a template.
        lines: format!("Slice=system.slice\n{}{}", of_group(&UnitGroup::default()), of_waits(Waits::default())),
        wanted_by: "multi-user.target",
    };
    Ok(unit.text())
}

/// What is added to the template for every machine on a kernel with these cpusets.
pub fn drop_in_for_all(group: &UnitGroup) -> String {
    format!("{GENERATED}[Service]\n{}", of_group_anew(group))
}

/// What is added to the template for the machine of this name.
pub fn drop_in(name: &str, program: &Path, waits: Waits, group: &UnitGroup) -> Result<String> {
    Ok(format!(
        "{GENERATED}[Unit]\n\
         Description=Virtual machine {name}\n\
         AssertPathExists=!/etc/systemd/system/{}\n\
         [Service]\n\
         ExecStopPost=\n\
         ExecStopPost={}\n\
         {}{}",
        name_of(name),
        recovers(program, name)?,
        of_group_anew(group),
        of_waits(waits)
    ))
}

const GENERATED: &str = "# Written by vfio-run-generator.\n";

/// A unit: what differs from one to the other. `KillMode=mixed`: only the launcher gets SIGTERM, and ends the guest by its power
/// button; when the launcher itself is killed, systemd kills the rest of the cgroup (QEMU) and then runs `ExecStopPost`, which
/// finds the journal and restores the host (systemd.kill(5), systemd.service(5)).
struct Unit<'a> {
    head: &'a str,
    name: &'a str,
    /// More lines of `[Unit]`.
    more: &'a str,
    run: String,
    recover: String,
    /// Those of its group and its limits.
    lines: String,
    wanted_by: &'a str,
}

impl Unit<'_> {
    fn text(&self) -> String {
        let Self { head, name, more, run, recover, lines, wanted_by } = self;
        format!(
            "\
{head}[Unit]
Description=Virtual machine {name}
After=network.target
{more}
[Service]
Type=notify
NotifyAccess=main
ExecStart={run}
ExecStopPost={recover}
KillMode=mixed
{lines}LimitMEMLOCK=infinity

[Install]
WantedBy={wanted_by}
"
        )
    }
}

/// The lines about its time.
fn of_waits(waits: Waits) -> String {
    format!(
        "\
# A huge page reservation and the guest's memory can take minutes.
TimeoutStartSec={start}s
# The launcher ends a guest that does not power off after {limit} s; systemd waits longer than that.
TimeoutStopSec={stop}s
",
        limit = waits.guest,
        start = waits.limit_of_start().as_secs(),
        stop = waits.limit_of_stop().as_secs(),
    )
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

/// The same behind others, whose controllers do not count any more (systemd.resource-control(5), `Delegate=`).
fn of_group_anew(group: &UnitGroup) -> String {
    format!("Delegate=\n{}", of_group(group))
}

/// The unit of the machine of this name.
pub fn name_of(machine: &str) -> String {
    format!("vfio-run-{machine}.service")
}

/// What `ExecStart=` ends with in a unit for this file.
fn runs(file: &Path) -> Result<String> {
    Ok(format!(" run {}", quote(file)?))
}

fn recovers(program: &Path, name: &str) -> Result<String> {
    Ok(format!("{} recover {name}", quote(program)?))
}

/// The unit that may be installed for the machine of this file; `None` if no unit can name the file.
pub fn wanted(machine: &str, file: &Path) -> Option<WantedUnit> {
    let file = std::fs::canonicalize(file).ok()?;
    Some(WantedUnit { name: name_of(machine), ending: runs(&file).ok()?, instance: instance(&file) })
}

/// What the template is called for this file; `None` if it is not among those that the template is for.
pub fn instance(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?.strip_suffix(".ron")?;
    // Other characters mean something to systemd (systemd.unit(5)).
    (file.parent() == Some(Path::new(InstalledUnit::MACHINES)) && machine::is_name(name))
        .then(|| format!("vfio-run@{name}.service"))
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
    fn the_packaged_template_is_what_the_program_prints() {
        let packaged = include_str!("../../../scripts/packaging/vfio-run@.service");
        assert_eq!(packaged, template(Path::new("/usr/bin/vfio-run")).unwrap());
    }

    #[test]
    fn the_template_with_its_drop_in_is_the_machines_own_unit() {
        let program = Path::new("/usr/bin/vfio-run");
        let (file, waits) = (Path::new("/etc/vfio-run/win11.ron"), Waits { guest: 300, start: 5, end: 7 });
        for group in [
            UnitGroup { slice: None, divided: true },
            UnitGroup { slice: Some("vfiorunwin11.slice".to_owned()), divided: false },
        ] {
            // As systemd reads both: a later line replaces an earlier one, an empty one takes those before it away.
            let mut read = std::collections::BTreeMap::<String, Vec<String>>::new();
            let added = drop_in("win11", program, waits, &group).unwrap();
            for line in format!("{}\n{added}", template(program).unwrap()).lines() {
                let Some((key, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) else { continue };
                let values = read.entry(key.to_owned()).or_default();
                if value.is_empty() || !matches!(key, "Delegate" | "ExecStopPost") {
                    values.clear();
                }
                values.extend((!value.is_empty()).then(|| value.replace("%i", "win11")));
            }
            // Both stand only in the template: the one is the default, the other a refusal of the second unit.
            if group.slice.is_none() {
                assert_eq!(read.remove("Slice").unwrap(), ["system.slice"]);
            }
            read.remove("AssertPathExists").unwrap();
            let own = render("win11", program, file, waits, &group).unwrap();
            let own = own.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once('='));
            let mut own: std::collections::BTreeMap<_, _> =
                own.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).collect();
            own.insert("WantedBy".to_owned(), vec!["multi-user.target".to_owned()]);
            assert_eq!(read, own);
        }
    }

    #[test]
    fn the_template_is_for_the_machines_in_its_folder() {
        let instance = |file: &str| instance(Path::new(file));
        assert_eq!(instance("/etc/vfio-run/win-11.ron").as_deref(), Some("vfio-run@win-11.service"));
        for file in
            ["/etc/vfio-run/a/b.ron", "/srv/a.ron", "/etc/vfio-run/a", "/etc/vfio-run/a b.ron", "/etc/vfio-run/.ron"]
        {
            assert_eq!(instance(file), None, "{file}");
        }
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
