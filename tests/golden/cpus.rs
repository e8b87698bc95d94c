//! Pictures of hosts' CPUs, as a terminal of 80 columns without colours shows them, and as SVG; and that whatever a
//! captured host says, each CPU is drawn once, in its place.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use proptest::prelude::*;
use vfio_run::host::{Cache, CacheKind, CoreKind, Cpu, Cpus, Host, Memory, Node};
use vfio_run::machine;
use vfio_run::plan::{self, Plan};
use vfio_run::report::cpus::{Device, Map, Shown, map, svg as draw, text};
use vfio_run::units::{CpuSet, Size};

use super::svg::{self, Element};
use super::{input, placements};

/// A host, what the machine `win11` says of CPUs (nothing: there is no machine), and what else runs, with its CPUs.
type Case = (&'static str, Host, Option<&'static str>, &'static [(&'static str, &'static str)]);

fn cases() -> Vec<Case> {
    let of = placements::host_of;
    vec![
        ("nothing runs", input::host("laptop-4c"), None, &[]),
        ("P and E cores", input::host("core-i7-13700k"), Some("vcpus: 12"), &[]),
        (
            "low-power cores",
            of("four P cores, eight E cores in two modules, two low-power cores without L3"),
            Some("cores: Efficiency, vcpus: 4"),
            &[],
        ),
        ("two dies, another machine", input::host("ryzen-7950x3d"), Some("vcpus: 14"), &[("linux", "8-11,24-27")]),
        (
            "two machines on the same CPUs",
            input::host("ryzen-1600"),
            Some("pin: \"4-5,10-11\""),
            &[("linux", "2,5,8,11")],
        ),
        ("isolated CPUs", input::host("xeon-2numa"), Some("vcpus: 6"), &[]),
        (
            "nodes that share an L3",
            of("two packages with two nodes each that share an L3, 10 cores a node"),
            Some("vcpus: 12"),
            &[],
        ),
        ("four threads a core", of("68 cores of four threads, no L3"), Some("vcpus: 8"), &[]),
        ("two packages of four nodes", of("two packages of four nodes with six cores each"), Some("vcpus: 24"), &[]),
        ("memory elsewhere", of("two nodes of four without memory of their own"), Some("vcpus: 8"), &[]),
        ("a part of the host", of("two nodes, and only four CPUs"), Some("vcpus: 3"), &[]),
        ("no CPUs of their own", of("one core"), Some("vcpus: 2"), &[]),
        ("some have CPUs of their own", input::host("laptop-4c"), Some("pin: [\"2\", \"3\", \"Any\"]"), &[]),
        ("512 CPUs", input::host("epyc-9754x2-512"), Some("vcpus: 16"), &[("linux", "64-71,320-327")]),
        ("512 CPUs, nothing runs", input::host("epyc-9754x2-512"), None, &[]),
    ]
}

fn plan_of(host: &Host, cpu: &str) -> Plan {
    let text = format!("(guest: Linux, cpu: ({cpu}), memory: (size: \"1 GiB\"), networks: [])");
    let source = machine::parse(Path::new("/machines/win11.ron"), &text).unwrap();
    plan::plan(&source.machine, &|field| source.lines.line(field), host, &input::qemu("7.2"))
}

fn map_of((_, host, cpu, others): &Case) -> Map {
    let mut host = host.clone();
    host.machines.extend(others.iter().map(|(name, cpus)| ((*name).to_owned(), cpus.parse().unwrap())));
    let mut shown: Vec<Shown> =
        cpu.iter().map(|cpu| Shown::of("win11", false, &plan_of(&host, cpu).placement)).collect();
    shown.extend(host.machines.iter().map(|(name, cpus)| Shown::unnumbered(name, cpus)));
    let device = |address: &str, name: &str, node, machine: Option<&str>| Device {
        address: address.to_owned(),
        name: name.to_owned(),
        node,
        machine: machine.map(str::to_owned),
    };
    let devices = cpu.map_or_else(Vec::new, |_| {
        vec![
            device("0000:01:00.*", "GeForce RTX 4090", host.memory.nodes.last().map(|node| node.id), Some("win11")),
            device("0000:02:00.0", "VGA card, 1a03:2000", Some(0), None),
        ]
    });
    map(&host.cpus, &host.memory, shown, devices)
}

fn plain(map: &Map, width: usize) -> String {
    anstream::adapter::strip_str(&text(map, width)).to_string()
}

/// The texts of a picture, those in one box on a line, deeper boxes further to the right.
fn structure(svg: &str) -> String {
    let elements = svg::elements(svg);
    let boxes: Vec<&Element> = elements.iter().filter(|element| element.name == "rect").collect();
    let mut lines: Vec<(usize, Option<usize>, String)> = Vec::new();
    for element in elements.iter().filter(|element| element.name == "text") {
        let around: Vec<usize> = (0..boxes.len()).filter(|at| boxes[*at].contains(element)).collect();
        let (depth, inner) = (around.len(), around.last().copied());
        match lines.last_mut() {
            Some((_, last, line)) if *last == inner && depth > 3 => write!(line, " | {}", element.text).unwrap(),
            _ => lines.push((depth, inner, element.text.clone())),
        }
    }
    lines.into_iter().fold(String::new(), |text, (depth, _, line)| format!("{text}{}{line}\n", "  ".repeat(depth - 1)))
}

/// All of them as one text, for people to review.
pub fn terminal() -> String {
    cases().iter().fold(String::new(), |all, case| format!("{all}== {}\n{}\n\n", case.0, plain(&map_of(case), 80)))
}

/// What stands in the SVG of some of them.
pub fn drawn() -> String {
    let names = [
        "P and E cores",
        "two dies, another machine",
        "two machines on the same CPUs",
        "two packages of four nodes",
        "512 CPUs",
    ];
    let cases = cases();
    let chosen = cases.iter().filter(|case| names.contains(&case.0));
    chosen.fold(String::new(), |all, case| format!("{all}== {}\n{}\n", case.0, structure(&draw(&map_of(case)))))
}

/// The CPUs that a text shows, each as often as it does.
fn shown(text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for line in text.lines() {
        // What goes on from the line before begins with blanks.
        let line = line.trim_start_matches("│ ");
        let Some(rest) = line.strip_prefix("CPUs ").or_else(|| line.strip_prefix("CPU ")) else { continue };
        let words = rest.split([' ', '│']).filter(|word| !word.is_empty());
        found.extend(words.flat_map(|word| word.parse::<CpuSet>().unwrap().iter().collect::<Vec<_>>()));
    }
    found.sort_unstable();
    found
}

/// The CPUs that an SVG shows.
fn pictured(elements: &[Element]) -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    for (at, element) in elements.iter().enumerate().filter(|(_, element)| element.name == "rect") {
        let Some(tip) = &element.tip else {
            // Lists of CPUs are alone in their boxes, line by line.
            let lines = elements[at + 1..].iter().take_while(|next| next.name == "text" && element.contains(next));
            let list: String = lines.map(|line| line.text.as_str()).collect();
            let is_list = !list.is_empty() && list.chars().all(|c| c.is_ascii_digit() || "-,".contains(c));
            found.extend(is_list.then(|| list.parse::<CpuSet>().unwrap()).iter().flat_map(CpuSet::iter));
            continue;
        };
        let number = tip.strip_prefix("CPU ").unwrap().split(';').next().unwrap();
        found.push(number.parse().unwrap());
    }
    found.sort_unstable();
    found
}

fn check(map: &Map, width: usize) {
    let all: Vec<u32> = map.host.cpus.iter().collect();
    let text = plain(map, width);
    for line in text.lines() {
        assert!(textwrap::core::display_width(line) <= width.max(48), "wider than {width}:\n{line}\nin\n{text}");
    }
    assert_eq!(shown(&text), all, "{text}");

    let drawn = draw(map);
    let elements = svg::elements(&drawn);
    assert_eq!(pictured(&elements), all);
    let boxes: Vec<&Element> = elements.iter().filter(|element| element.name == "rect").collect();
    for (number, one) in boxes.iter().enumerate() {
        for other in &boxes[number + 1..] {
            assert!(one.contains(other) || one.is_apart(other), "{one:?} and {other:?} overlap");
        }
    }
    for element in elements.iter().filter(|element| element.name == "text") {
        let inner = boxes.iter().rev().find(|one| one.contains(element));
        let inner = inner.unwrap_or_else(|| panic!("{element:?} is in no box"));
        let (from, to) = element.extent();
        assert!(from >= inner.x && to <= inner.x + inner.width, "{element:?} leaves {inner:?}");
    }
}

#[test]
fn each_cpu_is_drawn_once_and_in_its_box() {
    for case in cases() {
        let map = map_of(&case);
        for width in [48, 80, 200] {
            check(&map, width);
        }
    }
    check(&map(&Cpus::default(), &Memory::default(), vec![], vec![]), 80);
}

#[test]
fn on_a_terminal_narrower_than_the_picture_sentences_are_as_narrow() {
    for case in cases() {
        let text = plain(&map_of(&case), 40);
        let lines: Vec<&str> = text.lines().collect();
        let is_frame = |line: &&str| line.starts_with(['┌', '│', '└']);
        let (Some(first), Some(last)) = (lines.iter().position(is_frame), lines.iter().rposition(is_frame)) else {
            continue;
        };
        for line in lines[..first].iter().chain(&lines[last + 1..]) {
            assert!(textwrap::core::display_width(line) <= 40, "{line}\nin\n{text}");
        }
    }
}

#[test]
fn json_has_the_same_as_the_picture() {
    let [case] = &cases()[3..4] else { panic!() };
    let json = serde_json::to_value(map_of(case)).unwrap();
    let l3 = &json["host"]["groups"][0]["groups"][0]["groups"];
    assert_eq!((&l3[0]["kind"], &l3[0]["size"], &l3[0]["cpus"]), (&"l3".into(), &"96 MiB".into(), &"0-7,16-23".into()));
    let uses = &l3[0]["modules"][1]["cores"][0]["threads"][0]["uses"];
    assert_eq!(uses[0], serde_json::json!({ "machine": "win11", "vcpus": "0" }), "{uses}");
    let names: Vec<&str> = json["machines"].as_array().unwrap().iter().filter_map(|m| m["name"].as_str()).collect();
    assert_eq!(names, ["win11", "linux"]);
    assert!(json["machines"][0]["why"].as_str().unwrap().contains("one L3 cache of 96 MiB"), "{json}");
}

#[test]
fn names_of_others_can_neither_end_an_element_nor_move_a_cursor() {
    let name = "</text><script>&\u{1b}[2J\u{202e}\u{ffff}\"'";
    let host = input::host("laptop-4c");
    let device =
        Device { address: name.to_owned(), name: name.to_owned(), node: Some(0), machine: Some(name.to_owned()) };
    let shown = vec![Shown::unnumbered(name, &"1-2".parse().unwrap())];
    let cpus = Cpus { model: Some(name.to_owned()), ..host.cpus };
    let map = map(&cpus, &host.memory, shown, vec![device]);
    check(&map, 80);
    assert!(!plain(&map, 80).contains('\u{1b}') && !draw(&map).contains("<script"));
}

/// CPUs of a host that need not be possible.
fn any_cpus() -> impl Strategy<Value = (Cpus, Memory)> {
    let kind = prop_oneof![
        4 => Just(CoreKind::Uniform), 1 => Just(CoreKind::Performance), 1 => Just(CoreKind::Efficiency),
        1 => Just(CoreKind::LowPower)
    ];
    let set = |most: u32| proptest::collection::btree_set(0..most, 0..12).prop_map(|set| set.into_iter().collect());
    let range = |most: u32| (0..most, 1..40u32).prop_map(|(first, count)| (first..first + count).collect::<CpuSet>());
    let some = move |most: u32| prop_oneof![range(most), set(most)];
    (1..100u32).prop_flat_map(move |count| {
        let cpu = (0..3u32, 0..3u32, proptest::option::of(0..4u32), some(count), kind.clone(), any::<bool>());
        let cache = (2..4u32, proptest::option::of(1..1u64 << 30), some(count));
        let lists = (proptest::collection::vec(cpu, count as usize), proptest::collection::vec(cache, 0..12));
        (lists, some(count), some(count), 1..40u32).prop_map(move |((list, caches), isolated, allowed, apart)| {
            let list = (0..).zip(list).map(|(id, (package, die, node, siblings, kind, wild))| {
                // Half of them look like hosts.
                let (package, siblings) = match wild {
                    true => (package, siblings),
                    false => (id / 32, [id % apart, id % apart + apart].into_iter().collect()),
                };
                Cpu { id: id * (1 + apart % 3), package, die, core: id, node, siblings, kind, capacity: None }
            });
            let list: Vec<Cpu> = list.collect();
            let caches = caches.into_iter().map(|(level, size, cpus)| {
                let size = size.map(Size::bytes);
                Cache { level, kind: CacheKind::Unified, size, cpus }
            });
            let online: CpuSet = list.iter().map(|cpu| cpu.id).collect();
            let caches = caches.collect();
            let nodes = (0..3).map(|id| Node {
                id,
                cpus: list.iter().filter(|cpu| cpu.node == Some(id)).map(|cpu| cpu.id).collect(),
                total: Some(Size::bytes(u64::from(id) << 35)),
                free: None,
                distances: vec![],
                huge_pages: vec![],
            });
            let memory = Memory { nodes: nodes.collect(), ..Memory::default() };
            (Cpus { online, isolated, allowed, list, caches, ..Cpus::default() }, memory)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_a_host_says_each_cpu_is_drawn_once_and_in_its_box(
        (cpus, memory) in any_cpus(),
        machines in proptest::collection::vec(("\\PC{0,20}", proptest::collection::btree_set(0..120u32, 0..20)), 0..3),
        names in proptest::collection::vec((".{0,100}", proptest::option::of(0..5u32)), 0..3),
        width in 1..200usize,
    ) {
        let names_seen: BTreeSet<&String> = machines.iter().map(|(name, _)| name).collect();
        prop_assume!(names_seen.len() == machines.len());
        let shown = machines.iter().map(|(name, cpus)| Shown::unnumbered(name, &cpus.iter().copied().collect()));
        let device = |(name, node): &(String, Option<u32>)| Device {
            address: "0000:01:00.0".to_owned(), name: name.clone(), node: *node, machine: None
        };
        let cpus = Cpus { model: names.first().map(|(name, _)| name.clone()), ..cpus };
        check(&map(&cpus, &memory, shown.collect(), names.iter().map(device).collect()), width);
    }
}
