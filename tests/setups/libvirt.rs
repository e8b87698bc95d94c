//! What libvirt makes of the five setups' domains against what their machine files become: each difference is listed, with its
//! reason.
//!
//! `NAME.xml` is the domain, and `NAME.libvirt` the command line that libvirt translates it to (`scripts/record-libvirt`).
//! `NAME.differences` has a line each, `fact | libvirt's | ours | reason`; those of all five are in `every.differences`.

use std::collections::{BTreeMap, BTreeSet};

use vfio_run::plan::Plan;

use super::SETUPS;
use super::input::{Inputs, root};
use super::model::{self, Facts, NOWHERE, PLACES};
use super::words::{self, Words};

/// What stands for a fact that one of the two does not have.
const ABSENT: &str = "-";

/// A fact, what it is in libvirt's command line, and in ours.
type Difference = (String, String, String);

fn data(name: &str) -> String {
    let path = root().join("tests/setups").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// libvirt's command line without the binary.
fn recorded(name: &str) -> Facts {
    let argv: Vec<String> = data(&format!("{name}.libvirt")).lines().skip(1).map(str::to_owned).collect();
    model::of_argv(&argv)
}

fn planned(name: &str, host: &str) -> Plan {
    Inputs::new(name, host, "7.2").plan()
}

/// The listed differences, with their reasons.
fn listed(file: &str) -> BTreeMap<Difference, String> {
    let text = data(file);
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut listed = BTreeMap::new();
    for line in lines {
        let columns: Vec<&str> = line.split(" | ").map(str::trim).collect();
        let [fact, theirs, ours, reason] = columns[..] else { panic!("{file}: not four columns: {line}") };
        assert!(reason.len() > 20, "{file}: a reason is a sentence: {line}");
        let twice = listed.insert((fact.to_owned(), theirs.to_owned(), ours.to_owned()), reason.to_owned());
        assert_eq!(twice, None, "{file}: twice: {line}");
    }
    listed
}

/// What one has otherwise than the other. A thing that only one of them has is one difference, with all that is said of it.
fn differences(theirs: &Facts, ours: &Facts) -> BTreeSet<Difference> {
    let (their_things, our_things) = (things(theirs), things(ours));
    let names: BTreeSet<&&str> = their_things.keys().chain(our_things.keys()).collect();
    let mut found = BTreeSet::new();
    for name in names {
        let said = |members: &BTreeMap<&str, &str>| {
            let all: Vec<String> = members.iter().map(|(key, value)| format!("{key}={value}")).collect();
            all.join(" ")
        };
        match (their_things.get(name), our_things.get(name)) {
            (Some(theirs), Some(ours)) => {
                let keys: BTreeSet<&&str> = theirs.keys().chain(ours.keys()).collect();
                for key in keys {
                    let value = |members: &BTreeMap<&str, &str>| members.get(key).unwrap_or(&ABSENT).to_string();
                    let (theirs, ours) = (value(theirs), value(ours));
                    if theirs != ours {
                        found.insert((format!("{name}: {key}"), theirs, ours));
                    }
                }
            }
            (theirs, ours) => {
                let value = |members: Option<&BTreeMap<&str, &str>>| members.map_or(ABSENT.to_owned(), said);
                found.insert((name.to_string(), value(theirs), value(ours)));
            }
        }
    }
    found
}

/// The members of each thing.
fn things(facts: &Facts) -> BTreeMap<&str, BTreeMap<&str, &str>> {
    let mut things: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for (fact, value) in facts {
        let (name, member) = fact.split_once(": ").unwrap();
        things.entry(name).or_default().insert(member, value);
    }
    things
}

fn shown<'a>(what: &str, differences: impl Iterator<Item = &'a Difference>) -> String {
    differences.map(|(fact, theirs, ours)| format!("{what}: {fact} | {theirs} | {ours}\n")).collect()
}

#[test]
fn each_difference_from_libvirts_command_line_is_explained() {
    let of_all: BTreeSet<Difference> = listed("every.differences").into_keys().collect();
    let mut wrong = String::new();
    for (name, host) in SETUPS {
        let plan = planned(name, host);
        let found = differences(&recorded(name), &model::of_plan(&plan, words::read(&plan.command.argv())));
        let own: BTreeSet<Difference> = listed(&format!("{name}.differences")).into_keys().collect();
        let both = own.intersection(&of_all);
        wrong += &shown(&format!("{name}: listed for all too"), both);
        let known: BTreeSet<Difference> = own.union(&of_all).cloned().collect();
        wrong += &shown(&format!("{name}: not explained"), found.difference(&known));
        wrong += &shown(&format!("{name}: explained, and not there"), known.difference(&found));
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn nothing_in_a_command_line_leads_nowhere() {
    for (name, host) in SETUPS {
        let plan = planned(name, host);
        for facts in [recorded(name), model::of_plan(&plan, words::read(&plan.command.argv()))] {
            let lost: Vec<_> = facts.iter().filter(|(_, value)| *value == NOWHERE).collect();
            assert!(lost.is_empty(), "{name}: {lost:?}");
        }
    }
}

#[test]
fn an_argument_that_is_dropped_is_noticed() {
    for (name, host) in SETUPS {
        let plan = planned(name, host);
        let whole = words::read(&plan.command.argv());
        let facts = model::of_plan(&plan, whole.clone());
        let without = |change: &dyn Fn(&mut Vec<Words>)| {
            let mut less = whole.clone();
            change(&mut less);
            model::of_plan(&plan, less)
        };
        for index in 0..whole.len() {
            let option = &whole[index];
            let less = without(&|options| drop(options.remove(index)));
            assert_ne!(less, facts, "{name}: without {option:?}");
            // A device that nothing leads to may have any id, and its place on its bus is QEMU's to number.
            let free = |key: &str| option.name == "-device" && (key == "id" || PLACES.contains(&key));
            let port = option.get("driver") == Some("pcie-root-port");
            for key in option.members.keys().filter(|key| !(free(key) || port && *key == "bus")) {
                let less = without(&|options| drop(options[index].members.remove(key)));
                assert_ne!(less, facts, "{name}: without {key} of {option:?}");
            }
        }
    }
}

#[test]
fn facts_do_not_depend_on_the_names_and_the_form_of_a_command_line() {
    let facts = |line: &str| model::of_argv(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let keys = facts(
        "-machine pc,kernel_irqchip=on -no-hpet -global a.b=on -blockdev driver=file,node-name=x,filename=/disk,cache.direct=on \
         -device virtio-blk-pci,id=a,drive=x,bus=p,addr=1 -device pcie-root-port,id=p",
    );
    let json = facts(
        "-blockdev {\"driver\":\"file\",\"node-name\":\"y\",\"filename\":\"/disk\",\"cache\":{\"direct\":true}} -machine \
         type=pc,hpet=off -accel kernel-irqchip=on -global driver=a,property=b,value=on -device \
         {\"driver\":\"pcie-root-port\",\"id\":\"q\",\"chassis\":3} -device \
         {\"driver\":\"virtio-blk-pci\",\"id\":\"b\",\"drive\":\"y\",\"bus\":\"q\"}",
    );
    assert_eq!(keys, json);
    assert_eq!(keys["virtio-blk-pci: drive.filename"], "/disk");
    assert_eq!(keys["virtio-blk-pci: bus"], "pcie-root-port");
    let other = facts("-machine pc -no-hpet -device virtio-blk-pci,drive=x");
    assert_eq!(other["virtio-blk-pci: drive"], NOWHERE);
    assert!(differences(&other, &keys).contains(&("global".to_owned(), ABSENT.to_owned(), "a.b=on".to_owned())));
}
