//! What can go wrong in a conversation over QMP.

use std::io;
use std::time::Duration;

/// What can go wrong in a conversation.
#[derive(Debug, thiserror::Error)]
pub enum QmpError {
    /// QEMU has ended, or closed the connection. After `quit` this is the ordinary end.
    #[error("QEMU closed its QMP connection")]
    Closed,
    /// The connection failed otherwise.
    #[error("the QMP connection failed")]
    Io(#[source] io::Error),
    /// No answer in time. The connection stays usable: a late answer is dropped.
    #[error("QEMU did not answer `{command}` within {after:?}")]
    Deadline {
        /// The command, or `greeting`.
        command: String,
        /// How long was waited.
        after: Duration,
    },
    /// QEMU answered with an error.
    #[error("QEMU refused `{command}`: {detail}")]
    Refused {
        /// The command.
        command: String,
        /// QEMU's class: `GenericError`, `CommandNotFound`, `DeviceNotFound`…
        class: String,
        /// QEMU's words.
        detail: String,
    },
    /// QEMU answered, and the answer is not what was expected.
    #[error("QEMU's answer to `{command}` was not understood: {detail}")]
    Unexpected {
        /// The command, or `greeting`.
        command: String,
        /// What does not fit.
        detail: String,
    },
    /// A line was longer than is believed; it was thrown away and the connection stays usable.
    #[error("QEMU sent a QMP line of more than {limit} bytes")]
    LineTooLong {
        /// The limit.
        limit: usize,
    },
    /// Lines that are no messages, again and again.
    #[error("QEMU sent {lines} lines that are no QMP messages")]
    Garbled {
        /// How many.
        lines: u32,
    },
    /// More events than are kept.
    #[error("QEMU sent more QMP events than vfio-run keeps ({limit} bytes unread)")]
    Flood {
        /// The limit.
        limit: usize,
    },
}

impl QmpError {
    /// Whether an error is that QEMU did not answer in time: what it was told it has read, and may do yet.
    pub fn is_late(error: &anyhow::Error) -> bool {
        error.chain().any(|cause| matches!(cause.downcast_ref(), Some(Self::Deadline { .. })))
    }
}
