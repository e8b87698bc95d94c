//! The hosts of tests/hosts are what the readers read. Each made-up host is written as a tree of files and
//! read; the result is the stored file. `UPDATE_HOSTS=1 cargo test --test hosts` writes the files anew.

#[path = "hosts/board.rs"]
mod board;
#[path = "hosts/devices.rs"]
mod devices;
#[path = "hosts/setups.rs"]
mod setups;
#[path = "hosts/shapes.rs"]
mod shapes;
#[path = "hosts/tree.rs"]
mod tree;

use std::path::PathBuf;

use serde_json::Value;
use vfio_run::host::desktop::{Answer, Desktop, Found, SoundServerFact};
use vfio_run::host::pci::WantedPci;
use vfio_run::host::{CoreKind, Environment, Host, KvmVerdict, Root, Wanted};

use tree::Shape;

fn stored(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/hosts").join(name).with_extension("json")
}

fn load(name: &str) -> Host {
    serde_json::from_str(&std::fs::read_to_string(stored(name)).unwrap()).unwrap()
}

fn wanted() -> Wanted {
    Wanted { files: vec![], programs: vec!["qemu-system-x86_64".to_owned(), "swtpm".to_owned()], ..Wanted::default() }
}

/// The user in front of a screen, for whom PipeWire plays, and stands in for PulseAudio.
fn desktop() -> Desktop {
    let server = |socket: &str| SoundServerFact { socket: socket.into(), mode: Some(0o666), answer: Answer::Accepts };
    Desktop {
        uid: 1000,
        gid: 1000,
        name: Some("user".to_owned()),
        found: Found::Session("3".to_owned()),
        cookie: None,
        pipewire: server("/run/user/1000/pipewire-0"),
        pulse: server("/run/user/1000/pulse/native"),
        stays: false,
    }
}

/// Reads the shape's tree with the real readers, and adds what only a real /dev/kvm can answer.
fn read(shape: &Shape, missing: &[&str]) -> Host {
    // Ten thousand files for 512 CPUs: in memory, if there is room for them.
    let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
    tree::write(folder.path(), shape);
    let mut variables = vec![("PATH", "/usr/local/bin:/usr/bin")];
    if shape.uid == 0 {
        variables.push(("HOME", "/root"));
    } else {
        variables.extend([("HOME", "/home/user"), ("XDG_RUNTIME_DIR", "/run/user/1000")]);
    }
    if shape.cgroup.ends_with("vfio-run-win11.service") {
        variables.push(("SYSTEMD_EXEC_PID", "4711"));
    }
    let variables = variables.into_iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
    let environment = Environment { uid: shape.uid, gid: shape.uid, pid: 4711, variables };
    let start = std::time::Instant::now();
    let pci = shape.board.as_ref().map(|_| WantedPci { all: true, ..WantedPci::default() });
    let wanted = Wanted { pci, cpusets: shape.board.is_some(), ..wanted() };
    let mut host = Host::read_in(&Root::new(folder.path()), &environment, &wanted);
    eprintln!("{}: read in {:?}", shape.model, start.elapsed());
    host.kvm.group = Some(104);
    host.kvm.api_version = Some(12);
    // What only servers of sound that run can answer.
    host.desktop = shape.board.as_ref().map(|_| desktop());
    host.kvm.missing_features = missing.iter().map(|name| (*name).to_owned()).collect();
    host
}

/// Writes JSON with one line for each entry of the long lists: a CPU, a cache, a node.
fn lines(value: &Value, depth: usize, out: &mut String) {
    let indent = |depth: usize| format!("\n{}", "  ".repeat(depth));
    let open = |len: usize| depth < 3 && len > 0;
    match value {
        Value::Object(map) if open(map.len()) => {
            for (n, (key, value)) in map.iter().enumerate() {
                let start = if n == 0 { "{" } else { "," };
                out.push_str(&format!("{start}{}{}: ", indent(depth + 1), Value::from(key.as_str())));
                lines(value, depth + 1, out);
            }
            out.push_str(&format!("{}}}", indent(depth)));
        }
        Value::Array(list) if open(list.len()) && !list[0].is_string() => {
            for (n, value) in list.iter().enumerate() {
                out.push_str(&format!("{}{}", if n == 0 { "[" } else { "," }, indent(depth + 1)));
                lines(value, depth + 1, out);
            }
            out.push_str(&format!("{}]", indent(depth)));
        }
        other => out.push_str(&other.to_string()),
    }
}

fn write(name: &str, host: &Host) {
    let mut text = String::new();
    lines(&serde_json::to_value(host).unwrap(), 0, &mut text);
    std::fs::write(stored(name), text + "\n").unwrap();
}

fn check(name: &str, shape: &Shape, missing: &[&str]) {
    let host = read(shape, missing);
    if std::env::var_os("UPDATE_HOSTS").is_some() {
        write(name, &host);
    }
    assert_eq!(load(name), host, "{name}: run with UPDATE_HOSTS=1 if this is meant");
    assert_eq!(host.kvm.verdict(), KvmVerdict::Works);
    assert_eq!(host.firmware.len(), 3);
    assert_eq!(host.programs.len(), 2);
}

#[test]
fn ryzen_5800x3d() {
    check("ryzen-5800x3d", &shapes::ryzen_5800x3d(), &[]);
    assert_eq!(load("ryzen-5800x3d").cpus.l3_domain(3).to_string(), "0-15");
}

#[test]
fn ryzen_7950x3d() {
    check("ryzen-7950x3d", &shapes::ryzen_7950x3d(), &[]);
    let host = load("ryzen-7950x3d");
    assert_eq!(host.cpus.l3_domain(1).to_string(), "0-7,16-23");
    assert_eq!(host.cpus.get(24).unwrap().siblings.to_string(), "8,24");
    assert_eq!(host.process.unit.as_deref(), Some("vfio-run-win11.service"));
}

#[test]
fn ryzen_1600() {
    check("ryzen-1600", &shapes::ryzen_1600(), &[]);
    assert_eq!(load("ryzen-1600").cpus.l3_domain(0).to_string(), "0-2,6-8");
}

#[test]
fn core_i7_13700k() {
    check("core-i7-13700k", &setups::core_i7_13700k(), &[]);
    let host = load("core-i7-13700k");
    assert_eq!(host.cpus.get(15).unwrap().kind, CoreKind::Performance);
    assert_eq!(host.cpus.get(16).unwrap().kind, CoreKind::Efficiency);
    assert_eq!(host.cpus.caches.iter().filter(|cache| cache.level == 2).count(), 10);
}

/// The hosts of the setups in `machines/`: whose the screen is, and what drives the guest's card meanwhile.
#[test]
fn hosts_of_setups() {
    check("ryzen-1600af", &setups::ryzen_1600af(), &[]);
    check("ryzen-3900x", &setups::ryzen_3900x(), &[]);
    check("ryzen-3700x", &setups::ryzen_3700x(), &[]);
    check("core-i7-8700k", &setups::core_i7_8700k(), &[]);
    assert_eq!(load("ryzen-1600af").cpus.l3_domain(0).to_string(), "0-5");
    assert_eq!(load("ryzen-3900x").cpus.l3_domain(11).to_string(), "9-11,21-23");
    assert_eq!(load("ryzen-3700x").cpus.get(12).unwrap().siblings.to_string(), "4,12");
    assert_eq!(load("core-i7-8700k").cpus.get(1).unwrap().siblings.to_string(), "1,7");
    for (name, card, driver, manager) in [
        ("core-i7-13700k", "01:00.0", "nvidia", "sddm.service"),
        ("ryzen-1600af", "06:00.0", "nvidia", "lightdm.service"),
        ("ryzen-3900x", "0a:00.0", "nvidia", "gdm.service"),
        ("ryzen-3700x", "0b:00.0", "amdgpu", "lightdm.service"),
        ("core-i7-8700k", "01:00.0", "nouveau", "sddm.service"),
    ] {
        let pci = load(name).pci.unwrap();
        let card = pci.get(card.parse().unwrap()).unwrap();
        assert_eq!(card.driver.as_deref(), Some(driver), "{name}");
        assert_eq!((pci.screen.display_manager.as_deref(), pci.screen.display_manager_runs), (Some(manager), true));
        let only = pci.functions.iter().filter(|function| function.is_gpu()).count() == 1;
        let details = card.details.as_ref().unwrap();
        assert_eq!((!details.holders.is_empty(), details.boot_vga), (only, Some(only)), "{name}");
    }
}

#[test]
fn epyc_9754x2() {
    check("epyc-9754x2-512", &shapes::epyc_9754x2(), &["la57"]);
    let host = load("epyc-9754x2-512");
    assert_eq!(host.cpus.list.len(), 512);
    assert_eq!(host.cpus.l3_domain(511).to_string(), "248-255,504-511");
    assert_eq!(host.cpus.caches.iter().filter(|cache| cache.level == 3).count(), 32);
    assert_eq!(host.cpus.get(128).unwrap().node, Some(1));
}

#[test]
fn xeon_2numa() {
    check("xeon-2numa", &shapes::xeon_2numa(), &[]);
    let host = load("xeon-2numa");
    assert_eq!(host.cpus.get(3).unwrap().node, Some(1));
    assert_eq!(host.memory.nodes[1].distances, [21, 10]);
}

#[test]
fn laptop_4c() {
    check("laptop-4c", &shapes::laptop_4c(), &[]);
    let process = load("laptop-4c").process;
    assert_eq!((process.uid, process.session.as_deref()), (1000, Some("3")));
    assert_eq!(process.run_dir, PathBuf::from("/run/user/1000/vfio-run"));
}

#[test]
fn debian12_lab() {
    check("debian12-lab", &shapes::debian12_lab(), &[]);
}

/// Captured in the lab: hosts with devices that a guest can have.
#[test]
fn debian13_lab() {
    for (name, gpus) in [("debian13-one-gpu", 1), ("debian13-two-gpus", 2), ("debian13-desktop", 1)] {
        let host = load(name);
        let pci = host.pci.as_ref().unwrap();
        assert_eq!(pci.functions.iter().filter(|function| function.is_gpu()).count(), gpus, "{name}");
        assert_eq!((pci.iommu, host.process.uid, host.kvm.verdict()), (Some(true), 0, KvmVerdict::Works), "{name}");
        assert!(pci.functions.iter().all(|function| function.details.is_some()), "{name}");
    }
    let pci = load("debian13-desktop").pci.unwrap();
    assert_eq!(
        (pci.screen.display_manager.as_deref(), pci.screen.display_manager_runs),
        (Some("weston.service"), true)
    );
    let holders =
        pci.functions.iter().filter(|function| function.is_gpu()).flat_map(|f| &f.details.as_ref().unwrap().holders);
    let holders: Vec<(&str, bool)> = holders.map(|holder| (holder.comm.as_str(), holder.is_broker())).collect();
    assert_eq!(holders, [("systemd", true), ("systemd-logind", true), ("weston", false)]);
}

/// Captured elsewhere: a container whose /dev/kvm opens and runs no ordinary machine. It is not made anew with the
/// others, for it would differ elsewhere.
#[test]
fn container_2c() {
    if std::env::var_os("CAPTURE_CONTAINER").is_some() {
        let mut host = Host::read(&Root::new("/"), &wanted());
        // The sandbox's own arguments say nothing to anyone else.
        host.kernel = "6.18.44".to_owned();
        host.cmdline = ["console=ttyS0", "quiet", "reboot=k", "panic=1", "nomodule"].map(str::to_owned).to_vec();
        write("container-2c", &host);
    }
    let host = load("container-2c");
    assert_eq!(host.cpus.list.len(), 2);
    assert_eq!((host.kvm.exists, host.kvm.api_version, host.kvm.virtualization), (true, Some(12), Some(false)));
    assert!(host.kvm.missing_features.len() > 12);
    assert!(matches!(host.kvm.verdict(), KvmVerdict::Unusable { .. }));
}
