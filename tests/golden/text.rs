//! A plan as text for people to review: one decision a line, each with its reason.

use std::fmt::Write;

use vfio_run::plan::{Plan, Severity, Verdict};

/// All of it.
pub fn of(plan: &Plan) -> String {
    let mut out = String::new();
    let mut line = |text: String| writeln!(out, "{}", text.trim_end()).unwrap();
    line(format!("{} {}", plan.name, plan.uuid));
    line(format!("account: {:?}, console: {}, timeout: {} s", plan.account, plan.console, plan.shutdown_timeout));
    line(format!("cgroup: {:?}", plan.cgroup));
    if !plan.leases.is_empty() {
        let leases: Vec<String> = plan.leases.iter().map(ToString::to_string).collect();
        line(format!("leases: {}, memory locked: {}", leases.join(" "), plan.lock_memory));
    }
    if let Some(moves) = &plan.moves {
        line(format!("goes on in {}: {}", moves.unit, moves.why));
    }
    if let Some(switch) = &plan.give_back_unless {
        line(format!("gives back without {} in {} s", switch.sign, switch.within));
    }
    let paths = &plan.paths;
    for path in [&paths.run, &paths.display, &paths.state, &paths.log] {
        line(format!("path: {}", path.display()));
    }
    line("\nplacement".to_owned());
    let placement = &plan.placement;
    let vcpus: Vec<String> = placement.vcpus.iter().map(ToString::to_string).collect();
    line(format!("  vcpus{}: {}", if placement.pinned { "" } else { " (not pinned)" }, vcpus.join(" ")));
    line(format!("  emulator: {}", placement.emulator));
    for (id, cpus) in &placement.iothreads {
        line(format!("  {id}: {cpus}"));
    }
    let t = placement.topology;
    line(format!("  guest: {} sockets, {} dies, {} cores, {} threads", t.sockets, t.dies, t.cores, t.threads));
    line("\nfindings".to_owned());
    for finding in &plan.findings {
        let severity = if finding.severity == Severity::Hard { "hard" } else { "soft" };
        let verdict = match finding.ok {
            Verdict::Yes => "yes",
            Verdict::No => "NO",
            Verdict::Unknown => "unknown",
        };
        line(format!("  {verdict} ({severity}) {}: {}", finding.key, finding.detail));
        if let Some(remedy) = &finding.remedy {
            line(format!("    > {remedy}"));
        }
        if let Some(origin) = &finding.origin {
            line(format!("    @ {origin}"));
        }
    }
    line("\nchanges".to_owned());
    for change in &plan.changes {
        line(format!("  {}  # {}", serde_json::to_string(&change.change).unwrap(), change.origin));
    }
    for change in plan.isolation.iter().flat_map(|isolation| &isolation.changes) {
        line(format!("  isolation: {}  # {}", serde_json::to_string(&change.change).unwrap(), change.origin));
    }
    for hook in &plan.hooks {
        line(format!("  hook {hook}, {} s  # {}", hook.timeout, hook.origin));
    }
    for planned in &plan.holds {
        line(format!("  hold: {}  # {}", planned.hold, planned.origin));
    }
    for late in &plan.late {
        let (id, what, needed) = (&late.id, &late.what, if late.needed { ", needed" } else { "" });
        line(format!("  late {id}: {}{needed}  # {}", serde_json::to_string(what).unwrap(), late.origin));
    }
    for keep in &plan.keep {
        line(format!("  {keep:?}"));
    }
    for helper in &plan.helpers {
        let fds: Vec<String> = helper.inherits.iter().map(|end| format!("fd {} {:?}", end.fd, end.what)).collect();
        let (name, fds, argv) = (&helper.name, fds.join(", "), helper.argv.join(" "));
        line(format!("  helper {name} ({fds}) as {:?}: {argv}  # {}", helper.account, helper.origin));
    }
    for descriptor in &plan.descriptors {
        line(format!("  fd {}: {:?}", descriptor.fd, descriptor.what));
    }
    for variable in &plan.environment {
        line(format!("  env {}={}  # {}", variable.name, variable.value, variable.origin));
    }
    if let Some(viewer) = &plan.viewer {
        line(format!("  {} for user {}", viewer.socket.display(), viewer.uid));
    }
    for link in &plan.links {
        line(format!("  {} -> fd {}", link.at.display(), link.fd));
    }
    line(format!("\n{}", plan.command.binary.display()));
    for option in &plan.command.options {
        line(format!("  {} {}", option.name, option.value.written().unwrap_or_default()));
        line(format!("    # {}", option.origin));
        for (key, origin) in &option.parts {
            line(format!("    #   {key}: {origin}"));
        }
    }
    out
}
