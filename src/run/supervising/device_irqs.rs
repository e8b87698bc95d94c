//! Sends the interrupts of the guest's devices to the CPUs that the plan has for them.
//!
//! VFIO asks the kernel for a device's messages (MSI) when the guest's driver switches them on, and again, with the
//! kernel's default affinity, each time that the driver starts anew or asks for more. No event tells of that. So there are a
//! few looks after the start and after each restart of the guest, farther and farther apart, and then none of its own:
//! nothing wakes the launcher while the guest runs. When something else wakes it later, it looks in passing.
//! Source: `drivers/vfio/pci/vfio_pci_intrs.c`.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::host::Root;
use crate::plan::DeviceIrqs;
use crate::units::CpuSet;

/// When to look, each from the one before: eight times within the first minute.
const LOOKS: [Duration; 8] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(7),
    Duration::from_secs(10),
    Duration::from_secs(15),
    Duration::from_secs(20),
];
/// How soon after a look another in passing is worth its time.
const IN_PASSING: Duration = Duration::from_secs(10);

/// The interrupts of the guest's devices.
pub(super) struct DeviceInterrupts<'a> {
    devices: &'a [DeviceIrqs],
    root: Root,
    looks: std::slice::Iter<'static, Duration>,
    last: Instant,
    /// When to look next; `None`: only in passing.
    pub next_look: Option<Instant>,
}

impl<'a> DeviceInterrupts<'a> {
    /// The guest was just started.
    pub fn new(devices: &'a [DeviceIrqs], root: &Root, now: Instant) -> Self {
        let mut interrupts = Self { devices, root: root.clone(), looks: [].iter(), last: now, next_look: None };
        interrupts.guest_restarts(now);
        interrupts
    }

    /// The guest restarts, and so will its drivers.
    pub fn guest_restarts(&mut self, now: Instant) {
        // A guest that does nothing but restart must not put the next look off for ever.
        if self.devices.is_empty() || self.next_look.is_some() && self.looks.len() + 1 == LOOKS.len() {
            return;
        }
        self.looks = LOOKS.iter();
        self.set_next(now);
    }

    fn set_next(&mut self, now: Instant) {
        self.next_look = self.looks.next().map(|delay| now + *delay);
    }

    /// Sends each to its CPUs. Says whether there are any, which is so once a driver of the guest's is at work.
    pub fn look(&mut self, now: Instant) -> bool {
        self.last = now;
        self.set_next(now);
        let mut found = false;
        for irqs in self.devices {
            let numbers = self.root.names(format!("/sys/bus/pci/devices/{}/msi_irqs", irqs.device));
            for number in numbers.iter().filter_map(|number| number.parse::<u32>().ok()) {
                found |= self.send(irqs, number);
            }
        }
        found
    }

    /// Something else woke the launcher.
    pub fn look_in_passing(&mut self, now: Instant) {
        if !self.devices.is_empty() && self.next_look.is_none() && now.duration_since(self.last) >= IN_PASSING {
            self.look(now);
        }
    }

    /// Sends one, if it is the guest's; whether it is.
    fn send(&self, irqs: &DeviceIrqs, number: u32) -> bool {
        let actions = self.root.text_up_to(format!("/sys/kernel/irq/{number}/actions"), 4096).unwrap_or_default();
        // A message is listed before it is requested, and a driver of the host's may have the device by now.
        if !actions.starts_with("vfio-msi") {
            return false;
        }
        let list = PathBuf::from(format!("/proc/irq/{number}/smp_affinity_list"));
        let found = self.root.list(&list);
        if found.as_ref().is_none_or(|found| *found == irqs.cpus) {
            return true;
        }
        let (name, cpus) = (&actions, &irqs.cpus);
        match write(&self.root.path(&list), cpus) {
            Ok(()) => tracing::debug!("interrupt {number} ({name}) goes to {}", cpus.numbered()),
            Err(error) => tracing::debug!("interrupt {number} ({name}) stays where it is: {error}"),
        }
        true
    }
}

fn write(path: &std::path::Path, cpus: &CpuSet) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).truncate(true).open(path)?;
    file.write_all(cpus.to_string().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICE: &str = "0000:01:00.0";

    fn put(root: &Root, path: &str, text: &str) {
        let path = root.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    /// A message of the device, with who handles it and the CPUs that it may go to.
    fn message(root: &Root, number: u32, actions: &str, cpus: &str) {
        put(root, &format!("/sys/bus/pci/devices/{DEVICE}/msi_irqs/{number}"), "msi");
        put(root, &format!("/sys/kernel/irq/{number}/actions"), actions);
        put(root, &format!("/proc/irq/{number}/smp_affinity_list"), cpus);
    }

    fn cpus(root: &Root, number: u32) -> String {
        root.text(format!("/proc/irq/{number}/smp_affinity_list")).unwrap_or_default()
    }

    fn devices() -> Vec<DeviceIrqs> {
        vec![DeviceIrqs { device: DEVICE.parse().unwrap(), cpus: "2-3".parse().unwrap() }]
    }

    #[test]
    fn messages_of_the_guests_device_go_to_its_cpus_and_no_others() {
        let folder = tempfile::tempdir().unwrap();
        let (root, devices, now) = (Root::new(folder.path()), devices(), Instant::now());
        message(&root, 40, "vfio-msix[0](0000:01:00.0)", "0-1");
        message(&root, 41, "", "0-1");
        message(&root, 42, "nvidia", "0-1");
        put(&root, "/sys/kernel/irq/43/actions", "vfio-msi[0](0000:02:00.0)");
        put(&root, "/proc/irq/43/smp_affinity_list", "0-1");
        // It is listed, and the kernel has nothing for it yet.
        put(&root, &format!("/sys/bus/pci/devices/{DEVICE}/msi_irqs/44"), "msix");
        let mut interrupts = DeviceInterrupts::new(&devices, &root, now);
        assert!(interrupts.look(now));
        assert_eq!([40, 41, 42, 43].map(|number| cpus(&root, number)), ["2-3", "0-1", "0-1", "0-1"]);
        // The guest's driver switched them off and on, and has one more.
        message(&root, 40, "vfio-msix[0](0000:01:00.0)", "0-1");
        message(&root, 44, "vfio-msix[1](0000:01:00.0)", "0-3");
        interrupts.look(now);
        assert_eq!([40, 44].map(|number| cpus(&root, number)), ["2-3", "2-3"]);
    }

    #[test]
    fn there_are_eight_looks_in_the_first_minute_and_then_none_until_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let (root, devices, start) = (Root::new(folder.path()), devices(), Instant::now());
        let mut interrupts = DeviceInterrupts::new(&devices, &root, start);
        let mut looks = 0;
        let mut last = start;
        while let Some(next) = interrupts.next_look {
            (looks, last) = (looks + 1, next);
            assert!(!interrupts.look(next), "no driver is at work");
        }
        assert_eq!(looks, 8);
        assert!((Duration::from_secs(55)..Duration::from_secs(60)).contains(&last.duration_since(start)));
        interrupts.guest_restarts(last);
        assert_eq!(interrupts.next_look, Some(last + LOOKS[0]));
        // One restart after the other does not put it off.
        interrupts.guest_restarts(last + Duration::from_millis(400));
        assert_eq!(interrupts.next_look, Some(last + LOOKS[0]));

        let mut none = DeviceInterrupts::new(&[], &root, start);
        none.guest_restarts(start);
        assert_eq!(none.next_look, None);
    }

    #[test]
    fn a_look_in_passing_comes_after_the_others_and_not_too_often() {
        let folder = tempfile::tempdir().unwrap();
        let (root, devices, start) = (Root::new(folder.path()), devices(), Instant::now());
        message(&root, 40, "vfio-msi[0](0000:01:00.0)", "0-1");
        let mut interrupts = DeviceInterrupts::new(&devices, &root, start);
        interrupts.look_in_passing(start + IN_PASSING);
        assert_eq!(cpus(&root, 40), "0-1", "a look of its own will come");
        let mut now = start;
        while let Some(next) = interrupts.next_look {
            now = next;
            interrupts.look(next);
        }
        message(&root, 40, "vfio-msi[0](0000:01:00.0)", "0-1");
        interrupts.look_in_passing(now + IN_PASSING / 2);
        assert_eq!(cpus(&root, 40), "0-1");
        interrupts.look_in_passing(now + IN_PASSING);
        assert_eq!(cpus(&root, 40), "2-3");
        assert_eq!(interrupts.next_look, None);
    }
}
