//! Members of options that only a run of the script tells: such a member needs the user, and the rest of its option is read.

use super::option::parts;

/// Whether the shell computes something of the text when the script runs.
pub fn is_computed(text: &str) -> bool {
    text.contains(['$', '`'])
}

/// The value without the members that are computed, and those; `None` if the option is nothing without them.
pub fn split(option: &str, text: &str) -> Option<(String, Vec<String>)> {
    let parts = whole_parts(text)?;
    let (first, rest) = parts.split_first()?;
    if text.starts_with('{') || is_computed(first) || !is_computed(text) {
        return None;
    }
    let (lost, known): (Vec<&String>, Vec<&String>) = rest.iter().partition(|part| is_computed(part));
    let optional = |part: &&String| match part.split_once('=') {
        Some((key, _)) => !is_computed(key) && is_optional(option, key, first),
        // Any members, or none.
        None => matches!(option, "device" | "cpu"),
    };
    if !lost.iter().all(optional) {
        return None;
    }
    let known: Vec<&str> = [first].into_iter().chain(known).map(String::as_str).collect();
    Some((known.join(","), lost.into_iter().cloned().collect()))
}

/// The members as they are written; `None` if the end of one is inside what the shell computes.
fn whole_parts(text: &str) -> Option<Vec<String>> {
    let parts = parts(text);
    let count = |part: &String, mark: char| part.matches(mark).count();
    let whole = |part: &String| {
        [('(', ')'), ('{', '}')].iter().all(|(open, close)| count(part, *open) == count(part, *close))
            && count(part, '`').is_multiple_of(2)
    };
    parts.iter().all(whole).then_some(parts)
}

/// Whether an option means what it means without a member.
fn is_optional(option: &str, key: &str, first: &str) -> bool {
    let one_of = |keys: &[&str]| keys.contains(&key);
    match option {
        // What a device is, what it stands for, and what it refers to.
        "device" => !one_of(&[
            "driver",
            "host",
            "sysfsdev",
            "id",
            "drive",
            "netdev",
            "chardev",
            "memdev",
            "tpmdev",
            "audiodev",
            "fsdev",
            "iothread",
            "hostbus",
            "hostaddr",
            "hostport",
            "hostdevice",
            "vendorid",
            "productid",
            "evdev",
            "tag",
            "mount_tag",
            "name",
            "path",
            "size",
            "osk",
            "guest-cid",
            "snapshot",
            "share-rw",
            "read-only",
        ]),
        "netdev" | "nic" | "net" => one_of(&[
            "mac",
            "macaddr",
            "hostfwd",
            "guestfwd",
            "net",
            "dhcpstart",
            "dns",
            "hostname",
            "domainname",
            "smb",
            "tftp",
            "bootfile",
            "vhost",
            "queues",
            "script",
            "downscript",
        ]),
        "drive" => one_of(&[
            "serial",
            "cache",
            "aio",
            "discard",
            "detect-zeroes",
            "index",
            "bus",
            "unit",
            "bootindex",
            "werror",
            "rerror",
            "l2-cache-size",
            "cache-size",
        ]),
        "smp" => !first.contains('='),
        "cpu" => true,
        "machine" | "M" => {
            !first.contains('=') && one_of(&["accel", "kernel_irqchip", "mem-merge", "dump-guest-core", "usb"])
        }
        "m" => one_of(&["slots", "maxmem"]),
        "audiodev" => key != "id",
        "smbios" => !one_of(&["type", "file"]),
        "name" => one_of(&["process", "debug-threads"]),
        "spice" => one_of(&["port", "addr", "password", "tls-port"]),
        "display" => one_of(&["gl"]),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_left_out_if_the_option_means_the_same_without_it() {
        let split =
            |option: &str, text: &str| split(option, text).map(|(known, lost)| format!("{known} | {}", lost.join(" ")));
        for (option, text, expected) in [
            ("device", "vfio-pci,host=01:00.0,romfile=$ROM,x-vga=on", "vfio-pci,host=01:00.0,x-vga=on | romfile=$ROM"),
            ("device", "e1000,netdev=a,,b,mac=$(cat /m),$MORE", "e1000,netdev=a,,b | mac=$(cat /m) $MORE"),
            (
                "netdev",
                "user,id=n,hostfwd=tcp::1-:2,hostfwd=tcp::$P-:22",
                "user,id=n,hostfwd=tcp::1-:2 | hostfwd=tcp::$P-:22",
            ),
            ("cpu", "host,+svm,$FLAGS", "host,+svm | $FLAGS"),
            ("smp", "8,cores=$C", "8 | cores=$C"),
        ] {
            assert_eq!(split(option, text).as_deref(), Some(expected));
        }
        for (option, text) in [
            ("device", "vfio-pci,host=$GPU,x-vga=on"),
            ("device", "$CARD,netdev=n"),
            ("netdev", "tap,id=n,ifname=$TAP"),
            ("drive", "file=/a.img,readonly=$RO"),
            ("drive", "file=/a.img,$MORE"),
            ("device", "e1000,netdev=n,mac=$(gen a,b)"),
            ("smp", "cores=4,threads=$T"),
            ("m", "$MEM"),
        ] {
            assert_eq!(split(option, text), None, "{text}");
        }
    }
}
