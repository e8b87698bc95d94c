//! What the guest finds in its SMBIOS and ACPI tables, as its firmware has laid them out.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::ttyname;
use serde_json::json;
use uuid::Uuid;

use super::memory::{self, Structure};
use super::talk::{Qmp, Serial};
use super::world::{World, each, each_as_root, own};

/// The table of a battery, which is a table as good as any.
const TABLE: &[u8] = include_bytes!("../../src/run/starting/contents/battery.aml");

/// A table with this signature and this text in it.
pub fn table(signature: &[u8; 4], text: &[u8]) -> Vec<u8> {
    let mut table = [signature, &[0; 4][..], b"\x01\0VENDORMODEL    \0\0\0\0TEST\0\0\0\0", text].concat();
    let length = table.len() as u32;
    table[4..8].copy_from_slice(&length.to_le_bytes());
    table[9] = table.iter().fold(0u8, |sum, byte| sum.wrapping_sub(*byte));
    table
}

fn of(all: &[Structure], kind: u8) -> &Structure {
    all.iter().find(|structure| structure.kind == kind).unwrap_or_else(|| panic!("no type {kind} in {all:?}"))
}

fn end(launcher: super::launcher::Launcher, guest: &mut Serial) {
    guest.type_in("q");
    launcher.ended().with(0);
}

/// The user's tables and the battery, and fields of SMBIOS; the trial of a machine that takes a device has them too, as
/// `tests/accepted.rs` shows.
fn has_what_was_written(world: &World) {
    let own = table(b"OEM7", b"of the user");
    world.file("own, table.aml", &own);
    let machine = world.machine(
        r#"serial: Socket, smbios: Fields(system: (manufacturer: "ACME, Inc.", serial: "S=1"), bios: (vendor: "ACME BIOS", release: "5.17"),
               oem_strings: ["one", "two, too"]), uuid: "00112233-4455-6677-8899-aabbccddeeff",
           acpi_tables: ["own, table.aml"], battery: true"#,
    );
    let launcher = world.run(&machine);
    let mut guest = Serial::of(world);
    guest.says("HELLO");
    let mut qmp = Qmp::of(world);
    let structures = memory::smbios(&mut qmp);
    assert!(of(&structures, 0).strings.contains(&"ACME BIOS".to_owned()), "{structures:?}");
    assert_eq!(of(&structures, 0).formatted[0x14..0x16], [5, 17]);
    let system = of(&structures, 1);
    for text in ["ACME, Inc.", "S=1"] {
        assert!(system.strings.iter().any(|found| found == text), "{system:?}");
    }
    let uuid: Uuid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
    assert_eq!(system.formatted[8..24], uuid.to_bytes_le());
    assert_eq!(of(&structures, 11).strings, ["one", "two, too"]);
    let tables = memory::acpi(&mut qmp);
    assert_eq!(tables["OEM7"], [own], "{tables:?}");
    assert!(tables["SSDT"].iter().any(|table| table == TABLE), "{tables:?}");
    end(launcher, &mut guest);
}

#[test]
fn the_guest_finds_what_the_file_says() {
    each(has_what_was_written);
}

#[test]
#[ignore = "needs root, to run QEMU as a user of its own"]
fn so_does_one_whose_qemu_has_a_user_of_its_own() {
    each_as_root(has_what_was_written);
}

/// A host's tables, bound over its own in a mount namespace of the launcher's.
fn under_another_firmware(world: &World, smbios: &[u8], licence: &[u8]) -> Vec<String> {
    world.file("DMI", smbios);
    world.file("MSDM", licence);
    let script = r#"mount -t tmpfs tmpfs /sys/firmware && mkdir -p /sys/firmware/dmi/tables /sys/firmware/acpi/tables &&
        install -m 400 "$1/DMI" /sys/firmware/dmi/tables/DMI &&
        install -m 400 "$1/MSDM" /sys/firmware/acpi/tables/MSDM && shift && exec "$@""#;
    let folder = world.path("").display().to_string();
    ["unshare", "--mount", "sh", "-ec", script, "sh", &folder].map(str::to_owned).to_vec()
}

#[test]
#[ignore = "needs root, to read the host's tables"]
fn the_host_is_seen_with_its_licence_and_nobody_else_reads_it() {
    let system: &[u8] =
        b"\x01\x1b\x00\x00\x01\x02\x00\x03\xa0\xa1\xa2\xa3\xa4\xa5\xa6\xa7\xa8\xa9\xaa\xab\xac\xad\xae\xaf\
        \x06\x00\x00ACME\0AC 1000\0SERIAL-1\0\0";
    let host = [
        &b"\x00\x18\x01\x00\x01\x02\x00\xf0\x03\x0f\0\0\0\0\0\0\0\0\0\0\x05\x11\xff\xffACME BIOS\0F20\x0004/01/2014\0\0"[..],
        system,
        b"\x03\x15\x02\x00\x01\x0a\x00\x02\x00\x03\x03\x03\x03\0\0\0\0\0\x01\0\0ACME\0CHASSIS-1\0\0",
        b"\x04\x06\x04\x00\x01\x00not the guest's\0\0",
        b"\x7f\x04\x05\x00\0\0",
    ]
    .concat();
    let licence = table(b"MSDM", b"AAAAA-BBBBB");
    each_as_root(|world| {
        let wrapper = under_another_firmware(world, &host, &licence);
        let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
        let own: Uuid = "00112233-4455-6677-8899-aabbccddeeff".parse().unwrap();
        for (uuid, expected) in
            [(String::new(), system[8..24].to_vec()), (format!("uuid: \"{own}\","), own.to_bytes_le().into())]
        {
            let machine = world.machine(&format!("{uuid} smbios: Host, licence: Host"));
            let launcher = world.start(world.wrapped(&wrapper, &["run", machine.to_str().unwrap()]));
            let mut guest = Serial::of(world);
            guest.says("HELLO");
            let mut qmp = Qmp::of(world);
            let structures = memory::smbios(&mut qmp);
            assert_eq!(of(&structures, 0).strings, ["ACME BIOS", "F20", "04/01/2014"]);
            assert_eq!(of(&structures, 1).strings, ["ACME", "AC 1000", "SERIAL-1"]);
            assert_eq!(of(&structures, 1).formatted[8..24], expected);
            assert_eq!((of(&structures, 3).formatted[5], &*of(&structures, 3).strings[1]), (10, "CHASSIS-1"));
            assert!(!of(&structures, 4).strings.contains(&"not the guest's".to_owned()), "{structures:?}");
            let mut handles: Vec<u16> = structures.iter().map(|structure| structure.handle).collect();
            handles.sort_unstable();
            handles.dedup();
            assert_eq!(handles.len(), structures.len(), "{structures:?}");
            assert_eq!(memory::acpi(&mut qmp)["MSDM"], std::slice::from_ref(&licence));
            // Nobody reads a serial number or the key in a list of arguments, a log or the plan that is kept.
            let arguments = std::fs::read(format!("/proc/{}/cmdline", world.pid("qemu"))).unwrap();
            let kept = std::fs::read(world.run_dir().join("plan.json")).unwrap();
            for text in [&arguments[..], &kept, world.log().as_bytes()] {
                assert!(!String::from_utf8_lossy(text).contains("SERIAL-1"));
                assert!(!String::from_utf8_lossy(text).contains("AAAAA-BBBBB"));
            }
            end(launcher, &mut guest);
        }
        // Without the tables, and for others than root, the check says so.
        let machine = world.machine("smbios: Host, licence: Host");
        let bare = ["unshare", "--mount", "sh", "-ec", r#"mount -t tmpfs tmpfs /sys/firmware && exec "$@""#, "sh"];
        let checked = world.start(world.wrapped(&bare, &["check", machine.to_str().unwrap()])).ended().with(3);
        for words in ["this host has no SMBIOS tables", "the host's firmware holds no licence for Windows"] {
            assert!(checked.out.contains(words), "{checked:?}");
        }
        assert!(!world.run_dir().exists());
    });
}

/// A terminal whose other end answers as a TPM 2.0 does that knows no command: QEMU asks it what it is.
fn fake_tpm(world: &World) -> PathBuf {
    let pair = openpty(None, None).unwrap();
    let mut mode = tcgetattr(&pair.slave).unwrap();
    cfmakeraw(&mut mode);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &mode).unwrap();
    let node = ttyname(&pair.slave).unwrap();
    // As root the program may open it anyway, and QEMU may not.
    if !world.is_root() {
        own(&node);
    }
    let mut chip = File::from(pair.master);
    std::thread::spawn(move || {
        // It stays open as long as somebody may answer.
        let _open = pair.slave;
        let mut command = [0; 4096];
        // TPM2_ST_NO_SESSIONS, ten bytes, a response code.
        while chip.read(&mut command).is_ok_and(|length| length > 0)
            && chip.write_all(&[0x80, 0x01, 0, 0, 0, 10, 0, 0, 1, 0]).is_ok()
        {}
    });
    node
}

/// QEMU's account may not open the node: the launcher does.
fn has_the_hosts_tpm(world: &World) {
    let node = fake_tpm(world);
    let machine = world.machine(&format!("tpm: Passthrough(\"{}\")", node.display()));
    let launcher = world.run(&machine);
    let mut guest = Serial::of(world);
    guest.says("HELLO");
    let tpm = Qmp::of(world).ask("query-tpm");
    assert_eq!((&tpm[0]["model"], &tpm[0]["options"]["type"]), (&json!("tpm-tis"), &json!("passthrough")), "{tpm}");
    end(launcher, &mut guest);
    let machine = world.machine("tpm: Passthrough(\"/dev/no-tpm\")");
    let refused = world.run(&machine).ended().with(3);
    assert!(refused.err.contains("this host has no TPM at /dev/no-tpm"), "{refused:?}");
}

#[test]
fn the_hosts_tpm_reaches_the_guest_by_a_descriptor() {
    each(has_the_hosts_tpm);
}

#[test]
#[ignore = "needs root, to run QEMU as a user of its own"]
fn so_it_does_with_a_qemu_that_may_not_open_it() {
    each_as_root(has_the_hosts_tpm);
}

#[test]
fn apples_controller_has_the_key_and_no_argument_has_it() {
    each(|world| {
        let key = "k".repeat(64);
        world.file("osk", format!("{key}\n"));
        let launcher =
            world.run(&world.machine("serial: Socket, apple_smc: (key_file: \"osk\"), second_serial: Socket"));
        let mut guest = Serial::of(world);
        guest.says("HELLO");
        let property = json!({ "path": "/machine/peripheral/apple-smc0", "property": "osk" });
        assert_eq!(Qmp::of(world).ask_with("qom-get", property), key);
        assert!(world.run_dir().join("serial-2.sock").exists());
        let arguments = std::fs::read(format!("/proc/{}/cmdline", world.pid("qemu"))).unwrap();
        assert!(!String::from_utf8_lossy(&arguments).contains(&key) && !world.log().contains(&key));
        end(launcher, &mut guest);
    });
}
