use std::path::Path;

use serde_json::{Value, json};

use super::*;

/// What somebody would not want to see in public.
const SECRETS: &[&str] = &[
    "S5H9NS0N123456X",
    "0x5002538e40b0c1d2",
    "3c:7c:3f:1e:22:90",
    "3c7c3f1e2290",
    "8f2c7a34-6f0e-4a86-9a55-7f3f1d1a9b10",
    "annabel",
    "annabels-tower",
    "annabels-secret-network",
    "secret-network",
    "tax-returns",
    "crypt-tax-returns",
    "photos of us",
    "win11-of-annabel",
    "203.0.113.77",
    "2a02:8071:1234::5",
    "Annabel's iPhone",
    "backup.example.org",
    "0x5000c500a1b2c3d4",
    "0x500304800164a87f",
    "198.18.7.9",
    "iqn.2004-10.org.example",
    "00:11:22:33:44:55",
    "491511234567",
    "bernadette",
    "2f6a1c0de5b84c1f9d3e7a90b1c2d3e4",
    "fe80::3e7c:3fff:fe1e:2290",
];

fn recorded() -> Vec<(String, Host)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut hosts: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|ending| ending == "json"))
        .map(|path| {
            let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
            (name, serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap())
        })
        .collect();
    hosts.sort_by(|a: &(String, Host), b| a.0.cmp(&b.0));
    assert!(hosts.len() > 10, "{} hosts", hosts.len());
    hosts
}

/// A host that has a secret wherever one has room.
fn with_secrets() -> Host {
    let host = recorded().into_iter().find(|(name, _)| name == "debian13-desktop").unwrap().1;
    let mut facts = serde_json::to_value(host).unwrap();
    facts["kernel"] = json!("6.12.5-annabels-tower");
    facts["cmdline"] = json!([
        "BOOT_IMAGE=/boot/vmlinuz-annabels-tower",
        "root=UUID=8f2c7a34-6f0e-4a86-9a55-7f3f1d1a9b10",
        "cryptdevice=/dev/disk/by-id/nvme-S5H9NS0N123456X:crypt-tax-returns",
        "ip=203.0.113.77::backup.example.org",
        "hostname.annabels-tower",
        "nvidia.NVreg_TemporaryFilePath=/home/bernadette/cards",
        "nohz_full=1-15:1/2",
        "iommu=pt",
        "vfio-pci.ids=10de:2684,10de:22ba",
    ]);
    facts["process"]["cgroup"] =
        json!("/user.slice/user-1000.slice/user@1000.service/app.slice/annabels-tower.service");
    facts["process"]["state_dir"] = json!("/home/annabel/.local/state/vfio-run");
    facts["process"]["unit"] = json!("vfio-run-win11-of-annabel.service");
    facts["programs"]["qemu-system-x86_64"] = json!("/home/annabel/tax-returns/qemu-system-x86_64");
    facts["files"] = json!({});
    facts["session_bus"] = json!({ "address": "unix:path=/home/bernadette/bus,guid=2f6a1c0de5b84c1f9d3e7a90b1c2d3e4", "answer": "accepts" });
    facts["cpusets"]["groups"] =
        json!(["system.slice", "user.slice", "games-of-bernadette.slice", "lxc.payload.bernadette"]);
    facts["cpusets"]["lists"] = json!({ "games-of-bernadette.slice": "4-7" });
    facts["accounts"] = json!({ "annabel": [1000, 1000] });
    facts["machines"] = json!({ "win11-of-annabel": "4-7" });
    facts["looking_glass"] = json!("win11-of-annabel");
    facts["usb"] = json!([{ "port": "1-1", "bus": 1, "number": 2, "ids": "05ac:12a8", "name": "Annabel's iPhone", "hub": false,
        "configured": true, "keyboard": false, "mounted": ["/media/annabel/photos of us"], "lease": "win11-of-annabel" }]);
    facts["input"] = json!({ "devices": [{ "event": "event3", "input": "input7", "name": "Annabel's iPhone",
        "links": ["/dev/input/by-id/usb-Apple_S5H9NS0N123456X-event-kbd",
            "/dev/input/by-path/pci-0000:03:00.0-sas-0x5000c500a1b2c3d4-lun-0",
            "/dev/disk/by-path/pci-0000:01:00.0-sas-exp0x500304800164a87f-phy8-lun-0",
            "/dev/disk/by-path/pci-0000:02:00.0-ip-198.18.7.9:3260-iscsi-iqn.2004-10.org.example:disks-lun-1", "/dev/input/by-path/pci-0000:00:14.0-usb-0:1:1.0-event-kbd",
            "/dev/00:11:22:33:44:55", "/dev/tap3c7c3f1e2290", "/mnt/491511234567"], "keyboard": true, "mouse": false, "seat": "seat0" }],
        "named": { "/dev/input/by-id/usb-Apple_S5H9NS0N123456X-event-kbd": "event3" } });
    facts["network"] = json!({ "interfaces": {
        "enx3c7c3f1e2290": { "index": 2, "kind": "ethernet", "up": true, "address": "3c:7c:3f:1e:22:90" },
        "annabels-secret-network": { "index": 3, "kind": "bridge", "up": true, "address": "3c:7c:3f:1e:22:90" } },
        "routes": [{ "subnet": "203.0.113.77/32", "interface": "enx3c7c3f1e2290" },
            { "subnet": "203.0.113.0/24", "interface": "enx3c7c3f1e2290" }] });
    let functions = facts["pci"]["functions"].as_array_mut().unwrap();
    let has_nodes =
        |function: &&mut Value| function["details"]["nodes"].as_array().is_some_and(|nodes| nodes.len() > 1);
    let details = &mut functions.iter_mut().find(has_nodes).unwrap()["details"];
    details["uses"] = json!([
        "/home/annabel/tax-returns",
        "/dev/mapper/crypt-tax-returns",
        "default route (annabels-secret-network)",
        "/dev/crypt-tax-returns (claimed: ZFS)"
    ]);
    details["nodes"][0]["path"] = json!("/dev/disk/by-id/wwn-0x5002538e40b0c1d2");
    details["nodes"][1]["path"] = json!("/dev/dri/card0");
    let irq = json!({ "number": 30, "actions": "annabels-secret-network-rx-0", "cpus": "0" });
    facts["tuning"] = json!({ "irqs": [irq] });
    facts["user_network"] = json!({ "name_servers": ["2a02:8071:1234::5", "203.0.113.77", "fe80::3e7c:3fff:fe1e:2290"], "default_route": true,
        "first_port": 1024, "listening": [] });
    serde_json::from_value(facts).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn no_secret_comes_through() {
    let host = with_secrets();
    let before = serde_json::to_string(&host).unwrap();
    for secret in SECRETS {
        assert!(before.contains(secret), "{secret} is nowhere in the host");
    }
    let clean = anonymous(&host, &["annabels-tower".to_owned(), "annabel".to_owned()]).unwrap();
    let after = serde_json::to_string_pretty(&clean).unwrap();
    for secret in SECRETS {
        let at = after.lines().find(|line| line.to_lowercase().contains(&secret.to_lowercase()));
        assert!(at.is_none(), "{secret} is still there: {at:?}");
    }
    // What helps stays.
    for word in [
        "iommu=pt",
        "vfio-pci.ids=10de:2684,10de:22ba",
        "/dev/dri/card0",
        "05ac:12a8",
        "6.12.5-",
        "\"default route (name-",
        " (claimed: ZFS)",
        "/user.slice/user-1000.slice",
        "nohz_full=1-15:1/2",
        "unix:path=/home/name-",
        "/dev/input/by-path/pci-0000:00:14.0-usb-0:1:1.0-event-kbd",
        "system.slice",
    ] {
        assert!(after.contains(word), "{word} is gone:\n{after}");
    }
}

#[test]
fn of_the_address_of_a_bus_the_transport_and_the_path_are_shown() {
    for address in ["unix:path=/run/user/1000/bus,guid=2f6a", "unix:guid=2f6a,path=/run/user/1000/bus;unix:path=/x"] {
        let shown = common::shown(".session_bus.address", address, &mut StandIns::new(&[]));
        assert_eq!(shown.as_deref(), Some("unix:path=/run/user/1000/bus"), "{address}");
    }
}

#[test]
fn what_is_the_same_stays_the_same() {
    let clean = serde_json::to_value(anonymous(&with_secrets(), &[]).unwrap()).unwrap();
    let interface = &clean["network"]["routes"][0]["interface"];
    assert!(clean["network"]["interfaces"].get(interface.as_str().unwrap()).is_some(), "{}", clean["network"]);
    assert_eq!(clean["machines"].as_object().unwrap().keys().next().unwrap(), clean["looking_glass"].as_str().unwrap());
    let link = clean["input"]["devices"][0]["links"][0].as_str().unwrap();
    assert_eq!(clean["input"]["named"][link], "event3");
}

#[test]
fn a_plan_needs_nothing_of_what_is_replaced() {
    for (name, host) in recorded() {
        let clean = anonymous(&host, &[]).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(clean.cpus, host.cpus, "{name}");
        assert_eq!(clean.memory, host.memory, "{name}");
        let ids = |host: &Host| -> Vec<String> {
            host.pci
                .iter()
                .flat_map(|pci| &pci.functions)
                .map(|f| format!("{} {} {:?}", f.address, f.ids, f.driver))
                .collect()
        };
        assert_eq!(ids(&clean), ids(&host), "{name}");
    }
}

#[test]
fn a_word_of_somebodys_that_a_fact_can_be_stays_where_it_is_the_facts_own() {
    let kind = |host: &Host| host.network.as_ref().unwrap().interfaces.values().next().unwrap().kind;
    for (word, own) in [
        ("rd.luks.key=/boot/keys/root.key", ""),
        ("zfs=tank/secure", ""),
        ("rootfstype=ethernet", ""),
        ("quiet", "keys"),
        ("quiet", "secure"),
        ("quiet", "enrolled"),
        ("quiet", "ethernet"),
    ] {
        let mut host = with_secrets();
        host.cmdline.push(word.to_owned());
        let own = [own.to_owned(), "annabel".to_owned()];
        let clean = anonymous(&host, &own).unwrap_or_else(|error| panic!("{word} {own:?}: {error}"));
        assert_eq!(kind(&clean), kind(&host), "{word} {own:?}");
        let features = |host: &Host| host.firmware.iter().map(|one| one.features.clone()).collect::<Vec<_>>();
        assert_eq!(features(&clean), features(&host), "{word} {own:?}");
        let after = serde_json::to_string(&clean).unwrap();
        for secret in SECRETS.iter().filter(|secret| **secret != "annabels-tower") {
            assert!(!after.to_lowercase().contains(&secret.to_lowercase()), "{secret} is still there: {after}");
        }
        let value = word.split_once('=').map_or("no value", |(_, value)| value);
        assert!(!clean.cmdline.iter().any(|shown| shown.ends_with(value)), "{word}: {:?}", clean.cmdline);
    }
}

#[test]
fn a_fact_that_is_new_is_hidden() {
    let mut stand_ins = StandIns::new(&[]);
    let mut facts = json!({ "pci": { "new": "S5H9NS0N123456X", "functions": [{ "address": "0000:01:00.0", "owner": "annabel" }] } });
    replace(&mut facts, "", &BTreeSet::new(), &mut stand_ins);
    assert_eq!(
        facts,
        json!({ "pci": { "new": "name-1", "functions": [{ "address": "0000:01:00.0", "owner": "name-2" }] } })
    );
}
