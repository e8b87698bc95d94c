//! A plan in the making: what it is made from, and what has been decided so far. Each subject (disks, firmware, TPM, …)
//! adds its options, changes and findings in one go, so that a reader finds all about it in one file.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::{
    Account, Content, Descriptor, Finding, GuestMemory, Helper, Inherited, Keep, LateDevice, Link, Opened, Paths,
    PlannedChange, Severity, Variable, Verdict, Viewer,
};
use crate::change::Change;
use crate::host::Host;
use crate::machine::Machine;
use crate::qemu::command::QemuOption;
use crate::qemu::device::Device;
use crate::qemu::pcie::RootPorts;
use crate::qemu::{QemuFacts, Role};
use crate::units::{Origin, PciAddress};

/// The first descriptor that QEMU inherits: 0 to 2 are its standard streams.
const FIRST_FD: i32 = 3;

/// A plan in the making.
pub(super) struct Draft<'a> {
    /// What the user wrote.
    pub machine: &'a Machine,
    /// Facts about the host.
    pub host: &'a Host,
    /// What the QEMU binary can do.
    pub qemu: &'a QemuFacts,
    /// The line that a field was written on.
    lines: &'a dyn Fn(&str) -> Option<u32>,
    /// The machine's folders.
    pub paths: Paths,
    /// Who QEMU runs as; `None`: who started it.
    pub account: Option<Account>,
    /// QEMU's options so far.
    pub options: Vec<QemuOption>,
    /// Changes to the host so far, in the order in which they are made.
    pub changes: Vec<PlannedChange>,
    /// Graphics cards that are taken and show the host's screen.
    pub screens: Vec<PciAddress>,
    /// What is made once and kept for the machine.
    pub keep: Vec<Keep>,
    /// Programs beside QEMU.
    pub helpers: Vec<Helper>,
    /// Devices that QEMU is given just before the guest runs.
    pub late: Vec<LateDevice>,
    /// Descriptors that QEMU inherits, without gaps from [`FIRST_FD`] on.
    pub descriptors: Vec<Descriptor>,
    /// Network cards whose cable is unplugged before the guest runs, by their ids.
    pub unplugged: Vec<String>,
    /// What QEMU's environment has beside what the launcher passes on.
    pub environment: Vec<Variable>,
    /// Whom the screen's socket is given to.
    pub viewer: Option<Viewer>,
    /// Links that QEMU must find in the display folder.
    pub links: Vec<Link>,
    /// What the checks have found so far.
    pub findings: Vec<Finding>,
    /// The guest's root ports so far.
    ports: RootPorts,
}

impl<'a> Draft<'a> {
    /// Nothing is decided yet.
    pub fn new(
        machine: &'a Machine,
        lines: &'a dyn Fn(&str) -> Option<u32>,
        host: &'a Host,
        qemu: &'a QemuFacts,
    ) -> Self {
        Self {
            machine,
            host,
            qemu,
            lines,
            paths: Paths::of(machine, host),
            account: None,
            options: Vec::with_capacity(64),
            changes: Vec::new(),
            screens: Vec::new(),
            keep: Vec::new(),
            helpers: Vec::new(),
            late: Vec::new(),
            descriptors: Vec::new(),
            unplugged: Vec::new(),
            environment: Vec::new(),
            viewer: None,
            links: Vec::new(),
            findings: Vec::new(),
            ports: RootPorts::default(),
        }
    }

    /// The user wrote it, in this field.
    pub fn file(&self, field: &str) -> Origin {
        Origin::File { field: field.to_owned(), line: (self.lines)(field) }
    }

    /// The user wrote it, in this field, unchecked.
    pub fn raw(&self, field: &str) -> Origin {
        Origin::Raw { field: field.to_owned(), line: (self.lines)(field) }
    }

    /// Whether the machine file's text has this field, as far as its lines are known.
    pub fn line(&self, field: &str) -> bool {
        (self.lines)(field).is_some()
    }

    /// The field if the user wrote it, else a default with its reason.
    pub fn file_or(&self, written: bool, field: &str, why: &str) -> Origin {
        if written { self.file(field) } else { by_default(why) }
    }

    /// Adds an option.
    pub fn push(&mut self, option: QemuOption) {
        self.options.push(option);
    }

    /// Adds a device, after a check that the binary has its driver.
    pub fn device(&mut self, device: Device, origin: Origin) {
        self.need_driver(&device.driver);
        self.push(device.option(origin));
    }

    /// As [`Self::device`], with members that have another origin.
    pub fn device_explained(&mut self, device: Device, origin: Origin, parts: Vec<(String, Origin)>) {
        self.need_driver(&device.driver);
        let option = device.option(origin);
        self.push(parts.into_iter().fold(option, |option, (key, origin)| option.explained(&key, origin)));
    }

    /// A root port for the device of this id, in this slot of its own, or in the next place that is free.
    pub fn port(&mut self, device: &str, slot: Option<u8>) -> Option<Device> {
        let port = match slot {
            Some(slot) => Some(self.ports.port_in(slot, device)),
            None => self.ports.port_for(device),
        };
        if port.is_none() {
            self.no(
                "pcie.ports",
                Severity::Hard,
                format!("no PCI Express slot is left for {device}: there are {}", RootPorts::MAX),
                "use fewer devices, or put disks on one `VirtioScsi` controller",
            );
        }
        port
    }

    /// Adds a PCI Express device on a root port of its own.
    pub fn pcie_device(&mut self, device: Device, origin: Origin) {
        let Some(port) = self.port(&device.id, None) else { return };
        let bus = port.id.clone();
        self.device(port, by_default("each PCI Express device has a root port of its own"));
        self.device(device.on(bus), origin);
    }

    /// Adds an object, after a check that the binary has its type.
    pub fn object(
        &mut self,
        kind: &str,
        id: &str,
        props: impl IntoIterator<Item = (&'static str, Value)>,
        origin: Origin,
    ) {
        self.object_of_role(kind, id, props, origin, Role::Plain);
    }

    /// As [`Self::object`], for one that does something to the host.
    pub fn object_of_role(
        &mut self,
        kind: &str,
        id: &str,
        props: impl IntoIterator<Item = (&'static str, Value)>,
        origin: Origin,
        role: Role,
    ) {
        self.need_object(kind);
        let mut object = Map::new();
        object.insert("qom-type".to_owned(), kind.into());
        object.insert("id".to_owned(), id.into());
        object.extend(props.into_iter().map(|(key, value)| (key.to_owned(), value)));
        self.push(QemuOption::json("-object", object, origin).with_role(role));
    }

    /// Checks that the binary has an object type.
    pub fn need_object(&mut self, kind: &str) {
        let key = format!("qemu.object.{kind}");
        if !self.qemu.objects.contains(kind) && self.findings.iter().all(|f| f.key != key) {
            let detail = format!("{} has no object type `{kind}`", self.qemu.binary.display());
            self.no(&key, Severity::Hard, detail, "install a QEMU that has it, or name one in `qemu`");
            self.about("qemu");
        }
    }

    /// Checks that the binary has a driver.
    pub fn need_driver(&mut self, driver: &str) {
        let key = format!("qemu.device.{driver}");
        if !self.qemu.devices.contains_key(driver) && self.findings.iter().all(|f| f.key != key) {
            let detail = format!("{} has no device `{driver}`", self.qemu.binary.display());
            self.no(
                &key,
                Severity::Hard,
                detail,
                "install the package of your distribution that holds it, or another QEMU",
            );
        }
    }

    /// Lets QEMU inherit a descriptor; its number.
    pub fn inherit(&mut self, what: Inherited) -> i32 {
        let fd = FIRST_FD + i32::try_from(self.descriptors.len()).unwrap_or(i32::MAX - FIRST_FD);
        self.descriptors.push(Descriptor { fd, what });
        fd
    }

    /// Sets a variable of QEMU's environment.
    pub fn variable(&mut self, name: &str, value: impl Into<String>, origin: Origin) {
        self.environment.push(Variable { name: name.to_owned(), value: value.into(), origin });
    }

    /// Lets QEMU inherit a file that the launcher opens; the path by which QEMU opens it. QEMU keeps the file's own path with
    /// the descriptor, for who looks at its command line.
    pub fn opened(&mut self, opened: Opened, origin: Origin) -> String {
        let path = text(&opened.path);
        let fd = self.inherit(Inherited::File(opened)).to_string();
        let set = QemuOption::keys("-add-fd", None, origin).with("fd", &*fd).with("set", &*fd).with("opaque", path);
        self.push(set);
        format!("{}{fd}", QemuOption::FD_SET)
    }

    /// Lets QEMU inherit a file in memory; the path by which QEMU opens it.
    pub fn content(&mut self, content: Content) -> String {
        format!("{}{}", QemuOption::FD_PATH, self.inherit(Inherited::Content(content)))
    }

    /// Lets QEMU inherit a copy, in memory, of a file; the path by which QEMU opens it.
    pub fn copy(&mut self, path: &Path) -> String {
        format!("{}{}", QemuOption::FD_PATH, self.inherit(Inherited::Copy(path.to_owned())))
    }

    /// Lets QEMU inherit the guest's memory; the path by which QEMU opens it.
    pub fn guest_memory(&mut self, memory: GuestMemory) -> String {
        format!("{}{}", QemuOption::FD_PATH, self.inherit(Inherited::Memory(memory)))
    }

    /// A `-chardev` on a socket that the launcher binds and QEMU listens on.
    pub fn listening_chardev(&mut self, id: &str, path: PathBuf, origin: Origin) {
        let fd = self.inherit(Inherited::Listen(path));
        let option = QemuOption::keys("-chardev", Some("socket"), origin).with("id", id).with("fd", fd.to_string());
        self.push(option.with("server", "on").with("wait", "off").with_role(Role::Listens));
    }

    /// Adds a change to the host.
    pub fn change(&mut self, change: impl Into<Change>, origin: Origin) {
        self.changes.push(PlannedChange { change: change.into(), origin, optional: false });
    }

    /// As [`Self::change`], for one that the run can go without.
    pub fn optional_change(&mut self, change: impl Into<Change>, origin: Origin) {
        self.changes.push(PlannedChange { change: change.into(), origin, optional: true });
    }

    /// As it should be.
    pub fn yes(&mut self, key: &str, severity: Severity, detail: impl Into<String>) {
        self.find(key, severity, Verdict::Yes, detail.into(), None);
    }

    /// Not as it should be.
    pub fn no(&mut self, key: &str, severity: Severity, detail: impl Into<String>, remedy: &str) {
        self.find(key, severity, Verdict::No, detail.into(), Some(remedy.to_owned()));
    }

    /// Could not be found out.
    pub fn unknown(&mut self, key: &str, severity: Severity, detail: impl Into<String>) {
        self.find(key, severity, Verdict::Unknown, detail.into(), None);
    }

    /// Says what can be done about the last finding, if it is not a *no*.
    pub fn remedy(&mut self, remedy: &str) {
        if let Some(finding) = self.findings.last_mut() {
            finding.remedy = Some(remedy.to_owned());
        }
    }

    /// Names the field of the machine file that the last finding is about.
    pub fn about(&mut self, field: &str) {
        let origin = self.file(field);
        if let Some(finding) = self.findings.last_mut() {
            finding.origin = Some(origin);
        }
    }

    fn find(&mut self, key: &str, severity: Severity, ok: Verdict, detail: String, remedy: Option<String>) {
        self.findings.push(Finding { key: key.to_owned(), severity, ok, detail, remedy, origin: None, place: None });
    }

    /// Whether the machine type has this property, as far as the binary told.
    pub fn machine_property(&self, name: &str) -> bool {
        self.qemu.q35_properties.contains(name)
    }

    /// Sets a property of `-cpu`, if the binary has it.
    pub fn set_cpu(&self, cpu: &mut QemuOption, name: &str, value: &str, origin: Origin) {
        if self.qemu.cpu_properties.contains(name) {
            cpu.set_from(name, value, origin);
        }
    }

    /// Whether a command-line option takes this parameter, as far as the binary told.
    pub fn option_has(&self, option: &str, parameter: &str) -> bool {
        self.qemu.options.get(option).is_some_and(|parameters| parameters.contains(parameter))
    }
}

/// A default of this program or the guest family, with its reason.
pub(super) fn by_default(why: &str) -> Origin {
    Origin::Default(why.to_owned())
}

/// A fact of the host or the binary, with what was seen.
pub(super) fn by_fact(seen: impl Into<String>) -> Origin {
    Origin::Fact(seen.into())
}

/// A path as QEMU's JSON takes it. QEMU's JSON is UTF-8; machine files are too, so nothing is lost.
pub(super) fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The known name closest to one that is not known, if one is close enough to be meant.
pub(super) fn nearest<'n>(name: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    known
        .into_iter()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(score, _)| *score > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, known)| known)
}
