use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::*;
use crate::host::Root;
use crate::host::sample_tree;
use crate::units::Size;

/// A desktop: a graphics card with sound behind a port, an NVMe drive with the root file system, a USB controller and
/// the network card of a bridge.
fn desktop() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let put = |path: &str, text: &str| sample_tree::put(root, path, text);
    let link = |target: &str, path: &str| {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        symlink(target, path).unwrap();
    };
    let function = |path: &str, ids: &str, class: &str, driver: &str, group: u32| {
        let folder = format!("sys/devices/pci0000:00/{path}");
        let address = path.rsplit('/').next().unwrap();
        put(
            &format!("{folder}/uevent"),
            &format!(
                "DRIVER={driver}\nPCI_CLASS={class}\nPCI_ID={ids}\nPCI_SUBSYS_ID=1458:1234\nPCI_SLOT_NAME={address}\n"
            ),
        );
        link(&format!("../../../devices/pci0000:00/{path}"), &format!("sys/bus/pci/devices/{address}"));
        link(&format!("/sys/kernel/iommu_groups/{group}"), &format!("{folder}/iommu_group"));
        link(&format!("/sys/bus/pci/drivers/{driver}"), &format!("{folder}/driver"));
        folder
    };
    std::fs::create_dir_all(root.join("sys/kernel/iommu_groups")).unwrap();
    function("0000:00:01.0", "8086:460D", "60400", "pcieport", 1);
    let gpu = function("0000:00:01.0/0000:01:00.0", "10DE:2684", "30000", "nvidia", 2);
    put(&format!("{gpu}/boot_vga"), "1\n");
    put(&format!("{gpu}/numa_node"), "-1\n");
    put(&format!("{gpu}/reset_method"), "flr bus\n");
    put(&format!("{gpu}/max_link_speed"), "16.0 GT/s PCIe\n");
    put(&format!("{gpu}/max_link_width"), "16\n");
    put(&format!("{gpu}/resource1_resize"), "000000000000fe00\n");
    put(
        &format!("{gpu}/resource"),
        "0x0000000080000000 0x0000000080ffffff 0x0000000000040200\n\
         0x0000006000000000 0x000000600fffffff 0x000000000014220c\n\
         0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
         0x0000006010000000 0x0000006011ffffff 0x000000000014220c\n\
         0x0000000000000000 0x0000000000000000 0x0000000000000000\n\
         0x0000000000003000 0x000000000000307f 0x0000000000040101\n\
         0x0000000081000000 0x000000008107ffff 0x0000000000046200\n",
    );
    put(&format!("{gpu}/drm/card0/dev"), "226:0\n");
    put(&format!("{gpu}/drm/card0/uevent"), "MAJOR=226\nMINOR=0\nDEVNAME=dri/card0\n");
    link("/sys/class/drm", &format!("{gpu}/drm/card0/subsystem"));
    let sound = function("0000:00:01.0/0000:01:00.1", "10DE:22BA", "40300", "snd_hda_intel", 2);
    put(&format!("{sound}/sound/card1/controlC1/dev"), "116:7\n");
    put(&format!("{sound}/reset"), "");
    put(&format!("{sound}/sound/card1/controlC1/uevent"), "DEVNAME=snd/controlC1\n");
    let disk = function("0000:00:06.0", "144d:a80c", "10802", "nvme", 3);
    put(&format!("{disk}/nvme/nvme0/nvme0n1/dev"), "259:0\n");
    put(&format!("{disk}/nvme/nvme0/nvme0n1/uevent"), "DEVNAME=nvme0n1\n");
    link("/sys/class/block", &format!("{disk}/nvme/nvme0/nvme0n1/subsystem"));
    put("sys/dev/block/259:0/uevent", "DEVNAME=nvme0n1\n");
    // One that could have several paths: below its controller is one of these, and the disk is elsewhere.
    let disk = function("0000:00:07.0", "144d:a80c", "10802", "nvme", 6);
    put(&format!("{disk}/nvme/nvme1/nvme1c1n1/size"), "8\n");
    let head = "sys/devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1";
    for (folder, name, number) in
        [(head.to_owned(), "nvme1n1", "259:2"), (format!("{head}/nvme1n1p1"), "nvme1n1p1", "259:3")]
    {
        put(&format!("{folder}/dev"), number);
        put(&format!("{folder}/uevent"), &format!("DEVNAME={name}\n"));
        link("/sys/class/block", &format!("{folder}/subsystem"));
    }
    link("../../devices/virtual/nvme-subsystem/nvme-subsys1/nvme1n1", "sys/class/block/nvme1n1");
    let home = "26 1 259:3 / /home rw shared:1 - ext4 /dev/nvme1n1p1 rw\n";
    put("proc/self/mountinfo", &format!("25 1 259:0 / / rw shared:1 - ext4 /dev/nvme0n1 rw\n{home}"));
    let usb = function("0000:00:14.0", "8086:7ae0", "c0330", "xhci_hcd", 4);
    put(&format!("{usb}/usb1/1-3/idVendor"), "046d\n");
    put(&format!("{usb}/usb1/1-3/idProduct"), "c547\n");
    put(&format!("{usb}/usb1/1-3/product"), "USB Receiver\n");
    let net = function("0000:00:1f.6", "8086:1a1c", "20000", "e1000e", 5);
    put(&format!("{net}/net/eth0/address"), "52:54:00:00:00:01\n");
    std::fs::create_dir_all(root.join("sys/class/net/eth0/upper_br0")).unwrap();
    symlink(root.join(&net), root.join("sys/class/net/eth0/device")).unwrap();
    put("sys/class/net/br0/address", "52:54:00:00:00:01\n");
    put(
        "proc/net/route",
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU\nbr0 00000000 0101A8C0 3 0 0 0 00000000 0\n",
    );
    link("/sys/module/nvidia", "sys/bus/pci/drivers/nvidia/module");
    for (module, holder) in [("nvidia", "nvidia_modeset"), ("nvidia_modeset", "nvidia_drm"), ("nvidia", "nvidia_uvm")] {
        std::fs::create_dir_all(root.join(format!("sys/module/{module}/holders/{holder}"))).unwrap();
    }
    put("proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: x\nDevice Minor: \t 0\n");
    put("proc/devices", "Character devices:\n195 nvidia\n507 nvidia-uvm\n");
    for (pid, comm, cgroup, node) in [
        (
            812,
            "gnome-shell",
            "/user.slice/user-1000.slice/user@1000.service/session.slice/org.gnome.Shell@wayland.service",
            "/dev/dri/card0",
        ),
        (900, "firefox", "/user.slice/user-1000.slice/session-3.scope", "/dev/nvidia0 (deleted)"),
        (950, "bash", "/user.slice/user-1000.slice/session-3.scope", "/dev/null"),
    ] {
        put(&format!("proc/{pid}/comm"), comm);
        put(&format!("proc/{pid}/status"), "Uid:\t1000\t1000\t1000\t1000\n");
        put(&format!("proc/{pid}/cgroup"), &format!("0::{cgroup}\n"));
        link(node, &format!("proc/{pid}/fd/5"));
    }
    put("sys/class/vtconsole/vtcon0/name", "(S) dummy device\n");
    put("sys/class/vtconsole/vtcon0/bind", "0\n");
    put("sys/class/vtconsole/vtcon1/name", "(M) frame buffer device\n");
    put("sys/class/vtconsole/vtcon1/bind", "1\n");
    put("proc/iomem", "80000000-9fffffff : PCI Bus 0000:00\n  6000000000-60002fffff : BOOTFB\n");
    put("sys/bus/platform/drivers/efi-framebuffer/bind", "");
    link(
        "../../../../devices/platform/efi-framebuffer.0",
        "sys/bus/platform/drivers/efi-framebuffer/efi-framebuffer.0",
    );
    // As Debian has it: by one alias over another.
    link("/usr/lib/systemd/system/gdm3.service", "etc/systemd/system/display-manager.service");
    link("gdm.service", "usr/lib/systemd/system/gdm3.service");
    put("sys/fs/cgroup/system.slice/gdm.service/cgroup.procs", "700\n");
    folder
}

/// Links of the tree that begin at the root lead out of it; only their last part is read.
fn read(root: &Path, slots: &[&str]) -> Pci {
    let slots = slots.iter().map(|slot| slot.parse().unwrap()).collect();
    Pci::read(&Root::new(root), &WantedPci { slots, ..WantedPci::default() }, Path::new("/run/leases"))
}

fn details<'a>(pci: &'a Pci, address: &str) -> &'a Details {
    pci.get(address.parse().unwrap()).unwrap().details.as_deref().unwrap()
}

#[test]
fn of_a_dead_function_nothing_but_that_is_read() {
    let desktop = desktop();
    let config = desktop.path().join("sys/bus/pci/devices/0000:01:00.0/config");
    let mut header = [0; 64];
    std::fs::write(&config, header).unwrap();
    let read_it = || {
        let pci = read(desktop.path(), &["01:00.0"]);
        let its = details(&pci, "01:00.0");
        (its.answers, its.header)
    };
    assert_eq!(read_it(), (Some(true), Some(0)));
    // Ones everywhere would be the header of a bridge.
    // The ids alone are ones in a virtual function too.
    header[..4].fill(0xff);
    std::fs::write(&config, header).unwrap();
    assert_eq!(read_it(), (Some(true), Some(0)));
    header.fill(0xff);
    std::fs::write(&config, header).unwrap();
    assert_eq!(read_it(), (Some(false), None));
}

#[test]
fn a_graphics_card_in_depth_and_all_others_in_short() {
    let desktop = desktop();
    let pci = read(desktop.path(), &["01:00.0"]);
    assert_eq!(pci.iommu, Some(true));
    assert_eq!(pci.functions.len(), 7);
    // With it: the other function of its group, and the port above.
    let deep: Vec<String> =
        pci.functions.iter().filter(|f| f.details.is_some()).map(|f| f.address.to_string()).collect();
    assert_eq!(deep, ["0000:00:01.0", "0000:01:00.0", "0000:01:00.1"]);
    let gpu = pci.get("01:00.0".parse().unwrap()).unwrap();
    assert!(gpu.is_vga() && !gpu.is_bridge());
    assert_eq!((gpu.ids.to_string(), gpu.group), ("10de:2684".to_owned(), Some(2)));
    assert_eq!(gpu.port.unwrap().to_string(), "0000:00:01.0");
    let its = details(&pci, "01:00.0");
    assert_eq!((its.boot_vga, its.numa_node), (Some(true), None));
    assert_eq!(its.reset_methods.as_deref().unwrap(), ["flr", "bus"]);
    // An older kernel's, and one that has none.
    assert_eq!(details(&pci, "01:00.1").reset_methods, None);
    assert_eq!(details(&pci, "00:01.0").reset_methods.as_deref(), Some(&[][..]));
    assert_eq!(its.bars.len(), 4);
    let large = &its.bars[1];
    assert_eq!((large.index, large.size, large.wide, large.prefetch), (1, Size::bytes(256 << 20), true, true));
    assert_eq!(its.rom, Some(Size::bytes(512 << 10)));
    assert_eq!(its.resizable[0].sizes().next_back().unwrap(), Size::bytes(32 << 30));
    assert_eq!(its.link.as_ref().unwrap().max_width, Some(16));
}

#[test]
fn holders_are_found_by_name_also_of_deleted_nodes() {
    let desktop = desktop();
    let pci = read(desktop.path(), &["01:00.0"]);
    let its = details(&pci, "01:00.0");
    let nodes: Vec<_> = its.nodes.iter().map(|node| node.path.to_str().unwrap()).collect();
    assert_eq!(nodes, ["/dev/dri/card0", "/dev/nvidia0", "/dev/nvidia-modeset", "/dev/nvidiactl", "/dev/nvidia-uvm"]);
    assert_eq!(its.holders.len(), 2);
    let shell = &its.holders[0];
    assert_eq!((shell.pid, shell.comm.as_str(), shell.uid), (812, "gnome-shell", Some(1000)));
    assert_eq!((shell.unit.as_deref(), shell.manager), (Some("org.gnome.Shell@wayland.service"), Some(1000)));
    let browser = &its.holders[1];
    assert_eq!((browser.unit.as_deref(), browser.session.as_deref()), (Some("session-3.scope"), Some("3")));
    assert_eq!(browser.nodes, [PathBuf::from("/dev/nvidia0")]);
}

#[test]
fn what_the_host_needs_is_named() {
    let desktop = desktop();
    let pci = read(desktop.path(), &["00:06.0", "00:07.0", "00:14.0", "00:1f.6"]);
    assert_eq!(details(&pci, "00:06.0").uses, ["/"]);
    assert_eq!(details(&pci, "00:07.0").uses, ["/home"]);
    assert_eq!(details(&pci, "00:1f.6").uses, ["default route (br0)"]);
    let usb = &details(&pci, "00:14.0").usb;
    assert_eq!((usb[0].port.as_str(), usb[0].ids.as_str(), usb[0].name.as_str()), ("1-3", "046d:c547", "USB Receiver"));
}

#[test]
fn the_screen_is_what_stands_in_the_way() {
    let desktop = desktop();
    let screen = read(desktop.path(), &[]).screen;
    let on: Vec<_> = screen.consoles.iter().filter(|c| c.bound && c.on_framebuffer()).map(|c| &c.name).collect();
    assert_eq!(on, ["vtcon1"]);
    assert_eq!(screen.boot_memory, [(0x60_0000_0000, 0x60_002f_ffff)]);
    assert_eq!(screen.boot_screens[0].device, "efi-framebuffer.0");
    assert_eq!((screen.display_manager.as_deref(), screen.display_manager_runs), (Some("gdm.service"), true));
}

#[test]
fn a_display_manager_runs_while_it_has_a_cgroup() {
    let desktop = desktop();
    let group = desktop.path().join("sys/fs/cgroup/system.slice/gdm.service");
    std::fs::write(group.join("cgroup.procs"), "").unwrap();
    assert!(read(desktop.path(), &[]).screen.display_manager_runs);
    std::fs::remove_dir_all(group).unwrap();
    assert!(!read(desktop.path(), &[]).screen.display_manager_runs);
}

#[test]
fn names_come_from_the_list_or_are_the_ids() {
    let desktop = desktop();
    let list = "10de  NVIDIA Corporation\n\t2684  AD102 [GeForce RTX 4090]\n\t\t1458 1234  A card\n8086  Intel\n";
    std::fs::create_dir_all(desktop.path().join("usr/share/misc")).unwrap();
    std::fs::write(desktop.path().join("usr/share/misc/pci.ids"), list).unwrap();
    let pci = read(desktop.path(), &[]);
    let names = Names::of(&Root::new(desktop.path()), &pci.functions);
    let name = |address: &str| names.device(pci.get(address.parse().unwrap()).unwrap());
    assert_eq!(name("01:00.0"), "NVIDIA Corporation AD102 [GeForce RTX 4090]");
    assert_eq!(name("00:14.0"), "Intel 7ae0");
    assert_eq!(name("00:06.0"), "144d:a80c");
}

#[test]
fn nothing_is_known_of_an_empty_root() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(read(folder.path(), &["01:00.0"]), Pci::default());
}
