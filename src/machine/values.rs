//! The machine's plain values: name, QEMU binary, machine type, account, timeout, raw arguments; and what subjects must
//! not say together.

use std::path::Path;

use super::file::Machine;
use super::named::Named;
use super::problems::{Problems, consists_of};
use super::subject;
use super::subjects::audio::Audio;
use super::subjects::display::{Display, Video};

/// Long enough for a name that people type, short enough that a UNIX socket's path (108 bytes) holds it.
const MAX_NAME: usize = 48;
const MAX_SHUTDOWN: u32 = 3600;
/// QEMU's `splash-time` has 16 bits of milliseconds.
const MAX_BOOT_MENU: u32 = 60;
/// The name that QEMU has if the machine names none.
pub const QEMU: &str = "qemu-system-x86_64";

/// Whether this can be a machine's name; it becomes a folder's and a unit's name, so it cannot lead elsewhere.
pub fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(['.', '-']) && name.len() <= MAX_NAME && consists_of(name, "-_.")
}

/// What [`is_name`] takes, in words.
pub fn name_rule() -> String {
    format!("letters, digits, `-`, `_` and `.`, not beginning with `-` or `.`, at most {MAX_NAME} characters")
}

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
    if let Some(kind) = machine.machine_type.as_deref().filter(|kind| is_other_board(kind)) {
        problems
            .add(
                "machine_type",
                format!("`machine_type` cannot be {kind:?}: it has no PCI Express, which the devices of a plan need"),
            )
            .allowed("\"q35\", or one of its versions, such as \"pc-q35-7.2\"")
            .help(match kind.starts_with("pc") {
                true => "leave it out; `vfio-run man identity` tells how an installed Windows moves from i440fx to q35",
                false => "leave it out",
            });
    }
    if let Some(seconds) = machine.boot_menu.filter(|seconds| !(1..=MAX_BOOT_MENU).contains(seconds)) {
        problems
            .add("boot_menu", format!("`boot_menu` cannot be {seconds}"))
            .allowed(format!("1 to {MAX_BOOT_MENU} seconds"))
            .help("leave it out for no menu");
    }
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
    for (i, arg) in machine.extra_args.iter().enumerate() {
        // Only what would take QEMU out of our hands; anything else is the user's own business.
        if matches!(arg.trim_start_matches('-'), "daemonize") && arg.starts_with('-') {
            problems
                .add(format!("extra_args[{i}]"), format!("`{arg}` would take QEMU away from its launcher"))
                .help("for a machine in the background, see `vfio-run unit`");
        }
        // QEMU would look for an option of that name, blank and all.
        if let Some((option, value)) = arg.split_once(' ').filter(|(option, _)| is_option(option)) {
            problems
                .add(format!("extra_args[{i}]"), format!("`{arg}` is more than one word"))
                .allowed("one word an entry, as QEMU gets them")
                .help(format!("write [{option:?}, {:?}]", value.trim_start()));
        }
    }
    if matches!(machine.audio, Audio::Spice(_)) && !matches!(machine.display, Display::Spice(_)) {
        problems
            .add("audio", "`audio: Spice` sends sound to a SPICE client, and the machine has no SPICE server")
            .help("write `display: Spice`, or `audio: Auto` for the desktop's own sound server");
    }
    if let Some(memory) = machine.video_memory {
        Video::check_memory(machine.video.as_ref(), memory, problems);
    }
    if matches!(machine.video, Some(Video::VirtioGl(_))) && machine.display == Display::None {
        problems
            .add("video", "`video: VirtioGl` needs a `display` that renders")
            .help("write `display: Gtk`, `Spice` or `Vnc`, or `EglHeadless` for a guest without a screen");
    }
    if let (Some(Video::VirtioGl(_)), Display::Gtk(window) | Display::Sdl(window)) = (&machine.video, &machine.display)
        && window.gl == Some(false)
    {
        problems
            .add("display.gl", "`gl: false` contradicts `video: VirtioGl`")
            .help("leave `gl` out, or write `video: Virtio`");
    }
    if let Some(display) = machine.display.needs_card().filter(|_| machine.video == Some(Video::None)) {
        problems
            .add("video", format!("`video: None` leaves `display: {display}` nothing to show"))
            .help("leave `video` out, or write `display: None`");
    }
}

/// Whether it is an option's name: `-device`.
fn is_option(word: &str) -> bool {
    word.strip_prefix('-')
        .is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic()) && consists_of(name, "-"))
}

/// Whether QEMU knows this board and it is another than q35. (One that QEMU does not know is the plan's to tell.)
fn is_other_board(kind: &str) -> bool {
    let pc = kind == "pc" || kind.starts_with("pc-") && !kind.starts_with("pc-q35-");
    pc || matches!(kind, "isapc" | "microvm" | "none")
}

fn name(name: &str, problems: &mut Problems) {
    if !is_name(name) {
        problems
            .add("name", format!("{name:?} cannot be a machine's name"))
            .allowed(name_rule())
            .help("without `name` the file's name is used: give one, such as `name: \"win11\"`");
    }
}

/// Makes the binary's path start from this folder, unless it is a bare name, which is looked up in PATH as everywhere else.
pub(super) fn resolve(machine: &mut Machine, folder: &Path) {
    if let Some(base) = &mut machine.base {
        subject::absolute(base, folder);
    }
    if let Some(qemu) = &mut machine.qemu
        && (qemu.components().count() > 1 || qemu.starts_with("."))
    {
        subject::absolute(qemu, folder);
    }
}

/// Refuses a path that cannot be meant.
pub(super) fn check_path(machine: &Machine, problems: &mut Problems) {
    if let Some(base) = &machine.base {
        problems.path("base", base);
    }
    if let Some(qemu) = &machine.qemu {
        problems.path("qemu", qemu);
    }
}

pub(super) fn named(machine: &Machine, named: &mut Named) {
    if machine.scream {
        named.files.push(machine.scream_file());
        named.desktop = true;
    }
    named
        .programs
        .push(machine.qemu.as_ref().map_or_else(|| QEMU.to_owned(), |path| path.to_string_lossy().into_owned()));
    named.accounts.extend(machine.user.clone());
    named.ports.extend(machine.raw_ports().iter().map(|(_, address)| address.port()));
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::machine::parse;

    #[test]
    fn an_option_and_its_value_are_two_entries() {
        let refused = |args: &str| {
            let text = format!(r#"(guest: Other, memory: (size: "1 GiB"), extra_args: {args})"#);
            parse(Path::new("/a.ron"), &text).err().map(|problems| problems.to_string())
        };
        let words = refused(r#"["-device edu"]"#).unwrap();
        assert!(words.contains("`-device edu` is more than one word"), "{words}");
        assert!(words.contains(r#"write ["-device", "edu"]"#), "{words}");
        for args in [r#"["-device", "edu"]"#, r#"["-append", "a -b c"]"#, r#"["-fw_cfg", "name=opt/a,string=- x"]"#] {
            assert_eq!(refused(args), None);
        }
    }
}
