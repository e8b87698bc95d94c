//! The guest's network cards, and what of the host counts their bytes.

use crate::host::Root;
use crate::host::activity::{Traffic, interface_of};
use crate::plan::{Inherited, Plan};
use crate::qemu::command::OptionValue;
use crate::report::NetworkRate;

/// A network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Card {
    id: String,
    /// What counts its bytes; the error says why nothing does.
    counter: Result<Counter, String>,
}

/// An interface of the host's.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Counter {
    interface: String,
    /// Whether it is the guest's other end: what it receives the guest has sent. A macvtap device is the guest's own end.
    is_other_end: bool,
}

impl Card {
    /// Those of this plan whose QEMU runs as this process.
    pub(super) fn all(root: &Root, plan: &Plan, qemu: i32) -> Vec<Self> {
        let backends = plan.command.options.iter().filter(|option| option.name == "-netdev");
        let cards = backends.filter_map(|option| {
            let OptionValue::Json(netdev) = &option.value else { return None };
            let text = |key: &str| netdev.get(key).and_then(|value| value.as_str());
            let counter = match (text("type")?, text("fd").or(text("fds"))) {
                ("tap", Some(fds)) => counter(root, plan, qemu, fds),
                (kind, _) => Err(format!("nothing of the host or of QEMU counts the bytes of `{kind}`")),
            };
            Some(Self { id: text("id")?.to_owned(), counter })
        });
        cards.collect()
    }

    /// What the host has counted so far.
    pub(super) fn traffic(&self, root: &Root) -> Option<Traffic> {
        Traffic::read(root, &self.counter.as_ref().ok()?.interface)
    }

    /// What went through between two looks.
    pub(super) fn rate(&self, before: Option<Traffic>, now: Option<Traffic>, seconds: f64) -> NetworkRate {
        let card = NetworkRate { id: self.id.clone(), ..NetworkRate::default() };
        let counter = match &self.counter {
            Ok(counter) => counter,
            Err(why) => return NetworkRate { unknown: Some(why.clone()), ..card },
        };
        let interface = Some(counter.interface.clone());
        let Some(now) = now else {
            let why = Some(format!("the host has no network interface {} any more", counter.interface));
            return NetworkRate { interface, unknown: why, ..card };
        };
        // At the first look there is nothing to compare with.
        let Some(before) = before else { return NetworkRate { interface, ..card } };
        let received = now.received.saturating_sub(before.received) as f64 / seconds;
        let sent = now.sent.saturating_sub(before.sent) as f64 / seconds;
        let (received, sent) = if counter.is_other_end { (sent, received) } else { (received, sent) };
        NetworkRate { interface, received_bytes: Some(received.round()), sent_bytes: Some(sent.round()), ..card }
    }
}

/// The interface behind the first of these descriptors, which colons part.
fn counter(root: &Root, plan: &Plan, qemu: i32, fds: &str) -> Result<Counter, String> {
    let fd = fds.split(':').next().and_then(|fd| fd.parse::<i32>().ok());
    let what = plan.descriptors.iter().find(|descriptor| Some(descriptor.fd) == fd).map(|found| &found.what);
    let tap = |interface| Ok(Counter { interface, is_other_end: true });
    match (what, fd) {
        (Some(Inherited::Tap(device)), _) => tap(device.name.clone()),
        (Some(Inherited::Macvtap(name)), _) => Ok(Counter { interface: name.clone(), is_other_end: false }),
        // QEMU's bridge helper chose the name.
        (Some(Inherited::BridgeHelper { .. }), Some(fd)) => interface_of(root, qemu, fd)
            .map_or_else(|| Err("the kernel does not tell the name of the tap device".to_owned()), tap),
        _ => Err("the plan does not tell which interface of the host it has".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_tap_device_receives_the_guest_has_sent() {
        let card = |is_other_end| {
            let counter = Ok(Counter { interface: "tap0".to_owned(), is_other_end });
            Card { id: "net0".to_owned(), counter }
        };
        let before = Some(Traffic { received: 100, sent: 1000 });
        let now = Some(Traffic { received: 300, sent: 1010 });
        for (is_other_end, received, sent) in [(true, 5.0, 100.0), (false, 100.0, 5.0)] {
            let rate = card(is_other_end).rate(before, now, 2.0);
            assert_eq!((rate.received_bytes, rate.sent_bytes), (Some(received), Some(sent)));
        }
        assert_eq!(card(true).rate(None, now, 2.0).received_bytes, None);
        assert!(card(true).rate(before, None, 2.0).unknown.unwrap().contains("tap0"));
    }
}
