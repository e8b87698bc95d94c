//! What every change to the host must answer, and the list of all changes.

use std::fmt;
use std::ops::ControlFlow;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::ChangeError;
use super::record::Undone;
use crate::host::Root;

/// One kind of change to the host. A value of it is what the plan holds and the journal keeps, and undoing needs nothing
/// but that and what was found before: any process can do it, after any crash.
///
/// No function has a default: what a new change does not answer does not compile.
pub trait Step: fmt::Display {
    /// What was there before, as the journal keeps it. The JSON of a version must stay readable while it can be in /run:
    /// add fields with `#[serde(default)]`, do not rename them.
    type Before: Serialize + DeserializeOwned;

    /// How it treats the host.
    fn nature(&self) -> Nature;

    /// Reads what is there now, touching nothing.
    fn capture(&self, root: &Root) -> Result<Self::Before, ChangeError>;

    /// Makes the change and reads it back. `before` is what `capture` returned.
    fn apply(&self, root: &Root, before: &Self::Before, progress: Progress<'_>) -> Result<(), ChangeError>;

    /// Puts back what was there before, unless another program changed it since. It can be repeated, and is right after a
    /// crash at any point of `apply`.
    fn undo(&self, root: &Root, before: &Self::Before) -> Result<Undone, ChangeError>;

    /// Files whose reading waits for the same locks in the kernel as the undo does. If a read of one does not come back,
    /// the undo is not tried.
    fn lock_files(&self, before: &Self::Before) -> Vec<PathBuf>;

    /// What it changes, as it is now. A rehearsal compares this before and after; an empty list means that every rehearsal
    /// looks at it without being told (drivers of the devices, consoles, pools of huge pages, modules).
    fn observe(&self, root: &Root) -> Vec<Observed>;
}

/// How a change treats the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nature {
    /// What it means for the host's users.
    pub effect: Effect,
    /// Whether it is undone as soon as the guest's memory is filled, for which it was made.
    pub settles_with_memory: bool,
    /// Whether its time is that of a driver, a unit, a module or the kernel's memory management, and not ours.
    pub makes_others_work: bool,
    /// Whether it may take so long that its progress is shown and a signal must be able to stop it.
    pub takes_long: bool,
}

/// What a change means for the host's users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// It only prepares; no user and no program notices that it was made and undone.
    Prepares,
    /// It takes something from the host that people or programs may be using, so a start that fails after it is seen.
    Takes {
        /// Whether somebody who works with the device notices it.
        felt: bool,
    },
}

impl Nature {
    /// A change that only prepares, and does so itself at once.
    pub const PREPARES: Self =
        Self { effect: Effect::Prepares, settles_with_memory: false, makes_others_work: false, takes_long: false };

    /// A change that takes something from the host, which a driver, a unit or the kernel does.
    pub const fn takes(felt: bool) -> Self {
        Self { effect: Effect::Takes { felt }, makes_others_work: true, ..Self::PREPARES }
    }

    /// Whether it takes something from the host that people or programs may be using.
    pub fn takes_from_host(self) -> bool {
        matches!(self.effect, Effect::Takes { .. })
    }

    /// Whether somebody who works with the device notices it.
    pub fn is_felt(self) -> bool {
        self.effect == Effect::Takes { felt: true }
    }
}

/// Something of the host as it is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// What it is, as a reader knows it: `owner of /dev/vfio/12`.
    pub what: String,
    /// Its value.
    pub value: String,
}

impl Observed {
    /// A thing and its value.
    pub fn new(what: impl Into<String>, value: impl Into<String>) -> Self {
        Self { what: what.into(), value: value.into() }
    }
}

/// Told how far a long change has come (pages reserved so far, pages wanted); its answer `Break` stops the change there.
pub type Progress<'a> = &'a dyn Fn(u64, u64) -> ControlFlow<()>;

/// For callers that neither show how far a change has come nor stop it.
pub fn unattended(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Makes the enum `Change` from a list of `folder::file::Type`. Its JSON is the type's name in snake_case around the type's
/// fields, which is also what version 0.1.0 wrote.
macro_rules! changes {
    ($($folder:ident :: $file:ident :: $name:ident),* $(,)?) => {
        $(pub use $folder::$file::$name;)*

        /// One thing that can be done to a host.
        #[derive(Debug, Clone, PartialEq, Eq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Change {
            $(#[doc = concat!("See [`struct@", stringify!($name), "`].")] $name($name),)*
        }

        $(impl From<$name> for Change {
            fn from(change: $name) -> Self {
                Self::$name(change)
            }
        })*

        impl Change {
            /// How it treats the host.
            pub fn nature(&self) -> Nature {
                match self { $(Self::$name(change) => change.nature(),)* }
            }

            /// Reads what is there now, touching nothing.
            ///
            /// # Errors
            /// If it cannot be read.
            pub fn capture(&self, root: &Root) -> Result<Before, ChangeError> {
                match self { $(Self::$name(change) => Before::of(&change.capture(root)?),)* }
            }

            /// Makes the change and reads it back. `before` is what `capture` returned.
            ///
            /// # Errors
            /// If it cannot be made, or does not read back.
            pub fn apply(&self, root: &Root, before: &Before, progress: Progress<'_>) -> Result<(), ChangeError> {
                match self { $(Self::$name(change) => change.apply(root, &before.as_found()?, progress),)* }
            }

            /// Puts back what was there before, unless another program changed it since. It can be repeated, and is right
            /// after a crash at any point of `apply`.
            ///
            /// # Errors
            /// If it cannot be put back; the journal then keeps it.
            pub fn undo(&self, root: &Root, before: &Before) -> Result<Undone, ChangeError> {
                match self { $(Self::$name(change) => change.undo(root, &before.as_found()?),)* }
            }

            /// Files whose reading waits for the same locks in the kernel as the undo does.
            pub fn lock_files(&self, before: &Before) -> Vec<std::path::PathBuf> {
                // An undo refuses a record that is not its own before it touches a file.
                match self {
                    $(Self::$name(change) => before.as_found().map_or_else(|_| Vec::new(), |found| change.lock_files(&found)),)*
                }
            }

            /// What it changes, as it is now, for a rehearsal to compare.
            pub fn observe(&self, root: &Root) -> Vec<Observed> {
                match self { $(Self::$name(change) => change.observe(root),)* }
            }
        }

        impl std::fmt::Display for Change {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$name(change) => change.fmt(f),)* }
            }
        }
    };
}
pub(super) use changes;
