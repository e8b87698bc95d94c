//! What a plan consists of beside QEMU's command line and its helpers: changes to the host, descriptors, files, the account.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::change::Change;
use crate::machine::SoundServer;
use crate::units::{DiskFormat, Origin, Size};

use super::memory::GuestMemory;

/// One host change with the reason that it is in the plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlannedChange {
    /// What is done.
    pub change: Change,
    /// Why.
    pub origin: Origin,
    /// Whether the run goes on without it: what it was for is done in another way then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// A descriptor that QEMU inherits under a fixed number, which its command line names (`fd=3`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Its number in QEMU, from 3 without gaps.
    pub fd: i32,
    /// What it is.
    pub what: Inherited,
}

/// What an inherited descriptor is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Inherited {
    /// One end of a connected socket pair; the other is the launcher's QMP connection.
    Qmp,
    /// A listening UNIX socket that the launcher bound at this path, mode 0600.
    Listen(PathBuf),
    /// A connected socket; at its other end is the helper of this name.
    Helper(String),
    /// The socket of a user's sound server, which QEMU can do nothing with but connect to it (`O_PATH`).
    SoundServer {
        /// What it speaks.
        server: SoundServer,
        /// Its path.
        socket: PathBuf,
        /// The user.
        uid: u32,
        /// The file by which clients prove to PulseAudio that they may connect.
        cookie: Option<PathBuf>,
    },
    /// A copy, in memory, of that file.
    Cookie {
        /// Its path.
        path: PathBuf,
        /// The user.
        uid: u32,
    },
    /// A device node of the host that the launcher opens for reading and writing, since QEMU's account may not.
    Device(PathBuf),
    /// A file or block device that the launcher opens, and QEMU finds in the set of the descriptor's number (`/dev/fdset/N`),
    /// so that its account needs no right to it.
    File(Opened),
    /// A copy, in memory, of this file, which QEMU's account cannot open (`/proc/self/fd/N`).
    Copy(PathBuf),
    /// A queue of a tap device; each queue of the same device is a descriptor of its own.
    Tap(Tap),
    /// A queue of the macvtap device of this name; each queue is a descriptor of its own.
    Macvtap(String),
    /// The tap device that QEMU's bridge helper makes for the launcher (QEMU's `qemu-bridge-helper.c`).
    BridgeHelper {
        /// The helper.
        program: PathBuf,
        /// The bridge.
        bridge: String,
    },
    /// A file in memory, which the launcher fills.
    Content(Content),
    /// The guest's memory, which the launcher has filled with pages.
    Memory(GuestMemory),
}

/// A file as the launcher opens it. QEMU takes a descriptor only if it is open in the way that QEMU would open it
/// (`monitor_fdset_dup_fd_add()` in QEMU's `monitor/fds.c`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The file.
    pub path: PathBuf,
    /// For what.
    pub access: Access,
    /// Whether past the host's cache (`O_DIRECT`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub direct: bool,
}

/// What a file is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Reading.
    Read,
    /// Reading and writing.
    Write,
    /// Writing at its end.
    Append,
}

/// What stands in a file in memory that QEMU opens as `/proc/self/fd/N`. The plan says where it comes from, never what it is:
/// plans are shown and kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The only line of this file, a password.
    Password(PathBuf),
    /// This file, which has a part in PEM's form (RFC 7468).
    Pem {
        /// The file.
        file: PathBuf,
        /// What the part's label ends with: `CERTIFICATE`, `PRIVATE KEY`.
        label: String,
    },
    /// The ACPI table in this file.
    AcpiTable(PathBuf),
    /// The ACPI table of a battery that is always full.
    Battery,
    /// A configuration for `-readconfig` with Apple's controller and the key in this file.
    AppleSmc(PathBuf),
    /// A structure of the host's SMBIOS tables.
    HostSmbios {
        /// The number of its type.
        kind: u8,
        /// The UUID that a system's has in place of the host's.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uuid: Option<uuid::Uuid>,
    },
}

/// A tap device, as the launcher makes or opens it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tap {
    /// Its name.
    pub name: String,
    /// Whether it is of the kind that may have more than one queue.
    pub multi_queue: bool,
    /// If the launcher makes it, what it is made: the kernel removes it with its last descriptor. `None`: it is there.
    pub port: Option<TapPort>,
}

/// A tap device as a bridge's port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TapPort {
    /// The bridge.
    pub bridge: String,
    /// The device's own MAC address, which is not the guest's.
    pub address: String,
    /// The bridge's largest packet, in bytes: a bridge takes the smallest of its ports'.
    pub mtu: Option<u32>,
}

/// The user who looks at the screen by a UNIX socket that QEMU makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Viewer {
    /// User id.
    pub uid: u32,
    /// The socket, in the display folder.
    pub socket: PathBuf,
}

/// A symbolic link in a folder of the display folder, by which QEMU finds a file in memory under the name that it looks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The link.
    pub at: PathBuf,
    /// The number of the file's descriptor in QEMU.
    pub fd: i32,
}

/// A file or folder that is made once for the machine and never overwritten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Keep {
    /// A folder, mode 0700, owned by QEMU's account.
    Folder(PathBuf),
    /// A copy of `from`, mode 0600, owned by who starts the machine.
    Copy {
        /// The template.
        from: PathBuf,
        /// The machine's own copy.
        to: PathBuf,
    },
    /// A copy of the TPM's state in the folder `from`, mode 0600, owned by QEMU's account.
    TpmState {
        /// The folder in which swtpm has kept it so far.
        from: PathBuf,
        /// The machine's own copy.
        to: PathBuf,
    },
    /// An empty image, sparse, mode 0600, owned as the folder that it is in. What was made stays, also if the start fails
    /// then: an empty disk is no harm, and a guest may have written to one whose start failed late.
    Image {
        /// The image.
        path: PathBuf,
        /// Its format.
        format: DiskFormat,
        /// How large the disk is.
        size: Size,
    },
}

/// A variable of QEMU's environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
    /// Why it is set.
    pub origin: Origin,
}

/// The account that QEMU runs as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Supplementary groups: the one that owns `/dev/kvm`, if QEMU needs it, and the one of sound cards that it plays on.
    pub groups: Vec<u32>,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AcpiTable(path) => write!(f, "the ACPI table {}", path.display()),
            Self::Password(path) => write!(f, "the password in {}", path.display()),
            Self::Pem { file, label } => write!(f, "{} ({label})", file.display()),
            Self::AppleSmc(path) => write!(f, "Apple's controller with the key in {}", path.display()),
            Self::Battery => f.write_str("the ACPI table of a battery"),
            Self::HostSmbios { kind, uuid } => {
                write!(f, "the host's SMBIOS structure of type {kind}")?;
                uuid.map_or(Ok(()), |uuid| write!(f, ", with the UUID {uuid}"))
            }
        }
    }
}

impl fmt::Display for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let access = match self.access {
            Access::Read => "reading",
            Access::Write => "reading and writing",
            Access::Append => "appending",
        };
        write!(f, "{}, opened by the launcher for {access}", self.path.display())
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path) => write!(f, "folder {}", path.display()),
            Self::Copy { from, to } => write!(f, "{}, copied once from {}", to.display(), from.display()),
            Self::TpmState { from, to } => {
                write!(f, "{}, copied once from the TPM's state in {}", to.display(), from.display())
            }
            Self::Image { path, format, size } => {
                write!(f, "{}, an empty {} image of {size}, made once", path.display(), format.name())
            }
        }
    }
}
