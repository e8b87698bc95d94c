//! `-cpu`, which replaces all that libvirt says of the CPU.

use super::state::Became;
use crate::import::context::Context;
use crate::machine::cpu_property;

/// Properties that follow from the family and from the host.
const OURS: [&str; 16] = [
    "host-cache-info",
    "l3-cache",
    "migratable",
    "topoext",
    "invtsc",
    "kvm-hint-dedicated",
    "check",
    "enforce",
    "pmu",
    "hv-passthrough",
    "host-phys-bits",
    "hv-enforce-cpuid",
    "hv-no-nonarch-coresharing",
    "vmware-cpuid-freq",
    "kvm-pv-unhalt",
    "kvm-pv-eoi",
];

/// Reads the option. `script`: no domain says anything beside it.
pub fn read(cx: &mut Context, value: &str, script: bool) -> Option<Became> {
    let mut parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    let model = parts.next()?;
    let is_name = |text: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || "-._+".contains(c));
    if !is_name(model) {
        return None;
    }
    let (mut features, mut hide, mut nested) = (Vec::new(), None, None);
    let mut bit_off = false;
    for part in parts {
        let (name, value) = match (part.strip_prefix('+'), part.strip_prefix('-'), part.split_once('=')) {
            (Some(name), ..) => (name, "on"),
            (_, Some(name), _) => (name, "off"),
            (.., Some((name, value))) => (name, value),
            _ => (part, "on"),
        };
        let name = name.replace('_', "-");
        let on = matches!(value, "on" | "yes" | "true" | "1");
        match name.as_str() {
            "kvm" => hide = Some(!on),
            "svm" | "vmx" => nested = Some(on),
            "hypervisor" if !on && cx.is_windows() => bit_off = true,
            "hv-vendor-id" if cx.is_windows() && value != "on" => {
                let value: String = value.chars().filter(|c| !c.is_control()).take(12).collect();
                features.push(format!("hv-vendor-id={value}"));
            }
            _ if name.starts_with("hv-") && cx.is_windows() => {}
            "migratable" | "check" | "enforce" => {}
            // What somebody has switched off stays off.
            _ if OURS.contains(&name.as_str()) && model == "host" && (on || name.starts_with("hv-")) => {}
            _ => {
                let feature = match value {
                    "on" => format!("+{name}"),
                    "off" | "no" => format!("-{name}"),
                    value => format!("{name}={value}"),
                };
                cpu_property(&feature)?;
                features.push(feature);
            }
        }
    }
    let cpu = &mut cx.machine.cpu;
    cpu.model = (model != "host").then(|| model.to_owned());
    cpu.hide_kvm = hide.or(cpu.hide_kvm);
    cpu.nested = nested.or(cpu.nested);
    // What libvirt would have said did not count, and what was said twice counts as it was said last.
    cpu.features.clear();
    let name = |feature: &str| cpu_property(feature).map(|(name, _)| name.to_owned());
    for feature in features {
        cpu.features.retain(|known| name(known) != name(&feature));
        cpu.features.push(feature);
    }
    if bit_off {
        cx.comment(
            "cpu",
            "The hypervisor bit stays on, without which Windows takes no notice of Hyper-V's interfaces.",
        );
    }
    if script && !cx.is_windows() {
        return Became::taken();
    }
    if script {
        return Became::done("Windows gets the whole set of Hyper-V interfaces that the host's KVM offers")?
            .also_taken();
    }
    Became::improved(
        "a `-cpu` on the command line replaced the domain's own <cpu>, and with it all of <hyperv>; the guest has both now: what it said \
         of the CPU, and all of Hyper-V's interfaces if it is Windows",
    )
}
