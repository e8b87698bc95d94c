//! Modules that are removed for a handover, what else loses its driver with them, and one card of several that NVIDIA's
//! driver would have to let go.

use super::super::Severity::{Hard, Soft};
use super::super::draft::{Draft, by_default};
use super::given::{Given, VFIO};
use super::stopped::Stopped;
use crate::change::RemoveModule;
use crate::host::Pci;
use crate::host::pci::{Node, PciFunction};

const NVIDIA: &str = "nvidia";

/// Removes modules. NVIDIA's driver waits forever for its last user when its device is taken away, while removing its
/// modules fails at once when somebody uses them; so vfio-run does that if no other card needs them.
pub(super) fn remove(draft: &mut Draft, pci: &Pci, taken: &[Given]) {
    if let Some(modules) = &draft.machine.handover.modules {
        for (i, module) in modules.iter().enumerate() {
            let why = draft.file(&format!("handover.modules[{i}]"));
            draft.change(RemoveModule { module: module.clone() }, why);
        }
        return lost(draft, pci, taken, modules);
    }
    let Some(card) = taken.iter().find(|given| has_nvidia(given.function)) else { return };
    if stays(pci, taken).next().is_some() {
        return;
    }
    for module in &card.details.modules {
        let why = by_default("removing NVIDIA's modules fails at once while they are in use; an unbind would hang");
        draft.change(RemoveModule { module: module.clone() }, why);
    }
}

/// Tells what of the host's loses its driver with modules that the machine names.
fn lost(draft: &mut Draft, pci: &Pci, taken: &[Given], modules: &[String]) {
    let removed = |name: &str| modules.iter().any(|module| module.replace('-', "_") == name.replace('-', "_"));
    let others = pci.functions.iter().filter(|f| taken.iter().all(|given| given.address() != f.address));
    let its: Vec<String> = others
        .filter_map(|f| {
            let driver = f.driver.as_deref().filter(|driver| *driver != VFIO)?;
            // A driver's name is that of its module, unless it was looked at closely.
            let module = f.details.as_deref().and_then(|details| details.modules.last()).map_or(driver, String::as_str);
            removed(module).then(|| format!("{} ({driver})", f.address))
        })
        .collect();
    if its.is_empty() {
        return;
    }
    let (what, them) = if its.len() == 1 { ("loses its driver", "it") } else { ("lose their driver", "them") };
    let detail = format!("{} {what} with the modules that are removed, and the host keeps {them}", its.join(", "));
    let remedy = format!("see that the host can do without {them} while the guest runs, or correct `handover.modules`");
    draft.no("handover.modules.others", Soft, detail, &remedy);
    draft.about("handover.modules");
}

/// Refuses a card that NVIDIA's driver might never let go because it keeps another: then it stays loaded, and unbinding waits
/// in the kernel, out of reach of SIGKILL, until nobody uses the card. Returns the nodes that nobody may have open then.
pub(super) fn one_of_several(draft: &mut Draft, pci: &Pci, taken: &[Given], stopped: &Stopped) -> Vec<Node> {
    let goes = draft.machine.handover.modules.iter().flatten().any(|module| module == NVIDIA);
    let (Some(card), Some(other), Some(facts), false) =
        (taken.iter().find(|given| has_nvidia(given.function)), stays(pci, taken).next(), &pci.nvidia, goes)
    else {
        return Vec::new();
    };
    let key = card.key(NVIDIA);
    let users = facts.holders.iter().filter(|holder| !stopped.ends(&pci.screen, holder) && !holder.is_broker());
    let users: Vec<String> = users.map(ToString::to_string).collect();
    let waits = format!(
        "NVIDIA's driver keeps {}, and lets {} go only when nobody uses that card, for which it may wait for ever",
        other.address,
        card.address()
    );
    let why = match (facts.modeset, users.as_slice()) {
        (Some(true), _) => "it uses each card itself (`nvidia_drm.modeset=1`)".to_owned(),
        (_, [_, ..]) => format!("its nodes are open in {}", users.join(", ")),
        (None, []) => {
            draft.unknown(&key, Hard, format!("{waits}; only root can read whether it uses the cards itself"));
            draft.about(&card.address_field(draft));
            return facts.nodes.clone();
        }
        (Some(false), []) => {
            draft.yes(&key, Hard, format!("nobody uses NVIDIA's driver, so it lets {} go", card.address()));
            return facts.nodes.clone();
        }
    };
    let remedy = format!(
        "have vfio-pci take it when the host boots (`vfio-pci.ids={}`, if the other card has other ids), or have the other \
         one lose its driver too: `handover: (modules: [\"nvidia_drm\", \"nvidia_modeset\", \"nvidia_uvm\", \"nvidia\"])`",
        card.function.ids
    );
    draft.no(&key, Hard, format!("{waits}: {why}"), &remedy);
    draft.about(&card.address_field(draft));
    Vec::new()
}

fn has_nvidia(function: &PciFunction) -> bool {
    function.driver.as_deref() == Some(NVIDIA)
}

/// The cards of NVIDIA's driver that the host keeps.
fn stays<'a>(pci: &'a Pci, taken: &'a [Given]) -> impl Iterator<Item = &'a PciFunction> {
    pci.functions.iter().filter(|f| has_nvidia(f) && taken.iter().all(|given| given.address() != f.address))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{at, changes, function, holder, host, plan};
    use crate::host::Host;
    use crate::host::pci::{Node, Nvidia};
    use crate::plan::Verdict;

    /// A second card with NVIDIA's driver, which has this to say.
    fn two_cards(modeset: Option<bool>, users: &[&str]) -> Host {
        let mut host = host();
        let pci = host.pci.as_mut().unwrap();
        pci.functions.push(function("02:00.0", "10de:2684", 0x03_0000, "nvidia", 3));
        let nodes = vec![Node { path: "/dev/nvidiactl".into(), major: 195, minor: 255, subsystem: "nvidia".into() }];
        let holders = users.iter().map(|unit| holder("x", unit)).collect();
        pci.nvidia = Some(Nvidia { modeset, nodes, holders });
        host
    }

    #[test]
    fn one_of_two_cards_of_nvidias_driver_is_taken_only_if_nobody_can_use_it() {
        let found = |host: &Host, more: &str| {
            let plan = plan(&format!(r#"pci: ["01:00.*"]{more}"#), host);
            let finding = plan.findings.iter().find(|finding| finding.key == "pci.0000:01:00.0.nvidia");
            let waits = changes(&plan).into_iter().any(|c| c.contains("/dev/dri/card0, /dev/nvidiactl"));
            (finding.map(|finding| (finding.ok, finding.detail.clone())), waits)
        };
        let (free, waits) = found(&two_cards(Some(false), &[]), "");
        assert!(waits && free.unwrap().0 == Verdict::Yes);
        // What ends before is no user.
        assert_eq!(found(&two_cards(Some(false), &["gdm.service"]), "").0.unwrap().0, Verdict::Yes);
        assert_eq!(found(&two_cards(None, &[]), "").0.unwrap().0, Verdict::Unknown);
        let (used, waits) = found(&two_cards(Some(false), &["ollama.service"]), "");
        let (ok, detail) = used.unwrap();
        assert!(!waits && ok == Verdict::No && detail.ends_with("open in x (process 812, ollama.service)"), "{detail}");
        let (sets_modes, _) = found(&two_cards(Some(true), &[]), "");
        assert!(sets_modes.unwrap().1.ends_with("it uses each card itself (`nvidia_drm.modeset=1`)"));
        // With its module both cards go, and that fails at once if somebody uses one.
        let removed = r#", handover: (modules: ["nvidia_drm", "nvidia"])"#;
        assert_eq!(found(&two_cards(Some(true), &[]), removed).0, None);
        assert_eq!(found(&host(), "").0, None);
    }

    #[test]
    fn what_else_loses_its_driver_with_a_module_is_named() {
        let lost = |modules: &str| {
            let mut host = two_cards(Some(true), &[]);
            host.pci.as_mut().unwrap().functions.push(function("03:00.0", "8086:22ba", 0x04_0300, "snd_hda_intel", 4));
            at(&mut host, "01:00.0").driver = Some("nvidia".into());
            let plan = plan(&format!(r#"pci: ["01:00.*"], handover: (modules: [{modules}])"#), &host);
            let others = plan.findings.into_iter().filter(|finding| finding.key == "handover.modules.others");
            others.map(|finding| finding.detail).collect::<Vec<_>>()
        };
        assert_eq!(
            lost(r#""nvidia""#),
            ["0000:02:00.0 (nvidia) loses its driver with the modules that are removed, and the host keeps it"]
        );
        assert_eq!(
            lost(r#""nvidia", "snd-hda-intel""#),
            [
                "0000:02:00.0 (nvidia), 0000:03:00.0 (snd_hda_intel) lose their driver with the modules that are removed, and \
              the host keeps them"
            ]
        );
        assert_eq!(lost(r#""bochs""#), [""; 0]);
    }
}
