//! The named lab hosts, as data.

use anyhow::{Context, Result};

use super::host::{Device, Gpu, Host};
use super::images::Release;

/// A named host.
pub struct Variant {
    /// As tests and `scripts/lab shell` call it.
    pub name: &'static str,
    /// What it is, in a line.
    pub what: &'static str,
    /// The releases on which an ordinary run starts it from a template: `scripts/lab images` boots it once there.
    pub on: &'static [Release],
    /// What it adds to a bare host.
    pub build: fn(Host) -> Host,
}

const BOTH: &[Release] = &Release::ALL;
const OLDER: &[Release] = &[Release::Debian12];
const NEWER: &[Release] = &[Release::Debian13];

/// All of them.
pub const VARIANTS: &[Variant] = &[
    Variant {
        name: "bare",
        what: "four processors and disks, nothing else",
        on: BOTH,
        build: |host| host.cpus("4 cores"),
    },
    Variant {
        name: "one-gpu",
        what: "one GPU, VGA and sound in one IOMMU group, the console on it",
        on: BOTH,
        build: |host| host.gpu(Gpu::Only),
    },
    Variant {
        name: "two-gpus",
        what: "a GPU with the console, and a second one with its sound",
        on: NEWER,
        build: |host| host.gpu(Gpu::Primary).gpu(Gpu::Second),
    },
    Variant {
        name: "uefi",
        what: "one GPU, booted by OVMF with a boot framebuffer on it",
        on: NEWER,
        build: |host| host.gpu(Gpu::Only).ovmf(),
    },
    Variant {
        name: "virtio-gpu",
        what: "a virtio-vga as the only GPU, with function level reset; two network cards below a PCIe switch without ACS",
        on: NEWER,
        build: |host| host.gpu(Gpu::Virtio).device(Device::Switch),
    },
    Variant { name: "nvme", what: "one GPU and an NVMe disk", on: NEWER, build: |host| host.gpu(Gpu::Only).nvme() },
    Variant {
        name: "usb",
        what: "one GPU; a USB controller with keyboard, mouse and disk",
        on: BOTH,
        build: |host| host.gpu(Gpu::Only).usb(),
    },
    Variant {
        name: "sriov",
        what: "a device with two SR-IOV virtual functions",
        on: &[],
        build: |host| host.device(Device::SrIov).full_boot(),
    },
    Variant {
        name: "no-reset",
        what: "a device that cannot be reset",
        on: &[],
        build: |host| host.device(Device::NoReset),
    },
    Variant {
        name: "numa",
        what: "8 CPUs with SMT in two sockets and NUMA nodes, with frequencies to choose from; one GPU; a device on the far node",
        on: NEWER,
        // With a tick that never stops. Of eight emulated processors one loses its timer now and then, and with it, for good, the
        // kernel's RCU ("Possible timer handling issue on cpu=2"): the less often a timer is set, the more seldom.
        build: |host| {
            let host =
                host.gpu(Gpu::Only).cpus("2 sockets × 2 cores × 2 threads on 2 nodes").memory(3072).frequencies();
            host.kernel("nohz=off").kernel("highres=off")
        },
    },
    Variant {
        name: "workstation",
        what: "four processors with frequencies to choose from; a GPU with the console and a second one; a page of 1 GiB",
        on: NEWER,
        build: |host| {
            let host = host.gpu(Gpu::Primary).gpu(Gpu::Second).cpus("4 cores").memory(4096).frequencies();
            host.kernel("hugepagesz=1G").kernel("hugepages=1")
        },
    },
    Variant {
        name: "compositor",
        what: "one GPU, weston as display manager on it (Debian 13)",
        on: NEWER,
        build: |host| host.gpu(Gpu::Only).usb().compositor(),
    },
    Variant {
        name: "apparmor",
        what: "one GPU; a USB controller with keyboard, mouse and disk; AppArmor in force",
        on: NEWER,
        build: |host| host.gpu(Gpu::Only).usb().kernel("lsm=landlock,lockdown,yama,apparmor"),
    },
    Variant {
        name: "plain",
        what: "one GPU, and no systemd",
        on: OLDER,
        build: |host| host.gpu(Gpu::Only).without_systemd(),
    },
];

/// The host of a variant.
///
/// # Errors
/// When there is no such variant or release; the message lists those that there are.
pub fn find(name: &str, release: &str) -> Result<Host> {
    let variant = VARIANTS.iter().find(|variant| variant.name == name).with_context(|| {
        let names: Vec<&str> = VARIANTS.iter().map(|variant| variant.name).collect();
        format!("there is no variant `{name}`; there are {}", names.join(", "))
    })?;
    Ok((variant.build)(Host::new(release.parse()?)))
}

/// The name under which a host's template is kept: that of its variant, or `own` for a test's own making.
pub fn name_of(host: &Host) -> String {
    let of = |variant: &Variant| (variant.build)(Host::new(host.release));
    let known = VARIANTS.iter().find(|variant| of(variant) == *host);
    let known = known.or_else(|| VARIANTS.iter().find(|variant| of(variant).in_template() == *host));
    let name = known.map_or_else(|| own_name(host), |variant| variant.name.to_owned());
    format!("{}-{name}", host.release.name())
}

/// A short name that is the same for the same description.
fn own_name(host: &Host) -> String {
    let text = serde_json::to_string(host).unwrap_or_default();
    format!("own-{}", &super::cache::Key::new(&text).text()[..6])
}

#[test]
fn every_variant_is_found_and_named_after_itself() {
    for variant in VARIANTS {
        for release in Release::ALL {
            let host = find(variant.name, release.name()).unwrap();
            assert_eq!(name_of(&host), format!("{}-{}", release.name(), variant.name));
        }
    }
    assert!(find("three-gpus", "debian13").is_err());
}
