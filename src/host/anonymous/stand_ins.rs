//! Stand-ins of the same form for what belongs to somebody; the same text has the same one throughout.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// Folders of every system, and what this program and desktops have below them.
const FOLDERS: &[&str] = &[
    "bin",
    "boot",
    "bsg",
    "bus",
    "by-id",
    "by-label",
    "by-partlabel",
    "by-partuuid",
    "by-path",
    "by-uuid",
    "cache",
    "dev",
    "disk",
    "dri",
    "etc",
    "firmware",
    "fs",
    "home",
    "input",
    "kvm",
    "lib",
    "lib64",
    "libexec",
    "local",
    "log",
    "mapper",
    "media",
    "mnt",
    "native",
    "opt",
    "proc",
    "pulse",
    "root",
    "run",
    "sbin",
    "share",
    "snd",
    "srv",
    "state",
    "sys",
    "tmp",
    "usb",
    "user",
    "usr",
    "var",
    "vfio",
    "vfio-run",
    ".cache",
    ".local",
    ".config",
];

/// Units that have these names everywhere.
const UNITS: &[&str] = &[
    "app",
    "background",
    "dbus",
    "dbus-broker",
    "display-manager",
    "dev-hugepages",
    "dev-mqueue",
    "docker",
    "gdm",
    "gdm3",
    "greetd",
    "init",
    "lightdm",
    "libvirtd",
    "lxdm",
    "ly",
    "machine",
    "multi-user",
    "nvidia-persistenced",
    "pipewire",
    "pipewire-pulse",
    "plymouth-quit",
    "pulseaudio",
    "sddm",
    "session",
    "ssh",
    "sshd",
    "system",
    "systemd-logind",
    "systemd-udevd",
    "user",
    "wireplumber",
    "xdm",
];
const UNIT_ENDINGS: &[&str] = &[".service", ".scope", ".slice", ".socket", ".mount", ".target"];

/// Shorter ones are found in too much.
const SHORTEST: usize = 4;

/// Longer ones are no driver's: `tap3c7c3f1e2290`.
const LONGEST_NUMBER: usize = 8;

/// The stand-ins that were given so far.
#[derive(Debug, Default)]
pub struct StandIns {
    given: BTreeMap<String, String>,
    count: usize,
}

impl StandIns {
    /// None yet but for these words, which are taken out of all that is shown.
    pub fn new(own: &[String]) -> Self {
        let mut stand_ins = Self::default();
        for word in own.iter().filter(|word| word.len() >= SHORTEST && !is_everywhere(word)) {
            stand_ins.name(word);
        }
        stand_ins
    }

    /// What stands in for a text, of the same form: address, path, unit or name.
    pub fn of(&mut self, text: &str) -> String {
        if text.is_empty() || text.bytes().all(|b| b.is_ascii_digit()) && text.len() < 6 {
            return text.to_owned();
        }
        if is_mac(text) {
            return self.mac(text);
        }
        if let Some(other) = self.ip(text) {
            return other;
        }
        if text.contains('/') {
            return self.path(text);
        }
        match UNIT_ENDINGS.iter().find_map(|ending| Some((text.strip_suffix(ending)?, ending))) {
            Some((stem, ending)) => format!("{}{ending}", self.unit(stem)),
            None => self.name(text),
        }
    }

    /// The text with the stand-ins of all that was replaced elsewhere; `None`: there is nothing of it in there.
    pub fn taken_out_of(&self, text: &str) -> Option<String> {
        let mut clean: Option<String> = None;
        let mut words: Vec<_> =
            self.given.iter().filter(|(word, _)| word.len() >= SHORTEST && !is_everywhere(word)).collect();
        // A name that begins with another one is gone as a whole.
        words.sort_by_key(|(word, _)| std::cmp::Reverse(word.len()));
        for (word, other) in words {
            let now = clean.as_deref().unwrap_or(text);
            if now.contains(word.as_str()) {
                clean = Some(now.replace(word.as_str(), other));
            }
        }
        clean
    }

    fn given(&mut self, text: &str, make: impl Fn(usize) -> String) -> String {
        if let Some(other) = self.given.get(text) {
            return other.clone();
        }
        self.count += 1;
        let other = make(self.count);
        self.given.insert(text.to_owned(), other.clone());
        other
    }

    fn name(&mut self, text: &str) -> String {
        if is_everywhere(text) {
            return text.to_owned();
        }
        self.given(text, |number| format!("name-{number}"))
    }

    /// One of a range that nobody's card has (locally administered).
    fn mac(&mut self, text: &str) -> String {
        if text.bytes().all(|b| b == b'0' || b == b':') {
            return text.to_owned();
        }
        self.given(text, |number| format!("02:00:00:00:{:02x}:{:02x}", number >> 8 & 0xff, number & 0xff))
    }

    /// One of the addresses for documents (RFC 5737, RFC 3849), with the port or the length that it had.
    fn ip(&mut self, text: &str) -> Option<String> {
        let (address, rest) = address_of(text)?;
        if address.is_unspecified() || address.is_loopback() {
            return Some(text.to_owned());
        }
        let length = rest.strip_prefix('/').and_then(|length| length.parse::<u32>().ok()).filter(|length| *length < 32);
        let other = self.given(&address.to_string(), |number| match (address, length) {
            // A network begins with an address whose other bits are zero (198.18.0.0/15 is for tests, RFC 2544).
            (IpAddr::V4(_), Some(length)) => {
                let first = 0xc612_0000 + (number as u32 & 0xff) * 0x100;
                Ipv4Addr::from(first & u32::MAX.checked_shl(32 - length).unwrap_or(0)).to_string()
            }
            (IpAddr::V4(_), None) => format!("198.51.100.{}", number % 254 + 1),
            (IpAddr::V6(_), _) => format!("2001:db8::{number:x}"),
        });
        let bracketed = text.starts_with('[');
        Some(if bracketed { format!("[{other}]{rest}") } else { format!("{other}{rest}") })
    }

    fn path(&mut self, text: &str) -> String {
        // What a package installs there, and what the kernel shows.
        if ["/usr/", "/sys/", "/proc/"].iter().any(|top| text.starts_with(top)) && !text.starts_with("/usr/local/") {
            return text.to_owned();
        }
        let parts: Vec<String> = text.split('/').map(|part| self.part(part)).collect();
        parts.join("/")
    }

    fn part(&mut self, part: &str) -> String {
        if part.starts_with("pci-0000:") {
            return self.port(part);
        }
        if part.is_empty() || FOLDERS.contains(&part) || is_node(part) {
            return part.to_owned();
        }
        self.of(part)
    }

    /// A name of udev's `path_id`. The port of a SAS or Fibre Channel disk has numbers in it that no other disk or expander has
    /// (`sas-0x…`, `sas-exp0x…-phy8`); behind `ip` are a server's address and name.
    fn port(&mut self, part: &str) -> String {
        let (part, server) = match part.split_once("-ip-") {
            Some((part, server)) => (part, Some(server)),
            None => (part, None),
        };
        let has_number = |word: &str| {
            word.split_once("0x").is_some_and(|(_, rest)| rest.starts_with(|c: char| c.is_ascii_hexdigit()))
        };
        let words = part.split('-').map(|word| if has_number(word) { self.name(word) } else { word.to_owned() });
        let mut port = words.collect::<Vec<_>>().join("-");
        if let Some(server) = server {
            port.push_str(&format!("-ip-{}", self.name(server)));
        }
        port
    }

    /// `session-3`, `user-1000`, `user@1000`, `vfio-run-win11`, and names that all systems know.
    fn unit(&mut self, stem: &str) -> String {
        if UNITS.contains(&stem) {
            return stem.to_owned();
        }
        const STARTS: &[&str] = &["session-", "user-", "user@", "vfio-run-", "vfiorun"];
        match STARTS.iter().find_map(|start| Some((start, stem.strip_prefix(start)?))) {
            Some((start, inner)) => format!("{start}{}", self.of(inner)),
            None => self.name(stem),
        }
    }
}

/// What every system has, though it may also be a name: taken out of what is shown it would hide the rest.
fn is_everywhere(word: &str) -> bool {
    FOLDERS.contains(&word)
        || UNITS.contains(&word)
        || ["lo", "root", "user", "none", "guest", "host", "linux", "debian", "ubuntu", "fedora"].contains(&word)
}

/// Six pairs of hexadecimal digits.
fn is_mac(text: &str) -> bool {
    let mut pairs = text.split(':');
    text.len() == 17
        && pairs.by_ref().count() == 6
        && text.split(':').all(|pair| pair.len() == 2 && u8::from_str_radix(pair, 16).is_ok())
}

/// The IP address that a text begins with, and what follows: `:22`, `/24`.
fn address_of(text: &str) -> Option<(IpAddr, &str)> {
    if let Some(inner) = text.strip_prefix('[') {
        let (address, rest) = inner.split_once(']')?;
        return Some((address.parse().ok()?, rest));
    }
    if let Ok(address) = text.parse() {
        return Some((address, ""));
    }
    let end = text.find(['/', '%']).or_else(|| text.rfind(':'))?;
    Some((text[..end].parse().ok()?, &text[end..]))
}

/// A node that a driver made and counted: `card0`, `renderD128`, `nvme0n1p2`, `pcmC0D0p`, `001`, `0:0:0:0`, `sda1`.
fn is_node(part: &str) -> bool {
    const DRIVERS: &[&str] = &[
        "card",
        "renderD",
        "controlC",
        "pcmC",
        "hwC",
        "midiC",
        "seq",
        "timer",
        "event",
        "mouse",
        "mice",
        "js",
        "nvme",
        "sd",
        "sr",
        "sg",
        "vd",
        "loop",
        "dm-",
        "md",
        "hidraw",
        "video",
        "media",
        "ttyUSB",
        "ttyACM",
        "ttyS",
        "tty",
        "nvidia",
        "nvidiactl",
        "nvidia-modeset",
        "nvidia-uvm",
        "pipewire-",
        "wayland-",
        "tpm",
        "tpmrm",
        "rtc",
        "kvm",
        "vtcon",
        "fb",
        "usbmon",
        "vcs",
        "vcsa",
        "vga_arbiter",
        "ng",
        "tap",
        "ipvtap",
        "macvtap",
    ];
    if part.chars().all(|c| c.is_ascii_digit() || c == ':') {
        return part.len() <= LONGEST_NUMBER;
    }
    let driver = DRIVERS.iter().filter(|driver| part.starts_with(**driver)).max_by_key(|driver| driver.len());
    driver.is_some_and(|driver| {
        let rest = &part[driver.len()..];
        rest.is_empty() || *driver == "sd" && is_disk(rest) || *driver == "vd" && is_disk(rest) || is_counted(rest)
    })
}

/// `a`, `b1`.
fn is_disk(rest: &str) -> bool {
    let number = rest.trim_start_matches(|c: char| c.is_ascii_lowercase());
    rest.len() - number.len() <= 2 && rest.len() > number.len() && number.bytes().all(|b| b.is_ascii_digit())
}

/// Begins with a digit, and has digits and single letters only: `0n1p2`, `0D0p`.
fn is_counted(rest: &str) -> bool {
    rest.starts_with(|c: char| c.is_ascii_digit())
        && rest.len() <= LONGEST_NUMBER
        && rest.chars().all(|c| c.is_ascii_alphanumeric())
        && !rest.as_bytes().windows(2).any(|pair| pair.iter().all(u8::is_ascii_alphabetic))
}
