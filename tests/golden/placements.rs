//! Which CPUs guests get on hosts of many shapes, each with a sentence that says why that is right.

use std::fmt::Write as _;
use std::path::Path;

use vfio_run::host::{CoreKind, Host};
use vfio_run::machine;
use vfio_run::plan::{self, Plan, Verdict};

use super::input;
use super::shapes::{BLOCK, Block, host};

const P: CoreKind = CoreKind::Performance;
const E: CoreKind = CoreKind::Efficiency;

/// So many equal blocks: the CPUs of each, its node, package and die follow from its number.
fn blocks(count: u32, of: impl Fn(u32) -> Block) -> Vec<Block> {
    (0..count).map(of).collect()
}

/// CPUs `first` to `first + count - 1`, and the same `apart` further on.
fn twice(first: u32, count: u32, apart: u32) -> &'static str {
    let last = first + count - 1;
    format!("{first}-{last},{}-{}", first + apart, last + apart).leak()
}

/// Every `step`th CPU from `first`, below `end`.
fn every(first: u32, step: u32, end: u32) -> &'static str {
    (first..end).step_by(step as usize).collect::<vfio_run::units::CpuSet>().to_string().leak()
}

/// Two packages with two nodes each, numbered in turn; the nodes of a package share its L3 (sub-NUMA clusters).
fn snc(cores: u32) -> Host {
    let cpus = 8 * cores;
    let block = |node| Block { cpus: every(node, 4, cpus), node, package: node % 2, l3: (36, 0), ..BLOCK };
    let distances: [&[u32]; 4] = [&[10, 21, 11, 21], &[21, 10, 21, 11], &[11, 21, 10, 21], &[21, 11, 21, 10]];
    host(&blocks(4, block), &[48, 48, 48, 48], &distances)
}

/// Four dies of a Threadripper, of which the second and the fourth have no memory.
fn memoryless() -> Host {
    let block = |node| Block { cpus: twice(8 * node, 8, 32), node, die: node, l3: (16, node), ..BLOCK };
    let far = |n| (0..4).map(|m| if n == m { 10 } else { 16 }).collect::<Vec<u32>>();
    let distances = [far(0), far(1), far(2), far(3)];
    host(&blocks(4, block), &[32, 0, 32, 0], &distances.each_ref().map(Vec::as_slice))
}

/// Two packages, two nodes with every second CPU.
fn two_nodes() -> Host {
    let block = |node| Block { cpus: every(node, 2, 32), node, package: node, l3: (12, 0), ..BLOCK };
    host(&blocks(2, block), &[32, 32], &[&[10, 21], &[21, 10]])
}

/// The i7-13700K and its like: P cores with two threads first, then E cores in modules of four.
fn hybrid(kinds: [CoreKind; 2], speeds: [Option<u32>; 2]) -> Host {
    let fast = Block { cpus: "0-15", adjacent: true, l3: (30, 0), kind: kinds[0], speed: speeds[0], ..BLOCK };
    let slow = Block { cpus: "16-23", threads: 1, per_l2: 4, kind: kinds[1], speed: speeds[1], ..fast };
    host(&[fast, slow], &[64], &[])
}

/// Two dies of so many cores, with these caches in MiB.
fn two_dies(cores: u32, caches: [u64; 2]) -> Host {
    let block =
        |die: u32| Block { cpus: twice(die * cores, cores, 2 * cores), l3: (caches[die as usize], die), ..BLOCK };
    host(&blocks(2, block), &[64], &[])
}

fn with(mut host: Host, change: impl FnOnce(&mut Host)) -> Host {
    change(&mut host);
    host
}

/// Host, its name, and for it: what the machine says of CPUs, how many GiB it has, and why the plan is right.
type Case = (&'static str, Host, &'static [(&'static str, u32, &'static str)]);

fn cases() -> Vec<Case> {
    let isolated = |host: &mut Host, cpus: &str| host.cpus.isolated = cpus.parse().unwrap();
    let lp = |host: &mut Host| {
        host.cpus.list.iter_mut().filter(|cpu| cpu.id >= 12).for_each(|cpu| cpu.kind = CoreKind::Uniform);
        host.cpus.caches.retain(|cache| cache.level == 3 || !cache.cpus.contains(12));
        host.cpus.settle_kinds();
    };
    let arrow = Block { cpus: "0-3", threads: 1, l3: (24, 0), kind: P, ..BLOCK };
    let arrow = [
        arrow,
        Block { cpus: "4-11", per_l2: 4, kind: E, ..arrow },
        Block { cpus: "12-13", per_l2: 2, l3: (0, 0), kind: E, ..arrow },
    ];
    let strix = [
        Block { cpus: "0-3,12-15", l3: (16, 0), speed: Some(208), ..BLOCK },
        Block { cpus: "4-11,16-23", l3: (8, 1), speed: Some(132), ..BLOCK },
    ];
    let ccx = |cores: u32, all: u32, mib| {
        let block = move |n: u32| Block { cpus: twice(n * cores, cores, all), l3: (mib, n), ..BLOCK };
        host(&blocks(all / cores, block), &[32], &[])
    };
    let nps = |n: u32| Block { cpus: twice(6 * n, 6, 48), node: n, package: n / 4, die: n % 4, l3: (8, n), ..BLOCK };
    let apart = |a: u32, b: u32| {
        if a == b {
            10
        } else if a / 4 == b / 4 {
            16
        } else {
            32
        }
    };
    let distances: Vec<Vec<u32>> = (0..8).map(|a| (0..8).map(|b| apart(a, b)).collect()).collect();
    let distances: Vec<&[u32]> = distances.iter().map(Vec::as_slice).collect();
    let naples = |n: u32| Block { cpus: twice(4 * n, 4, 32), die: n / 2, l3: (8, n), ..BLOCK };
    vec![
        (
            "two packages with two nodes each that share an L3, 10 cores a node",
            snc(10),
            &[
                ("vcpus: 4", 8, "one node; the last of those that do not share the L3 with CPU 0"),
                ("vcpus: 12", 8, "one node holds 20 threads"),
                ("vcpus: 24", 8, "two nodes of one package, twelve each: they share the L3"),
                ("pin: \"0-79\"", 8, "package by package, so that each die of the guest is one L3 of the host"),
            ],
        ),
        (
            "the same with an isolated core in each node",
            with(snc(10), |host| isolated(host, "4-7,44-47")),
            &[
                ("vcpus: 2", 8, "the isolated core of a node far from CPU 0"),
                ("vcpus: 8", 8, "isolated cores would be in four nodes: one node counts more, and a finding says so"),
            ],
        ),
        (
            "four P cores, eight E cores in two modules, two low-power cores without L3",
            with(host(&arrow, &[32], &[]), lp),
            &[
                ("vcpus: 3", 8, "P cores but CPU 0; QEMU on E cores, never on low-power ones"),
                ("vcpus: 5", 8, "all P cores and one E core: the fewest of the wrong kind"),
                ("cores: Efficiency, vcpus: 4", 8, "one whole module of E cores"),
                ("cores: Efficiency", 8, "all E cores but one"),
            ],
        ),
        (
            "hybrid whose kinds only the clocks tell",
            hybrid([CoreKind::Uniform; 2], [Some(5_200_000), Some(3_900_000)]),
            &[
                ("vcpus: 14", 16, "P cores, all but CPU 0's"),
                ("vcpus: 18", 16, "P cores first, and a finding about the two E cores"),
            ],
        ),
        (
            "hybrid of which the kernel tells nothing",
            hybrid([CoreKind::Uniform; 2], [None; 2]),
            &[("vcpus: 18", 16, "cores of one thread that share an L2 are E cores")],
        ),
        (
            "i7-13700K",
            hybrid([P, E], [None; 2]),
            &[
                ("vcpus: 12", 16, "six P cores; QEMU on the E cores"),
                ("leave: 2", 16, "all P cores but two"),
                ("vcpus: 5", 16, "two P cores and a half, and a finding that even numbers are better"),
            ],
        ),
        (
            "four fast cores below 16 MiB, eight dense ones below 8 MiB",
            host(&strix, &[32], &[]),
            &[
                ("vcpus: 8", 8, "the fast ones, even with CPU 0's core"),
                ("vcpus: 6", 8, "three fast ones without CPU 0's"),
            ],
        ),
        (
            "7950X3D",
            two_dies(8, [96, 32]),
            &[
                ("vcpus: 16", 16, "the die with the cache whole, and a finding about CPU 0's core"),
                ("vcpus: 14", 16, "the die with the cache without CPU 0's core"),
                ("vcpus: 16, prefer: Clock", 16, "the other die"),
                ("vcpus: 30", 16, "all but CPU 0's core"),
            ],
        ),
        ("7900X3D", two_dies(6, [96, 32]), &[("vcpus: 12", 16, "the die with the cache whole")]),
        (
            "5900X",
            two_dies(6, [32, 32]),
            &[
                ("vcpus: 12", 16, "the die without CPU 0"),
                ("vcpus: 16", 16, "four cores of each die, so that the guest's dies are the host's"),
            ],
        ),
        (
            "3900X",
            ccx(3, 12, 16),
            &[
                ("vcpus: 6", 16, "one complex"),
                ("vcpus: 12", 16, "two complexes whole, not CPU 0's"),
                ("vcpus: 18", 16, "three complexes whole"),
            ],
        ),
        ("3700X", ccx(4, 8, 16), &[("vcpus: 8", 16, "one complex"), ("vcpus: 12", 16, "three cores of each")]),
        ("Ryzen 5 1600 AF", ccx(3, 6, 8), &[("vcpus: 6", 8, "one complex"), ("vcpus: 8", 8, "two cores of each")]),
        (
            "i7-8700K",
            host(&[Block { cpus: "0-11", l3: (12, 0), ..BLOCK }], &[32], &[]),
            &[
                ("vcpus: 10", 16, "all but CPU 0's core"),
                ("vcpus: 11", 16, "whole cores and a half, of which CPU 0's is one"),
            ],
        ),
        (
            "two nodes of four without memory of their own",
            memoryless(),
            &[
                ("vcpus: 8", 8, "the node that has memory and not CPU 0"),
                ("vcpus: 16", 8, "the same one, whole"),
                ("vcpus: 20", 8, "the two nodes that have memory"),
                ("pin: \"8-11,40-43\"", 8, "CPUs without memory of their own get that of the nearest node"),
            ],
        ),
        (
            "two nodes of 32 GiB",
            two_nodes(),
            &[
                ("vcpus: 8", 16, "one node, not CPU 0's"),
                ("vcpus: 8", 40, "no node has 40 GiB: both, half of the vCPUs on each, memory from both"),
                ("vcpus: 24", 16, "no node has 24 threads: both, twelve each"),
            ],
        ),
        (
            "two nodes, and only four CPUs and the other node's memory allowed",
            with(two_nodes(), |host| {
                host.cpus.allowed = "0,2,16,18".parse().unwrap();
                host.memory.allowed = Some("1".parse().unwrap());
            }),
            &[
                ("vcpus: 3", 8, "what is allowed, and a half core stays for QEMU"),
                ("vcpus: 4", 8, "all that is allowed; the memory is the other node's"),
            ],
        ),
        (
            "68 cores of four threads, no L3",
            host(&[Block { cpus: "0-271", threads: 4, per_l2: 2, l3: (0, 0), ..BLOCK }], &[64], &[]),
            &[("vcpus: 4", 8, "one core whole"), ("vcpus: 8", 8, "the two cores of one L2")],
        ),
        (
            "twelve cores in pairs with an L2, no L3",
            host(&[Block { cpus: "0-11", threads: 1, per_l2: 2, l3: (0, 0), ..BLOCK }], &[32], &[]),
            &[("vcpus: 4", 8, "two pairs; that they share no cache can't be mended, so nothing is said")],
        ),
        (
            "two packages of four nodes with six cores each",
            host(&blocks(8, nps), &[32; 8], &distances),
            &[
                ("vcpus: 12", 16, "one node whole"),
                ("vcpus: 24", 16, "two nodes whole, near each other and far from CPU 0"),
                ("vcpus: 48", 16, "four nodes of one package"),
            ],
        ),
        (
            "four dies of two complexes each in one node",
            host(&blocks(8, naples), &[64], &[]),
            &[("vcpus: 16", 16, "the two complexes of one die")],
        ),
        (
            "a machine runs on the second of two dies",
            with(two_dies(8, [32, 32]), |host| {
                host.machines = [("win11".to_owned(), "8-15,24-31".parse().unwrap())].into();
            }),
            &[
                ("vcpus: 8", 16, "CPUs of the other die, though CPU 0 is there"),
                (
                    "vcpus: 20",
                    16,
                    "CPUs of the other machine only as far as the rest does not suffice, and findings say so",
                ),
            ],
        ),
        (
            "favoured cores",
            with(two_dies(4, [32, 32]), |host| {
                let speeds = [231, 226, 221, 216, 196, 211, 201, 206];
                host.cpus.list.iter_mut().for_each(|cpu| cpu.capacity = Some(speeds[cpu.id as usize % 8]));
            }),
            &[("vcpus: 4", 8, "the two fastest cores of the die without CPU 0")],
        ),
        (
            "one core",
            host(&[Block { cpus: "0-1", ..BLOCK }], &[4], &[]),
            &[("vcpus: 2", 1, "too few to give each a CPU and the host one: nothing is pinned")],
        ),
    ]
}

fn plan_of(host: &Host, cpu: &str, gib: u32) -> Plan {
    let text = format!("(guest: Linux, cpu: ({cpu}), memory: (size: \"{gib} GiB\"), networks: [])");
    let source = machine::parse(Path::new("/machines/guest.ron"), &text).unwrap();
    plan::plan(&source.machine, &|field| source.lines.line(field), host, &input::qemu("7.2"))
}

/// The CPUs, the topology, the memory and what is said against it.
fn text(plan: &Plan) -> String {
    let placement = &plan.placement;
    let t = placement.topology;
    let argv = plan.command.argv().join(" ");
    let memory = argv.split_once("\"host-nodes\":").map_or("any node", |(_, rest)| rest.split('}').next().unwrap());
    let order: Vec<String> = placement.vcpus.iter().map(ToString::to_string).collect();
    let order = if placement.vcpus.len() <= 12 { order.join(" ") } else { placement.vcpu_set().to_string() };
    let no = plan
        .findings
        .iter()
        .filter(|f| f.ok == Verdict::No && ["cpu.", "memory."].iter().any(|s| f.key.starts_with(s)));
    let sockets = if t.sockets > 1 { format!("{} sockets of ", t.sockets) } else { String::new() };
    let caches = if argv.contains("host-cache-info=on") { ", the host's caches" } else { "" };
    let born = placement.born.as_ref().map_or_else(String::new, |cpus| format!(", born on {cpus}"));
    let mut text = format!(
        "  vCPUs {order}; QEMU {}{born}; {sockets}{}×{}×{}{caches}; memory {memory}\n",
        placement.emulator, t.dies, t.cores, t.threads
    );
    if let Some(why) = &placement.why {
        writeln!(text, "  {why}").unwrap();
    }
    for finding in no {
        let remedy = finding.remedy.as_deref().unwrap_or_default();
        writeln!(text, "  - {}: {} → {remedy}", finding.key, finding.detail).unwrap();
    }
    text
}

/// The host of the case whose name begins so.
pub fn host_of(name: &str) -> Host {
    let found = cases().into_iter().find(|(known, ..)| known.starts_with(name));
    found.unwrap_or_else(|| panic!("no case {name}")).1
}

/// All of them as one text, for people to review.
pub fn all() -> String {
    let mut all = String::new();
    for (name, host, wishes) in cases() {
        writeln!(all, "{name}").unwrap();
        for (cpu, gib, right) in wishes {
            writeln!(all, " {cpu}, {gib} GiB: {right}").unwrap();
            all.push_str(&text(&plan_of(&host, cpu, *gib)));
        }
        all.push('\n');
    }
    all
}
