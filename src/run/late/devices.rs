//! Which late devices QEMU has, and what follows when one comes or goes.
//!
//! The host's own state decides: on every word of a change the launcher looks into sysfs and brings QEMU to what is there. So
//! a device that is absent at the start, one that is plugged into another port, and twins are one path of code, which a
//! launcher that takes over walks as well.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, bail};
use serde::Deserialize as _;
use serde_json::json;

use super::access::Access;
use super::toggle::Toggles;
use super::uevents::Uevents;
use super::{give_disk, give_input, give_usb};
use crate::host::input::Inputs;
use crate::host::usb::{self, Plugged};
use crate::host::{Root, lease};
use crate::journal::{Journal, Record};
use crate::plan::{Late, LateDevice, LateUsb, Plan, assign_usb};
use crate::qemu::{Qmp, QmpError};
use crate::run::kept::leases::Lease;
use crate::units::{InputHolder, Stage};

/// The late devices of a machine.
#[derive(Debug)]
pub(in crate::run) struct LateDevices {
    pub(super) slots: Vec<Slot>,
    /// `None`: there are no late devices, or nothing is heard of changes.
    uevents: Option<Uevents>,
    /// `None`: nobody wants to know who has the shared keyboard.
    toggles: Option<Toggles>,
    pub(super) root: Root,
}

/// What has happened to the devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::run) enum Happened {
    /// One may have come or gone.
    Plugged,
    /// This one has the shared keyboard now.
    Toggled(InputHolder),
}

/// A late device, and whether QEMU has it.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) device: LateDevice,
    /// The host's device that QEMU has under this id, by what tells it from every other.
    pub(super) has: Option<String>,
    /// What people call it.
    pub(super) name: String,
    /// The host's device that QEMU could not be given.
    refused: Option<String>,
    lease: Option<Lease>,
}

impl Slot {
    pub(super) fn new(device: LateDevice) -> Self {
        Self { name: device.to_string(), device, has: None, refused: None, lease: None }
    }

    /// Takes the device from QEMU, or what is left of it there.
    pub(super) async fn withdraw(&mut self, access: &mut Access<'_>) {
        let id = self.device.id.clone();
        let done = match self.device.what {
            Late::Usb(_) => give_usb::withdraw(access.qmp, &id).await,
            Late::Input(_) => give_input::withdraw(access.qmp, &id).await,
            Late::Disk(_) => give_disk::withdraw(access.qmp, &id).await,
        };
        match done {
            Ok(()) | Err(QmpError::Closed) => {}
            Err(error) => tracing::warn!("{} stays in QEMU: {error:#}", self.name),
        }
        self.has = None;
        if let Some(lease) = self.lease.take() {
            lease.release();
        }
        note(access.journal, Record::Withdrawn { id });
    }

    /// QEMU has the device now, or could not be given it.
    pub(super) fn given(
        &mut self,
        journal: &mut Journal,
        identity: String,
        name: String,
        result: Result<Option<Lease>>,
    ) {
        self.name = name;
        match result {
            Ok(lease) => {
                self.lease = lease;
                note(journal, Record::Given { id: self.device.id.clone(), device: identity.clone() });
                self.has = Some(identity);
                tracing::info!(event = "plugged", "the guest has {}", self.name);
            }
            Err(error) => {
                tracing::warn!("the guest cannot have {}: {error:#}", self.name);
                self.refused = Some(identity);
            }
        }
    }
}

/// A record that is missing costs a launcher that takes over a device that it gives anew.
pub(super) fn note(journal: &mut Journal, record: Record) {
    if let Err(error) = journal.append(record) {
        tracing::warn!("cannot write the journal: {error}");
    }
}

impl LateDevices {
    /// Those of the plan, and those that were attached since by these records of the journal; none is given yet. From now on
    /// changes are heard of.
    pub fn new(plan: &Plan, root: &Root, records: &[Record]) -> Self {
        let mut late = Self {
            slots: plan.late.iter().cloned().map(Slot::new).collect(),
            uevents: None,
            toggles: plan.hooks.iter().any(|hook| hook.stage == Stage::Toggled).then(Toggles::new),
            root: root.clone(),
        };
        for record in records {
            match record {
                Record::Attached { device, .. } => match LateDevice::deserialize(device) {
                    Ok(device) => late.slots.push(Slot::new(device)),
                    Err(error) => tracing::warn!("a device that was attached is not followed any more: {error}"),
                },
                Record::Detached { id } => late.slots.retain(|slot| slot.device.id != *id),
                _ => {}
            }
        }
        late.listen();
        late
    }

    pub(super) fn listen(&mut self) {
        // A disk stays until somebody takes it.
        let come_and_go = self.slots.iter().any(|slot| !matches!(slot.device.what, Late::Disk(_)));
        if !come_and_go || self.uevents.is_some() {
            return;
        }
        match Uevents::open() {
            Ok(uevents) => self.uevents = Some(uevents),
            Err(error) => {
                tracing::warn!("devices that are plugged in while the guest runs are not noticed: {error}");
            }
        }
    }

    /// Those of a guest that another launcher started, with what QEMU has of them now.
    pub async fn of_running(access: &mut Access<'_>, root: &Root) -> Result<Self> {
        let mut late = Self::new(access.plan, root, access.journal.records());
        if late.slots.is_empty() {
            return Ok(late);
        }
        let mut noted = BTreeMap::new();
        for record in access.journal.records() {
            match record {
                Record::Given { id, device } => drop(noted.insert(id.clone(), device.clone())),
                Record::Withdrawn { id } => drop(noted.remove(id)),
                // Those were of a QEMU that has ended.
                Record::Relaunch => noted.clear(),
                _ => {}
            }
        }
        let mut there = children(access.qmp, "/machine/peripheral").await?;
        there.extend(children(access.qmp, "/objects").await?);
        for slot in late.slots.iter_mut().filter(|slot| there.contains(&slot.device.id)) {
            match noted.remove(&slot.device.id) {
                Some(identity) => {
                    if let Late::Usb(_) = slot.device.what {
                        let taken = Lease::take(access.plan, &usb::lease_of(&identity));
                        slot.lease = taken.inspect_err(|error| tracing::warn!("{error:#}")).ok();
                    }
                    slot.has = Some(identity);
                }
                // The launcher died before it wrote down which device it is.
                None => slot.withdraw(access).await,
            }
        }
        late.reconcile(access).await;
        Ok(late)
    }

    /// Gives QEMU what is there. Fails if one is missing that the machine needs.
    pub async fn give_first(&mut self, access: &mut Access<'_>) -> Result<()> {
        self.reconcile(access).await;
        for slot in self.slots.iter().filter(|slot| slot.has.is_none()) {
            if slot.device.needed {
                bail!("the machine needs {}, and the guest cannot have it now", slot.name);
            }
            if slot.refused.is_none() {
                tracing::info!(event = "absent", "{} is not plugged in; the guest is given it when it is", slot.name);
            }
        }
        Ok(())
    }

    /// Waits until something has happened; for ever if there are no late devices. May be dropped at any await.
    pub async fn happens(&mut self) -> Happened {
        let Self { uevents, toggles, .. } = self;
        let plugged = async {
            match uevents {
                Some(uevents) => uevents.changed().await,
                None => std::future::pending().await,
            }
        };
        let toggled = async {
            match toggles {
                Some(toggles) => toggles.changed().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = plugged => {
                if let Err(error) = heard {
                    tracing::warn!("devices that are plugged in from now on are not noticed: {error}");
                    self.uevents = None;
                }
                Happened::Plugged
            }
            holder = toggled => Happened::Toggled(holder),
        }
    }

    /// Brings QEMU to what is plugged in now.
    pub async fn reconcile(&mut self, access: &mut Access<'_>) {
        if self.slots.iter().any(|slot| matches!(slot.device.what, Late::Usb(_))) {
            self.reconcile_usb(access).await;
        }
        if self.slots.iter().any(|slot| matches!(slot.device.what, Late::Input(_))) {
            self.reconcile_input(access).await;
        }
        self.give_disks_again(access).await;
    }

    /// Gives a new QEMU the disks that the one before had.
    async fn give_disks_again(&mut self, access: &mut Access<'_>) {
        for slot in self.slots.iter_mut().filter(|slot| slot.has.is_none() && slot.refused.is_none()) {
            let Late::Disk(disk) = slot.device.what.clone() else { continue };
            let given = give_disk::give(access, &slot.device.id, &disk).await;
            let name = disk.file.display().to_string();
            slot.given(access.journal, name.clone(), name, given.map(|()| None));
        }
    }

    async fn reconcile_usb(&mut self, access: &mut Access<'_>) {
        let plugged = plugged(access.plan, &self.root);
        let at = |identity: &str| plugged.iter().position(|device| device.identity() == identity);
        for slot in &mut self.slots {
            let gone = slot.has.as_deref().is_some_and(|identity| at(identity).is_none());
            if gone && matches!(slot.device.what, Late::Usb(_)) {
                slot.unplugged(access).await;
            }
        }
        let mut slots: Vec<(&mut Slot, LateUsb)> = Vec::new();
        for slot in &mut self.slots {
            if let Late::Usb(usb) = &slot.device.what {
                let usb = usb.clone();
                slots.push((slot, usb));
            }
        }
        let wanted: Vec<&LateUsb> = slots.iter().map(|(_, usb)| usb).collect();
        let has: Vec<Option<usize>> = slots.iter().map(|(slot, _)| slot.has.as_deref().and_then(at)).collect();
        let assigned = assign_usb(&wanted, &has, &plugged);
        for ((slot, usb), device) in slots.iter_mut().zip(assigned) {
            let Some(device) = device.and_then(|n| plugged.get(n)).filter(|device| device.configured) else { continue };
            let identity = device.identity();
            if slot.has.is_some() || slot.refused.as_ref() == Some(&identity) {
                continue;
            }
            let given = give_usb::give(access, &self.root, &slot.device.id, usb, device).await;
            slot.given(access.journal, identity, device.to_string(), given.map(Some));
        }
    }

    async fn reconcile_input(&mut self, access: &mut Access<'_>) {
        let path = |slot: &Slot| match &slot.device.what {
            Late::Input(input) => Some(input.path.clone()),
            Late::Usb(_) | Late::Disk(_) => None,
        };
        let paths: Vec<PathBuf> = self.slots.iter().filter_map(path).collect();
        let inputs = Inputs::read(&self.root, &paths);
        for slot in &mut self.slots {
            let Late::Input(input) = slot.device.what.clone() else { continue };
            let device = inputs.at(&input.path);
            let identity = device.map(|device| device.identity());
            if slot.has.is_some() && slot.has != identity {
                slot.unplugged(access).await;
            }
            let Some((device, identity)) = device.zip(identity) else { continue };
            if slot.has.is_some() || slot.refused.as_ref() == Some(&identity) {
                continue;
            }
            let given = give_input::give(access, &self.root, &slot.device.id, &input, device).await;
            let name = format!("{} ({})", device.name, input.path.display());
            slot.given(access.journal, identity, name, given.map(|()| None));
        }
        self.follow_toggles(&inputs);
    }

    /// Listens to the shared devices that QEMU has, as far as they are among these, and no longer to others.
    pub(super) fn follow_toggles(&mut self, inputs: &Inputs) {
        let Some(toggles) = &mut self.toggles else { return };
        toggles.keep(|id| self.slots.iter().any(|slot| slot.device.id == id && slot.has.is_some()));
        for slot in &self.slots {
            if let (Late::Input(input), Some(identity)) = (&slot.device.what, &slot.has)
                && let Some(device) = inputs.devices.iter().find(|device| device.identity() == *identity)
                && let Err(error) = toggles.listen(&self.root, &slot.device.id, input, device)
            {
                tracing::warn!("the toggle of {} is not noticed: {error:#}", slot.name);
            }
        }
    }
}

impl Slot {
    /// The host has the device no longer.
    async fn unplugged(&mut self, access: &mut Access<'_>) {
        tracing::info!(
            event = "unplugged",
            "{} was unplugged; the guest is given it when it is plugged in again",
            self.name
        );
        self.withdraw(access).await;
    }
}

impl Drop for LateDevices {
    /// The guest has ended, or another launcher has it.
    fn drop(&mut self) {
        for slot in &mut self.slots {
            if let Some(lease) = slot.lease.take() {
                lease.release();
            }
        }
    }
}

/// What is plugged in, with what other machines have of it.
pub(super) fn plugged(plan: &Plan, root: &Root) -> Vec<Plugged> {
    let leases = plan.paths.run.parent().map(lease::folder).unwrap_or_default();
    usb::plugged(root, &leases)
}

/// The names of what QEMU has at a place of its tree.
async fn children(qmp: &mut Qmp, path: &str) -> Result<Vec<String>, QmpError> {
    let listed = qmp.execute_raw("qom-list", json!({ "path": path })).await?;
    let names =
        listed.as_array().into_iter().flatten().filter_map(|entry| entry.get("name")?.as_str().map(str::to_owned));
    Ok(names.collect::<Vec<String>>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_late_devices_nothing_is_listened_to() {
        let host = crate::plan::sample::host(crate::plan::sample::Shape::simple(4, 1));
        let plan = crate::plan::sample::plan("(guest: Other, memory: (size: \"1 GiB\"))", &host);
        let late = LateDevices::new(&plan, &Root::new("/"), &[]);
        assert!(late.uevents.is_none() && late.toggles.is_none() && late.slots.is_empty());
    }
}
