//! The order of QEMU's options, from the process over the board to the devices.

use super::super::draft::Draft;
use super::decided::Decided;
use super::devices::{
    audio, balloon, disks, display, input, networks, passthrough, ports, shared_memory, shares, tpm, usb, vsock,
};
use super::{
    acpi, apple_smc, base, board, boot, cpu, extra, firmware, installing, lacks, memory, smbios, watchdog, window,
};

/// Writes the command line but for its end. A new device goes last.
pub(in super::super) fn write(draft: &mut Draft, decided: &Decided) {
    base::process(draft);
    base::monitors(draft);
    let firmware = firmware::choose(draft);
    board::machine(draft, decided, &firmware);
    cpu::write(draft, decided);
    memory::write(draft, decided.placement);
    board::clock(draft, decided);
    firmware::write(draft, &firmware);
    boot::write(draft);
    smbios::write(draft, &firmware);
    acpi::write(draft);
    let given: Vec<_> = decided.devices.given.iter().map(|given| given.address()).collect();
    display::write(draft, &given);
    ports::serial(draft);
    ports::second_serial(draft);
    disks::write(draft, &decided.disks);
    passthrough::write(draft, decided.devices);
    window::write(draft, decided.accelerator.kvm, &firmware, decided.devices);
    networks::write(draft, decided.placement.vcpus.len());
    tpm::write(draft);
    ports::agent(draft);
    display::agent(draft);
    balloon::write(draft);
    vsock::write(draft);
    shares::write(draft);
    watchdog::write(draft);
    apple_smc::write(draft);
    usb::write(draft);
    input::write(draft);
    shared_memory::write(draft);
    lacks::check(draft, decided.devices);
    installing::check(draft);
}

/// Writes the end of the command line: what depends on what is stopped on the host, and the words of the user.
pub(in super::super) fn finish(draft: &mut Draft) {
    audio::write(draft);
    extra::write(draft);
}
