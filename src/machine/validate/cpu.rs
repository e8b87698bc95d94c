//! vCPUs, their host CPUs, and the topology that the guest sees.

use std::collections::BTreeMap;

use super::{Problems, consists_of};
use crate::machine::{Cpu, Machine};

/// The most that any QEMU's q35 takes (since 9.0).
const MAX_VCPUS: u32 = 4096;

pub(super) fn check(machine: &Machine, problems: &mut Problems) {
    let cpu = &machine.cpu;
    for (name, set) in [("pin", &cpu.pin), ("emulator", &cpu.emulator), ("iothreads", &cpu.iothreads)] {
        if set.as_ref().is_some_and(|set| set.is_empty()) {
            problems
                .add(format!("cpu.{name}"), format!("`cpu.{name}` names no CPU"))
                .help("leave it out for the default");
        }
    }
    counts(cpu, problems);
    if let Some(model) = &cpu.model
        && (model.is_empty() || !consists_of(model, "-._+"))
    {
        problems
            .add("cpu.model", format!("`cpu.model` cannot be {model:?}"))
            .allowed("the model's name alone, such as \"host\" or \"EPYC-Milan\"")
            .help("features go into `features`: [\"+topoext\", \"-svm\"]");
    }
    features(&cpu.features, problems);
}

fn counts(cpu: &Cpu, problems: &mut Problems) {
    if let Some(vcpus) = cpu.vcpus.filter(|vcpus| !(1..=MAX_VCPUS).contains(vcpus)) {
        problems.add("cpu.vcpus", format!("`cpu.vcpus` cannot be {vcpus}")).allowed(format!("1 to {MAX_VCPUS}"));
        return;
    }
    let pins = cpu.pin.as_ref().filter(|pin| !pin.is_empty()).and_then(|pin| u32::try_from(pin.len()).ok());
    if let Some(pins) = pins.filter(|pins| *pins > MAX_VCPUS) {
        problems.add("cpu.pin", format!("`cpu.pin` names {pins} CPUs")).allowed(format!("at most {MAX_VCPUS}"));
        return;
    }
    if let (Some(vcpus), Some(pins)) = (cpu.vcpus, pins)
        && vcpus != pins
    {
        problems
            .add("cpu.vcpus", format!("`cpu.vcpus` is {vcpus}, but `cpu.pin` names {}", plural(pins, "CPU")))
            .allowed("as many vCPUs as CPUs to pin them to")
            .help("leave `vcpus` out: it follows from `pin`");
    }
    let Some(topology) = cpu.topology else { return };
    let parts = [
        ("sockets", topology.sockets),
        ("dies", topology.dies),
        ("cores", topology.cores),
        ("threads", topology.threads),
    ];
    if let Some((name, _)) = parts.iter().find(|(_, count)| *count == 0) {
        problems
            .add(format!("cpu.topology.{name}"), format!("`cpu.topology.{name}` cannot be 0"))
            .allowed("at least 1");
        return;
    }
    let held = topology.vcpus().filter(|held| *held <= MAX_VCPUS);
    let wanted = cpu.vcpus.map(|n| (n, "`cpu.vcpus` is")).or(pins.map(|n| (n, "`cpu.pin` names")));
    match (held, wanted) {
        (None, _) => {
            problems
                .add("cpu.topology", "`cpu.topology` holds too many vCPUs")
                .allowed(format!("sockets × dies × cores × threads of at most {MAX_VCPUS}"));
        }
        (Some(held), Some((wanted, what))) if held != wanted => {
            let product = parts.map(|(_, count)| count.to_string()).join(" × ");
            problems
                .add("cpu.topology", format!("`cpu.topology` holds {}, but {what} {wanted}", plural(held, "vCPU")))
                .allowed(format!("sockets × dies × cores × threads equal to the vCPUs; here {product} = {held}"))
                .help("leave `topology` out: it is derived from the placement");
        }
        _ => {}
    }
}

fn features(features: &[String], problems: &mut Problems) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for (i, feature) in features.iter().enumerate() {
        let field = format!("cpu.features[{i}]");
        let name = feature.strip_prefix(['+', '-']).unwrap_or_default();
        if name.is_empty() || !consists_of(name, "-._") {
            let problem = problems.add(field, format!("{feature:?} does not switch a CPU feature"));
            problem.allowed("a feature's name after `+` or `-`: [\"+topoext\", \"-svm\"]");
            if !feature.is_empty() && consists_of(feature, "-._") {
                problem.help(format!("write \"+{feature}\" or \"-{feature}\""));
            }
        } else if seen.insert(name, feature).is_some_and(|before| before != feature) {
            problems.add(field, format!("{feature:?} contradicts an earlier `{name}`")).help("keep one of the two");
        }
    }
}

fn plural(n: u32, noun: &str) -> String {
    format!("{n} {noun}{}", if n == 1 { "" } else { "s" })
}
