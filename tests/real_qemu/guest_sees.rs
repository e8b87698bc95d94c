//! What a Linux guest makes of its computer: its firmware's tables, its drives, its watchdog, memory that it shares, the device
//! that hears of its panic. Only an operating system can say that, and without KVM one boots for ten seconds and more; so what
//! there is to see is seen in two guests, one of BIOS and one of UEFI.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use super::identity::table;
use super::linux::Linux;
use super::shared_memory;
use super::talk::Qmp;
use super::world::each;

/// The structures of a type in a raw SMBIOS table: everything that is printable in each.
fn structures(table: &[u8], kind: u8) -> Vec<&[u8]> {
    let mut found = Vec::new();
    let mut rest = table;
    while rest.len() > 4 {
        let formatted = usize::from(rest[1]);
        let end = rest[formatted..].windows(2).position(|pair| pair == [0, 0]).unwrap() + formatted + 2;
        if rest[0] == kind {
            found.push(&rest[..end]);
        }
        rest = &rest[end..];
    }
    found
}

fn has(structure: &[u8], text: &str) -> bool {
    structure.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn linux_sees_the_computer_that_the_file_describes() {
    let _alone = shared_memory::alone();
    each(|world| {
        let licence = table(b"MSDM", b"AAAAA-BBBBB");
        world.file("msdm.aml", &licence);
        for file in ["a.raw", "b.raw", "c.raw"] {
            world.file(file, vec![0; 1 << 20]);
        }
        let mut guest = Linux::start(
            world,
            r#"smbios: Fields(bios: (vendor: "ACME BIOS", date: "04/01/2014"),
                   system: (manufacturer: "ACME, Inc.", product: "AC 1000", serial: "S=1", sku: "SKU1", family: "Desk"),
                   board: (manufacturer: "Boards", product: "B1", serial: "B=2"), chassis: (manufacturer: "Cases", asset: "C3"),
                   memory: (manufacturer: "Chips", part: "P4", serial: "M5", speed: 3200), oem_strings: ["one", "two, too"]),
               uuid: "00112233-4455-6677-8899-aabbccddeeff", acpi_tables: ["msdm.aml"], battery: true,
               watchdog: (device: I6300esb), panic_device: (action: Pause), second_serial: Socket, sleep: (s3: false),
               looking_glass: (size: "1 MiB"),
               disks: [(media: Cd), (file: "a.raw", sector: (logical: 4096)),
                   (file: "b.raw", bus: VirtioScsi, sector: (logical: 512, physical: 4096)), (file: "c.raw", bus: Nvme, sector: (logical: 4096))]"#,
        );

        // SMBIOS.
        for (name, expected) in [
            ("bios_vendor", "ACME BIOS"),
            ("bios_date", "04/01/2014"),
            ("sys_vendor", "ACME, Inc."),
            ("product_name", "AC 1000"),
            ("product_serial", "S=1"),
            ("product_sku", "SKU1"),
            ("product_family", "Desk"),
            ("product_uuid", "00112233-4455-6677-8899-aabbccddeeff"),
            ("board_vendor", "Boards"),
            ("board_name", "B1"),
            ("board_serial", "B=2"),
            ("chassis_vendor", "Cases"),
            ("chassis_asset_tag", "C3"),
        ] {
            assert_eq!(guest.ask(&format!("cat /sys/class/dmi/id/{name}")).trim(), expected, "{name}");
        }
        let raw = bytes(&guest.ask("od -A n -v -t x1 /sys/firmware/dmi/tables/DMI"));
        let memory = structures(&raw, 17);
        assert!(memory.iter().all(|one| ["Chips", "P4", "M5"].iter().all(|text| has(one, text))), "{memory:?}");
        assert_eq!(memory[0][0x15..0x17], 3200u16.to_le_bytes());
        let strings = structures(&raw, 11);
        assert!(has(strings[0], "one\0two, too\0"), "{strings:?}");

        // ACPI.
        assert_eq!(bytes(&guest.ask("od -A n -v -t x1 /sys/firmware/acpi/tables/MSDM")), licence);
        let supplies = guest.ask("cat /sys/class/power_supply/*/type /sys/class/power_supply/*/capacity");
        for words in ["Battery\n", "Mains\n", "100\n"] {
            assert!(supplies.contains(words), "{supplies}");
        }
        assert_eq!(guest.ask("cat /sys/class/power_supply/*/online").trim(), "1");
        let sleeps = guest.ask("cat /sys/power/mem_sleep");
        assert!(!sleeps.contains("deep"), "{sleeps}");

        // Drives.
        for (disk, logical, physical) in [("vda", 4096, 4096), ("sda", 512, 4096), ("nvme0n1", 4096, 4096)] {
            let queue = format!("cd /sys/block/{disk}/queue; cat logical_block_size physical_block_size");
            assert_eq!(guest.ask(&queue), format!("{logical}\n{physical}\n"), "{disk}");
        }
        let no_medium = guest.ask("dd if=/dev/sr0 of=/dev/null bs=2048 count=1 2>&1 || true");
        assert!(no_medium.contains("No medium found"), "{no_medium}");

        // The second serial port.
        let mut port = UnixStream::connect(world.run_dir().join("serial-2.sock")).unwrap();
        port.set_read_timeout(Some(super::launcher::LIMIT)).unwrap();
        // It stays open: the first byte for a port that nobody has open would be lost.
        guest.ask("exec 4<>/dev/ttyS1; stty -F /dev/ttyS1 raw -echo; echo hello >&4");
        let mut said = [0; 6];
        port.read_exact(&mut said).unwrap();
        assert_eq!(&said, b"hello\n");
        port.write_all(b"and back\n").unwrap();
        assert_eq!(guest.ask("head -n 1 <&4"), "and back\n");

        // The memory of Looking Glass, from both sides: the third range of QEMU's ivshmem device.
        let device = guest.ask("grep -l 0x1110 /sys/bus/pci/devices/*/device");
        let folder = device.trim().strip_suffix("/device").unwrap();
        guest.ask(&format!("echo 1 >{folder}/enable"));
        let range = guest.ask(&format!("sed -n 3p {folder}/resource"));
        let address = range.split_whitespace().next().unwrap();
        let size = u64::from_str_radix(&range.split_whitespace().nth(1).unwrap()[2..], 16).unwrap() + 1
            - u64::from_str_radix(&address[2..], 16).unwrap();
        assert_eq!(size, 1 << 20, "{range}");
        guest.ask(&format!("devmem $(({address} + 0x1000)) 32 0xcafe1234"));
        let shared = std::fs::OpenOptions::new().read(true).write(true).open(shared_memory::FILE).unwrap();
        let mut word = [0; 4];
        shared.read_exact_at(&mut word, 0x1000).unwrap();
        assert_eq!(u32::from_le_bytes(word), 0xcafe_1234);
        shared.write_all_at(&0x5678_beef_u32.to_le_bytes(), 0xff000).unwrap();
        assert_eq!(guest.ask(&format!("devmem $(({address} + 0xff000)) 32")).trim(), "0x5678BEEF");

        // The watchdog that nobody sets again.
        let mut qmp = Qmp::of(world);
        guest.ask("watchdog -T 2 -t 1000 /dev/watchdog");
        assert_eq!(qmp.event("WATCHDOG")["data"]["action"], "reset");
        guest.starts_again();
        guest.launcher.tells("was not set in time (reset)");

        // The panic of its kernel.
        guest.panic();
        qmp.event("GUEST_PANICKED");
        guest.launcher.tells("panicked");
        assert_eq!(qmp.ask("query-status")["status"], "guest-panicked");
        world.done(&["stop", "--force", &world.name]).with(0);
        guest.launcher.ended().with(4);
    });
}

/// What `od` printed.
fn bytes(printed: &str) -> Vec<u8> {
    printed.split_whitespace().map(|byte| u8::from_str_radix(byte, 16).expect(byte)).collect()
}

/// A range of 256 GiB needs more than OVMF keeps with the 40 address bits of an emulated CPU (128 GiB); the window is what the
/// plan derives for a device of the host with such a range: twice as much.
#[test]
fn uefi_places_a_large_range_in_the_window_that_it_is_told_of() {
    const RANGE: u64 = 256 << 30;
    assert!(Path::new("/usr/share/qemu/firmware").is_dir(), "there is no UEFI firmware (Debian: package ovmf)");
    each(|world| {
        let device =
            r#"extra_args: ["-device", "pci-testdev,membar=256G"], sleep: (s3: true), watchdog: (action: Pause)"#;
        let mut guest =
            Linux::start(world, &format!("firmware: Uefi(secure_boot: false, mmio_window: \"512 GiB\"), {device}"));
        let folder = guest.ask("dirname $(grep -l 0x0005 /sys/bus/pci/devices/*/device)");
        let range = guest.ask(&format!("sed -n 3p {}/resource", folder.trim()));
        let number = |at: usize| u64::from_str_radix(&range.split_whitespace().nth(at).unwrap()[2..], 16).unwrap();
        assert_eq!(number(1) + 1 - number(0), RANGE, "{range}");
        let memory = guest.ask("cat /proc/iomem");
        let holds = |line: &str| {
            let (first, last) = line.trim().split_once(" : ")?.0.split_once('-')?;
            let (first, last) = (u64::from_str_radix(first, 16).ok()?, u64::from_str_radix(last, 16).ok()?);
            Some(first <= number(0) && number(1) <= last)
        };
        let window = memory.lines().find(|line| line.ends_with(": PCI Bus 0000:00") && holds(line) == Some(true));
        assert!(number(0) > 0 && window.is_some(), "{range}{memory}");
        assert!(guest.ask("cat /sys/power/mem_sleep").contains("deep"));
        // The chipset's watchdog.
        let mut qmp = Qmp::of(world);
        guest.ask("watchdog -T 4 -t 1000 /dev/watchdog");
        assert_eq!(qmp.event("WATCHDOG")["data"]["action"], "pause");
        guest.launcher.tells("was not set in time (pause)");
        assert_eq!(qmp.ask("query-status")["running"], false);
        world.done(&["stop", "--force", &world.name]).with(0);
        guest.launcher.ended().with(4);
    });
}
