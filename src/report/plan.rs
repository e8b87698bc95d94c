//! A plan, as people read it.

use std::fmt::Write as _;

use super::findings::findings;
use super::hanging::each_within;
use super::table::Table;
use crate::plan::{Cgroup, HelperAccount, Inherited, Plan, Tap, trial};
use crate::units::counted;

/// Before each line of a section.
const INDENT: usize = 2;

/// The plan in short: the CPUs of each thread, the changes to the host, the processes. For a reader of this width.
pub fn summary(plan: &Plan, width: usize) -> String {
    render(plan, false, width)
}

/// The plan with the origin of each part.
pub fn explained(plan: &Plan, width: usize) -> String {
    render(plan, true, width)
}

fn render(plan: &Plan, origins: bool, width: usize) -> String {
    let mut text = format!("{} ({})\n", plan.name, plan.uuid);
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{title}\n{}\n", indent(&body));
        }
    };
    let because = |origin: &dyn std::fmt::Display| if origins { format!("  # {origin}") } else { String::new() };

    if let Some(moves) = &plan.moves {
        let made = if moves.installed { "which is installed" } else { "which is made for this run" };
        section("Moves first", format!("into {}, {made}: {}", moves.unit, moves.why));
    }
    section("Threads", placement(plan, origins));
    let changes = plan.changes.iter().map(|c| format!("{}{}", c.change, because(&c.origin)));
    section("Changes to the host, undone in reverse when the guest has ended", lines(changes));
    if trial(plan).is_some() {
        let first = plan.changes.iter().map(|planned| &planned.change).find(|change| change.nature().takes_from_host());
        let before = first.map_or_else(String::new, |change| format!(", before: {change}"));
        section("Trial", format!("QEMU must accept its command line, without the host's devices and stopped{before}"));
    }
    let irqs = plan.device_irqs.iter().map(|irqs| format!("those of {} go to {}", irqs.device, irqs.cpus.numbered()));
    section("Interrupts of the guest's devices", lines(irqs));
    let isolation = plan.isolation.iter().flat_map(|isolation| &isolation.changes);
    let changes = isolation.map(|c| format!("{}{}", c.change, because(&c.origin)));
    section("Once QEMU waits in its cgroup, undone as well", lines(changes));
    let holds = plan.holds.iter().map(|h| format!("{}{}", h.hold, because(&h.origin)));
    section("Held for as long as QEMU runs", lines(holds));
    if let Some(switch) = plan.give_back_unless {
        let text =
            format!("the guest is ended unless {} shows within {} s of QEMU's start", switch.sign, switch.within);
        section("Dead-man switch", text);
    }
    let hooks = plan.hooks.iter().map(|h| format!("{h} (at most {} s){}", h.timeout, because(&h.origin)));
    section("Hooks, in the order that they are run", lines(hooks));
    section("Kept for this machine", lines(plan.keep.iter().map(ToString::to_string)));
    let helpers =
        plan.helpers.iter().map(|h| format!("{}{}{}", h.argv.join(" "), runs_as(&h.account), because(&h.origin)));
    section("Helpers", lines(helpers));
    if let Some(account) = &plan.account {
        section("QEMU's account", format!("user {}, group {}, groups {:?}", account.uid, account.gid, account.groups));
    }
    section(
        "QEMU's cgroup",
        match &plan.cgroup {
            Cgroup::Ours => String::new(),
            Cgroup::Made(path) => path.display().to_string(),
            Cgroup::Scope(name) => format!("{name}, made by systemd"),
        },
    );
    let variables = plan.environment.iter().map(|v| format!("{}={}{}", v.name, v.value, because(&v.origin)));
    section("QEMU's environment", lines(variables));
    let inherited = plan.descriptors.iter().map(|d| format!("{}: {}", d.fd, inherited(&d.what)));
    section("Descriptors that QEMU inherits", lines(inherited));
    let screen =
        plan.viewer.iter().map(|viewer| format!("{} is given to user {}", viewer.socket.display(), viewer.uid));
    let links = plan.links.iter().map(|link| format!("{} leads to descriptor {}", link.at.display(), link.fd));
    section("The screen's folder", lines(screen.chain(links)));
    let options = plan.command.options.iter().map(|o| {
        let value = o.value.written().map_or_else(String::new, |v| format!(" {v}"));
        format!("{}{value}{}", o.name, because(&o.origin))
    });
    section(&plan.command.binary.display().to_string(), lines(options));
    let late = plan.late.iter().map(|late| {
        let needed = if late.needed { "; it must be there" } else { "" };
        format!("{}: {late}{needed}{}", late.id, because(&late.origin))
    });
    section("Given to QEMU just before the guest runs, and again when plugged in", lines(late));
    section("Findings", findings(&plan.findings, origins, width.saturating_sub(INDENT)));
    each_within(width, text.trim_end())
}

fn placement(plan: &Plan, origins: bool) -> String {
    let placement = &plan.placement;
    let mut table = Table::new(&["THREAD", "CPU"]);
    for (index, cpus) in placement.vcpus.iter().enumerate() {
        table.row([format!("vCPU {index}"), cpus.to_string()]);
    }
    for (id, cpus) in &placement.iothreads {
        table.row([format!("I/O thread {id}"), cpus.to_string()]);
    }
    table.row(["QEMU and helpers".to_owned(), placement.emulator.to_string()]);
    if let Some(born) = &placement.born {
        table.row(["QEMU until it is placed".to_owned(), born.to_string()]);
    }
    let t = placement.topology;
    let of = |number: u32, one: &str| counted(number as usize, one, &format!("{one}s"));
    let modules = (t.modules > 1).then_some((t.modules, "module"));
    let parts = [(t.sockets, "socket"), (t.dies, "die")].into_iter().chain(modules);
    let parts = parts.chain([(t.cores, "core"), (t.threads, "thread")]);
    let class = placement.scheduler.map(|class| format!("\nthe vCPUs run in real time, {class:?}")).unwrap_or_default();
    let why = placement.why.iter().filter(|_| origins).map(|why| format!("\nthe vCPUs are on {why}"));
    format!(
        "{table}\nthe guest sees {}{class}{}",
        parts.map(|(number, one)| of(number, one)).collect::<Vec<_>>().join(" × "),
        why.collect::<String>()
    )
}

/// The account of a helper, if it is not that of QEMU.
fn runs_as(account: &HelperAccount) -> String {
    match account {
        HelperAccount::Qemu => String::new(),
        HelperAccount::Launcher => " (as the launcher's user)".to_owned(),
        HelperAccount::Other(account) => format!(" (as user {}, group {})", account.uid, account.gid),
    }
}

fn inherited(what: &Inherited) -> String {
    match what {
        Inherited::Qmp => "the launcher's monitor".to_owned(),
        Inherited::Listen(path) => format!("listens on {}", path.display()),
        Inherited::Helper(name) => format!("joined to {name}"),
        Inherited::Device(path) => format!("{}, opened by the launcher", path.display()),
        Inherited::File(opened) => opened.to_string(),
        Inherited::Tap(Tap { name, port: None, .. }) => format!("the tap device {name}, opened by the launcher"),
        Inherited::Tap(Tap { name, port: Some(port), .. }) => {
            format!("the tap device {name} on {}, made by the launcher; it goes with QEMU", port.bridge)
        }
        Inherited::Macvtap(name) => format!("the macvtap device {name}"),
        Inherited::BridgeHelper { program, bridge } => {
            format!("a tap device on {bridge}, made by {}; it goes with QEMU", program.display())
        }
        Inherited::Memory(memory) => format!("the guest's memory, filled by the launcher: {memory}"),
        Inherited::Content(content) => format!("in memory: {content}"),
        Inherited::SoundServer { server, socket, uid, .. } => {
            format!("{} of user {uid}, {}", server.name(), socket.display())
        }
        Inherited::Cookie { path, .. } => format!("a copy of {}", path.display()),
        Inherited::Copy(path) => format!("a copy of {}, which QEMU's account cannot open", path.display()),
    }
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<_>>().join("\n")
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("{:INDENT$}{line}", "")).collect::<Vec<_>>().join("\n")
}
