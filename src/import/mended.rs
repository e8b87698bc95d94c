//! What a machine file may not say, though QEMU or libvirt took it: left out with a word about it, so that the file is one that
//! is accepted.

use std::collections::BTreeSet;

use super::account::Verdict;
use super::context::Context;

/// Takes it out of the machine.
pub fn mend(cx: &mut Context) {
    let mut macs = BTreeSet::new();
    for network in cx.machine.networks.iter_mut().flatten() {
        let Some(written) = network.mac.take() else { continue };
        let Some(mac) = bytes(&written) else {
            let words = format!(
                "{written:?} is not a MAC address, so the card has one that follows from the machine's UUID: write `mac` in `networks`"
            );
            cx.account.remark(Verdict::NeedsYou, &words);
            continue;
        };
        let why = if mac[0] & 1 == 1 || mac == [0; 6] {
            "is a multicast address or none, and no card's own"
        } else if !macs.insert(mac) {
            "is another card's of this machine"
        } else {
            let usual = mac.map(|byte| format!("{byte:02x}")).join(":");
            network.mac = Some(if usual.eq_ignore_ascii_case(&written) { written } else { usual });
            continue;
        };
        let words = format!(
            "{written} {why}, so the card has one that follows from the machine's UUID; the guest may see a new network"
        );
        cx.account.remark(Verdict::Improved, &words);
    }
    let mut first = None;
    for device in cx.machine.pci.iter_mut().filter(|device| device.x_vga == Some(true)) {
        let Some(first) = &first else {
            first = Some(device.address);
            continue;
        };
        device.x_vga = None;
        let words = format!(
            "a PC has the addresses of one VGA card, which {first} has: `x_vga` of {} is left out; write it there, if that is the guest's first card",
            device.address
        );
        cx.account.remark(Verdict::Improved, &words);
    }
}

/// A MAC address as QEMU takes it: six numbers of one or two digits, with `:` or `-` between them.
fn bytes(text: &str) -> Option<[u8; 6]> {
    let mut mac = [0; 6];
    let mut parts = text.split([':', '-']);
    for byte in &mut mac {
        let part = parts.next().filter(|part| (1..=2).contains(&part.len()) && !part.starts_with('+'))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then_some(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_address_is_six_numbers() {
        assert_eq!(bytes("52:54:0:aB-cd-1"), Some([0x52, 0x54, 0, 0xab, 0xcd, 1]));
        for text in ["", "52:54:00:ab:cd", "52:54:00:ab:cd:01:02", "52:54:00:ab:cd:xx", "$MAC", "525400abcd01"] {
            assert_eq!(bytes(text), None, "{text}");
        }
    }
}
