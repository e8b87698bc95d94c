//! Each thing that can be done to a host, with its undo and its read-back. A change is data, and so is what it found
//! before it was made: undoing needs nothing but the journal, in any process, after any crash.

pub mod attribute;
mod host;
mod locks;
mod pci;
mod program;
mod screen;
mod systemd;

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub use locks::Locks;
pub use pci::revive::Rung;

use crate::host::Root;
use crate::host::pci::{Holder, Node};
use crate::units::{PciAddress, Size};
use host::{cgroup, huge_pages, own as owner, write};
use pci::{bind_driver as driver, free_nodes as nodes, remove_module as module, resize_bar as rebar, revive};
use screen::{hide_card as card, leave_console as screen_of};
use systemd::stop_unit as unit;
use systemd::stop_user_unit::UserUnit;

/// One thing that can be done to a host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Write a value to a file under /sys or /proc.
    Write {
        /// The file.
        path: PathBuf,
        /// The value, as it reads back.
        value: String,
        /// The driver that set what was there before: with another one the function has that one's setting.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        set_by: Option<String>,
    },
    /// Make a file or device node QEMU's own for the run.
    Own {
        /// The file or node; links are followed.
        path: PathBuf,
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
    /// Make a cgroup for QEMU.
    Cgroup {
        /// Its folder below `/sys/fs/cgroup`.
        path: PathBuf,
    },
    /// Reserve huge pages on a NUMA node, so that so many are free.
    HugePages {
        /// NUMA node.
        node: u32,
        /// Size of one page.
        size: Size,
        /// How many must be free.
        pages: u64,
    },
    /// Give a PCI function to a driver.
    BindDriver {
        /// The function.
        address: PciAddress,
        /// The driver's name; `None`: no driver.
        driver: Option<String>,
    },
    /// Wake a card that does not answer when the guest has ended; nothing is done before.
    Revive {
        /// Its functions that go back to a host driver.
        functions: Vec<PciAddress>,
        /// The port that it is behind.
        port: Option<PciAddress>,
        /// What may be tried, in this order.
        rungs: Vec<Rung>,
        /// The file that keeps which of these helped last time.
        note: PathBuf,
    },
    /// Resize a memory range of a PCI function that has no driver.
    ResizeBar {
        /// The function.
        address: PciAddress,
        /// Number of the range.
        bar: usize,
        /// Its size.
        size: Size,
    },
    /// Take the virtual consoles off a framebuffer.
    LeaveConsole {
        /// The console's driver: `vtcon1`.
        name: String,
    },
    /// Take the firmware's framebuffer off its driver.
    ReleaseBootScreen {
        /// `efi-framebuffer`.
        driver: String,
        /// `efi-framebuffer.0`.
        device: String,
    },
    /// Remove a kernel module that nothing uses.
    RemoveModule {
        /// Its name.
        module: String,
    },
    /// Have nobody hold these device nodes open.
    FreeNodes {
        /// The nodes.
        nodes: Vec<Node>,
        /// End whoever holds them, instead of giving up.
        end: bool,
    },
    /// Stop a unit of systemd's.
    StopUnit {
        /// Its name: `gdm.service`.
        unit: String,
    },
    /// Stop a unit of a user's service manager.
    StopUserUnit {
        /// Whose manager.
        uid: u32,
        /// Its name: `wireplumber.service`.
        unit: String,
    },
    /// Tell compositors that a graphics card is unplugged, so that they let go of it.
    HideCard {
        /// The card.
        address: PciAddress,
        /// Its node: `/dev/dri/card1`.
        node: Node,
    },
}

/// What a change found, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Before {
    /// The text of a file.
    Text(String),
    /// The owner of a file, and which file it was.
    Owner {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// Device that holds the file.
        device: u64,
        /// Its inode there.
        inode: u64,
    },
    /// Whether it was there.
    Exists(bool),
    /// A pool of huge pages.
    Pool {
        /// Pages that stay in the pool when they are free: `nr_hugepages` less `surplus_hugepages`.
        persistent: u64,
        /// Pages that nobody uses.
        free: u64,
    },
    /// The driver of a PCI function.
    Driver {
        /// Its name; `None`: there was no driver.
        driver: Option<String>,
        /// The module that it is in.
        module: Option<String>,
        /// The only driver that might have had it.
        driver_override: Option<String>,
        /// Whether the driver had made a screen of it.
        #[serde(default)]
        screen: bool,
    },
    /// A kernel module.
    Module {
        /// Whether it was there.
        loaded: bool,
        /// The functions that are without a driver when it is gone.
        functions: Vec<Bound>,
    },
    /// The size of a memory range.
    Size(Size),
    /// Which of the devices that have had this name it was: its number in the kernel's file system.
    Inode(u64),
    /// Nothing that could be put back.
    Nothing,
}

/// A PCI function with its driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The function.
    pub address: PciAddress,
    /// The driver's name.
    pub driver: String,
    /// Whether the driver had made a screen of it.
    pub screen: bool,
}

/// How an undo ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undone {
    /// What was there before is there again.
    Restored,
    /// It was there already: the change was never made, or was undone before.
    AlreadyBack,
    /// Neither what we made nor what was there before: somebody else changed it since, and it was left alone.
    NotOurs {
        /// What is there.
        found: String,
    },
}

/// A change could not be made, read back or undone.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The kernel refused an access.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// `read`, `write`, `give away`, `make` or `remove`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        error: std::io::Error,
    },
    /// A write succeeded and the file says something else.
    #[error("{path} says {found:?} after {wanted:?} was written to it")]
    NotTaken {
        /// The file.
        path: PathBuf,
        /// What was written.
        wanted: String,
        /// What it reads.
        found: String,
    },
    /// A file is not the one that was looked at before.
    #[error("{path} was exchanged for another file while it was looked at; it was not given away. Start again")]
    Exchanged {
        /// Its name.
        path: PathBuf,
    },
    /// Not all huge pages could be had.
    #[error(
        "NUMA node {node} is short of {missing_mib} MiB in {size} pages: {got} of {wanted} pages could be reserved. \
         Reserve them at boot with `{boot}` on the kernel command line, close programs that use much memory, or write \
         `pages: Normal` in the machine file"
    )]
    ShortOfHugePages {
        /// NUMA node.
        node: u32,
        /// Size of a page.
        size: Size,
        /// Pages that were wanted.
        wanted: u64,
        /// Pages that were free in the end.
        got: u64,
        /// The shortage in MiB.
        missing_mib: u64,
        /// The kernel parameter that reserves them at boot.
        boot: String,
    },
    /// Whoever watches its progress stopped it; its undo puts back what was done of it.
    #[error("it was stopped half-way")]
    Stopped,
    /// An access is stuck in the kernel.
    #[error(
        "the kernel has not come back from {path} after {seconds} s: a driver does not let its device go. Only a reboot \
         frees it"
    )]
    Stuck {
        /// The file.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// A PCI function is not with the driver that it was given to.
    #[error("{address} is with {}, not with {wanted}; `dmesg` may say why", found.as_deref().unwrap_or("no driver"))]
    NotBound {
        /// The function.
        address: PciAddress,
        /// The driver that should have it.
        wanted: String,
        /// The driver that has it.
        found: Option<String>,
    },
    /// A card has its driver again, and the driver has made no screen of it.
    #[error(
        "{address} is with {driver} again and has no screen (`/dev/dri/card…`) as it had before; `dmesg` may say why, \
         and a reboot brings it back"
    )]
    NoScreen {
        /// The card.
        address: PciAddress,
        /// Its driver.
        driver: String,
    },
    /// A PCI function does not answer.
    #[error(
        "{address} does not answer{}: its configuration space reads as all ones, and a driver could take the host down \
         with it.{} Suspending the host to memory for a moment may wake it, then `vfio-run recover` goes on; else a \
         reboot does",
        power.as_ref().map_or_else(String::new, |state| format!(" (power state {state})")),
        if tried.is_empty() { String::new() } else { format!(" Tried in vain: {}.", tried.join(", ")) }
    )]
    Dead {
        /// The function.
        address: PciAddress,
        /// Its power state, where that was read: `D3cold`.
        power: Option<String>,
        /// What was tried to wake it, and why it could not be.
        tried: Vec<String>,
    },
    /// A kernel module could not be loaded or removed.
    #[error("modprobe of {module}: {why}")]
    Module {
        /// The module.
        module: String,
        /// What modprobe said.
        why: String,
    },
    /// Programs hold a device that is to go.
    #[error("in use: {}. {}", list(holders), remedy(holders))]
    Held {
        /// Who.
        holders: Vec<Holder>,
    },
    /// The host uses disks that would go with their controller.
    #[error(
        "the host uses disks behind {address}: {}. Unmount them, or take them out of their volume or pool (`lsblk` and \
         `zpool status` name it)",
        nodes.iter().map(|node| node.to_string_lossy()).collect::<Vec<_>>().join(", ")
    )]
    DisksInUse {
        /// The controller.
        address: PciAddress,
        /// Nodes of the disks, and of their partitions.
        nodes: Vec<PathBuf>,
    },
    /// A unit could not be stopped or started.
    #[error("{unit}: {why}")]
    Unit {
        /// The unit.
        unit: String,
        /// What systemd said.
        why: String,
    },
    /// The journal's record is of another kind of change.
    #[error("the journal's record of what was there before does not belong to this change: {before:?}")]
    WrongRecord {
        /// What the record holds.
        before: Before,
    },
}

fn list(holders: &[Holder]) -> String {
    holders.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What to do about programs that hold a device. Units of users are named, since nobody else would know them.
fn remedy(holders: &[Holder]) -> String {
    let mut units: Vec<String> = holders.iter().filter_map(Holder::user_units).flatten().collect();
    units.sort();
    units.dedup();
    let line = match units.is_empty() {
        true => "name their units in `handover: (units: […])`".to_owned(),
        false => format!("write `handover: (user_units: {units:?})`"),
    };
    format!(
        "End them, {line}, or write `handover: (holders: End)`; a compositor that does not let go of the card ends with \
         its display manager: `handover: (display_manager: Unit(\"…\"))`"
    )
}

/// Told how far a long change has come (pages reserved so far, pages wanted); its answer `Break` stops the change there.
pub type Progress<'a> = &'a dyn Fn(u64, u64) -> ControlFlow<()>;

/// For callers that neither show how far a change has come nor stop it.
pub fn unattended(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

impl Change {
    /// Reads what is there now, touching nothing.
    pub fn capture(&self, root: &Root) -> Result<Before, ChangeError> {
        match self {
            Self::Write { path, .. } => write::capture(root, path),
            Self::Own { path, .. } => owner::capture(root, path),
            Self::Cgroup { path } => cgroup::capture(root, path),
            Self::HugePages { node, size, .. } => huge_pages::capture(root, *node, *size),
            Self::BindDriver { address, .. } => driver::capture(root, *address),
            Self::ResizeBar { address, bar, .. } => rebar::capture(root, *address, *bar),
            Self::LeaveConsole { name } => screen_of::capture_console(root, name),
            Self::ReleaseBootScreen { driver, device } => Ok(screen_of::capture_boot(root, driver, device)),
            Self::RemoveModule { module } => Ok(module::capture(root, module)),
            Self::FreeNodes { .. } | Self::Revive { .. } => Ok(Before::Nothing),
            Self::StopUnit { unit } => unit::capture(unit),
            Self::StopUserUnit { uid, unit } => UserUnit { root, uid: *uid, unit }.capture(),
            Self::HideCard { address, node } => card::capture(root, *address, node),
        }
    }

    /// Makes the change and reads it back. `before` is what `capture` read.
    pub fn apply(&self, root: &Root, before: &Before, progress: Progress<'_>) -> Result<(), ChangeError> {
        match (self, before) {
            (Self::Write { path, value, .. }, Before::Text(_)) => write::apply(root, path, value),
            (Self::Own { path, uid, gid }, Before::Owner { .. }) => owner::apply(root, path, (*uid, *gid), before),
            (Self::Cgroup { path }, Before::Exists(_)) => cgroup::apply(root, path),
            (Self::HugePages { node, size, pages }, Before::Pool { .. }) => {
                huge_pages::apply(root, *node, *size, *pages, before, progress)
            }
            (Self::BindDriver { address, driver }, Before::Driver { .. }) => {
                driver::apply(root, *address, driver.as_deref())
            }
            (Self::ResizeBar { address, bar, size }, Before::Size(_)) => rebar::apply(root, *address, *bar, *size),
            (Self::LeaveConsole { name }, Before::Exists(_)) => screen_of::leave_console(root, name),
            (Self::ReleaseBootScreen { driver, device }, Before::Exists(_)) => {
                screen_of::release_boot(root, driver, device)
            }
            (Self::RemoveModule { module }, Before::Module { functions, .. }) => {
                module::remove(root, module, functions)
            }
            (Self::FreeNodes { nodes, end }, Before::Nothing) => nodes::free(root, nodes, *end),
            (Self::StopUnit { unit }, Before::Exists(_)) => unit::stop(unit),
            (Self::StopUserUnit { uid, unit }, Before::Exists(_)) => UserUnit { root, uid: *uid, unit }.stop(),
            (Self::HideCard { address, node }, Before::Inode(_)) => card::hide(root, *address, node),
            (Self::Revive { .. }, Before::Nothing) => Ok(()),
            (_, before) => Err(ChangeError::WrongRecord { before: before.clone() }),
        }
    }

    /// Puts back what was there before, if what is there now is still ours. Can be repeated, and is right after a crash
    /// at any point of `apply`.
    pub fn undo(&self, root: &Root, before: &Before) -> Result<Undone, ChangeError> {
        match (self, before) {
            (Self::Write { path, set_by: Some(driver), .. }, Before::Text(_))
                if !write::is_with(root, path, driver) =>
            {
                Ok(Undone::AlreadyBack)
            }
            (Self::Write { path, value, .. }, Before::Text(old)) => write::undo(root, path, value, old),
            (Self::Own { path, uid, gid }, Before::Owner { .. }) => owner::undo(root, path, (*uid, *gid), before),
            (Self::Cgroup { path }, Before::Exists(existed)) => cgroup::undo(root, path, *existed),
            (Self::HugePages { node, size, pages }, Before::Pool { .. }) => {
                huge_pages::undo(root, *node, *size, *pages, before)
            }
            (Self::BindDriver { address, driver }, Before::Driver { .. }) => {
                driver::undo(root, *address, driver.as_deref(), before)
            }
            (Self::ResizeBar { address, bar, size }, Before::Size(old)) => {
                rebar::undo(root, *address, *bar, *size, *old)
            }
            (Self::LeaveConsole { name }, Before::Exists(bound)) => screen_of::return_console(root, name, *bound),
            (Self::ReleaseBootScreen { driver, device }, Before::Exists(bound)) => {
                screen_of::return_boot(root, driver, device, *bound)
            }
            (Self::RemoveModule { module }, Before::Module { loaded, functions }) => {
                module::undo(root, module, *loaded, functions)
            }
            // A record of a version that did not look whose driver it is.
            (Self::RemoveModule { module }, Before::Exists(loaded)) => module::undo(root, module, *loaded, &[]),
            (Self::FreeNodes { .. }, Before::Nothing) => Ok(Undone::AlreadyBack),
            (Self::Revive { functions, port, rungs, note }, Before::Nothing) => {
                revive::wake(root, &revive::Card { functions, port: *port, rungs, note })
            }
            (Self::StopUnit { unit }, Before::Exists(up)) => unit::start(unit, *up),
            (Self::StopUserUnit { uid, unit }, Before::Exists(up)) => UserUnit { root, uid: *uid, unit }.start(*up),
            (Self::HideCard { address, node }, Before::Inode(old)) => card::show(root, *address, node, *old),
            (_, before) => Err(ChangeError::WrongRecord { before: before.clone() }),
        }
    }

    /// Whether it takes something from the host that people or programs may be using, so that a start that fails after it
    /// is seen. The others only prepare, and nobody notices that they were made and undone.
    pub fn takes_from_host(&self) -> bool {
        !matches!(self, Self::Write { .. } | Self::Own { .. } | Self::Cgroup { .. } | Self::HugePages { .. })
    }

    /// Whether the change is undone as soon as QEMU holds what it was made for. Huge pages are: those in use become
    /// surplus when the pool is lowered again, and the kernel frees surplus pages with their last user, so that not even
    /// a killed launcher leaves any behind.
    pub fn settles_at_start(&self) -> bool {
        matches!(self, Self::HugePages { .. })
    }

    /// Whether others do the work, whom we only ask and wait for: a driver, a unit, a module, the kernel's memory.
    pub fn makes_others_work(&self) -> bool {
        match self {
            Self::HugePages { .. }
            | Self::BindDriver { .. }
            | Self::ResizeBar { .. }
            | Self::LeaveConsole { .. }
            | Self::ReleaseBootScreen { .. }
            | Self::RemoveModule { .. }
            | Self::StopUnit { .. }
            | Self::StopUserUnit { .. }
            | Self::HideCard { .. }
            | Self::Revive { .. } => true,
            Self::Write { .. } | Self::Own { .. } | Self::Cgroup { .. } | Self::FreeNodes { .. } => false,
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write { path, value, .. } => write!(f, "write {value:?} to {}", path.display()),
            Self::Own { path, uid, gid } => write!(f, "give {} to user {uid}, group {gid}", path.display()),
            Self::Cgroup { path } => write!(f, "make the cgroup {}", path.display()),
            Self::HugePages { node, size, pages } => {
                write!(f, "have {pages} free huge pages of {size} on NUMA node {node}")
            }
            Self::BindDriver { address, driver: Some(driver) } => write!(f, "give {address} to {driver}"),
            Self::BindDriver { address, driver: None } => write!(f, "take {address} from its driver"),
            Self::ResizeBar { address, bar, size } => write!(f, "make BAR {bar} of {address} {size} large"),
            Self::LeaveConsole { name } => write!(f, "take the consoles off {name}"),
            Self::ReleaseBootScreen { device, .. } => write!(f, "take {device} from its driver"),
            Self::RemoveModule { module } => write!(f, "remove the module {module}"),
            Self::FreeNodes { nodes, end } => {
                let names: Vec<_> = nodes.iter().map(|node| node.path.to_string_lossy()).collect();
                let how = if *end { "end whoever holds" } else { "see that nobody holds" };
                write!(f, "{how} {}", names.join(", "))
            }
            Self::StopUnit { unit } => write!(f, "stop {unit}"),
            Self::StopUserUnit { uid, unit } => write!(f, "stop {unit} of user {uid}"),
            Self::HideCard { address, node } => {
                write!(f, "have compositors let go of {} ({address})", node.path.display())
            }
            Self::Revive { functions, rungs, .. } => {
                let names: Vec<_> = functions.iter().map(ToString::to_string).collect();
                let how: Vec<_> = rungs.iter().map(ToString::to_string).collect();
                write!(f, "wake {} if dead after the guest, by {}", names.join(", "), how.join(", then "))
            }
        }
    }
}
