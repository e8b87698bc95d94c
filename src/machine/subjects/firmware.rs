//! What the guest boots with: UEFI, SeaBIOS, or a Linux kernel directly.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::named::Named;
use crate::machine::problems::Problems;
use crate::machine::subject::Subject;
use crate::units::Size;

/// x86's `COMMAND_LINE_SIZE` is 2048 with its NUL.
const MAX_CMDLINE: usize = 2047;

/// What OVMF takes for its window (`PlatformGetFirstNonAddress()` in edk2's `OvmfPkg/Library/PlatformInitLib`).
const MMIO_WINDOW: std::ops::RangeInclusive<u64> = 1 << 30..=1 << 44;

/// The guest's firmware.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Firmware {
    /// UEFI for Windows and Linux (with Secure Boot for Windows 11), SeaBIOS for others and with `kernel`.
    #[default]
    Auto,
    /// UEFI (OVMF), chosen from the firmware descriptors in `/usr/share/qemu/firmware`, its overrides, and those beside a QEMU
    /// that is installed elsewhere.
    Uefi(Uefi),
    /// QEMU's own SeaBIOS.
    Bios,
}

/// What is asked of a UEFI build.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uefi {
    /// Whether Secure Boot is on. Default: yes for Windows 11, no for others.
    #[serde(default)]
    pub secure_boot: Option<bool>,
    /// Whether the variable store already holds Microsoft's keys. Default: as `secure_boot`.
    #[serde(default)]
    pub enrolled_keys: Option<bool>,
    /// The firmware's code image, in place of the one that the firmware descriptors name; needs `vars`.
    #[serde(default)]
    pub code: Option<PathBuf>,
    /// The template of the variable store, which vfio-run copies once for the machine; needs `code`.
    #[serde(default)]
    pub vars: Option<PathBuf>,
    /// How much of the address space UEFI keeps for the 64-bit memory ranges of PCI devices, 1 GiB to 16 TiB. Default: what
    /// the devices in `pci` need, if UEFI would keep less.
    #[serde(default)]
    pub mmio_window: Option<Size>,
}

/// A Linux kernel that QEMU starts directly.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// The kernel image (`bzImage` or a multiboot image). If root starts the machine, and QEMU's account cannot open it, QEMU
    /// gets a copy in memory.
    pub image: PathBuf,
    /// The initial RAM disk, as `image`. Default: none.
    #[serde(default)]
    pub initrd: Option<PathBuf>,
    /// The kernel command line, at most 2047 bytes. Default: empty.
    #[serde(default)]
    pub cmdline: String,
}

impl Firmware {
    /// Names of a machine's own variable store in its folder: as plain bytes, and as qcow2.
    pub const STORES: [&str; 2] = ["vars.fd", "vars.qcow2"];
}

impl Subject for Firmware {
    fn check(&self, problems: &mut Problems) {
        let Firmware::Uefi(uefi) = self else { return };
        for (given, missing, one, other) in
            [(&uefi.code, &uefi.vars, "code", "vars"), (&uefi.vars, &uefi.code, "vars", "code")]
        {
            if given.is_some() && missing.is_none() {
                problems
                    .add(format!("firmware.{one}"), format!("`firmware` has `{one}` but no `{other}`"))
                    .allowed("both or neither: a code image and the variable store's template belong together")
                    .help("leave both out to have a pair chosen from /usr/share/qemu/firmware");
            }
        }
        if let Some(window) = uefi.mmio_window.filter(|size| !MMIO_WINDOW.contains(&size.as_bytes())) {
            problems
                .add("firmware.mmio_window", format!("`firmware.mmio_window` cannot be \"{window}\""))
                .allowed("1 GiB to 16 TiB")
                .help("leave it out: it follows from the devices in `pci`");
        }
        if uefi.secure_boot == Some(false) && uefi.enrolled_keys == Some(true) {
            problems
                .add("firmware.enrolled_keys", "`enrolled_keys: true` contradicts `secure_boot: false`")
                .help("enrolled keys switch Secure Boot on: leave one of the two out");
        }
    }

    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        let Self::Uefi(uefi) = self else { return Vec::new() };
        let fields = [("firmware.code", &mut uefi.code), ("firmware.vars", &mut uefi.vars)];
        fields.into_iter().filter_map(|(field, path)| Some((field.to_owned(), path.as_mut()?))).collect()
    }

    fn name(&self, named: &mut Named) {
        if *self != Self::Bios {
            named.kept.extend(Self::STORES);
        }
    }
}

impl Subject for Kernel {
    fn check(&self, problems: &mut Problems) {
        let length = self.cmdline.len();
        if length > MAX_CMDLINE {
            problems
                .add("kernel.cmdline", format!("`kernel.cmdline` has {length} bytes"))
                .allowed(format!("at most {MAX_CMDLINE}: Linux cuts off what is longer"));
        }
    }

    fn paths(&mut self) -> Vec<(String, &mut PathBuf)> {
        let mut paths = vec![("kernel.image".to_owned(), &mut self.image)];
        paths.extend(self.initrd.as_mut().map(|initrd| ("kernel.initrd".to_owned(), initrd)));
        paths
    }
}
