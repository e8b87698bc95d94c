//! Files of the host that a distribution, a vendor or another user has written.

use std::path::Path;

use vfio_run::host::pci::{Names, WantedPci};
use vfio_run::host::{Environment, Host, Root, Wanted};

use super::fuzz;
use super::mutate::Mutator;

/// A host with nothing but some files.
struct Tree(tempfile::TempDir);

impl Tree {
    fn new() -> Self {
        Self(tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap())
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.path().join(path.trim_start_matches('/'));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn host(&self, wanted: &Wanted) -> Host {
        let environment = Environment { uid: 0, gid: 0, pid: 4711, variables: [].into() };
        Host::read_in(&Root::new(self.0.path()), &environment, wanted)
    }
}

/// One function of a vendor that pci.ids has, and its ROM.
fn card(tree: &Tree) -> Wanted {
    let uevent = "PCI_CLASS=30000\nPCI_ID=10DE:2684\nPCI_SUBSYS_ID=1043:889A\nPCI_SLOT_NAME=0000:01:00.0\n";
    tree.write("/sys/bus/pci/devices/0000:01:00.0/uevent", uevent);
    let pci = WantedPci { roms: vec!["/rom".into()], all: true, ..WantedPci::default() };
    Wanted { pci: Some(pci), ..Wanted::default() }
}

#[test]
fn roms() {
    let tree = Tree::new();
    let wanted = card(&tree);
    // Two images of PCI Firmware Specification 3.0, section 5.1: a header, and the structure that it points to.
    let mut rom = Vec::new();
    for (code_type, last) in [(0u8, 0u8), (3, 0x80)] {
        let mut image = vec![0u8; 1024];
        image[..2].copy_from_slice(&[0x55, 0xaa]);
        image[0x18] = 0x40;
        image[0x40..0x44].copy_from_slice(b"PCIR");
        image[0x44..0x48].copy_from_slice(&[0xde, 0x10, 0x84, 0x26]);
        image[0x4a] = 0x18;
        image[0x50] = 2;
        (image[0x54], image[0x55]) = (code_type, last);
        rom.extend(image);
    }
    tree.write("/rom", &rom);
    assert_eq!(tree.host(&wanted).pci.unwrap().roms[Path::new("/rom")].as_ref().unwrap().images.len(), 2);
    fuzz("roms", |mutator| {
        tree.write("/rom", mutator.bytes(&rom));
        tree.host(&wanted);
    });
}

#[test]
fn names_of_devices() {
    let tree = Tree::new();
    let wanted = card(&tree);
    let names = "# names\n10de  NVIDIA Corporation\n# within\n\t2684  AD102 [GeForce RTX 4090]\n\t\t1043 889a  Card\n\
                 C 03  Display controller\n\t00  VGA compatible controller\n\t\t00  VGA controller\n";
    tree.write("/usr/share/misc/pci.ids", names);
    let told = |host: Host| {
        let pci = host.pci.unwrap();
        let names = Names::of(&Root::new(tree.0.path()), &pci.functions);
        pci.functions.iter().map(|function| names.device(function)).collect::<String>()
    };
    assert!(told(tree.host(&wanted)).contains("AD102"));
    fuzz("names_of_devices", |mutator| {
        tree.write("/usr/share/misc/pci.ids", mutator.bytes(names.as_bytes()));
        let name = told(tree.host(&wanted));
        assert!(!name.contains(|c: char| c.is_control()), "{name:?}");
    });
}

#[test]
fn image_headers() {
    let tree = Tree::new();
    let headers: [&[u8]; 9] = [
        b"QFI\xfb\0\0\0\x03\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x10\0\0\0\0\x40\0\0\0",
        b"KDMV\x01\0\0\0\x03\0\0\0",
        b"# Disk DescriptorFile\nversion=1\n",
        b"vhdxfile",
        b"conectix\0\0\0\x02",
        b"QED\0",
        b"LUKS\xba\xbe\0\x01",
        b"WithoutFreeSpace",
        b"<<< Oracle VM VirtualBox Disk Image >>>\n",
    ];
    let wanted = Wanted { files: vec!["/disk.img".into()], ..Wanted::default() };
    fuzz("image_headers", |mutator: &mut Mutator| {
        let mut image = mutator.one_of(&headers).to_vec();
        image.resize(2048, 0);
        tree.write("/disk.img", mutator.bytes(&image));
        // And what it names, which is looked at too.
        assert!(tree.host(&wanted).files.contains_key(Path::new("/disk.img")));
    });
}

#[test]
fn firmware_descriptors() {
    let tree = Tree::new();
    let descriptor = r#"{ "description": "UEFI", "interface-types": ["uefi"], "mapping": { "device": "flash",
        "executable": { "filename": "/usr/share/OVMF/OVMF_CODE_4M.ms.fd", "format": "raw" },
        "nvram-template": { "filename": "/usr/share/OVMF/OVMF_VARS_4M.ms.fd", "format": "raw" } },
        "targets": [{ "architecture": "x86_64", "machines": ["pc-q35-*"] }],
        "features": ["acpi-s3", "enrolled-keys", "requires-smm", "secure-boot", "verbose-dynamic"], "tags": [] }"#;
    let path = "/usr/share/qemu/firmware/40-edk2.json";
    tree.write(path, descriptor);
    assert_eq!(tree.host(&Wanted::default()).firmware.len(), 1);
    fuzz("firmware_descriptors", |mutator| {
        let damaged = if mutator.below(2) == 0 {
            mutator.bytes(descriptor.as_bytes())
        } else {
            let mut value = serde_json::from_str(descriptor).unwrap();
            mutator.value(&mut value);
            value.to_string().into_bytes()
        };
        tree.write(path, damaged);
        assert!(tree.host(&Wanted::default()).firmware.len() <= 1);
    });
}
