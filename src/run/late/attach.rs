//! What somebody gives a running guest, or takes from it, and its file does not tell.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::access::Access;
use super::devices::{LateDevices, Slot, note, plugged};
use super::{give_input, give_usb};
use crate::change::{Change, NodeFolder, unattended};
use crate::host::input::Inputs;
use crate::host::usb::Plugged;
use crate::journal::Record;
use crate::machine::{HostDevice, Toggle, UsbDevice};
use crate::plan::{Late, LateDevice, LateInput, LateUsb, Plan};
use crate::run::kept::leases::Lease;
use crate::units::Origin;

impl LateDevices {
    /// Takes a device from the guest for good: it is the host's, also when it is plugged in again. Says what it is.
    pub async fn detach(&mut self, access: &mut Access<'_>, device: &HostDevice) -> Result<String> {
        let at = match device {
            HostDevice::Usb(device) => self.usb_slot(access, device)?,
            HostDevice::Input(path) => self.input_slot(path)?,
            HostDevice::Disk(file) => self.disk_slot(access.plan, file)?,
        };
        let mut slot = self.slots.remove(at);
        slot.withdraw(access).await;
        note(access.journal, Record::Detached { id: slot.device.id.clone() });
        self.follow_toggles(&Inputs::default());
        tracing::info!(event = "detached", "the host has {} again", slot.name);
        Ok(slot.name)
    }

    /// Gives the guest a USB device, now and again each time that it is plugged in. Says what it is.
    pub async fn attach_usb(&mut self, access: &mut Access<'_>, device: &UsbDevice) -> Result<String> {
        if !access.plan.command.options.iter().any(|option| option.has_id(UsbDevice::CONTROLLER)) {
            bail!("{} has no USB controller; `usb: []` in its file gives it one", access.plan.name);
        }
        let wanted = LateUsb::of(device, None);
        let plugged = plugged(access.plan, &self.root);
        let is_given = |found: &Plugged| self.slots.iter().any(|slot| slot.has.as_ref() == Some(&found.identity()));
        let there: Vec<&Plugged> = plugged.iter().filter(|found| wanted.is(found)).collect();
        let Some(found) = there.iter().find(|found| !is_given(found)) else {
            let hub = plugged.iter().find(|found| found.hub && wanted.names(found));
            match (there.first(), hub) {
                (Some(found), _) => bail!("the guest has {found} already"),
                (None, Some(hub)) => bail!("{hub} is a hub; name what is plugged into it"),
                (None, None) => bail!("{wanted} is not plugged in"),
            }
        };
        let port = self.free_port(access.plan)?;
        let usb = LateUsb { guest_port: Some(port), ..wanted };
        let id = format!("usb-{}", port - LateUsb::PORTS.start());
        let lease = give_usb::give(access, &self.root, &id, &usb, found).await?;
        let slot = attached(access, id, Late::Usb(usb))?;
        Ok(self.add(access, slot, found.identity(), found.to_string(), Some(lease)))
    }

    /// A name that begins so and that no device has.
    pub(super) fn free_id(&self, kind: &str) -> Result<String> {
        let used = |id: &String| self.slots.iter().any(|slot| slot.device.id == *id);
        let mut ids = (0..=self.slots.len()).map(|n| format!("{kind}-{n}"));
        ids.find(|id| !used(id)).context("all names are taken")
    }

    /// A port of the guest's USB controller that no device has.
    pub(super) fn free_port(&self, plan: &Plan) -> Result<u8> {
        let used = |port: u8| {
            self.slots.iter().any(|slot| match &slot.device.what {
                Late::Usb(usb) => usb.guest_port == Some(port),
                Late::Disk(disk) => disk.guest_port == Some(port),
                Late::Input(_) => false,
            })
        };
        // A SPICE client redirects its devices into the first ports.
        let redirected = plan.command.options.iter().filter(|option| option.is_device("usb-redir")).count();
        let free = LateUsb::PORTS.clone().skip(redirected).find(|port| !used(*port));
        free.context("all ports of the guest's USB controller are taken; detach a device first")
    }

    /// Where the USB device is that somebody means.
    fn usb_slot(&self, access: &Access<'_>, device: &UsbDevice) -> Result<usize> {
        let wanted = LateUsb::of(device, None);
        let plugged = plugged(access.plan, &self.root);
        let is_meant = |slot: &Slot| match &slot.device.what {
            Late::Usb(usb) => {
                let found = plugged.iter().find(|found| slot.has.as_ref() == Some(&found.identity()));
                found.map_or((usb.ids, &usb.port) == (wanted.ids, &wanted.port), |found| wanted.is(found))
            }
            Late::Input(_) | Late::Disk(_) => false,
        };
        self.slots.iter().position(is_meant).with_context(|| format!("the guest does not have {wanted}"))
    }

    /// Shares a keyboard or mouse, now and again each time that it is plugged in. The first keyboard leads: its toggle moves
    /// all. Says what it is.
    pub async fn attach_input(&mut self, access: &mut Access<'_>, path: &Path) -> Result<String> {
        let shown = path.display();
        let inputs = Inputs::read(&self.root, &[path.to_owned()]);
        let device = inputs.at(path).with_context(|| format!("{shown} is no event device that is plugged in"))?;
        if !device.keyboard && !device.mouse {
            bail!("{shown} ({}) is neither a keyboard nor a mouse", device.name);
        }
        let identity = device.identity();
        if let Some(slot) = self.slots.iter().find(|slot| slot.has.as_ref() == Some(&identity)) {
            bail!("the guest has {} already", slot.name);
        }
        let leader = self.inputs().find(|input| input.grab_all);
        if leader.is_none() && !device.keyboard {
            bail!("no keyboard that is shared would give it back to the host; attach the keyboard first");
        }
        let toggle = leader.map_or_else(|| Toggle::default().word().to_owned(), |leader| leader.toggle.clone());
        let id = self.free_id("input")?;
        let node = match access.plan.account {
            Some(_) => {
                let folder = NodeFolder::of(&access.plan.name);
                let node = folder.path.join(&id);
                let change = Change::from(folder);
                if !access.journal.open_changes().iter().any(|open| open.change == change) {
                    access.journal.make(&self.root, &change, &unattended)?;
                }
                Some(node)
            }
            None => None,
        };
        let grab_all = device.keyboard && leader.is_none();
        let input = LateInput { path: path.to_owned(), node, toggle, grab_all, repeat: device.keyboard };
        give_input::give(access, &self.root, &id, &input, device).await?;
        let slot = attached(access, id, Late::Input(input))?;
        let name = self.add(access, slot, identity, format!("{} ({shown})", device.name), None);
        self.follow_toggles(&inputs);
        Ok(name)
    }

    /// Where the keyboard or mouse is that somebody means.
    fn input_slot(&self, path: &Path) -> Result<usize> {
        let inputs = Inputs::read(&self.root, &[path.to_owned()]);
        let identity = inputs.at(path).map(|device| device.identity());
        let is_meant = |slot: &Slot| match &slot.device.what {
            Late::Input(input) => input.path == path || identity.is_some() && slot.has == identity,
            Late::Usb(_) | Late::Disk(_) => false,
        };
        let at = self.slots.iter().position(is_meant);
        let at = at.with_context(|| format!("the guest does not share {}", path.display()))?;
        let leads = matches!(&self.slots[at].device.what, Late::Input(input) if input.grab_all);
        if leads && self.inputs().count() > 1 {
            bail!("its toggle gives the other devices to guest and host in turn; detach those first");
        }
        Ok(at)
    }

    fn inputs(&self) -> impl Iterator<Item = &LateInput> {
        self.slots.iter().filter_map(|slot| match &slot.device.what {
            Late::Input(input) => Some(input),
            Late::Usb(_) | Late::Disk(_) => None,
        })
    }

    /// QEMU has been given this device; what people call it.
    pub(super) fn add(
        &mut self,
        access: &mut Access<'_>,
        mut slot: Slot,
        identity: String,
        name: String,
        lease: Option<Lease>,
    ) -> String {
        slot.given(access.journal, identity, name.clone(), Ok(lease));
        self.slots.push(slot);
        self.listen();
        name
    }
}

/// A device that is attached, also for a launcher that takes over.
pub(super) fn attached(access: &mut Access<'_>, id: String, what: Late) -> Result<Slot> {
    let origin = Origin::Default("attached while the guest ran".to_owned());
    let late = LateDevice { id, what, needed: false, origin };
    note(access.journal, Record::Attached { id: late.id.clone(), device: serde_json::to_value(&late)? });
    Ok(Slot::new(late))
}
