//! Each thing that can be done to a host, with its undo and its read-back: one file a change, below its subject. A change is
//! data, and so is what it found before it was made, so any process can undo it from the journal after any crash.

pub mod attribute;
mod error;
mod file;
mod host;
pub mod locks;
mod pci;
mod program;
mod record;
mod screen;
mod step;
mod systemd;
mod wait;

pub use error::{
    ChangeError, FileError, FunctionError, HeldError, HugePagesError, ModuleError, RecordError, UnitError,
};
pub use pci::remove_module::{Bound, FoundModule};
pub use pci::revive::Rung;
pub use record::{Before, Undone};
pub use step::{Effect, Nature, Observed, Progress, Step, unattended};

use crate::host::Root;

step::changes! {
    host::cgroup::Cgroup,
    host::huge_pages::HugePages,
    host::own::Own,
    host::write::Write,
    pci::bind_driver::BindDriver,
    pci::free_nodes::FreeNodes,
    pci::remove_module::RemoveModule,
    pci::resize_bar::ResizeBar,
    pci::revive::Revive,
    screen::hide_card::HideCard,
    screen::leave_console::LeaveConsole,
    screen::release_boot_screen::ReleaseBootScreen,
    systemd::stop_unit::StopUnit,
    systemd::stop_user_unit::StopUserUnit,
}
