//! Remove a kernel module that nothing uses, and load it again.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::disks::check_unused;
use super::function::{
    self, await_driver, await_screen, check_answers, driver, exists, has_screen, override_of, probe,
};
use super::modprobe::{self, folder_name, is_loaded};
use crate::change::error::ChangeError;
use crate::change::record::Undone;
use crate::change::step::{Nature, Observed, Progress, Step};
use crate::host::Root;
use crate::units::PciAddress;

/// More than any chain of modules that need one another.
const MAX_DEPTH: usize = 8;

/// Remove a kernel module that nothing uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveModule {
    /// Its name.
    pub module: String,
}

/// A PCI function with its driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bound {
    /// The function.
    pub address: PciAddress,
    /// The driver's name.
    pub driver: String,
    /// Whether the driver had made a DRM card of it.
    pub screen: bool,
}

/// The module that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundModule {
    /// The module with what its drivers have.
    Module {
        /// Whether it was loaded.
        loaded: bool,
        /// The functions that are without a driver when it is removed.
        functions: Vec<Bound>,
    },
    /// Whether it was loaded, in a record of a version that did not look at its functions.
    Exists(bool),
}

impl FoundModule {
    fn parts(&self) -> (bool, &[Bound]) {
        match self {
            Self::Module { loaded, functions } => (*loaded, functions),
            Self::Exists(loaded) => (*loaded, &[]),
        }
    }
}

impl Step for RemoveModule {
    type Before = FoundModule;

    fn nature(&self) -> Nature {
        Nature::takes(true)
    }

    fn capture(&self, root: &Root) -> Result<FoundModule, ChangeError> {
        let loaded = is_loaded(root, &self.module);
        let functions = if loaded { functions(root, &folder_name(&self.module)) } else { Vec::new() };
        Ok(FoundModule::Module { loaded, functions })
    }

    /// Removes the module; fails at once if something uses it, while an unbind of its driver would wait for that.
    fn apply(&self, root: &Root, before: &FoundModule, _: Progress<'_>) -> Result<(), ChangeError> {
        if !is_loaded(root, &self.module) {
            return Ok(());
        }
        for bound in before.parts().1 {
            check_unused(root, bound.address)?;
        }
        Ok(modprobe::remove(root, &self.module)?)
    }

    /// Loads the module again and sees that its drivers are bound to what they had. If one of them would be bound to a dead
    /// card, the module is not loaded: its driver could crash the host.
    fn undo(&self, root: &Root, before: &FoundModule) -> Result<Undone, ChangeError> {
        let (was_loaded, had) = before.parts();
        let loaded = is_loaded(root, &self.module);
        let missing: Vec<&Bound> = had.iter().filter(|bound| is_missing(root, bound)).collect();
        if !was_loaded || loaded && missing.is_empty() {
            return Ok(Undone::AlreadyBack);
        }
        for bound in &missing {
            check_answers(root, bound.address)?;
        }
        if !loaded {
            modprobe::load(root, &self.module)?;
        }
        for bound in missing {
            // The module came back earlier, or another program loaded it.
            if loaded && driver(root, bound.address).is_none() {
                probe(root, bound.address)?;
            }
            await_driver(root, bound.address, &bound.driver)?;
        }
        let is_back = |bound: &&Bound| driver(root, bound.address).as_ref() == Some(&bound.driver);
        for bound in had.iter().filter(|bound| bound.screen).filter(is_back) {
            await_screen(root, bound.address, &bound.driver)?;
        }
        Ok(Undone::Restored)
    }

    fn lock_files(&self, before: &FoundModule) -> Vec<PathBuf> {
        before.parts().1.iter().map(|bound| override_of(bound.address)).collect()
    }

    /// Every rehearsal looks at all modules.
    fn observe(&self, _: &Root) -> Vec<Observed> {
        Vec::new()
    }
}

impl fmt::Display for RemoveModule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove the module {}", self.module)
    }
}

/// The functions that the module's drivers are bound to, and those of the modules that it needs: modprobe removes these
/// with it when nothing else needs them.
fn functions(root: &Root, module: &str) -> Vec<Bound> {
    let bound = function::all(root).filter_map(|address| {
        let its = function::module(root, address)?;
        let (driver, screen) = (driver(root, address)?, has_screen(root, address));
        needs(root, module, &its, 0).then_some(Bound { address, driver, screen })
    });
    bound.collect()
}

/// Whether the upper module is the lower one, or needs it.
fn needs(root: &Root, upper: &str, lower: &str, depth: usize) -> bool {
    let holders = || root.names(format!("/sys/module/{lower}/holders"));
    lower == upper || depth < MAX_DEPTH && holders().iter().any(|holder| needs(root, upper, holder, depth + 1))
}

/// Whether the function is there without its driver, and no other driver of the host is bound to it meanwhile.
fn is_missing(root: &Root, bound: &Bound) -> bool {
    let now = driver(root, bound.address);
    exists(root, bound.address) && now.as_ref() != Some(&bound.driver) && now.is_none_or(|driver| driver == "vfio-pci")
}
