//! `vfio-run host`.

use anyhow::{Context as _, Result};

use super::shared::planned;
use crate::cli::{HostArgs, OutputArgs};
use crate::host::pci::WantedPci;
use crate::host::{self, CoreKind, Host, Wanted};
use crate::plan;
use crate::report::{self, Table};
use crate::units::exit;

/// Shows what is known about this host; with `--json`, or made anonymous, in the form that `plan --host` takes.
pub fn host(args: &HostArgs, output: OutputArgs) -> Result<u8> {
    // A machine may have any device, so a captured host has them all.
    let pci = Some(WantedPci { all: true, ..WantedPci::default() });
    let host = Host::read(&planned::root(), &Wanted { pci, ..plan::wanted_by_any() });
    if args.anonymous {
        let clean = host::anonymous(&host, &own_names()).context("these facts cannot be made anonymous")?;
        report::json(&clean)?;
    } else if output.json {
        report::json(&host)?;
    } else {
        report::say(&render(&host, report::wrap_width()));
    }
    Ok(exit::OK)
}

/// What this host and its users are called.
fn own_names() -> Vec<String> {
    let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default();
    let short = host.split('.').next().unwrap_or_default().to_owned();
    let users = ["USER", "LOGNAME", "SUDO_USER"].into_iter().filter_map(|name| std::env::var(name).ok());
    [host, short].into_iter().chain(users).collect()
}

fn render(host: &Host, width: usize) -> String {
    let unknown = || "unknown".to_owned();
    let mut facts = Table::new(&["FACT", "VALUE"]);
    facts.row(["kernel", &host.kernel]);
    facts.row(["CPU", host.cpus.model.as_deref().unwrap_or("unknown")]);
    facts.row(["CPUs online".to_owned(), host.cpus.online.to_string()]);
    if host.cpus.allowed != host.cpus.online {
        facts.row(["CPUs allowed".to_owned(), host.cpus.allowed.to_string()]);
    }
    if !host.cpus.isolated.is_empty() {
        facts.row(["CPUs isolated".to_owned(), host.cpus.isolated.to_string()]);
    }
    facts.row(["memory".to_owned(), host.memory.total.map_or_else(unknown, |s| format!("{} MiB", s.as_mib()))]);
    if let Some(nodes) = &host.memory.allowed {
        facts.row(["memory nodes allowed".to_owned(), nodes.to_string()]);
    }
    facts.row(["available".to_owned(), host.memory.available.map_or_else(unknown, |s| format!("{} MiB", s.as_mib()))]);
    facts.row(["KVM".to_owned(), host.kvm.verdict().to_string()]);
    facts.row(["firmware".to_owned(), format!("{} UEFI builds", host.firmware.len())]);
    facts.row(["systemd", if host.process.systemd { "yes" } else { "no" }]);

    let mut cpus = Table::new(&["CPU", "PACKAGE", "DIE", "CORE", "NODE", "L3", "SIBLINGS", "KIND"]);
    for cpu in &host.cpus.list {
        let kind = match cpu.kind {
            CoreKind::Uniform => "",
            CoreKind::Performance => "P",
            CoreKind::Efficiency => "E",
            CoreKind::LowPower => "LP",
        };
        let numbers = [cpu.id, cpu.package, cpu.die, cpu.core].map(|n| n.to_string());
        let node = cpu.node.map_or_else(String::new, |node| node.to_string());
        let l3 = host.cpus.l3(cpu.id).map_or_else(String::new, |cache| match cache.size {
            Some(size) => format!("{}: {}", size.about(), cache.cpus),
            None => cache.cpus.to_string(),
        });
        cpus.row(numbers.into_iter().chain([node, l3, cpu.siblings.to_string(), kind.to_owned()]));
    }

    let mut nodes = Table::new(&["NODE", "CPUS", "MEMORY MiB", "FREE MiB", "HUGE PAGES (total/free)"]);
    let mib = |size: Option<crate::units::Size>| size.map_or_else(unknown, |s| s.as_mib().to_string());
    for node in &host.memory.nodes {
        let pools = node.huge_pages.iter().map(|p| format!("{}: {}/{}", p.size, p.total, p.free));
        let pools = pools.collect::<Vec<_>>().join(", ");
        nodes.row([node.id.to_string(), node.cpus.to_string(), mib(node.total), mib(node.free), pools]);
    }
    [facts, cpus, nodes].map(|table| table.within(width)).join("\n\n")
}
