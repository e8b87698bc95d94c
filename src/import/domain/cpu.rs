//! The vCPUs: how many, which model and features.

use crate::import::account::{ALL, TEXT};
use crate::import::context::Context;
use crate::import::xml::{Node, child, children, text};
use crate::machine::{Numa, Topology};

const DERIVED: &str = "the topology follows from the host's CPUs that the vCPUs run on";

/// The number of vCPUs that run.
pub fn count(root: Node) -> Option<u32> {
    let vcpu = child(root, "vcpu")?;
    let all: u32 = text(vcpu).parse().ok()?;
    let switched = child(root, "vcpus")
        .map(|vcpus| children(vcpus, "vcpu").filter(|v| v.attribute("enabled") != Some("no")).count());
    let current = vcpu.attribute("current").and_then(|current| current.parse().ok());
    let enabled = switched.and_then(|count| u32::try_from(count).ok()).filter(|count| *count > 0);
    Some(enabled.or(current).unwrap_or(all).clamp(1, 4096))
}

/// Reads the number of vCPUs, the model and its features.
pub fn read(cx: &mut Context, root: Node) {
    if let (Some(vcpu), Some(count)) = (child(root, "vcpu"), count(root)) {
        cx.machine.cpu.vcpus = Some(count);
        cx.done(vcpu, &["placement"], "the vCPUs are placed by vfio-run");
        if text(vcpu) == count.to_string() {
            cx.take(vcpu, &[TEXT, "current"]);
        } else {
            holes(cx, root, vcpu, count);
        }
        if let Some(vcpus) = child(root, "vcpus") {
            cx.done(vcpus, &[ALL], "all vCPUs that are switched on are there from the start");
        }
    }
    if let Some(cpu) = child(root, "cpu") {
        model(cx, cpu);
        topology(cx, cpu);
        children(cpu, "feature").for_each(|node| feature(cx, root, node));
        details(cx, cpu);
    }
    hidden(cx, root);
}

fn holes(cx: &mut Context, root: Node, vcpu: Node, count: u32) {
    let words = match child(root, "vcpus") {
        Some(_) => format!(
            "vCPUs that are switched off made the guest see complexes of cores with a cache each; here the guest sees the host's cores \
             and caches as they are, so it has the {count} vCPUs that were on"
        ),
        None => format!("vCPUs are not plugged in later, so the guest has the {count} that it started with"),
    };
    cx.improved(vcpu, &[TEXT, "current"], words);
}

fn model(cx: &mut Context, cpu: Node) {
    cx.done(cpu, &["check", "match"], "QEMU says what the host's CPU lacks");
    cx.done(cpu, &["migratable"], "the machine is not moved to another host");
    match cpu.attribute("mode") {
        Some("host-passthrough" | "maximum") => cx.done(cpu, &["mode"], "the guest sees the host's own CPU"),
        Some("host-model") => {
            cx.improved(
                cpu,
                &["mode"],
                "the guest sees the host's own CPU: a model like it lacks caches and features, which games notice",
            );
        }
        Some("custom") | None => {
            let named = child(cpu, "model").filter(|model| !text(model.to_owned()).is_empty());
            if let Some(named) = named {
                cx.machine.cpu.model = Some(text(named).to_owned());
                cx.comment("cpu.model", "Without it the guest sees the host's own CPU, which is faster.");
                cx.take(cpu, &["mode"]);
                cx.take(named, &[TEXT]);
            } else {
                cx.done(cpu, &["mode"], "the guest sees the host's own CPU");
            }
        }
        Some(_) => {}
    }
    if let Some(model) = child(cpu, "model") {
        cx.done(model, &["fallback"], "QEMU says what the host's CPU lacks");
        cx.done(model, &[TEXT], "the guest sees the host's own CPU");
        if let Some(vendor) = model.attribute("vendor_id") {
            cx.machine.cpu.features.push(format!("vendor={vendor}"));
            cx.take(model, &["vendor_id"]);
        }
    }
    if let Some(vendor) = child(cpu, "vendor") {
        cx.done(vendor, &[TEXT], "the guest sees the host's own vendor");
    }
}

fn topology(cx: &mut Context, cpu: Node) {
    let Some(node) = child(cpu, "topology") else { return };
    let number = |name: &str| node.attribute(name).map_or(Some(1), |value| value.parse::<u32>().ok());
    let (Some(sockets), Some(dies), Some(clusters), Some(cores), Some(threads)) =
        (number("sockets"), number("dies"), number("clusters"), number("cores"), number("threads"))
    else {
        return;
    };
    let written = Topology { sockets, dies: dies.saturating_mul(clusters), modules: 1, cores, threads };
    let all = ["sockets", "dies", "clusters", "cores", "threads"];
    match (written.vcpus(), cx.machine.cpu.vcpus) {
        (Some(product), Some(vcpus)) if product != vcpus => {
            cx.improved(node, &all, "a topology with more vCPUs than there are tells the guest of cores that it does not have; it follows from the host's CPUs");
        }
        (Some(product), _) if cx.is_windows() && sockets == product && sockets > 2 => {
            cx.improved(node, &all, "one socket for each vCPU: Windows' client editions use two at most. The topology follows from the host's CPUs");
        }
        _ => cx.done(node, &all, DERIVED),
    }
}

fn feature(cx: &mut Context, root: Node, node: Node) {
    let (Some(name), policy) = (node.attribute("name"), node.attribute("policy").unwrap_or("require")) else { return };
    let both = ["name", "policy"];
    let on = matches!(policy, "force" | "require" | "optional");
    if !on && !matches!(policy, "disable" | "forbid") {
        return;
    }
    let own = cx.machine.cpu.model.is_none();
    match name {
        "svm" | "vmx" => {
            cx.machine.cpu.nested = Some(on);
            cx.take(node, &both);
        }
        "topoext" | "invtsc" if on => cx.done(node, &both, "it is switched on if the host has it"),
        "hypervisor" if !on && cx.is_windows() => {
            let hyperv = child(root, "features").is_some_and(|features| child(features, "hyperv").is_some());
            let words = if hyperv {
                "the hypervisor bit stays on: without it Windows takes no notice of Hyper-V's interfaces, and is slow. KVM's signature \
                 is hidden, which is what drivers look for"
            } else {
                "the hypervisor bit stays on: Windows is much faster when it knows of Hyper-V's interfaces. KVM's signature is hidden, \
                 which is what drivers look for"
            };
            cx.improved(node, &both, words);
            cx.comment("cpu", "For a program that refuses every virtual machine: features: [\"-hypervisor\"]; Windows is slower then.");
        }
        _ if on && own => cx.done(node, &both, "the guest sees the host's own CPU with all that it can"),
        _ if name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)) => {
            cx.machine.cpu.features.push(format!("{}{name}", if on { '+' } else { '-' }));
            cx.take(node, &both);
        }
        _ => {}
    }
}

/// Caches, address width, the guest's own NUMA nodes.
fn details(cx: &mut Context, cpu: Node) {
    for cache in children(cpu, "cache") {
        cx.done(cache, &[ALL], "the guest sees the host's caches if its cores are host cores");
    }
    if let Some(address) = child(cpu, "maxphysaddr") {
        let bits = address.attribute("bits").and_then(|bits| bits.parse().ok());
        match (address.attribute("mode"), bits) {
            (Some("emulate"), Some(bits)) => {
                cx.machine.cpu.phys_bits = Some(bits);
                cx.take(address, &["mode", "bits"]);
            }
            (Some("passthrough"), _) => {
                cx.done(address, &["mode", "bits"], "the guest has the host's address width");
                if let Some(limit) = address.attribute("limit") {
                    cx.machine.cpu.features.push(format!("host-phys-bits-limit={limit}"));
                    cx.take(address, &["limit"]);
                }
            }
            _ => {}
        }
    }
    if let Some(numa) = child(cpu, "numa") {
        if children(numa, "cell").count() <= 1 {
            cx.done(numa, &[ALL], "a guest with one NUMA node need not say so");
        } else {
            cx.machine.memory.numa = Some(Numa::Guest);
            cx.taken(
                numa,
                &[ALL],
                "the guest sees the host's NUMA nodes that its vCPUs run on, each with the memory that is near",
            );
        }
    }
}

/// Whether KVM's signature is hidden, and the name that Hyper-V's interfaces have.
fn hidden(cx: &mut Context, root: Node) {
    let Some(features) = child(root, "features") else { return };
    if let Some(hidden) = child(features, "kvm").and_then(|kvm| child(kvm, "hidden")) {
        let on = hidden.attribute("state") == Some("on");
        if on || !cx.is_windows() {
            cx.machine.cpu.hide_kvm = Some(on);
            cx.take(hidden, &["state"]);
        } else {
            cx.done(hidden, &["state"], "KVM's signature is hidden from Windows, which needs nothing of it");
        }
    }
    let vendor = child(features, "hyperv").and_then(|hyperv| child(hyperv, "vendor_id"));
    if let Some(vendor) = vendor.filter(|_| cx.is_windows()) {
        match (vendor.attribute("state"), vendor.attribute("value")) {
            (Some("off"), _) | (_, None) => {
                cx.done(vendor, &["state", "value"], "Hyper-V's name is vfio-run's own if KVM is hidden");
            }
            (_, Some(value)) => hyperv_name(cx, vendor, value),
        }
    }
    if let Some(pmu) = child(features, "pmu").filter(|pmu| pmu.attribute("state") == Some("off")) {
        cx.machine.cpu.features.push("-pmu".to_owned());
        cx.take(pmu, &["state"]);
    }
    if let Some(msrs) = child(features, "msrs").filter(|msrs| msrs.attribute("unknown") == Some("ignore")) {
        cx.machine.host.ignore_msrs = Some(true);
        cx.take(msrs, &["unknown"]);
    }
}

fn hyperv_name(cx: &mut Context, node: Node, value: &str) {
    let possible: String = value.chars().filter(|c| *c != ',' && !c.is_control()).take(12).collect();
    if possible.is_empty() {
        return cx.done(node, &["state", "value"], "Hyper-V's name is vfio-run's own if KVM is hidden");
    }
    if possible == value {
        cx.take(node, &["state", "value"]);
    } else {
        cx.improved(
            node,
            &["state", "value"],
            format!("a name of Hyper-V's has at most 12 characters and no comma, so it is {possible:?}"),
        );
    }
    cx.machine.cpu.features.push(format!("hv-vendor-id={possible}"));
}
