//! What running machines do, as `vfio-run top` shows it.

use std::collections::BTreeMap;

use anstyle::Style;
use serde::Serialize;

use super::Table;
use super::hanging::within;
use super::table::TOGETHER;
use crate::host::activity::MemoryUse;
use crate::units::Size;

/// How many interrupts and exits are named.
const MOST: usize = 8;
/// A wait below this is not worth a word.
const SHORT_WAIT: f64 = 0.001;

/// What the machines did in a stretch of time, the busiest first.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Top {
    /// How long it was.
    pub seconds: f64,
    /// The machines.
    pub machines: Vec<MachineLoad>,
}

/// What a machine did; each number is for one second. `None`: it is not known, and [`MachineLoad::unknown`] says why.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct MachineLoad {
    /// Its name.
    pub name: String,
    /// QEMU's run state, or what `status` says of a machine whose guest does not run or has no launcher.
    pub state: String,
    /// What the user should do, if anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    /// QEMU's process.
    pub qemu: Option<i32>,
    /// Seconds of CPU time of all vCPUs together: 1.0 is one CPU, all the time.
    pub load: Option<f64>,
    /// Seconds that the vCPUs together were ready to run and waited for a CPU.
    pub wait: Option<f64>,
    /// Seconds of CPU time of QEMU's other threads.
    pub others: Option<f64>,
    /// Each vCPU.
    pub vcpus: Vec<VcpuLoad>,
    /// How often vCPUs left the guest, all together (`exits`) and by KVM's counters (`io_exits`, `halt_exits`, …).
    pub exits: Option<BTreeMap<String, f64>>,
    /// Interrupts that came to the guest's CPUs, the most frequent first.
    pub interrupts: Option<Vec<InterruptRate>>,
    /// What QEMU's memory lies on.
    pub memory: Option<MemoryUse>,
    /// The guest's disks.
    pub disks: Option<Vec<DiskRate>>,
    /// The guest's network cards.
    pub networks: Vec<NetworkRate>,
    /// Why something is not known, by its name here.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unknown: BTreeMap<&'static str, String>,
}

/// What a vCPU did in a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct VcpuLoad {
    /// Its number; `all` if one thread runs all of them.
    pub vcpu: String,
    /// The CPU that it ran on last.
    pub cpu: Option<u32>,
    /// Seconds that it ran.
    pub load: f64,
    /// Seconds that it waited for a CPU.
    pub wait: f64,
}

/// How often an interrupt came in a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct InterruptRate {
    /// Its name in the first column of `/proc/interrupts`.
    pub id: String,
    /// Whose it is.
    pub name: String,
    /// How often it came.
    pub rate: f64,
}

/// What went to and from a disk in a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct DiskRate {
    /// Its id in QEMU.
    pub id: String,
    /// Bytes that the guest read.
    pub read_bytes: f64,
    /// Bytes that the guest wrote.
    pub written_bytes: f64,
    /// How often it read.
    pub reads: f64,
    /// How often it wrote.
    pub writes: f64,
}

/// What went through a network card in a second.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct NetworkRate {
    /// Its id in QEMU.
    pub id: String,
    /// The interface of the host's behind it.
    pub interface: Option<String>,
    /// Bytes that the guest received.
    pub received_bytes: Option<f64>,
    /// Bytes that the guest sent.
    pub sent_bytes: Option<f64>,
    /// Why that is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unknown: Option<String>,
}

/// For a reader of this width: a table of the machines, then more of each. What does not fit goes on below.
pub fn top(top: &Top, width: usize) -> String {
    let bold = Style::new().bold();
    let mut table = Table::new(&["NAME", "STATE", "LOAD", "WAIT", "QEMU", "EXITS/s", "IRQS/s", "MEMORY"]);
    for machine in &top.machines {
        table.row(row(machine));
    }
    let (table, headings) = table.with_headings(width);
    let mut lines: Vec<String> = table.lines().map(str::to_owned).collect();
    for heading in lines.iter_mut().take(headings) {
        *heading = format!("{bold}{heading}{bold:#}");
    }
    for machine in &top.machines {
        let details = details(machine);
        if !details.is_empty() {
            lines.push(format!("\n{bold}{}{bold:#}", machine.name));
        }
        lines.extend(details.iter().map(|(what, how)| within(width, &format!("  {what:<10} "), how)));
    }
    lines.join("\n").replace(TOGETHER, " ")
}

/// The text's lines as far as they fit on a screen of this size, each of it one line of the screen's. What is left out the last
/// line says.
pub fn fitted(text: &str, (width, height): (usize, usize)) -> Vec<String> {
    let (width, height) = (width.max(1), height.max(1));
    let mut lines: Vec<String> = text.lines().flat_map(|line| cut(line, width)).collect();
    if lines.len() > height {
        let left = lines.len() - (height - 1);
        lines.truncate(height - 1);
        lines.push(format!("… {left} more lines").chars().take(width).collect());
    }
    lines
}

/// The line in pieces no wider than this. Only a word that is wider by itself is cut; styles stand where they are.
fn cut(line: &str, width: usize) -> Vec<String> {
    let options = textwrap::Options::new(width).word_splitter(textwrap::WordSplitter::NoHyphenation);
    textwrap::wrap(line, options).into_iter().map(std::borrow::Cow::into_owned).collect()
}

fn row(machine: &MachineLoad) -> [String; 8] {
    let shown = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    let interrupts = machine.interrupts.as_ref().map(|all| all.iter().map(|one| one.rate).sum::<f64>());
    let resident = |memory: &MemoryUse| {
        let parts = [memory.resident, memory.huge].into_iter().flatten();
        parts.map(Size::as_bytes).reduce(u64::saturating_add).map(|sum| bytes(sum as f64))
    };
    [
        machine.name.clone(),
        machine.state.clone(),
        shown(machine.load.map(percent)),
        shown(machine.wait.map(percent)),
        shown(machine.others.map(percent)),
        shown(machine.exits.as_ref().and_then(|exits| exits.get(ALL_EXITS)).map(|rate| number(*rate))),
        shown(interrupts.map(number)),
        shown(machine.memory.as_ref().and_then(resident)),
    ]
}

/// KVM's counter of all exits; the others have this ending.
const ALL_EXITS: &str = "exits";

fn details(machine: &MachineLoad) -> Vec<(&'static str, String)> {
    let mut rows = Vec::new();
    let mut add = |what, parts: Vec<String>| {
        if !parts.is_empty() {
            rows.push((what, parts.join(", ")));
        }
    };
    add("to do", machine.remedy.iter().cloned().collect());
    let vcpus = machine.vcpus.iter().map(|vcpu| {
        let waits = match vcpu.wait {
            wait if wait >= SHORT_WAIT => format!(" (waits {})", percent(wait)),
            _ => String::new(),
        };
        format!("{}:{TOGETHER}{}{waits}", vcpu.vcpu, percent(vcpu.load))
    });
    add("vCPUs", vcpus.collect());
    add("exits", machine.exits.as_ref().map(exits).unwrap_or_default());
    let interrupts = machine.interrupts.iter().flatten().take(MOST);
    add("interrupts", interrupts.map(|one| format!("{} {} {}/s", one.id, one.name, number(one.rate))).collect());
    let disks = machine.disks.iter().flatten().map(|disk| {
        format!("{} reads {}, writes {}", disk.id, transfer(disk.read_bytes, disk.reads), {
            transfer(disk.written_bytes, disk.writes)
        })
    });
    add("disks", disks.collect());
    let networks = machine.networks.iter().map(|card| match (card.received_bytes, card.sent_bytes) {
        (Some(received), Some(sent)) => format!("{} in {}/s, out {}/s", card.id, bytes(received), bytes(sent)),
        _ => format!("{} -", card.id),
    });
    add("networks", networks.collect());
    rows
}

/// The exits by reason, the most frequent first, and what has no counter of its own.
fn exits(exits: &BTreeMap<String, f64>) -> Vec<String> {
    let reason = |(name, rate): (&String, &f64)| Some((name.strip_suffix("_exits")?.replace('_', " "), *rate));
    let mut reasons: Vec<(String, f64)> = exits.iter().filter_map(reason).filter(|(_, rate)| *rate >= 0.5).collect();
    let known: f64 = reasons.iter().map(|(_, rate)| rate).sum();
    reasons.sort_by(|a, b| b.1.total_cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    reasons.truncate(MOST);
    if let Some(others) = exits.get(ALL_EXITS).map(|all| all - known).filter(|rate| *rate >= 0.5) {
        reasons.push(("others".to_owned(), others));
    }
    reasons.into_iter().map(|(name, rate)| format!("{name} {}/s", number(rate))).collect()
}

fn transfer(moved: f64, times: f64) -> String {
    if times < 0.5 { "nothing".to_owned() } else { format!("{}/s ({}/s)", bytes(moved), number(times)) }
}

fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent < 9.95 { format!("{percent:.1}{TOGETHER}%") } else { format!("{percent:.0}{TOGETHER}%") }
}

fn number(rate: f64) -> String {
    format!("{rate:.0}")
}

fn bytes(rate: f64) -> String {
    // No rate is below zero.
    Size::bytes(rate.round() as u64).about().replace(' ', TOGETHER)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn busy() -> Top {
        let vcpu = |vcpu: u32, load, wait| VcpuLoad { vcpu: vcpu.to_string(), cpu: Some(vcpu + 4), load, wait };
        let interrupt = |id: &str, name: &str, rate| InterruptRate { id: id.to_owned(), name: name.to_owned(), rate };
        let exits = [("exits", 12_300.0), ("halt_exits", 8_000.4), ("io_exits", 0.2), ("irq_window_exits", 2_100.0)];
        let busy = MachineLoad {
            name: "win11".to_owned(),
            state: "running".to_owned(),
            remedy: None,
            qemu: Some(4711),
            load: Some(1.53),
            wait: Some(0.021),
            others: Some(0.0712),
            vcpus: vec![vcpu(0, 0.98, 0.02), vcpu(1, 0.55, 0.001), vcpu(2, 0.0, 0.0)],
            exits: Some(exits.map(|(name, rate)| (name.to_owned(), rate)).into()),
            interrupts: Some(vec![
                interrupt("LOC", "Local timer interrupts", 3000.0),
                interrupt("134", "nvme0q1", 1199.6),
            ]),
            memory: Some(MemoryUse {
                resident: Some(Size::bytes(200 << 20)),
                huge: Some(Size::bytes(16 << 30)),
                ..MemoryUse::default()
            }),
            disks: Some(vec![DiskRate {
                id: "disk0".to_owned(),
                read_bytes: 1.5 * (1 << 20) as f64,
                reads: 30.0,
                ..DiskRate::default()
            }]),
            networks: vec![
                NetworkRate {
                    id: "net0".to_owned(),
                    interface: Some("vfio-1-0".to_owned()),
                    received_bytes: Some(2048.0),
                    sent_bytes: Some(0.0),
                    unknown: None,
                },
                NetworkRate { id: "net1".to_owned(), unknown: Some("nobody counts".to_owned()), ..Default::default() },
            ],
            unknown: BTreeMap::new(),
        };
        let begins = MachineLoad { name: "server".to_owned(), state: "starting".to_owned(), ..MachineLoad::default() };
        Top { seconds: 1.0, machines: vec![busy, begins] }
    }

    fn plain(top_: &Top, width: usize) -> String {
        anstream::adapter::strip_str(&top(top_, width)).to_string()
    }

    #[test]
    fn eighty_columns_have_a_table_and_more_of_each_machine() {
        let expected = "\
NAME    STATE     LOAD   WAIT   QEMU   EXITS/s  IRQS/s  MEMORY
win11   running   153 %  2.1 %  7.1 %  12300    4200    16.2 GiB
server  starting  -      -      -      -        -       -

win11
  vCPUs      0: 98 % (waits 2.0 %), 1: 55 % (waits 0.1 %), 2: 0.0 %
  exits      halt 8000/s, irq window 2100/s, others 2200/s
  interrupts LOC Local timer interrupts 3000/s, 134 nvme0q1 1200/s
  disks      disk0 reads 1.5 MiB/s (30/s), writes nothing
  networks   net0 in 2 KiB/s, out 0 B/s, net1 -";
        assert_eq!(plain(&busy(), 80), expected);
    }

    #[test]
    fn forty_columns_go_on_below_with_a_hanging_indent_and_nothing_is_cut() {
        let narrow = plain(&busy(), 40);
        assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
        assert!(
            narrow.contains("\n  vCPUs      0: 98 % (waits 2.0 %),\n             1: 55 % (waits 0.1 %),\n"),
            "{narrow}"
        );
        // Each number is named.
        assert!(narrow.starts_with("NAME win11  STATE running  LOAD 153 %\n  WAIT 2.1 %  QEMU 7.1 %"), "{narrow}");
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<BTreeSet<_>>();
        assert_eq!(words(&narrow), words(&plain(&busy(), 80)));
    }

    #[test]
    fn styles_are_in_the_headings_alone() {
        let styled = top(&busy(), 80);
        let with: Vec<&str> = styled.lines().filter(|line| line.contains('\u{1b}')).collect();
        assert_eq!(with.len(), 2, "{styled}");
        assert!(with[0].contains("NAME") && with[1].contains("win11"), "{with:?}");
        // Columns that moved together have headings too; a paragraph has none.
        let mut short = busy();
        short.machines.iter_mut().for_each(|machine| machine.name.truncate(3));
        let first = |width| top(&short, width).lines().next().map(str::to_owned).unwrap();
        assert!(first(58).contains("\u{1b}[1mNAME STATE "), "{}", first(58));
        assert!(!first(50).contains('\u{1b}'), "{}", first(50));
    }

    #[test]
    fn a_screen_has_as_many_lines_as_it_is_high_and_says_what_is_left_out() {
        let text = plain(&busy(), 80);
        let lines = fitted(&text, (80, 5));
        assert_eq!(lines.len(), 5);
        assert!(lines[0].starts_with("NAME ") && lines[4] == "… 6 more lines", "{lines:?}");
        assert_eq!(fitted(&text, (80, 24)).join("\n"), text);
        let broken = fitted("word-that-is-wider", (8, 24));
        assert!(broken.iter().all(|line| line.chars().count() <= 8) && broken.concat() == "word-that-is-wider");
        assert_eq!(fitted(&text, (80, 1)).len(), 1);
    }
}
