//! `vfio-run-generator`: adds to the units of the template `vfio-run@.service` what follows from the machine files and the kernel.
//!
//! systemd starts it early at boot and at each `daemon-reload` (systemd.generator(7)). There is no network then, other file systems
//! may not be mounted, and nothing may be asked of systemd. A file that cannot be read is named and passed over: its unit is as the
//! template says, and its start tells what is wrong with the file.

use std::path::Path;

use anyhow::{Context as _, Result};

use super::shared::unit_file;
use crate::host::{Cpusets, InstalledUnit};
use crate::machine::{self, Machine};
use crate::plan::UnitGroup;
use crate::trusted;
use crate::units::exit;

/// No host has so many machines, and a boot does not wait for more.
const MOST: usize = 1000;
/// Behind what the template says and before what a user adds (`override.conf`). The one of a machine takes the place of the one for
/// all, since they are called the same (systemd.unit(5)).
const DROP_IN: &str = "50-vfio-run.conf";

/// Writes them into the folder that systemd named.
pub fn generate_units(into: &Path) -> Result<u8> {
    let program = std::env::current_exe().context("cannot find out the path of this program")?;
    generate(Path::new(InstalledUnit::MACHINES), into, &program, unit_file::cpusets().as_ref())?;
    Ok(exit::OK)
}

fn generate(machines: &Path, into: &Path, program: &Path, cpusets: Option<&Cpusets>) -> Result<()> {
    let Ok(entries) = std::fs::read_dir(machines) else { return Ok(()) };
    let mut names: Vec<_> = entries.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    let files = names.iter().filter_map(|name| {
        let name = name.to_str()?.strip_suffix(".ron").filter(|name| machine::is_name(name))?;
        Some((name, machines.join(format!("{name}.ron"))))
    });
    for (name, file) in files.take(MOST) {
        if let Err(error) = of_machine(name, &file, into, program, cpusets) {
            tracing::warn!("vfio-run@{name}.service stays as the template says: {error:#}");
        }
    }
    let all = UnitGroup::of_any(cpusets);
    write(into, InstalledUnit::TEMPLATE, &unit_file::drop_in_for_all(&all))
}

fn of_machine(instance: &str, file: &Path, into: &Path, program: &Path, cpusets: Option<&Cpusets>) -> Result<()> {
    // Before it is read, and then those that it is made from.
    trusted::file(file)?;
    let source = machine::read(file)?;
    for base in source.lines.files() {
        trusted::file(base)?;
    }
    let machine: &Machine = &source.machine;
    let group = UnitGroup::of(machine, cpusets);
    let text = unit_file::drop_in(&machine.name, program, unit_file::waits(machine), &group)?;
    write(into, &format!("vfio-run@{instance}.service"), &text)
}

fn write(into: &Path, unit: &str, text: &str) -> Result<()> {
    let folder = into.join(format!("{unit}.d"));
    let written = || {
        std::fs::create_dir_all(&folder)?;
        std::fs::write(folder.join(DROP_IN), text)
    };
    written().with_context(|| format!("cannot write {}", folder.join(DROP_IN).display()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// What is written for these machine files, by its path.
    fn generated(files: &[(&str, &str)], more: impl FnOnce(&Path), cpusets: &Cpusets) -> BTreeMap<String, String> {
        let dir = tempfile::tempdir().unwrap();
        let (machines, into) = (dir.path().join("vfio-run"), dir.path().join("generator"));
        std::fs::create_dir(&machines).unwrap();
        std::fs::create_dir(&into).unwrap();
        for (name, text) in files {
            std::fs::write(machines.join(name), text).unwrap();
        }
        more(&machines);
        generate(&machines, &into, Path::new("/usr/bin/vfio-run"), Some(cpusets)).unwrap();
        let read = |folder: std::fs::DirEntry| {
            let text = std::fs::read_to_string(folder.path().join(DROP_IN)).unwrap();
            (folder.file_name().into_string().unwrap(), text)
        };
        std::fs::read_dir(&into).unwrap().flatten().map(read).collect()
    }

    fn cpusets(exclusive: bool) -> Cpusets {
        Cpusets { offered: true, exclusive, ..Cpusets::default() }
    }

    const PLAIN: &str = "(guest: Linux, memory: (size: \"1 GiB\"))";

    #[test]
    fn each_machine_has_what_its_file_and_the_kernel_ask_for() {
        let slow = "(name: \"other\", guest: Linux, memory: (size: \"1 GiB\"), shutdown_timeout: 600, host: (isolate: Slices))";
        let files = [("plain.ron", PLAIN), ("slow.ron", slow)];
        let new = generated(&files, |_| {}, &cpusets(true));
        assert_eq!(
            new.keys().collect::<Vec<_>>(),
            ["vfio-run@.service.d", "vfio-run@plain.service.d", "vfio-run@slow.service.d"]
        );
        assert!(new["vfio-run@.service.d"].contains("\nDelegate=cpuset pids\n"));
        let plain = &new["vfio-run@plain.service.d"];
        assert!(plain.contains("\nDelegate=\n") && plain.contains("\nDelegate=cpuset pids\n"), "{plain}");
        assert!(plain.contains("\nTimeoutStopSec=180s\n") && !plain.contains("\nSlice="), "{plain}");
        let slow = &new["vfio-run@slow.service.d"];
        for line in [
            "Description=Virtual machine other",
            "AssertPathExists=!/etc/systemd/system/vfio-run-other.service",
            "ExecStopPost=/usr/bin/vfio-run recover other",
            "Delegate=pids",
            "Slice=vfiorunother.slice",
            "TimeoutStopSec=690s",
        ] {
            assert!(slow.lines().any(|written| written == line), "{line}\n{slow}");
        }
        let old = generated(&files, |_| {}, &cpusets(false));
        assert!(old["vfio-run@.service.d"].ends_with("\nDelegate=pids\n"));
        assert!(old["vfio-run@plain.service.d"].contains("\nDelegate=pids\n"));
    }

    #[test]
    fn what_is_no_machine_file_is_passed_over_and_the_others_have_theirs() {
        let files =
            [("broken.ron", "(guest: "), ("a b.ron", PLAIN), ("-x.ron", PLAIN), ("good.ron", PLAIN), ("notes", "")];
        let odd = |folder: &Path| {
            std::fs::create_dir(folder.join("folder.ron")).unwrap();
            symlink("nowhere", folder.join("dangling.ron")).unwrap();
            symlink("good.ron", folder.join("link.ron")).unwrap();
            nix::unistd::mkfifo(&folder.join("fifo.ron"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        };
        let written = generated(&files, odd, &cpusets(true));
        assert_eq!(
            written.keys().collect::<Vec<_>>(),
            ["vfio-run@.service.d", "vfio-run@good.service.d", "vfio-run@link.service.d"]
        );
        assert!(generated(&[], |_| {}, &cpusets(true)).contains_key("vfio-run@.service.d"));
    }

    #[test]
    fn a_file_that_others_can_write_and_one_that_is_made_from_it_are_passed_over() {
        let based = "(base: \"open.ron\", memory: (size: \"1 GiB\"))";
        let open = |folder: &Path| {
            std::fs::set_permissions(folder.join("open.ron"), std::fs::Permissions::from_mode(0o666)).unwrap();
        };
        let written =
            generated(&[("good.ron", PLAIN), ("open.ron", PLAIN), ("based.ron", based)], open, &cpusets(true));
        assert_eq!(written.keys().collect::<Vec<_>>(), ["vfio-run@.service.d", "vfio-run@good.service.d"]);
    }

    #[test]
    #[ignore = "changes owners, so it needs root: scripts/test runs it"]
    fn a_link_or_file_of_another_user_is_passed_over() {
        const THEM: u32 = 1001;
        let theirs = |folder: &Path| {
            symlink("good.ron", folder.join("link.ron")).unwrap();
            std::os::unix::fs::lchown(folder.join("link.ron"), Some(THEM), None).unwrap();
            std::os::unix::fs::chown(folder.join("theirs.ron"), Some(THEM), None).unwrap();
        };
        let written = generated(&[("good.ron", PLAIN), ("theirs.ron", PLAIN)], theirs, &cpusets(true));
        assert_eq!(written.keys().collect::<Vec<_>>(), ["vfio-run@.service.d", "vfio-run@good.service.d"]);
    }
}
