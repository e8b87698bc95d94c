//! The machine itself: name, machine type, memory, firmware, kernel, network, account, raw arguments.

use std::collections::BTreeMap;

use super::{Problems, consists_of};
use crate::machine::{Backend, Firmware, Machine, Memory, Network, Pages};
use crate::units::Size;

/// Long enough for a name that people type, short enough that a UNIX socket's path (108 bytes) holds it.
const MAX_NAME: usize = 48;
/// Physical addresses on x86 have at most 52 bits.
const MAX_MEMORY: u64 = 1 << 52;
/// The kernel's limit on NUMA nodes (`MAX_NUMNODES`).
const MAX_NODE: u32 = 1023;
/// x86's `COMMAND_LINE_SIZE` is 2048 with its NUL.
const MAX_CMDLINE: usize = 2047;
const MAX_NETWORKS: usize = 16;
const MAX_SHUTDOWN: u32 = 3600;
const MAX_GIVE_BACK: u32 = 3600;

pub(super) fn check(machine: &Machine, problems: &mut Problems) {
    name(&machine.name, problems);
    if let Some(kind) = &machine.machine_type
        && (kind.is_empty() || kind.len() > 64 || !consists_of(kind, "-._"))
    {
        problems
            .add("machine_type", format!("`machine_type` cannot be {kind:?}"))
            .allowed("the name alone, such as \"q35\" or \"pc-q35-7.2\"")
            .help("its options go into `extra_args`: [\"-machine\", \"hpet=off\"]");
    }
    memory(&machine.memory, problems);
    firmware(&machine.firmware, problems);
    if let Some(kernel) = machine.kernel.as_ref().filter(|kernel| kernel.cmdline.len() > MAX_CMDLINE) {
        let length = kernel.cmdline.len();
        problems
            .add("kernel.cmdline", format!("`kernel.cmdline` has {length} bytes"))
            .allowed(format!("at most {MAX_CMDLINE}: Linux cuts off what is longer"));
    }
    networks(machine.networks.as_deref().unwrap_or_default(), problems);
    if let Some(user) = &machine.user {
        let bad_start = user.is_empty() || user.starts_with(['-', '.']);
        if bad_start || user.len() > 32 || !consists_of(user, "-._") {
            problems
                .add("user", format!("`user` cannot be {user:?}"))
                .allowed("an account's name, or its number in quotes");
        }
    }
    if let Some(seconds) = machine.shutdown_timeout.filter(|seconds| !(1..=MAX_SHUTDOWN).contains(seconds)) {
        problems
            .add("shutdown_timeout", format!("`shutdown_timeout` cannot be {seconds}"))
            .allowed(format!("1 to {MAX_SHUTDOWN} seconds"));
    }
    if let Some(switch) = machine.give_back_unless.filter(|switch| !(1..=MAX_GIVE_BACK).contains(&switch.within)) {
        problems
            .add("give_back_unless.within", format!("`give_back_unless.within` cannot be {}", switch.within))
            .allowed(format!("1 to {MAX_GIVE_BACK} seconds"));
    }
    for (i, arg) in machine.extra_args.iter().enumerate() {
        // Only what would take QEMU out of our hands; anything else is the user's own business.
        if matches!(arg.trim_start_matches('-'), "daemonize") && arg.starts_with('-') {
            problems
                .add(format!("extra_args[{i}]"), format!("`{arg}` would take QEMU away from its launcher"))
                .help("for a machine in the background, see `vfio-run unit`");
        }
    }
}

/// Whether this can be a machine's name; it becomes a folder's and a unit's name, so it cannot lead elsewhere.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['.', '-']) && name.len() <= MAX_NAME && consists_of(name, "-_.")
}

fn name(name: &str, problems: &mut Problems) {
    if !is_name(name) {
        problems
            .add("name", format!("{name:?} cannot be a machine's name"))
            .allowed(format!(
                "letters, digits, `-`, `_` and `.`, not beginning with `-` or `.`, at most {MAX_NAME} characters"
            ))
            .help("the file's name is used where there is no `name`: give one, such as `name: \"win11\"`");
    }
}

fn memory(memory: &Memory, problems: &mut Problems) {
    let size = memory.size;
    let mut refuse = |message: String, allowed: &str| {
        problems.add("memory.size", message).allowed(allowed);
    };
    if size.as_bytes() == 0 || !size.as_bytes().is_multiple_of(Size::MIB) {
        refuse(format!("`memory.size` cannot be {size}"), "whole mebibytes, at least 1 MiB");
    } else if size.as_bytes() > MAX_MEMORY {
        refuse(format!("`memory.size` cannot be {size}"), "at most 4096 TiB, the limit of x86's physical addresses");
    }
    if let Pages::Huge(page) = memory.pages {
        if ![2 * Size::MIB, Size::GIB].contains(&page.as_bytes()) {
            problems
                .add("memory.pages.Huge", format!("there are no huge pages of {page}"))
                .allowed("x86 has `Huge(\"2 MiB\")` and `Huge(\"1 GiB\")`");
        } else if !size.as_bytes().is_multiple_of(page.as_bytes()) {
            let below = Size::bytes(size.as_bytes() / page.as_bytes() * page.as_bytes());
            let above = Size::bytes(below.as_bytes() + page.as_bytes());
            let near = if below.as_bytes() == 0 { above.to_string() } else { format!("{below} or {above}") };
            problems
                .add("memory.size", format!("`memory.size` of {size} is no whole number of {page} pages"))
                .allowed(format!("a multiple of {page}, such as {near}"));
        }
    }
    if let Some(nodes) = &memory.nodes {
        if nodes.is_empty() {
            problems
                .add("memory.nodes", "`memory.nodes` names no node")
                .help("leave it out to let the placement decide");
        } else if let Some(node) = nodes.iter().next_back().filter(|node| *node > MAX_NODE) {
            problems
                .add("memory.nodes", format!("there is no NUMA node {node}"))
                .allowed(format!("0 to {MAX_NODE}, as a list: \"0,1\""));
        }
    }
}

fn firmware(firmware: &Firmware, problems: &mut Problems) {
    let Firmware::Uefi(uefi) = firmware else { return };
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
    if uefi.secure_boot == Some(false) && uefi.enrolled_keys == Some(true) {
        problems
            .add("firmware.enrolled_keys", "`enrolled_keys: true` contradicts `secure_boot: false`")
            .help("enrolled keys switch Secure Boot on: leave one of the two out");
    }
}

fn networks(networks: &[Network], problems: &mut Problems) {
    if networks.len() > MAX_NETWORKS {
        problems
            .add(format!("networks[{MAX_NETWORKS}]"), format!("{} network cards are too many", networks.len()))
            .allowed(format!("at most {MAX_NETWORKS}"));
    }
    let mut seen = BTreeMap::new();
    for (i, network) in networks.iter().enumerate() {
        if let Backend::Bridge(name) | Backend::Tap(name) = &network.backend {
            let kind = if matches!(network.backend, Backend::Tap(_)) { "Tap" } else { "Bridge" };
            if !is_interface(name) {
                problems
                    .add(format!("networks[{i}].backend.{kind}"), format!("{name:?} cannot be a network interface"))
                    .allowed("1 to 15 characters without `/`, `:` and blanks");
            }
        }
        if let Some(written) = &network.mac {
            let field = format!("networks[{i}].mac");
            match mac(written) {
                Err(why) => {
                    problems
                        .add(field, format!("{written:?} {why}"))
                        .allowed("six pairs of hexadecimal digits, such as \"52:54:00:12:34:56\"");
                }
                Ok(mac) => {
                    if let Some(first) = seen.insert(mac, i) {
                        problems.add(field, format!("{written:?} is already the address of `networks[{first}]`"));
                    }
                }
            }
        }
    }
}

/// The kernel's rule (`dev_valid_name`).
fn is_interface(name: &str) -> bool {
    let bad = |c: char| c == '/' || c == ':' || c.is_whitespace();
    (1..=15).contains(&name.len()) && name != "." && name != ".." && !name.contains(bad)
}

fn mac(text: &str) -> Result<[u8; 6], &'static str> {
    let mut mac = [0; 6];
    let mut parts = text.split(':');
    for byte in &mut mac {
        let part = parts.next().filter(|part| part.len() == 2 && part.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte = part.and_then(|part| u8::from_str_radix(part, 16).ok()).ok_or("is not a MAC address")?;
    }
    match (parts.next(), mac) {
        (Some(_), _) => Err("is not a MAC address"),
        (None, [0, 0, 0, 0, 0, 0]) => Err("is no card's address"),
        (None, [first, ..]) if first & 1 == 1 => Err("is a multicast address, no card's own: its first byte is odd"),
        _ => Ok(mac),
    }
}
