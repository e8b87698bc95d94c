//! Examples of the fields whose types do not show what a value looks like. A test reads each of them as a machine file.

/// A field's path, and a value as it is written in a machine file; a path that begins with `*.` stands for all that end
/// like it. A value that begins with the name of the topmost field is all that must be written.
const EXAMPLES: &[(&str, &str)] = &[
    ("base", "\"windows.ron\""),
    ("name", "\"win11\""),
    ("uuid", "\"123e4567-e89b-12d3-a456-426614174000\""),
    ("qemu", "\"/opt/qemu/bin/qemu-system-x86_64\""),
    ("machine_type", "\"pc-q35-7.2\""),
    ("cpu.vcpus", "8"),
    ("cpu.pin", "\"4-11\""),
    ("cpu.leave", "2"),
    ("cpu.emulator", "\"2-3\""),
    ("cpu.iothreads", "\"2-3\""),
    ("cpu.model", "\"EPYC\""),
    ("cpu.features", "[\"+topoext\", \"-svm\"]"),
    ("cpu.topology.sockets", "2"),
    ("cpu.topology.dies", "2"),
    ("cpu.topology.modules", "2"),
    ("cpu.topology.cores", "4"),
    ("cpu.topology.threads", "2"),
    ("memory.size", "\"16 GiB\""),
    ("memory.pages", "Huge(\"2 MiB\")"),
    ("memory.nodes", "\"0\""),
    ("firmware", "Uefi(secure_boot: true)"),
    ("firmware.code", "firmware: Uefi(code: \"/opt/ovmf/CODE.fd\", vars: \"/opt/ovmf/VARS.fd\")"),
    ("firmware.vars", "firmware: Uefi(code: \"/opt/ovmf/CODE.fd\", vars: \"/opt/ovmf/VARS.fd\")"),
    ("kernel.image", "\"vmlinuz\""),
    ("kernel.initrd", "\"initrd.img\""),
    ("kernel.cmdline", "\"console=ttyS0 quiet\""),
    ("disks.file", "\"disk.qcow2\""),
    ("disks.create", "disks: [(file: \"win11.qcow2\", create: \"128 GiB\")]"),
    ("disks.id", "\"system\""),
    ("disks.media", "disks: [(file: \"setup.img\", media: Cd)]"),
    ("disks.bus", "Nvme"),
    ("disks.queues", "4"),
    ("disks.serial", "\"SSD0001\""),
    ("disks.sector.logical", "4096"),
    ("disks.sector.physical", "4096"),
    ("disks.boot", "1"),
    ("pci.boot", "2"),
    ("networks.mac", "\"52:54:00:12:34:56\""),
    ("networks.forward", "networks: [(forward: [\"tcp 3389\", \"8080:80\"])]"),
    ("networks.backend", "Bridge(\"br0\")"),
    ("networks.backend.interface", "networks: [(backend: Macvtap(interface: \"eth0\"))]"),
    ("networks.backend.mode", "networks: [(backend: Macvtap(interface: \"eth0\", mode: Vepa))]"),
    ("networks.subnet", "networks: [(backend: Nat, subnet: \"192.168.77.0/24\")]"),
    ("networks.queues", "networks: [(backend: Bridge(\"br0\"), queues: 2)]"),
    ("pci", "[\"01:00.*\"]"),
    ("pci.address", "\"01:00.*\""),
    ("pci.expect", "\"10de:2684\""),
    ("pci.subsystem", "\"1043:889a\""),
    ("pci.rom", "\"card.rom\""),
    ("pci.reset_method", "\"bus\""),
    ("pci.revive", "[Reset, Bus, Rescan]"),
    ("pci.slot", "26"),
    ("pci.properties", "{\"x-no-mmap\": true}"),
    ("usb", "[\"046d:c547\"]"),
    ("usb.id", "\"046d:c547\""),
    ("usb.port", "\"3-2.1\""),
    ("usb.optional", "usb: [(id: \"046d:c547\", optional: false)]"),
    ("input", "Auto"),
    ("input.keyboard", "\"/dev/input/by-id/usb-Logitech_K120-event-kbd\""),
    ("input.mouse", "\"/dev/input/by-id/usb-Logitech_M90-event-mouse\""),
    ("input.toggle", "input: [(keyboard: \"/dev/input/by-id/usb-Logitech_K120-event-kbd\", toggle: ScrollLock)]"),
    ("input.repeat", "input: [(keyboard: \"/dev/input/by-id/usb-Logitech_K120-event-kbd\", repeat: false)]"),
    ("input.grab_all", "input: [(keyboard: \"/dev/input/by-id/usb-Logitech_K120-event-kbd\", grab_all: false)]"),
    ("input.optional", "input: [(keyboard: \"/dev/input/by-id/usb-Logitech_K120-event-kbd\", optional: false)]"),
    ("handover", "(holders: End)"),
    ("handover.display_manager", "Unit(\"sddm.service\")"),
    ("handover.units", "[\"nvidia-persistenced.service\"]"),
    ("handover.user_units", "[\"wireplumber.service\"]"),
    ("handover.modules", "[\"nvidia_uvm\", \"nvidia\"]"),
    ("hooks", "(ready: [[\"/usr/local/bin/lights\", \"off\"]])"),
    ("hooks.before", "[[\"/usr/local/bin/lights\", \"off\"]]"),
    ("hooks.ready", "[[\"/usr/local/bin/lights\", \"off\"]]"),
    ("hooks.running", "[[\"/usr/local/bin/lights\", \"off\"]]"),
    ("hooks.toggled", "[[\"/usr/local/bin/monitor\"]]"),
    ("hooks.ended", "[[\"/usr/local/bin/lights\", \"on\"]]"),
    ("hooks.restored", "[[\"/usr/local/bin/lights\", \"on\"]]"),
    ("*.argv", "[\"/usr/local/bin/lights\", \"off\"]"),
    ("*.timeout", "10"),
    ("looking_glass", "(width: 2560, height: 1440)"),
    ("looking_glass.width", "looking_glass: (width: 2560, height: 1440)"),
    ("looking_glass.height", "looking_glass: (width: 2560, height: 1440)"),
    ("looking_glass.hdr", "looking_glass: (width: 3840, height: 2160, hdr: true)"),
    ("looking_glass.size", "\"64 MiB\""),
    ("audio", "Auto"),
    ("audio.user", "\"alice\""),
    ("audio.output", "\"alsa_output.pci-0000_00_1f.3.analog-stereo\""),
    ("audio.input", "audio: Auto(microphone: true, input: \"alsa_input.usb-EXAMPLE.mono-fallback\")"),
    ("audio.latency_ms", "20"),
    ("display.port", "5900"),
    ("display.address", "display: Vnc(port: 5900, address: \"127.0.0.1\")"),
    ("display.gl", "display: Gtk(gl: true)"),
    ("display.bus", "display: DBus(bus: \"unix:path=/run/user/1000/bus\")"),
    ("display.for_user", "display: Spice(for_user: \"alice\")"),
    ("display.password_file", "display: Spice(password_file: \"/etc/vfio-run/win11.pw\")"),
    ("display.tls", "display: Vnc(port: 5900, tls: (cert: \"host.pem\", key: \"host.key\"))"),
    ("display.tls.cert", "display: Vnc(port: 5900, tls: (cert: \"host.pem\", key: \"host.key\"))"),
    ("display.tls.key", "display: Vnc(port: 5900, tls: (cert: \"host.pem\", key: \"host.key\"))"),
    ("display.tls.ca", "display: Vnc(port: 5900, tls: (cert: \"host.pem\", key: \"host.key\", ca: \"ca.pem\"))"),
    ("display.clipboard", "display: Spice(clipboard: false)"),
    ("display.usb_redirection", "display: Spice(usb_redirection: 4)"),
    ("display", "Gtk"),
    ("tpm.state", "tpm: V2(state: \"/var/lib/libvirt/swtpm/UUID/tpm2\")"),
    ("smbios", "Host"),
    ("smbios.bios.date", "\"04/01/2014\""),
    ("smbios.bios.release", "\"5.17\""),
    ("smbios.bios.vendor", "\"ACME BIOS\""),
    ("smbios.oem_strings", "[\"Default string\"]"),
    ("smbios.system.family", "\"Desktop\""),
    ("smbios.board.location", "\"Slot 1\""),
    ("smbios.memory.bank", "\"BANK 0\""),
    ("smbios.memory.locator_prefix", "\"DIMM\""),
    ("smbios.memory.speed", "3200"),
    ("smbios.processor.current_speed", "3600"),
    ("smbios.processor.max_speed", "4800"),
    ("smbios.processor.socket_prefix", "\"CPU\""),
    ("cpu.phys_bits", "39"),
    ("firmware.mmio_window", "\"256 GiB\""),
    ("boot_menu", "5"),
    ("apple_smc", "(key_file: \"osk\")"),
    ("apple_smc.key_file", "\"osk\""),
    ("acpi_tables", "[\"slic.bin\"]"),
    ("video.render_node", "video: VirtioGl(render_node: \"/dev/dri/renderD129\"), display: Gtk"),
    ("video_memory", "video_memory: \"64 MiB\", video: Qxl"),
    ("host", "(governor: \"performance\", no_sleep: true)"),
    ("host.cpu_latency_us", "20"),
    ("host.quiet", "[\"docker.service\"]"),
    ("host.governor", "\"performance\""),
    ("host.energy_preference", "\"performance\""),
    ("host.halt_poll_ns", "400000"),
    ("host.stat_interval", "10"),
    ("host.keep", "host: (tune: Desktop, keep: [\"governor\"])"),
    ("host.guest_cpu_latency_us", "20"),
    ("shares", "[(tag: \"data\", folder: \"/srv/data\")]"),
    ("shares.tag", "\"data\""),
    ("shares.folder", "\"/srv/data\""),
    ("user", "\"vm\""),
    ("host.cpu_latency_us", "20"),
    ("shutdown_timeout", "300"),
    ("give_back_unless.within", "120"),
    ("*.asset", "\"Desk 7\""),
    ("*.manufacturer", "\"ACME\""),
    ("*.part", "\"AC-100\""),
    ("*.product", "\"AC 1000\""),
    ("*.serial", "\"0123456789\""),
    ("*.sku", "\"AC1000-5\""),
    ("*.version", "\"1.2\""),
    ("extra_args", "[\"-device\", \"usb-tablet\"]"),
];

/// The field that nearly every value of this field has, though it need not be there.
pub(super) fn nearly_always(path: &str) -> Option<&'static str> {
    (path == "disks").then_some("file")
}

/// The value of a field.
pub(super) fn of(path: &str) -> Option<&'static str> {
    find(path).filter(|value| !is_whole(path, value))
}

/// All that must be written, of a field that needs others beside it.
pub(super) fn whole(path: &str) -> Option<&'static str> {
    find(path).filter(|value| is_whole(path, value))
}

fn find(path: &str) -> Option<&'static str> {
    let ends = |known: &str| known.strip_prefix('*').is_some_and(|end| path.ends_with(end));
    EXAMPLES.iter().find(|(known, _)| *known == path || ends(known)).map(|(_, value)| *value)
}

fn is_whole(path: &str, value: &str) -> bool {
    let top = path.split('.').next().unwrap_or_default();
    value.strip_prefix(top).is_some_and(|rest| rest.starts_with(": "))
}

#[cfg(test)]
mod tests {

    use super::super::fields::Fields;
    use super::*;

    #[test]
    fn every_field_has_an_example_that_a_machine_file_takes() {
        let fields = Fields::of_machine();
        let paths = fields.paths();
        assert!(paths.len() > 80, "{paths:?}");
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("windows.ron"), "(guest: Windows11, memory: (size: \"8 GiB\"))").unwrap();
        let mut wrong = Vec::new();
        for path in &paths {
            let snippet = fields.snippet(path);
            let snippet = snippet.unwrap_or_else(|| panic!("{path} needs a line in src/machine/schema/examples.rs"));
            let (top, _) = snippet.split_once(':').unwrap();
            let must = [("guest", "guest: Linux"), ("memory", "memory: (size: \"16 GiB\")")];
            let must: String =
                must.iter().filter(|(name, _)| *name != top).map(|(_, text)| format!("{text}, ")).collect();
            let text = format!("({must}{snippet})");
            let source = match crate::machine::parse(&folder.path().join("win11.ron"), &text) {
                Ok(source) => source,
                Err(refused) => {
                    wrong.push(format!("{path}: {refused}"));
                    continue;
                }
            };
            let written = |line: &&String| source.lines.at(line).is_some();
            let mut places = vec![path.clone()];
            // The path with a place in each list on the way.
            for name in [
                "disks", "networks", "pci", "shares", "usb", "input", "before", "ready", "running", "toggled", "ended",
                "restored",
            ] {
                places.push(places[places.len() - 1].replacen(&format!("{name}."), &format!("{name}[0]."), 1));
            }
            assert!(places.iter().any(|place| written(&place)), "{path} is not in {text}");
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn every_example_is_of_a_field() {
        let paths = Fields::of_machine().paths();
        for (path, _) in EXAMPLES {
            let end = path.trim_start_matches('*');
            assert!(paths.iter().any(|known| known == path || (end != *path && known.ends_with(end))), "{path}");
        }
    }
}
