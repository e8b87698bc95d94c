//! A journal and a plan that version 0.1.0 wrote, with each kind of change, are read and undone by this version.
//!
//! `recorded/journal-0.1.0.jsonl`: numbers 1 to 17 stand, each kind of change at least once; the rest, other shapes of what
//! was found before, is undone already. `recorded/plan-0.1.0.json` has the same changes. Neither file is ever changed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;

use vfio_run::change::{Change, Own, Undone, unattended};
use vfio_run::journal::{Journal, Record};
use vfio_run::plan::Plan;

use super::host::{GPU, Host, PCI, SOUND};

const JOURNAL: &str = include_str!("recorded/journal-0.1.0.jsonl");
const PLAN: &str = include_str!("recorded/plan-0.1.0.json");

fn records() -> Vec<Record> {
    JOURNAL.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The name of a change's kind in JSON.
fn kind(change: &Change) -> String {
    let value = serde_json::to_value(change).unwrap();
    value.as_object().unwrap().keys().next().unwrap().clone()
}

#[test]
fn a_journal_of_0_1_0_is_read_and_written_byte_for_byte() {
    let again: String = records().iter().map(|record| serde_json::to_string(record).unwrap() + "\n").collect();
    assert_eq!(again, JOURNAL);
}

#[test]
fn a_plan_of_0_1_0_is_read_with_its_changes() {
    let plan: Plan = serde_json::from_str(PLAN).unwrap();
    let recorded: serde_json::Value = serde_json::from_str(PLAN).unwrap();
    assert_eq!(serde_json::to_value(&plan).unwrap()["changes"], recorded["changes"]);
    let in_journal: BTreeSet<String> = records()
        .iter()
        .filter_map(|record| match record {
            Record::Intent { change, .. } => Some(kind(change)),
            _ => None,
        })
        .collect();
    let in_plan: BTreeSet<String> = plan.changes.iter().map(|planned| kind(&planned.change)).collect();
    assert_eq!(in_plan, in_journal);
    // Version 0.1.0 knew these.
    assert_eq!(in_plan.len(), 14);
}

/// A host as it was when the journal was recorded, with its changes made.
fn changed_host() -> Host {
    let host = Host::with_overrides("(null)", "snd_hda_intel");
    host.put("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages", "3");
    host.put("sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages", "1");
    host.put("sys/devices/system/node/node0/hugepages/hugepages-2048kB/surplus_hugepages", "0");
    host.put(&format!("{PCI}/devices/{SOUND}/resource"), "0x0 0x0 0x0\n0x10000000 0x1fffffff 0x14220c\n");
    host.put("dev/vfio/12", "");
    let mut journal = host.journal();
    for record in records() {
        let Record::Intent { seq, change, .. } = record else { continue };
        match change {
            // The host of these tests resizes no range; the others have nothing to do, or no systemd to ask.
            Change::ResizeBar(_) | Change::FreeNodes(_) | Change::StopUnit(_) => {}
            Change::Own(own) => {
                journal
                    .make(&host.root(), &Own { uid: uid(own.uid), gid: gid(own.gid), ..own }.into(), &unattended)
                    .unwrap();
            }
            change if seq <= 17 => drop(journal.make(&host.root(), &change, &unattended).unwrap()),
            _ => {}
        }
    }
    host
}

/// A user other than root cannot change a file's owner.
fn uid(uid: u32) -> u32 {
    if nix::unistd::geteuid().is_root() { uid } else { nix::unistd::geteuid().as_raw() }
}

fn gid(gid: u32) -> u32 {
    if nix::unistd::geteuid().is_root() { gid } else { nix::unistd::getegid().as_raw() }
}

#[test]
fn a_journal_of_0_1_0_is_undone() {
    let mut before = Host::with_overrides("(null)", "snd_hda_intel").state();
    before.insert(format!("{SOUND} power/control"), "on".to_owned());
    let host = changed_host();
    let inode = |path: String| fs::metadata(host.path(&path)).unwrap();
    let (node, card) = (inode("dev/vfio/12".to_owned()), inode(format!("{PCI}/devices/{GPU}/drm/card1")));
    // Numbers that are another host's.
    let mut text = JOURNAL
        .replace("\"device\":4711,\"inode\":4712", &format!("\"device\":{},\"inode\":{}", node.dev(), node.ino()))
        .replace("\"inode\":4713", &format!("\"inode\":{}", card.ino()));
    let ours = format!("\"uid\":{},\"gid\":{}", uid(61184), gid(61184));
    text = text.replace("\"uid\":61184,\"gid\":61184", &ours);
    text = text.replace("\"uid\":0,\"gid\":0", &format!("\"uid\":{},\"gid\":{}", uid(0), gid(0)));
    fs::write(host.folder.path().join("run").join(Journal::FILE), text).unwrap();
    let mut journal = host.journal();
    let reports = journal.undo_all(&host.root());
    let untouched = ["resize_bar", "free_nodes", "stop_unit", "revive"];
    for report in reports {
        let how = report.result.unwrap_or_else(|error| panic!("{}: {error}", report.change));
        let kind = kind(&report.change);
        // The attribute of number 2 belongs to a driver that is no longer bound.
        let back =
            report.seq == 2 || untouched.contains(&kind.as_str()) || kind == "own" && !nix::unistd::geteuid().is_root();
        assert_eq!(how, if back { Undone::AlreadyBack } else { Undone::Restored }, "{}", report.change);
    }
    assert!(journal.close().unwrap());
    assert_eq!(host.state(), before);
    let pages = fs::read_to_string(host.path("sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages"));
    assert_eq!(pages.unwrap(), "3");
    let node = fs::metadata(host.path("dev/vfio/12")).unwrap();
    assert_eq!((node.uid(), node.gid()), (uid(0), gid(0)));
    assert!(!host.path("sys/fs/cgroup/vfio-run/win11").exists());
}
