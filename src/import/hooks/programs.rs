//! Programs that hooks call.

use super::command::Command;
use super::outcome::{Outcome, RESTORED, done, improved, left, log, taken, together};
use super::settings;
use super::units;
use crate::import::account::Verdict;
use crate::import::context::Context;
use std::path::Path;

use crate::machine::{Firmware, Frequency, Holders, HostPlace};
use crate::units::PciAddress;

const HANDS_OVER: &str = "vfio-run takes the devices in `pci` from their drivers, and gives them back";
const DRIVERS: &str = "vfio-run removes the drivers' modules that a device needs gone (NVIDIA's), frees it from others by unbinding, and loads again what was there";
const VFIO: &str = "vfio-run loads VFIO's modules";
const PLACED: &str = "vfio-run places each thread of QEMU's before the guest runs";
const OWNERS: &str = "QEMU reaches the devices that the machine has, whoever owns their nodes";
/// What becomes of a command that changes nothing.
pub const LOOKS: &str = "it only looks, or says something";

/// Modules of graphics cards, of sound on them, and what they stand on.
const MODULES: [&str; 34] = [
    "nvidia",
    "nvidia_drm",
    "nvidia_modeset",
    "nvidia_uvm",
    "nvidiafb",
    "i2c_nvidia_gpu",
    "ucsi_ccg",
    "amdgpu",
    "radeon",
    "amdxcp",
    "nouveau",
    "i915",
    "xe",
    "drm",
    "drm_kms_helper",
    "drm_ttm_helper",
    "drm_buddy",
    "drm_suballoc_helper",
    "drm_display_helper",
    "drm_panel_orientation_quirks",
    "ttm",
    "gpu_sched",
    "i2c_algo_bit",
    "video",
    "mxm_wmi",
    "wmi",
    "snd_hda_intel",
    "snd_hda_codec_hdmi",
    "snd_hda_codec",
    "snd_hda_core",
    "xhci_pci",
    "xhci_hcd",
    "efifb",
    "simpledrm",
];

/// Parts of the names of what usually has a card open, and of commands that list what has.
const HOLDERS: [&str; 30] = [
    "xorg",
    "xwayland",
    "x11",
    "gnome-shell",
    "gnome-session",
    "gdm",
    "sddm",
    "lightdm",
    "kwin",
    "plasma",
    "kde",
    "ksmserver",
    "mutter",
    "cinnamon",
    "xfwm",
    "xfce",
    "sway",
    "hyprland",
    "wayfire",
    "gamescope",
    "steam",
    "pipewire",
    "wireplumber",
    "pulseaudio",
    "nvidia",
    "/dev/dri",
    "/dev/snd",
    "fuser",
    "lsof",
    "openbox",
];

/// What becomes of a program's call.
pub fn of(cx: &mut Context, program: &str, arguments: &[&str], starting: bool, command: &Command) -> Option<Outcome> {
    match program {
        "sleep" | "wait" => improved("vfio-run waits for the fact, not for a time"),
        "systemctl" | "service" | "rc-service" | "sv" | "initctl" => units::of(cx, program, arguments, starting),
        "echo" | "printf" if command.piped => left("the next command has it"),
        "tee" => {
            let value = command.input.as_deref().unwrap_or_default();
            arguments
                .iter()
                .filter(|word| !word.starts_with('-'))
                .find_map(|file| settings::written(cx, file, value, starting).or_else(|| log(file)))
        }
        "rtcwake" => done(settings::SUSPENDS),
        "cp" | "install" if arguments.iter().any(|word| word.to_ascii_uppercase().contains("VARS")) => {
            firmware(cx, arguments)
        }
        "sysctl" => {
            let settings: Vec<_> = arguments.iter().filter_map(|word| word.split_once('=')).collect();
            if settings.is_empty() {
                return left(LOOKS);
            }
            together(settings.into_iter().map(|(name, value)| {
                settings::written(cx, &format!("/proc/sys/{}", name.replace('.', "/")), value, starting)
            }))
        }
        "modprobe" | "rmmod" | "insmod" => modules(arguments),
        "virsh" => virsh(cx, arguments),
        "driverctl" if !are_its_own(cx, arguments) => None,
        "driverctl" | "vfio-bind" | "vfio-pci-bind.sh" | "setpci" => done(HANDS_OVER),
        "killall" | "pkill" | "kill" | "fuser" | "loginctl" => ended(cx, program, arguments, starting),
        "cpupower" | "cpufreq-set" | "cpupower-gui" => frequencies(cx, arguments, starting),
        "powerprofilesctl" | "tuned-adm" | "tlp" | "auto-cpufreq" => {
            if !starting {
                return done(RESTORED);
            }
            let performs = arguments
                .iter()
                .any(|word| word.contains("performance") || word.contains("virtual-host") || word.contains("latency"));
            performs.then(|| settings::governor(cx, "performance")).flatten()
        }
        "vfio-isolate" => isolate(cx, arguments, starting),
        "cset" | "cgset" | "cgcreate" | "cgexec" | "cgdelete" | "cgclassify" => units::isolated(cx, starting),
        "taskset" | "chrt" | "renice" | "nice" | "ionice" => done(PLACED),
        "irqbalance" => {
            cx.machine.host.irqs = Some(HostPlace::Away);
            taken("`host.irqs: Away` keeps the host's interrupts off the vCPUs' CPUs, and stops irqbalance for the run")
        }
        "systemd-inhibit" | "gnome-session-inhibit" | "caffeinate" | "caffeine" | "xdg-screensaver" => {
            cx.machine.host.no_sleep = Some(true);
            taken("`host.no_sleep`: the host does not sleep while the guest runs")
        }
        "nvidia-smi" | "nvidia-xconfig" | "nvidia-settings" | "nvidia-persistenced" | "nvidia-modprobe" => {
            left("vfio-run waits until the driver has the card again")
        }
        "plymouth" | "chvt" | "openvt" | "setterm" | "fgconsole" | "deallocvt" => done("vfio-run sees to the consoles"),
        "udevadm" => done("vfio-run waits for udev where it must"),
        "mkdir" | "rmdir" | "mount" | "umount"
            if arguments.iter().any(|word| word.contains("hugepages") || word.contains("hugetlbfs")) =>
        {
            done("huge pages need no mount here")
        }
        "chown" | "chgrp" | "chmod" | "setfacl" if of_devices(arguments) => done(OWNERS),
        "touch" | "chown" | "chmod" | "rm" | "truncate" | "setfacl" | "dd" | "ln"
            if arguments
                .iter()
                .any(|word| ["looking-glass", "kvmfr", "scream", "ivshmem"].iter().any(|name| word.contains(name))) =>
        {
            done("Looking Glass's and Scream's memory is made for the run, for the user whose desktop it is")
        }
        "touch" | "rm" | "mkdir"
            if arguments.iter().any(|word| {
                word.contains("/tmp/") || word.contains("lock") || word.contains("/log") || word.contains("/run/")
            }) =>
        {
            left("notes of the script's own; the journal has what was changed")
        }
        // One that is found never comes here.
        "source" | "." => Some(Outcome(
            Verdict::NeedsYou,
            "this script is not beside the hooks, so what it does, and what it sets for the lines below, is not known: put it into the \
             folder of `--hooks` and import again"
                .to_owned(),
        )),
        "set" | "exec" | "shopt" | "export" | "local" | "declare" | "typeset" | "readonly" | "unset" | "trap"
        | "umask" | "cd" | "exit" | "return" | "shift" | "read" | "ulimit" | "pushd" | "popd"
        | "let" | "mapfile" | "readarray" | "disown" | "jobs" | "bg" | "fg" | "times" | "enable" | "setopt"
        | "emulate" | "autoload" | "getopts" | "alias" | "hash" => {
            left("the shell's own")
        }
        "echo" | "printf" | "cat" | "grep" | "egrep" | "awk" | "gawk" | "sed" | "cut" | "tr" | "head" | "tail"
        | "sort" | "uniq" | "wc" | "ls" | "find" | "lspci" | "lsmod" | "lsusb" | "lscpu" | "dmesg" | "date"
        | "pgrep" | "ps" | "readlink" | "realpath" | "basename" | "dirname" | "seq" | "whoami" | "who" | "id"
        | "hostname" | "uname" | "test" | "expr" | "bc" | "xargs" | "logger" | "journalctl" | "which" | "type"
        | "stat" | "nproc" | "lsof" | "xmllint" | "free" | "df" | "true" | "false" | "tty" | "uptime" | "sync"
        | "numfmt" | "jq" | "numactl" | "pidof" | "time" | "clear" | "tput" | "wall" | "env" | "printenv"
        | "md5sum" | "sha256sum" | "cmp" | "diff" | "column" | "paste" | "xxd" | "hexdump" | "od" | "yes"
        | "systemd-cat" => left(LOOKS),
        "sudo" | "doas" if arguments.iter().all(|word| word.starts_with('-')) => left("it only asks for a password"),
        // A descriptor's number, before `>`.
        _ if program.parse::<u32>().is_ok() => left("the shell's own"),
        _ => None,
    }
}

/// Whether all paths are of devices that a guest is given, or of what gives them.
fn of_devices(arguments: &[&str]) -> bool {
    const PLACES: [&str; 8] = [
        "/dev/vfio",
        "/dev/input/",
        "/dev/kvm",
        "/dev/net/tun",
        "/dev/vhost-",
        "/dev/bus/usb/",
        "/sys/bus/pci/devices/",
        "/dev/hugepages",
    ];
    let mut paths = arguments.iter().filter(|word| word.starts_with('/')).peekable();
    paths.peek().is_some() && paths.all(|path| PLACES.iter().any(|place| path.starts_with(place)))
}

/// vfio-isolate's subcommands, several of which stand in one call.
fn isolate(cx: &mut Context, arguments: &[&str], starting: bool) -> Option<Outcome> {
    let has = |word: &str| starting && arguments.contains(&word);
    let performance = arguments.windows(2).any(|pair| pair == ["cpu-governor", "performance"]);
    let host = &mut cx.machine.host;
    if has("move-tasks") {
        host.kernel_threads = Some(HostPlace::Away);
    }
    if has("irq-affinity") {
        host.irqs = Some(HostPlace::Away);
    }
    if performance && starting {
        host.governor = Some("performance".to_owned());
    }
    // These change nothing of where other programs run.
    if has("cpuset-create") || has("cpuset-modify") || has("move-tasks") || !starting {
        return units::isolated(cx, starting);
    }
    let known = has("irq-affinity") || performance;
    if known { taken("the fields of `host` for it; restored after the run") } else { None }
}

/// A variable store that is copied at each start.
fn firmware(cx: &mut Context, arguments: &[&str]) -> Option<Outcome> {
    let mut files = arguments.iter().filter(|word| !word.starts_with('-'));
    let (from, to) = (files.next()?, files.next()?);
    if let Firmware::Uefi(uefi) = &mut cx.machine.firmware
        && uefi.vars.as_deref() == Some(Path::new(to))
        && from.starts_with('/')
    {
        uefi.vars = Some(from.into());
        cx.comments.remove("firmware");
    }
    improved(
        "a variable store that is copied anew at each start loses its boot entries; vfio-run copies the template once, and keeps the machine's own",
    )
}

fn modules(arguments: &[&str]) -> Option<Outcome> {
    let mut found = None;
    for name in arguments.iter().filter(|word| !word.starts_with('-') && !word.contains('=')) {
        let name = name.rsplit('/').next().unwrap_or(name).trim_end_matches(".ko").replace('-', "_");
        found = match name.as_str() {
            _ if name.starts_with("vfio") || name == "kvm" || name.starts_with("kvm_") => done(VFIO),
            "vendor_reset" => left("vendor-reset is the host's to load at each boot: /etc/modules-load.d"),
            "i2c_dev" | "i2c_piix4" | "i2c_i801" => left("the host's own; no guest needs it"),
            "kvmfr" => left("kvmfr is the host's to load at each boot: /etc/modules-load.d"),
            _ if MODULES.contains(&name.as_str()) || name.starts_with("snd_") || name.contains('$') => done(DRIVERS),
            "loop" | "tun" | "tap" | "vhost" | "vhost_net" | "macvtap" | "br_netfilter" => {
                done("the kernel loads it when it is needed")
            }
            _ => return None,
        };
    }
    found
}

/// Whether each device that is named, as `0000:01:00.0` or `pci_0000_01_00_0`, is one of the machine's.
fn are_its_own(cx: &Context, arguments: &[&str]) -> bool {
    let address = |word: &&str| {
        let name = word.strip_prefix("pci_")?;
        let (slot, function) = name.rsplit_once('_')?;
        format!("{}.{function}", slot.replace('_', ":")).parse().ok()
    };
    let mut named = arguments.iter().filter_map(|word| word.parse::<PciAddress>().ok().or_else(|| address(word)));
    named.all(|address| cx.machine.pci.iter().any(|device| device.address.contains(address)))
}

fn virsh(cx: &Context, arguments: &[&str]) -> Option<Outcome> {
    let words: Vec<&str> =
        arguments.iter().copied().filter(|word| !word.starts_with('-') && !word.contains("://")).collect();
    match words.first().copied().unwrap_or_default() {
        "nodedev-detach" | "nodedev-dettach" | "nodedev-reattach" | "nodedev-reset" => {
            if are_its_own(cx, arguments) {
                done(HANDS_OVER)
            } else {
                None
            }
        }
        "net-start" | "net-autostart" => {
            done("`backend: Nat` uses libvirt's network if it is up, and makes one like it if not")
        }
        "attach-device" | "detach-device" => {
            improved("`usb` gives the guest a device when it is plugged in; `vfio-run attach` and `detach` by hand")
        }
        "list" | "dominfo" | "domstate" | "nodedev-list" | "dumpxml" | "nodedev-dumpxml" | "domid" | "version" => {
            left("it only looks")
        }
        "vcpupin" | "emulatorpin" | "schedinfo" | "iothreadpin" => done(PLACED),
        _ => None,
    }
}

fn ended(cx: &mut Context, program: &str, arguments: &[&str], starting: bool) -> Option<Outcome> {
    if program == "loginctl" {
        let ends = arguments.iter().any(|word| word.starts_with("terminate") || word.starts_with("kill"));
        return if ends { done("sessions on the card end with their display manager") } else { left("it only looks") };
    }
    let kills =
        |word: &&str| word.starts_with('-') && !word.starts_with("--") && word.contains('k') || *word == "--kill";
    if program == "fuser" && !arguments.iter().any(kills) || program == "kill" && arguments.contains(&"-0") {
        return left(LOOKS);
    }
    let is_guest = |word: &str| word.contains("qemu") && !["nbd", "img", "ga"].iter().any(|end| word.ends_with(end));
    if arguments.iter().any(|word| is_guest(word)) {
        return done("`vfio-run stop` ends the guest, by force with `--force`");
    }
    // Others than those that may have the card open, and all that are ended after the guest, are the user's to judge.
    let whole_user = arguments.iter().any(|word| word.starts_with("-u") || *word == "--user");
    let holds = |word: &&str| {
        let word = word.to_ascii_lowercase();
        HOLDERS.iter().any(|name| word.contains(name))
    };
    if !starting || !(program == "fuser" || whole_user || arguments.iter().any(holds)) {
        return None;
    }
    cx.machine.handover.holders = Holders::End;
    taken(
        "`handover.holders: End`: programs that have the device open are asked to end, and then killed; no others are",
    )
}

fn frequencies(cx: &mut Context, arguments: &[&str], starting: bool) -> Option<Outcome> {
    if !starting {
        return done(RESTORED);
    }
    let mut found = None;
    let mut words = arguments.iter().copied().peekable();
    while let Some(word) = words.next() {
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        match name {
            "-g" | "--governor" => {
                let value = value.or_else(|| words.next()).unwrap_or_default();
                found = settings::governor(cx, value);
            }
            "-d" | "--min" | "-f" | "--freq" => {
                cx.machine.host.frequency = Some(Frequency::Max);
                found = taken("`host.frequency: Max`; restored after the run");
            }
            "-u" | "--max" => found = found.or_else(|| left("the highest frequency is the processor's own")),
            _ if name.starts_with("-g") && name.len() > 2 => found = settings::governor(cx, &name[2..]),
            _ => {}
        }
    }
    found
}
