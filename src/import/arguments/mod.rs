//! QEMU's own options, as `qemu:commandline` and shell scripts have them: what has a field becomes one, the rest goes into
//! `extra_args`.

mod cards;
mod computed;
mod cpu;
mod devices;
mod drives;
mod machine;
mod option;
mod plain;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use super::account::Verdict;
use super::context::Context;
use super::xml::Node;
use crate::machine::{Firmware, Smbios, SmbiosFields, Uefi};
use crate::units::{PciAddress, Size, printable_start};
use computed::is_computed;
pub use devices::{given, property};
pub use option::Members;
use state::{Became, State};

/// A word of a command line and where it was written.
#[derive(Debug, Clone)]
pub struct Word<'d> {
    /// The word.
    pub text: String,
    /// Where.
    pub at: At<'d>,
}

/// Where a word was written.
#[derive(Debug, Clone)]
pub enum At<'d> {
    /// An attribute `value` of an element.
    Xml(Node<'d>),
    /// A line of a script.
    Line(String, u32),
}

/// Options that take no value.
const ALONE: [&str; 37] = [
    "usb",
    "nodefaults",
    "no-user-config",
    "nographic",
    "enable-kvm",
    "no-hpet",
    "no-acpi",
    "no-reboot",
    "no-shutdown",
    "S",
    "s",
    "daemonize",
    "mem-prealloc",
    "localtime",
    "win2k-hack",
    "snapshot",
    "sdl",
    "curses",
    "no-quit",
    "alt-grab",
    "ctrl-grab",
    "no-frame",
    "full-screen",
    "show-cursor",
    "nodefconfig",
    "no-kvm-irqchip",
    "no-kvm-pit",
    "no-kvm-pit-reinjection",
    "no-fd-bootchk",
    "tdf",
    "enable-fips",
    "enable-nesting",
    "singlestep",
    "preconfig",
    "only-migratable",
    "semihosting",
    "std-vga",
];

/// Reads the words of a command line.
pub fn read(cx: &mut Context, words: &[Word], aliases: BTreeMap<String, PciAddress>) {
    let script = words.first().is_some_and(|word| matches!(word.at, At::Line(..)));
    let words = &without_computed(cx, words);
    let mut state = State { aliases, script, ..State::default() };
    let mut index = 0;
    // What sockets and memory are for is known when all options are read, so those come first.
    while let Some((option, value, next)) = pair(words, index) {
        if DEFINITIONS.contains(&option)
            && let Some(members) = value.and_then(|value| Members::parse(&value.text))
            && let Some(id) = members.get("id").or(members.get("node-name"))
        {
            state.named.insert(id.to_owned(), members.clone());
        }
        index = next;
    }
    // Firmware comes first, since others are a part of it. What refers to others comes before those, which then know whether
    // somebody has taken them, or has gone into `extra_args` and needs them there.
    for turn in 0..4 {
        index = 0;
        while let Some((option, value, next)) = pair(words, index) {
            if turn == turn_of(option, value) {
                option_of(cx, &mut state, option, value, &words[index..next]);
            }
            index = next;
        }
    }
    drives::finish(cx, &mut state);
    cards::finish(cx, &mut state);
    machine::finish(cx, &mut state);
    cx.machine.pci.extend(std::mem::take(&mut state.functions).into_iter().map(|(_, device)| device));
    for (index, folder) in std::mem::take(&mut state.shared).into_iter().enumerate() {
        let share = super::domain::shared_folder(format!("share{index}"), folder);
        cx.machine.shares.push(share);
        cx.account.remark(
            Verdict::Improved,
            "the folder that QEMU's network shared by SMB is in `shares` now (virtiofs; Windows needs virtio-win and WinFsp)",
        );
    }
    if state.smbios != SmbiosFields::default() {
        cx.machine.smbios = Smbios::Fields(Box::new(state.smbios));
    }
    if let Some(lines) = cx.comments.get_mut("extra_args") {
        lines.sort();
        lines.dedup();
    }
}

/// The words without members that only a run of the script tells, which enter the account.
fn without_computed<'d>(cx: &mut Context, words: &[Word<'d>]) -> Vec<Word<'d>> {
    let mut kept = words.to_vec();
    let mut index = 0;
    while let Some((option, value, next)) = pair(words, index) {
        index = next;
        let Some(Word { text, at: At::Line(file, line) }) = value else { continue };
        let Some((known, lost)) = computed::split(option, text) else { continue };
        let first = known.split(',').next().unwrap_or_default();
        for member in lost {
            let shown = printable_start(&format!("-{option} {first},…,{member}"), 100);
            let words = "the shell computes this part of the option when the script runs, so only the rest is taken over: write the field that says it, \
                         with the value that it has";
            cx.account.line(Verdict::NeedsYou, file, *line, &shown, words);
        }
        kept[next - 1].text = known;
    }
    kept
}

fn option_of(cx: &mut Context, state: &mut State, option: &str, value: Option<&Word>, words: &[Word]) {
    machine::note(state, option, value.map(|value| value.text.as_str()).unwrap_or_default());
    if words.iter().any(|word| matches!(word.at, At::Line(..)) && is_computed(&word.text)) {
        let all = words.iter().all(|word| matches!(word.text.as_str(), "$@" | "$*"));
        let became = match all {
            true => Became(Verdict::LeftOut, "the script's own arguments".to_owned()),
            false => {
                let is_flash = turn_of(option, value) == 0 && option != "bios";
                let copied = value.and_then(|value| {
                    let text = value.text.replace("$$", "");
                    is_flash.then_some(&value.text).filter(|_| !is_computed(&text))
                });
                if let Some(became) = copied.and_then(|text| one(cx, state, option, text)) {
                    // A copy with the process's number in its name: the command that makes it says of what.
                    return enter(cx, &became, words);
                }
                if is_flash && cx.machine.firmware == Firmware::Bios {
                    // Whatever its name, nothing else is in flash.
                    cx.machine.firmware = Firmware::Uefi(Uefi { secure_boot: Some(false), ..Uefi::default() });
                }
                let why = "the shell computes this when the script runs: write the field that says it, with the value that it has";
                Became(Verdict::NeedsYou, why.to_owned())
            }
        };
        return enter(cx, &became, words);
    }
    let text = value.map(|value| value.text.as_str()).unwrap_or_default();
    let became = taken_over(cx, state, option, text).unwrap_or_else(|| {
        let mut kept: Vec<String> = words.iter().map(|word| word.text.clone()).collect();
        // The buses of controllers that have other names here, or none.
        let members = Members::parse(text).filter(|members| {
            let bus = members.get("bus").and_then(|bus| bus.split('.').next());
            let other = |bus: &str| ["pci", "usb", "usb-bus", "ehci", "xhci", "ahci"].contains(&bus);
            option == "device" && bus.is_some_and(|bus| state.controllers.contains(bus) || other(bus))
        });
        if let (Some(members), [_, value]) = (members, &mut kept[..]) {
            *value = members.without(&["bus", "addr"]);
        }
        let text = kept.get(1).cloned().unwrap_or_default();
        // Numbers begin with 1 in a machine file, and with 0 in QEMU.
        if let (Some(members), [_, value]) = (Members::parse(&text), &mut kept[..])
            && let Some(order) = members.get("bootindex").and_then(|order| order.parse::<u32>().ok())
            && state.script
        {
            state.numbers.push(order.saturating_add(1));
            *value = members.with("bootindex", &order.saturating_add(1).to_string());
        }
        // QEMU makes devices that are JSON last, so only those find the buses of vfio-run's own.
        if let ("device", [_, value]) = (option, &mut kept[..])
            && let Some(members) = Members::parse(value).filter(|members| members.driver().is_some_and(needs_bus))
        {
            *value = members.json();
        }
        state.referred.extend(kept.iter().flat_map(|word| referred_to(word)));
        cx.machine.extra_args.extend(kept);
        cx.comment("extra_args", format!("No field says -{option}, so QEMU gets it as it was."));
        Became(Verdict::TakenOver, format!("no field says `-{option}` in these words, so they are in `extra_args`"))
    });
    enter(cx, &became, words);
}

/// What defines something that other options refer to.
const DEFINITIONS: [&str; 7] = ["object", "chardev", "netdev", "drive", "blockdev", "tpmdev", "audiodev"];

/// What becomes of an option; `None` if it has no field, or if what has none refers to it.
fn taken_over(cx: &mut Context, state: &mut State, option: &str, text: &str) -> Option<Became> {
    if DEFINITIONS.contains(&option)
        && let Some(members) = Members::parse(text)
        && let Some(id) = members.get("id").or(members.get("node-name"))
        && state.referred.contains(id)
    {
        if option == "audiodev" {
            one(cx, state, option, text);
        }
        return None;
    }
    one(cx, state, option, text)
}

/// The ids of others that a word which QEMU gets as it is refers to.
fn referred_to(word: &str) -> Vec<String> {
    const NAMES: [&str; 10] = [
        "iothread",
        "drive",
        "file",
        "backing",
        "rng",
        "memory-encryption",
        "confidential-guest-support",
        "memory-backend",
        "tls-creds",
        "throttle-group",
    ];
    let refers = |key: &str| NAMES.contains(&key) || key.ends_with("dev") || key.ends_with("secret");
    let members = Members::parse(word).unwrap_or_default();
    let ids = members.rest().filter(|(key, _)| refers(key)).map(|(_, id)| id.to_owned());
    ids.chain(word.strip_prefix("chardev:").map(str::to_owned)).collect()
}

/// Whether a device is on a bus that no board has.
fn needs_bus(driver: &str) -> bool {
    ["usb-", "scsi-", "hda-", "ccid-card", "virtserialport", "virtconsole"]
        .iter()
        .any(|start| driver.starts_with(start))
}

/// When an option is read.
fn turn_of(option: &str, value: Option<&Word>) -> u8 {
    let text = value.map(|value| value.text.as_str()).unwrap_or_default();
    match option {
        "bios" | "pflash" => 0,
        "drive" if text.contains("if=pflash") => 0,
        "machine" | "M" if text.contains("pflash0=") => 0,
        "device" => 1,
        "hda" | "hdb" | "hdc" | "hdd" | "cdrom" => 3,
        _ if DEFINITIONS.contains(&option) => 3,
        _ => 2,
    }
}

/// The option at a word, its value, and the word behind both. A word that is no option stands alone.
fn pair<'w, 'd>(words: &'w [Word<'d>], index: usize) -> Option<(&'w str, Option<&'w Word<'d>>, usize)> {
    let word = words.get(index)?;
    let Some(option) = word.text.strip_prefix('-').map(|rest| rest.trim_start_matches('-')) else {
        return Some(("", Some(word), index + 1));
    };
    // No value looks like an option, but for what a kernel is given.
    let is_option = |word: &Word| {
        let rest = word.text.strip_prefix('-');
        option != "append" && rest.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphabetic()))
    };
    let value = words.get(index + 1).filter(|word| !ALONE.contains(&option) && !is_option(word));
    Some((option, value, index + 1 + usize::from(value.is_some())))
}

fn enter(cx: &mut Context, Became(verdict, why): &Became, words: &[Word]) {
    for word in words {
        if let At::Xml(node) = &word.at {
            cx.account.enter(*verdict, *node, &["value"], why);
        }
    }
    if let Some(At::Line(file, line)) = words.first().map(|word| &word.at) {
        let text: Vec<&str> = words.iter().map(|word| word.text.as_str()).collect();
        cx.account.line(*verdict, file, *line, &printable_start(&text.join(" "), 100), why);
    }
}

/// What becomes of an option; `None` if it has no field.
fn one(cx: &mut Context, state: &mut State, option: &str, value: &str) -> Option<Became> {
    let members = Members::parse(value);
    if let Some(became) = plain::read(cx, option, value) {
        return Some(became);
    }
    match option {
        "cpu" => cpu::read(cx, value, state.script),
        "device" => devices::device(cx, state, &members?),
        "object" => devices::object(cx, state, &members?),
        "netdev" => cards::netdev(state, &members?),
        "nic" | "net" => cards::nic(cx, state, option, value),
        "drive" | "hda" | "hdb" | "hdc" | "hdd" | "cdrom" | "pflash" => drives::drive(cx, state, option, value),
        "blockdev" => drives::node(state, &members?),
        "pcidevice" => devices::assigned(state, &members?),
        "virtfs" => devices::folder(cx, &members?),
        "tpmdev" => state.used.contains(members?.get("id")?).then(Became::taken).flatten(),
        "chardev" => devices::socket(state, &members?),
        "audiodev" => devices::audio(cx, &members?),
        "smb" => {
            state.shared.push(value.into());
            Became::taken()
        }
        "redir" => cards::redirection(state, value),
        "vcpu" => machine::pin(state, &members?),
        "mon" | "qmp" => Became::done("QMP for your own tools is `qmp.sock` in the run directory"),
        "set" => devices::set(cx, state, value),
        "smbios" => smbios(cx, state, &members?),
        "acpitable" => {
            let file = members?.get("file")?.to_owned();
            cx.machine.acpi_tables.0.push(file.into());
            Became::taken()
        }
        "fw_cfg" => window(cx, value),
        "nographic" | "nodefaults" | "no-user-config" => Became::done("QEMU has no device that the plan does not show"),
        "enable-kvm" => Became::done("KVM is used if it works"),
        "no-hpet" => Became::done("Windows has no HPET"),
        "usb" => Became::done("there is an xHCI controller if a device needs one"),
        "d" | "D" | "msg" => Became::left("QEMU's messages are in the machine's log; `-d` is for its developers"),
        _ => machine::read(cx, state, option, value),
    }
}

fn smbios(cx: &mut Context, state: &mut State, members: &Members) -> Option<Became> {
    let structure = members.get("type")?;
    let mut fields = state.smbios.clone();
    for (name, value) in members.rest().filter(|(name, _)| *name != "type") {
        if (structure, name) == ("11", "value") {
            fields.oem_strings.push(value.to_owned());
        } else if (structure, name) == ("1", "uuid") && state.script {
            cx.machine.uuid = Some(value.parse().ok()?);
        } else if (structure, name) != ("0", "uefi")
            && !super::domain::smbios_field(&mut fields, structure, name, value)
        {
            return None;
        }
    }
    state.smbios = fields;
    Became::taken()
}

/// The window of OVMF for large cards.
fn window(cx: &mut Context, value: &str) -> Option<Became> {
    // The plan reads how much that is from the cards, which are here.
    let home = cx.own_host.is_some();
    let members = Members::parse(value)?;
    let name = members.get("name").or(members.driver())?;
    if name != "opt/ovmf/X-PciMmio64Mb" && name != "opt/ovmf/X-PciMmio64" {
        return None;
    }
    let mib: u64 = members.get("string")?.parse().ok()?;
    let size = Size::bytes(mib.checked_mul(Size::MIB)?);
    let Firmware::Uefi(uefi) = &mut cx.machine.firmware else { return None };
    if home {
        return Became::done("UEFI keeps as much room as the memory ranges of the cards need");
    }
    uefi.mmio_window = Some(size).filter(|size| (1 << 30..=1 << 44).contains(&size.as_bytes()));
    Became::taken()
}
