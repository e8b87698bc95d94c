//! The plan as a whole: the order in which its parts are decided, since later ones build on earlier ones.

use super::draft::Draft;
use super::process::{account, cgroup, sockets, trust};
use super::{Plan, accelerator, command, dead_man_switch, devices, holds, hooks, isolation, placement, quiet, tuning};
use crate::host::{Host, lease};
use crate::machine::{Machine, OnReboot, Serial};
use crate::qemu::QemuFacts;
use crate::qemu::command::CommandLine;

/// Decides everything. Pure: the same three values always make the same plan. `lines` gives the line of a field's path in
/// the machine file (`disks[0].file`), for the origins.
pub fn plan(machine: &Machine, lines: &dyn Fn(&str) -> Option<u32>, host: &Host, qemu: &QemuFacts) -> Plan {
    let mut draft = Draft::new(machine, lines, host, qemu);
    let accelerator = accelerator::decide(&mut draft);
    account::choose(&mut draft, accelerator.kvm);
    let first_changes = draft.changes.len();
    let mut cgroup = cgroup::choose(&mut draft);
    let hooks = hooks::decide(&mut draft);
    trust::check(&mut draft);
    let disks = command::disks::resolve(machine);
    let iothreads = command::disks::iothreads(&disks);
    let (mut placement, told) = placement::place(&mut draft, accelerator.kvm, &iothreads);
    let devices = devices::resolve(&mut draft);
    let decided = command::Decided { accelerator, placement: &placement, told, disks, devices: &devices };
    command::write(&mut draft, &decided);
    let addresses: Vec<_> = devices.given.iter().map(|given| given.address()).collect();
    tuning::decide(&mut draft, &placement, &addresses);
    let device_irqs = tuning::decide_device_irqs(&mut draft, &placement, &devices);
    // Last, since a screen that is gone is the worst time for anything else to fail.
    let moves = devices::make(&mut draft, &devices);
    if let Some(moves) = &moves {
        cgroup = cgroup::of_unit(&mut draft, first_changes, &moves.unit);
    }
    quiet::decide(&mut draft, &cgroup);
    let isolation = isolation::decide(&mut draft, &mut placement, &cgroup, moves.as_ref());
    isolation::check_real_time(&mut draft, &placement, isolation.as_ref());
    command::finish(&mut draft);
    tuning::decide_after_devices(&mut draft, &placement);
    dead_man_switch::check(&mut draft);
    let holds = holds::decide(&mut draft, &cgroup);
    sockets::check(&mut draft);
    let Draft {
        paths,
        account,
        options,
        changes,
        screens,
        keep,
        helpers,
        late,
        descriptors,
        unplugged,
        environment,
        viewer,
        links,
        findings,
        ..
    } = draft;
    Plan {
        name: machine.name.clone(),
        uuid: machine.uuid(),
        file: None,
        paths,
        placement,
        changes,
        screens,
        device_irqs,
        isolation,
        holds,
        hooks,
        keep,
        helpers,
        descriptors,
        unplugged,
        forwards: machine.networks.iter().flatten().flat_map(|network| network.forward.clone()).collect(),
        environment,
        late,
        command: CommandLine { binary: qemu.binary.clone(), options },
        account,
        cgroup,
        lock_memory: !addresses.is_empty() || machine.memory.lock,
        leases: addresses,
        other_leases: machine.looking_glass.iter().map(|_| lease::LOOKING_GLASS.to_owned()).collect(),
        moves,
        viewer,
        links,
        console: machine.serial == Serial::Console,
        relaunch: machine.on_reboot == OnReboot::Relaunch,
        // The type holds what the file can say: seconds in 32 bits.
        shutdown_timeout: u32::try_from(machine.shutdown_timeout().as_secs()).unwrap_or(u32::MAX),
        report: machine.report,
        give_back_unless: machine.give_back_unless,
        findings,
    }
}
