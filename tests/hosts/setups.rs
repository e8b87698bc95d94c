//! The hosts of the setups in `machines/`: what their /sys and /proc would say with the cards that their owners name. Of
//! what they prepare at boot (cards bound to vfio-pci, isolated CPUs) nothing is there: the machine files replace it.

use crate::board::{Board, Function};
use crate::shapes::{self, AMD, COMMON, GIB, INTEL, caches, desktop, flags, intel, threads_apart};
use crate::tree::{CoreShape, NodeShape, Shape};

const MIB: u64 = 1 << 20;
/// A kernel that makes cpuset partitions anywhere.
const NEW: &str = "6.12.9-1";
/// Where ranges above 4 GiB begin.
const HIGH: u64 = 1 << 37;

/// A root port.
const fn port(path: &'static str, group: u32) -> Function {
    Function { path, ids: "1022:1483", class: "60400", driver: "pcieport", group, ..NONE }
}

/// The sound of a card.
const fn sound(path: &'static str, ids: &'static str, group: u32, node: u32) -> Function {
    let bars = &[(0, 0xfc08_0000, 16 << 10)];
    Function { path, ids, class: "40300", driver: "snd_hda_intel", group, bars, node: Some(node), ..NONE }
}

/// A USB controller.
const fn usb(path: &'static str, ids: &'static str, group: u32) -> Function {
    let bars = &[(0, 0xfc40_0000, 64 << 10)];
    Function { path, ids, class: "c0330", driver: "xhci_hcd", group, bars, reset: "flr", ..NONE }
}

const NONE: Function =
    Function { path: "", ids: "", class: "", driver: "", group: 0, bars: &[], reset: "", node: None, shows: false };

/// One card with 24 GiB, all of which the CPU sees; SDDM on it.
pub fn core_i7_13700k() -> Shape {
    let card = Function {
        path: "00:01.0/01:00.0",
        ids: "10de:2684",
        class: "30000",
        driver: "nvidia",
        group: 14,
        bars: &[(0, 0xdf00_0000, 16 * MIB), (1, HIGH, 32 << 30), (3, HIGH + (32 << 30), 32 * MIB)],
        reset: "bus",
        node: Some(0),
        shows: true,
    };
    let functions = vec![
        Function { ids: "8086:a70d", ..port("00:01.0", 2) },
        card,
        sound("00:01.0/01:00.1", "10de:22ba", 14, 0),
        usb("00:14.0", "8086:7ae0", 5),
    ];
    let board = Board { address_bits: 46, functions, has_exclusive_cpus: false, desktop: ("sddm.service", "Xorg") };
    Shape { board: Some(board), ..shapes::core_i7_13700k() }
}

/// Two complexes of three cores, siblings adjacent, as the firmware of these boards numbers them; one card with four
/// functions, LightDM on it.
pub fn ryzen_1600af() -> Shape {
    let cores: Vec<CoreShape> = (0..6u32)
        .zip([0, 1, 2, 4, 5, 6])
        .map(|(n, core)| CoreShape { cpus: [2 * n, 2 * n + 1].into_iter().collect(), core, package: 0 })
        .collect();
    let caches = caches(&cores, 32, 64, 512, 8192, 3);
    let card = Function {
        path: "00:03.1/06:00.0",
        ids: "10de:1e89",
        class: "30000",
        driver: "nvidia",
        group: 13,
        bars: &[(0, 0xf600_0000, 16 * MIB), (1, HIGH, 256 * MIB), (3, HIGH + 256 * MIB, 32 * MIB)],
        reset: "bus",
        node: Some(0),
        shows: true,
    };
    let functions = vec![
        port("00:03.1", 4),
        card,
        sound("00:03.1/06:00.1", "10de:10f8", 13, 0),
        Function { reset: "", ..usb("00:03.1/06:00.2", "10de:1ad8", 13) },
        Function {
            path: "00:03.1/06:00.3",
            ids: "10de:1ad9",
            class: "c8000",
            driver: "nvidia-gpu",
            group: 13,
            bars: &[(0, 0xf704_0000, 4096)],
            ..NONE
        },
    ];
    let board = Board { address_bits: 43, functions, has_exclusive_cpus: true, desktop: ("lightdm.service", "Xorg") };
    let shape = desktop("AMD Ryzen 5 1600 Six-Core Processor", flags(&[COMMON, AMD]), cores, caches, 16);
    // Just started.
    let NodeShape { cpus, total_kib, .. } = &shape.nodes[0];
    let node = NodeShape { cpus: cpus.clone(), free_kib: total_kib - 2 * GIB, ..shape.nodes[0] };
    Shape { kernel: NEW, board: Some(board), nodes: vec![node], ..shape }
}

/// Two dies of two complexes of three cores, 16 MiB each; GDM on a Radeon, a GeForce and an NVMe disk beside it.
pub fn ryzen_3900x() -> Shape {
    let cores = threads_apart([0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14].into_iter());
    let caches = caches(&cores, 32, 32, 512, 16_384, 3);
    let gpu = Function { class: "30000", ..NONE };
    let functions = vec![
        port("00:01.2", 2),
        Function {
            path: "00:01.2/04:00.0",
            ids: "144d:a808",
            class: "10802",
            driver: "nvme",
            group: 20,
            bars: &[(0, 0xfc20_0000, 16 << 10)],
            reset: "flr",
            node: Some(1),
            ..NONE
        },
        port("00:03.1", 9),
        Function {
            path: "00:03.1/0a:00.0",
            ids: "10de:2206",
            driver: "nvidia",
            group: 32,
            bars: &[(0, 0xfa00_0000, 16 * MIB), (1, HIGH, 256 * MIB), (3, HIGH + 256 * MIB, 32 * MIB)],
            reset: "bus",
            node: Some(1),
            ..gpu
        },
        sound("00:03.1/0a:00.1", "10de:1aef", 32, 1),
        Function { reset: "", ..usb("00:03.1/0a:00.2", "10de:1ad8", 32) },
        Function {
            path: "00:03.1/0a:00.3",
            ids: "10de:1ad9",
            class: "c8000",
            driver: "nvidia-gpu",
            group: 32,
            bars: &[(0, 0xfb08_4000, 4096)],
            ..NONE
        },
        port("00:03.2", 10),
        Function {
            path: "00:03.2/0c:00.0",
            ids: "1002:731f",
            driver: "amdgpu",
            group: 30,
            bars: &[(0, HIGH << 1, 256 * MIB), (2, (HIGH << 1) + 256 * MIB, 2 * MIB), (5, 0xfc90_0000, 512 << 10)],
            reset: "bus",
            node: Some(0),
            shows: true,
            ..gpu
        },
        sound("00:03.2/0c:00.1", "1002:ab38", 31, 0),
    ];
    let board =
        Board { address_bits: 43, functions, has_exclusive_cpus: true, desktop: ("gdm.service", "gnome-shell") };
    let shape = desktop("AMD Ryzen 9 3900X 12-Core Processor", flags(&[COMMON, AMD]), cores, caches, 32);
    Shape { kernel: NEW, board: Some(board), ..shape }
}

/// Two complexes of four cores, 16 MiB each; LightDM on a Radeon, another with four functions in as many groups, and a
/// USB card beside it.
pub fn ryzen_3700x() -> Shape {
    let cores = threads_apart(0..8);
    let caches = caches(&cores, 32, 32, 512, 16_384, 4);
    let gpu = Function { class: "30000", driver: "amdgpu", reset: "bus", ..NONE };
    let functions = vec![
        port("00:03.1", 5),
        port("00:03.1/09:00.0", 24),
        port("00:03.1/09:00.0/0a:00.0", 25),
        Function {
            path: "00:03.1/09:00.0/0a:00.0/0b:00.0",
            ids: "1002:73bf",
            group: 26,
            bars: &[(0, HIGH, 16 << 30), (2, HIGH + (16 << 30), 256 * MIB), (5, 0xfcb0_0000, MIB)],
            node: Some(1),
            ..gpu
        },
        sound("00:03.1/09:00.0/0a:00.0/0b:00.1", "1002:ab28", 27, 1),
        Function { reset: "", ..usb("00:03.1/09:00.0/0a:00.0/0b:00.2", "1002:73a6", 28) },
        Function {
            path: "00:03.1/09:00.0/0a:00.0/0b:00.3",
            ids: "1002:73a4",
            class: "c8000",
            group: 29,
            bars: &[(0, 0xfcc0_0000, 16 << 10)],
            ..NONE
        },
        port("00:03.2", 6),
        Function {
            path: "00:03.2/0c:00.0",
            ids: "1002:67df",
            group: 30,
            bars: &[(0, HIGH << 1, 256 * MIB), (2, (HIGH << 1) + 256 * MIB, 2 * MIB), (5, 0xfc90_0000, 256 << 10)],
            node: Some(0),
            shows: true,
            ..gpu
        },
        sound("00:03.2/0c:00.1", "1002:aaf0", 30, 0),
        port("00:01.3", 36),
        Function { reset: "bus", ..usb("00:01.3/0f:00.0", "1106:3483", 37) },
    ];
    let board = Board { address_bits: 43, functions, has_exclusive_cpus: false, desktop: ("lightdm.service", "Xorg") };
    let shape = desktop("AMD Ryzen 7 3700X 8-Core Processor", flags(&[COMMON, AMD]), cores, caches, 32);
    Shape { kernel: "5.15.0-119-generic", board: Some(board), ..shape }
}

/// Six cores; SDDM on the processor's own graphics, two GeForce cards beside it, of which nouveau drives one; pages of 1 GiB
/// made at boot.
pub fn core_i7_8700k() -> Shape {
    let cores = threads_apart(0..6);
    let caches = caches(&cores, 32, 32, 256, 12_288, 6);
    let gpu = Function { class: "30000", ..NONE };
    let functions = vec![
        Function { ids: "8086:1901", ..port("00:01.0", 1) },
        Function {
            path: "00:01.0/01:00.0",
            ids: "10de:1b81",
            driver: "nouveau",
            group: 15,
            bars: &[(0, 0xde00_0000, 16 * MIB), (1, 0xc000_0000, 256 * MIB), (3, 0xd000_0000, 32 * MIB)],
            reset: "bus",
            node: Some(1),
            ..gpu
        },
        sound("00:01.0/01:00.1", "10de:10f0", 15, 1),
        Function {
            path: "00:02.0",
            ids: "8086:3e92",
            driver: "i915",
            group: 2,
            bars: &[(0, HIGH, 16 * MIB), (2, 0xb000_0000, 256 * MIB)],
            reset: "flr",
            node: Some(0),
            shows: true,
            ..gpu
        },
        Function { ids: "8086:a290", ..port("00:1c.0", 8) },
        Function {
            path: "00:1c.0/02:00.0",
            ids: "10de:1244",
            group: 16,
            bars: &[(0, 0xdc00_0000, 16 * MIB)],
            reset: "bus",
            ..gpu
        },
    ];
    let board = Board { address_bits: 39, functions, has_exclusive_cpus: true, desktop: ("sddm.service", "Xorg") };
    let model = "Intel(R) Core(TM) i7-8700K CPU @ 3.70GHz";
    let shape = intel(desktop(model, flags(&[COMMON, INTEL, "mpx hle rtm"]), cores, caches, 32));
    Shape {
        kernel: NEW,
        cmdline: "BOOT_IMAGE=/boot/vmlinuz-linux root=/dev/sda2 rw quiet intel_iommu=on iommu=pt default_hugepagesz=1G \
             hugepagesz=1G hugepages=14",
        pools: vec![(2048, 0, 0), (MIB, 14, 14)],
        board: Some(board),
        ..shape
    }
}
