//! The virtual CPUs: model, features and topology.

use super::super::Severity::{Hard, Soft};
use super::super::draft::{self, Draft, by_default, by_fact};
use super::super::placement::is_amd;
use super::decided::Decided;
use super::enlightenments;
use crate::machine::{Idle, cpu_property};
use crate::qemu::command::QemuOption;

/// `-cpu` and `-smp`.
pub(super) fn write(draft: &mut Draft, decided: &Decided) {
    let kvm = decided.accelerator.kvm;
    let asked = draft.machine.cpu.model.as_deref();
    let model = asked.unwrap_or(if kvm { "host" } else { "max" });
    if asked.is_some() && !matches!(model, "host" | "max") && !draft.qemu.cpu_models.contains(model) {
        let known = draft.qemu.cpu_models.iter().map(String::as_str);
        let near = draft::nearest(model, known).map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
        let detail = format!("{} has no CPU model {model:?}{near}", draft.qemu.binary.display());
        draft.no(
            "cpu.model",
            Hard,
            detail,
            "`qemu-system-x86_64 -cpu help` lists them; without `model` it is the host's own",
        );
        draft.about("cpu.model");
    }
    if model == "host" && !kvm {
        draft.no("cpu.model", Hard, "the CPU model \"host\" needs KVM", "leave `model` out, or write `model: \"max\"`");
        draft.about("cpu.model");
    }
    let why = if kvm { "the host's own CPU" } else { "all that emulation can do" };
    let mut cpu = QemuOption::keys("-cpu", Some(model), draft.file_or(asked.is_some(), "cpu.model", why));
    if kvm {
        host(draft, decided, &mut cpu, matches!(model, "host" | "max"));
        let hide = draft.machine.cpu.hide_kvm.unwrap_or(draft.machine.guest.is_windows());
        if draft.machine.guest.is_windows() {
            enlightenments::write(draft, decided, &mut cpu);
            if hide {
                let why = by_default("hidden KVM: some GPU drivers look for Hyper-V's usual name too");
                cpu.set_from("hv-vendor-id", "vfio-run", why);
            }
        }
        if hide {
            let why = "Windows needs nothing of KVM's, and some GPU drivers refuse to start if they see it";
            let origin = draft.file_or(draft.machine.cpu.hide_kvm.is_some(), "cpu.hide_kvm", why);
            cpu.set_from("kvm", "off", origin);
        }
    }
    if kvm && matches!(model, "host" | "max") {
        nested(draft, &mut cpu);
    }
    phys_bits(draft, kvm, &mut cpu);
    features(draft, &mut cpu);
    draft.push(cpu);
    smp(draft, decided);
    idle(draft, decided);
}

/// Lets the guest put its CPUs to sleep itself.
fn idle(draft: &mut Draft, decided: &Decided) {
    const FIELD: &str = "cpu.idle";
    if draft.machine.cpu.idle != Some(Idle::Guest) {
        return;
    }
    if !decided.accelerator.kvm {
        draft.no(FIELD, Hard, "only with KVM a guest can put its CPUs to sleep itself", "leave `idle` out");
        return draft.about(FIELD);
    }
    if !draft.option_has("overcommit", "cpu-pm") {
        let detail = format!("{} has no `-overcommit cpu-pm`", draft.qemu.binary.display());
        draft.no(FIELD, Hard, detail, "leave `idle` out, or name another QEMU in `qemu`");
        return draft.about(FIELD);
    }
    match decided.placement.pinned {
        true => draft.yes(FIELD, Soft, "the guest puts its CPUs to sleep itself; to the host they look fully busy"),
        false => {
            let detail = "the vCPUs have no CPUs of their own, and each will look fully busy to the host, so that all \
                          programs that share its CPU are slow";
            draft.no(FIELD, Soft, detail, "use fewer vCPUs, so that each gets a CPU, or leave `idle` out");
            draft.about(FIELD);
        }
    }
    let option = QemuOption::keys("-overcommit", None, draft.file(FIELD));
    draft.push(option.with("cpu-pm", "on"));
}

/// What lets the guest see the host's CPU as it is.
fn host(draft: &Draft, decided: &Decided, cpu: &mut QemuOption, passthrough: bool) {
    let host = &draft.host.cpus;
    let flag = |name: &str| host.flags.iter().any(|flag| flag == name);
    if draft.machine.cpu.phys_bits.is_none() {
        let why = "the host's address width: without it large memory and large GPU windows have no place";
        draft.set_cpu(cpu, "host-phys-bits", "on", by_default(why));
        let pci = draft.host.pci.as_ref().filter(|_| !decided.devices.given.is_empty());
        let bits = pci.and_then(|pci| Some((pci.address_bits?, pci.device_address_bits()?)));
        // QEMU maps the ranges of devices for the devices too, and the IOMMU refuses those beyond its width.
        if let Some((_, width)) = bits.filter(|(host, width)| width < host) {
            let why = by_fact(format!("the host's IOMMU translates {width} bits of an address"));
            draft.set_cpu(cpu, "host-phys-bits-limit", &width.to_string(), why);
        }
    }
    if !passthrough {
        return;
    }
    if flag("constant_tsc") && flag("nonstop_tsc") {
        draft.set_cpu(cpu, "migratable", "off", by_default("the machine is not moved to another host"));
        draft.set_cpu(cpu, "invtsc", "on", by_fact("the host's time stamp counter runs at one rate"));
    }
    let topology = decided.told.topology;
    if is_amd(host.vendor.as_deref()) && (topology.threads > 1 || topology.dies > 1) {
        draft.set_cpu(cpu, "topoext", "on", by_fact("AMD guests see SMT and the dies' caches only with it"));
    }
    if decided.told.host_caches {
        draft.set_cpu(
            cpu,
            "host-cache-info",
            "on",
            by_fact("the guest's cores share caches as the host's below them do"),
        );
    }
}

/// Nested virtualization, which follows the host's CPU unless it is taken away.
fn nested(draft: &mut Draft, cpu: &mut QemuOption) {
    let asked = draft.machine.cpu.nested;
    let (feature, parameter) = match draft.host.cpus.vendor.as_deref() {
        Some("GenuineIntel") => ("vmx", "kvm_intel.nested"),
        _ => ("svm", "kvm_amd.nested"),
    };
    if !asked.unwrap_or(!draft.machine.guest.is_windows()) {
        let why =
            "Windows: without nested virtualization it does not run in a virtual machine of its own, so it is faster";
        let origin = draft.file_or(asked.is_some(), "cpu.nested", why);
        return draft.set_cpu(cpu, feature, "off", origin);
    }
    let denied = draft.host.kvm.parameters.get(parameter).is_some_and(|value| matches!(value.as_str(), "N" | "0"));
    if asked == Some(true) && denied {
        let (module, name) = parameter.split_once('.').unwrap_or((parameter, "nested"));
        draft.no(
            "cpu.nested",
            Soft,
            format!("KVM does not offer guests nested virtualization: {parameter} is off"),
            &format!("write `options {module} {name}=1` to /etc/modprobe.d/kvm.conf and load the module again"),
        );
        draft.about("cpu.nested");
    }
}

/// The width of an address, as the user wants it. KVM cannot give a guest more than the host has.
fn phys_bits(draft: &mut Draft, kvm: bool, cpu: &mut QemuOption) {
    let Some(bits) = draft.machine.cpu.phys_bits else { return };
    let origin = draft.file("cpu.phys_bits");
    // The model `host` has it on by itself.
    draft.set_cpu(cpu, "host-phys-bits", "off", origin.clone());
    cpu.set_from("phys-bits", bits.to_string(), origin);
    let host = draft.host.pci.as_ref().and_then(|pci| pci.address_bits);
    if let Some(host) = host.filter(|host| kvm && bits > *host) {
        let detail = format!("a physical address of this CPU has {host} bits, so the guest's cannot have {bits}");
        draft.no("cpu.phys_bits", Hard, detail, "leave `phys_bits` out: it is the host's then");
        return draft.about("cpu.phys_bits");
    }
    let width = draft.host.pci.as_ref().and_then(|pci| pci.barriers.address_bits);
    if let Some(width) = width.filter(|width| bits > *width && !draft.machine.pci.is_empty()) {
        let detail = format!(
            "the host's IOMMU translates {width} bits of an address, so devices do not reach what the guest has beyond them"
        );
        draft.no("cpu.phys_bits", Soft, detail, &format!("write `phys_bits: {width}`, or leave it out"));
        draft.about("cpu.phys_bits");
    }
}

/// What the user switches, over all that was set before.
fn features(draft: &mut Draft, cpu: &mut QemuOption) {
    for (index, feature) in draft.machine.cpu.features.iter().enumerate() {
        // Read before, so it is one.
        let Some((name, value)) = cpu_property(feature) else { continue };
        let known = &draft.qemu.cpu_properties;
        if !known.is_empty() && !known.contains(name) {
            let near = draft::nearest(name, known.iter().map(String::as_str));
            let near = near.map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            let detail = format!("{} has no CPU feature `{name}`{near}", draft.qemu.binary.display());
            draft.no(&format!("cpu.feature.{name}"), Hard, detail, "correct or remove it in `cpu.features`");
            draft.about(&format!("cpu.features[{index}]"));
        }
        cpu.set_from(name, value, draft.file(&format!("cpu.features[{index}]")));
    }
}

fn smp(draft: &mut Draft, decided: &Decided) {
    let topology = decided.told.topology;
    let count = decided.placement.vcpus.len();
    let why = if decided.told.faithful { "the host's cores that the vCPUs run on" } else { "as many cores as vCPUs" };
    let origin = match (draft.machine.cpu.topology, decided.placement.pinned) {
        (Some(_), _) => draft.file("cpu.topology"),
        (None, true) => by_fact(why),
        (None, false) => by_default(why),
    };
    let cpu = &draft.machine.cpu;
    let given = [
        ("vcpus", cpu.vcpus.is_some()),
        ("pin", cpu.pin.is_some()),
        ("leave", cpu.leave.is_some()),
        ("cores", cpu.cores.is_some()),
    ];
    let given = given.into_iter().find(|(_, written)| *written).map(|(field, _)| field);
    let counted = match given {
        Some(field) => draft.file(&format!("cpu.{field}")),
        None if count > 2 => {
            by_default("all cores of the fastest kind but one, since the guest has devices of the host")
        }
        None => by_default("two, since the file does not say"),
    };
    let mut smp = QemuOption::keys("-smp", None, origin);
    smp.set_from("cpus", count.to_string(), counted);
    smp.set("sockets", topology.sockets.to_string());
    // Newer machine types refuse members that a board does not have, so those that say nothing are left out.
    if topology.dies > 1 {
        smp.set("dies", topology.dies.to_string());
    }
    if topology.modules > 1 {
        if !draft.option_has("smp-opts", "modules") {
            let detail = format!("{} has no modules of cores", draft.qemu.binary.display());
            draft.no("cpu.topology.modules", Hard, detail, "leave `modules` out, or name another QEMU in `qemu`");
            draft.about("cpu.topology.modules");
        }
        smp.set("modules", topology.modules.to_string());
    }
    smp.set("cores", topology.cores.to_string());
    smp.set("threads", topology.threads.to_string());
    draft.push(smp);
    let kind = draft.machine.machine_type();
    let most = draft.qemu.most_vcpus.get(kind).copied().map(|most| most as usize);
    if let Some(most) = most.filter(|most| count > *most) {
        let detail = format!(
            "the machine type {kind:?} of {} takes {most} vCPUs at most, and the guest is to have {count}",
            draft.qemu.binary.display()
        );
        draft.no("cpu.most", Hard, detail, "lower the number, or name a newer QEMU in `qemu`");
        draft.about(given.map_or("cpu.vcpus".to_owned(), |field| format!("cpu.{field}")).as_str());
    }
}

#[cfg(test)]
mod width_tests {
    use crate::host::Pci;
    use crate::host::pci::{Details, Iommu, PciFunction};
    use crate::plan::sample::{self, Shape};

    #[test]
    fn a_guest_with_devices_has_no_more_address_bits_than_the_iommu() {
        let planned = |fields: &str, width| {
            let mut host = sample::host(Shape::simple(4, 1));
            host.process.uid = 0;
            let function = PciFunction {
                address: "01:00.0".parse().unwrap(),
                ids: "10de:2684".parse().unwrap(),
                subsystem: None,
                class: 0x03_0000,
                driver: Some("vfio-pci".to_owned()),
                group: Some(1),
                port: None,
                details: Some(Box::<Details>::default()),
            };
            let barriers = Iommu { address_bits: width, ..Iommu::default() };
            host.pci = Some(Pci { functions: vec![function], address_bits: Some(46), barriers, ..Pci::default() });
            let mut qemu = sample::qemu();
            qemu.cpu_properties.insert("host-phys-bits-limit".to_owned());
            let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), accelerator: Kvm, {fields})");
            let plan = crate::plan::plan(&sample::machine(&text), &|_| None, &host, &qemu);
            let cpu =
                plan.command.options.iter().find(|option| option.name == "-cpu").unwrap().value.written().unwrap();
            let told = plan.findings.iter().any(|finding| finding.key == "cpu.phys_bits");
            (cpu.split(',').find_map(|word| word.strip_prefix("host-phys-bits-limit=")).map(str::to_owned), told)
        };
        let limit = |bits: &str| Some(bits.to_owned());
        assert_eq!(planned(r#"pci: ["01:00.0"]"#, Some(39)), (limit("39"), false));
        assert_eq!(planned(r#"pci: ["01:00.0"]"#, Some(48)), (None, false));
        assert_eq!(planned(r#"pci: ["01:00.0"]"#, None), (None, false));
        assert_eq!(planned("", Some(39)), (None, false));
        assert_eq!(planned(r#"pci: ["01:00.0"], cpu: (phys_bits: 42)"#, Some(39)), (None, true));
        assert_eq!(planned(r#"pci: ["01:00.0"], cpu: (phys_bits: 39)"#, Some(39)), (None, false));
    }
}

#[cfg(test)]
mod idle_tests {
    use crate::plan::sample::{self, Shape};
    use crate::plan::{Plan, Severity, Verdict};

    fn plan(cpu: &str, accelerator: &str) -> Plan {
        let mut host = sample::host(Shape::simple(4, 1));
        host.process.uid = 0;
        let machine = "guest: Linux, memory: (size: \"1 GiB\")";
        sample::plan(&format!("({machine}, cpu: ({cpu}), accelerator: {accelerator})"), &host)
    }

    fn option(plan: &Plan) -> Option<String> {
        plan.command.options.iter().find(|option| option.name == "-overcommit")?.value.written()
    }

    #[test]
    fn a_guest_puts_its_cpus_to_sleep_itself_only_when_asked_for_and_with_kvm() {
        assert_eq!(option(&plan("pin: \"2-3\"", "Kvm")), None);
        assert_eq!(option(&plan("pin: \"2-3\", idle: Host", "Kvm")), None);
        for (cpu, accelerator, expected, written) in [
            ("pin: \"2-3\", idle: Guest", "Kvm", (Severity::Soft, Verdict::Yes), Some("cpu-pm=on")),
            ("vcpus: 9, idle: Guest", "Kvm", (Severity::Soft, Verdict::No), Some("cpu-pm=on")),
            ("pin: \"2-3\", idle: Guest", "Tcg", (Severity::Hard, Verdict::No), None),
        ] {
            let plan = plan(cpu, accelerator);
            let found = plan.findings.iter().find(|finding| finding.key == "cpu.idle").unwrap();
            assert_eq!((found.severity, found.ok), expected, "{cpu}");
            assert_eq!(option(&plan).as_deref(), written, "{cpu}");
        }
    }
}
