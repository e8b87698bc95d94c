//! What a QEMU command line means, as facts: `scsi-hd: drive.cache.direct` is `on`. Names that only the command line itself knows
//! are gone: a device has what its ids lead to among its own facts.

use std::collections::{BTreeMap, BTreeSet};

use vfio_run::plan::{Content, Inherited, Plan};

use super::words::{self, Words};

/// Facts by name: the thing, a colon, and what of it.
pub type Facts = BTreeMap<String, String>;

/// Members that lead to another option, by its name and by which of its members that is found.
const LEADS: [(&str, &str, &str); 11] = [
    ("drive", "-blockdev", "node-name"),
    ("file", "-blockdev", "node-name"),
    ("pflash0", "-blockdev", "node-name"),
    ("pflash1", "-blockdev", "node-name"),
    ("memory-backend", "-object", "id"),
    ("iothread", "-object", "id"),
    ("rng", "-object", "id"),
    ("netdev", "-netdev", "id"),
    ("chardev", "-chardev", "id"),
    ("tpmdev", "-tpmdev", "id"),
    ("audiodev", "-audiodev", "id"),
];

/// Where a device is on its bus, which the two number each in its own way.
pub const PLACES: [&str; 4] = ["addr", "chassis", "multifunction", "port"];

/// What a member says that leads nowhere.
pub const NOWHERE: &str = "nothing of this name";

/// A command line, and the plan that says what the descriptors are that its QEMU inherits.
struct Line<'a> {
    options: Vec<Words>,
    plan: Option<&'a Plan>,
    used: BTreeSet<usize>,
    facts: Facts,
}

/// The facts of a command line that needs no descriptors from us.
pub fn of_argv(argv: &[String]) -> Facts {
    of(words::read(argv), None)
}

/// The facts of a plan, with the devices that are given to the guest late.
pub fn of_plan(plan: &Plan, options: Vec<Words>) -> Facts {
    let mut facts = of(options, Some(plan));
    for (index, late) in plan.late.iter().enumerate() {
        let mut members = BTreeMap::new();
        words::flat("", &serde_json::to_value(&late.what).unwrap(), &mut members);
        let named = members.into_iter().map(|(key, value)| (format!("late {}: {key}", index + 1), value));
        facts.extend(named);
    }
    facts
}

fn of(options: Vec<Words>, plan: Option<&Plan>) -> Facts {
    let mut line = Line { options, plan, used: BTreeSet::new(), facts: Facts::new() };
    for index in 0..line.options.len() {
        // What others lead to is told of them.
        let name = line.options[index].name.clone();
        if !["-object", "-blockdev", "-netdev", "-chardev", "-tpmdev", "-audiodev", "-add-fd"].contains(&&*name) {
            line.tell(index);
        }
    }
    for index in 0..line.options.len() {
        if !line.used.contains(&index) && line.options[index].get("driver") != Some("pcie-root-port") {
            line.tell(index);
        }
    }
    line.facts
}

/// What a member of a thing is called, or of what a member leads to.
fn below(name: &str, member: &str) -> String {
    let between = if name.contains(": ") { "." } else { ": " };
    format!("{name}{between}{member}")
}

impl Line<'_> {
    /// Enters the facts of an option.
    fn tell(&mut self, index: usize) {
        let option = self.options[index].clone();
        let member = |key: &str| option.get(key).unwrap_or_default().to_owned();
        if option.name == "-device" && member("driver") == "pcie-root-port" {
            return;
        }
        self.used.insert(index);
        let name = match &*option.name {
            "-device" => match &*member("driver") {
                driver @ "vfio-pci" => format!("{driver} {}", member("host")),
                driver => driver.to_owned(),
            },
            "-object" => format!("object {}", member("qom-type")),
            "-smbios" if option.members.contains_key("file") => {
                return self.smbios(&member("file"));
            }
            "-smbios" => format!("smbios {}", member("type")),
            "-fw_cfg" => format!("fw_cfg {}", member("name")),
            "-global" => return self.global(&option),
            "-no-hpet" => return self.fact("machine: hpet", "off".to_owned()),
            flag if option.members.is_empty() => return self.fact(&format!("flags: {flag}"), "on".to_owned()),
            other => other.trim_start_matches('-').to_owned(),
        };
        let mut names = std::iter::once(name.clone()).chain((2..).map(|n| format!("{name} {n}")));
        let is_free = |name: &String| {
            let start = below(name, "");
            !self.facts.keys().any(|known| known.starts_with(&start))
        };
        // The board may have told of the accelerator already.
        let name = if name == "accel" { name } else { names.find(is_free).unwrap() };
        self.members(&name, &option);
    }

    fn members(&mut self, name: &str, option: &Words) {
        let own = |key: &str| matches!(key, "id" | "node-name") || (option.name == "-device" && PLACES.contains(&key));
        for (key, value) in &option.members {
            let place = match (&*option.name, &**key) {
                // Named in the option's other form.
                ("-machine", "kernel_irqchip") => "accel: kernel-irqchip".to_owned(),
                _ => below(name, key),
            };
            let lead = LEADS.iter().find(|(member, ..)| member == key);
            // The `file` of other options is a path.
            let lead = lead.filter(|_| key != "file" || option.name == "-blockdev");
            match (&**key, lead) {
                (key, _) if own(key) => {}
                ("bus", _) => self.bus(&place, name, value),
                (_, Some((_, to, by))) => self.follow(&place, to, by, value),
                ("fd" | "path", _) if option.name == "-chardev" => {
                    self.fact(&below(name, "at"), "a socket's place".to_owned())
                }
                ("fd" | "fds", _) => self.fact(&below(name, "queues"), value.split(':').count().to_string()),
                ("vhostfd" | "vhostfds", _) => {
                    self.fact(&below(name, "vhost-queues"), value.split(':').count().to_string());
                }
                ("size", _) if option.name == "-m" => self.fact(&place, value.trim_end_matches('M').to_owned()),
                ("mem-path", _) => self.memory(&place, value),
                ("filename" | "server", _) => self.file(&place, value),
                _ => self.fact(&place, value.clone()),
            }
        }
    }

    fn fact(&mut self, place: &str, value: String) {
        self.facts.insert(place.to_owned(), value);
    }

    /// A bus belongs to a device, whose driver is what it is.
    fn bus(&mut self, place: &str, device: &str, bus: &str) {
        let owner = |option: &&Words| {
            option
                .get("id")
                .is_some_and(|id| bus == id || bus.strip_prefix(id).is_some_and(|rest| rest.starts_with('.')))
        };
        let owner = self.options.iter().filter(|option| option.name == "-device").find(owner);
        let driver = match owner.and_then(|owner| owner.get("driver")) {
            Some(driver) => driver,
            None if bus == "pcie.0" => "pcie.0",
            None => NOWHERE,
        };
        let driver = driver.to_owned();
        // Functions of one slot.
        if driver == "pcie-root-port" {
            let there = self.options.iter().filter(|option| option.get("bus") == Some(bus));
            let others: Vec<&str> =
                there.filter_map(|option| option.get("host")).filter(|host| !device.ends_with(host)).collect();
            if !others.is_empty() {
                let others = others.join(" ");
                self.fact(&below(device, "beside"), others);
            }
        }
        self.fact(place, driver);
    }

    /// Enters what another option says in place of its id.
    fn follow(&mut self, place: &str, option: &str, by: &str, id: &str) {
        let found = self.options.iter().position(|other| other.name == option && other.get(by) == Some(id));
        let Some(index) = found else { return self.fact(place, NOWHERE.to_owned()) };
        self.used.insert(index);
        let option = self.options[index].clone();
        self.members(place, &option);
    }

    /// Where memory comes from.
    fn memory(&mut self, place: &str, path: &str) {
        let ours = self.inherited(path).map(|what| match what {
            Inherited::Memory(memory) if memory.pages.is_some() => "huge pages".to_owned(),
            other => format!("{other:?}"),
        });
        let pool = if path.starts_with("/dev/hugepages/") { "huge pages" } else { path };
        self.fact(place, ours.unwrap_or_else(|| pool.to_owned()));
    }

    /// A file, by its path.
    fn file(&mut self, place: &str, path: &str) {
        let shown = match path.strip_prefix("/dev/fdset/") {
            Some(set) => {
                let given = self.options.iter().position(|option| {
                    option.name == "-add-fd" && option.get("set") == Some(set) && option.get("fd").is_some()
                });
                self.used.extend(given);
                given.and_then(|given| self.options[given].get("opaque")).unwrap_or(NOWHERE).to_owned()
            }
            None => {
                let ours = self.inherited(path.trim_start_matches("unix:"));
                ours.map_or(path.to_owned(), |what| match what {
                    Inherited::SoundServer { socket, .. } => format!("unix:{}", socket.display()),
                    other => format!("{other:?}"),
                })
            }
        };
        self.fact(place, shown);
    }

    fn smbios(&mut self, path: &str) {
        let place = match self.inherited(path) {
            Some(Inherited::Content(Content::HostSmbios { kind, .. })) => format!("smbios {kind} of the host"),
            _ => "smbios".to_owned(),
        };
        self.fact(&below(&place, "all"), "the host's".to_owned());
    }

    fn global(&mut self, option: &Words) {
        let (Some(driver), Some(property)) = (option.get("driver"), option.get("property")) else {
            for (key, value) in &option.members {
                self.fact(&below("global", key), value.clone());
            }
            return;
        };
        let (place, value) =
            (below("global", &format!("{driver}.{property}")), option.get("value").unwrap_or(NOWHERE).to_owned());
        self.fact(&place, value);
    }

    fn inherited(&self, path: &str) -> Option<&Inherited> {
        let fd: i32 = path.strip_prefix("/proc/self/fd/")?.parse().ok()?;
        let all = &self.plan?.descriptors;
        all.iter().find(|descriptor| descriptor.fd == fd).map(|descriptor| &descriptor.what)
    }
}
