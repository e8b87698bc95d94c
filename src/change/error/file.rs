//! Accesses to files that failed.

use std::path::PathBuf;

/// A file could not be read or written, or did not take a value.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The kernel refused an access.
    #[error("cannot {action} {path}: {error}")]
    Io {
        /// `read`, `write`, `make`, `remove` or `change the owner of`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The kernel's error.
        error: std::io::Error,
    },
    /// A write succeeded, and the file reads back another value.
    #[error("{path} reads {found:?} after {wanted:?} was written to it")]
    NotTaken {
        /// The file.
        path: PathBuf,
        /// What was written.
        wanted: String,
        /// What it reads.
        found: String,
    },
    /// Another file has the name of the one that was looked at before.
    #[error("{path} was replaced by another file meanwhile; its owner was not changed. Start again")]
    Exchanged {
        /// Its name.
        path: PathBuf,
    },
    /// A write does not come back from the kernel.
    #[error(
        "a write to {path} has been blocked in the kernel for {seconds} s: the driver does not release its device. Only \
         a reboot frees it"
    )]
    WriteStuck {
        /// The file.
        path: PathBuf,
        /// How long vfio-run waited for it.
        seconds: u64,
    },
    /// A read does not come back from the kernel.
    #[error(
        "a read of {path} has been blocked in the kernel for {seconds} s: a driver does not release its device and holds \
         its lock. Only a reboot frees it"
    )]
    ReadStuck {
        /// The file.
        path: PathBuf,
        /// How long vfio-run waited for it.
        seconds: u64,
    },
}

impl FileError {
    /// Makes the error of a refused access to this file.
    pub(crate) fn io(action: &'static str, path: &std::path::Path) -> impl Fn(std::io::Error) -> Self {
        move |error| Self::Io { action, path: path.to_owned(), error }
    }

    /// Whether an access is blocked in the kernel.
    pub fn is_stuck(&self) -> bool {
        matches!(self, Self::WriteStuck { .. } | Self::ReadStuck { .. })
    }

    /// The kernel's error number, if it refused the access.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { error, .. } => error.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the file, or what it is an attribute of, vanished: a device that was unplugged, a group that systemd removed.
    pub fn is_gone(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV))
    }
}
