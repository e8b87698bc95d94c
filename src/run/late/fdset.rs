//! Descriptors that QEMU is given over its monitor, and opens by the path of a set.

use std::os::fd::BorrowedFd;

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::qemu::Qmp;
use crate::qemu::command::QemuOption;

/// A descriptor in QEMU, in a set of its own.
pub(in crate::run) struct FdSet(u64);

impl FdSet {
    /// Gives QEMU a descriptor.
    pub async fn add(qmp: &mut Qmp, descriptor: BorrowedFd<'_>) -> Result<Self> {
        let set = qmp.execute_with_fd("add-fd", json!({}), descriptor).await?;
        let set = set.get("fdset-id").and_then(Value::as_u64);
        set.map(Self).context("QEMU does not say where it put the descriptor")
    }

    /// Its number, which no other set has as long as QEMU has the descriptor open.
    pub fn number(&self) -> u64 {
        self.0
    }

    /// The path by which QEMU opens it.
    pub fn path(&self) -> String {
        format!("{}{}", QemuOption::FD_SET, self.0)
    }

    /// Has QEMU close it: by now it has a duplicate, or will never need one.
    pub async fn remove(self, qmp: &mut Qmp) {
        if let Err(error) = qmp.execute_raw("remove-fd", json!({ "fdset-id": self.0 })).await {
            tracing::warn!("QEMU keeps a descriptor that it does not need: {error:#}");
        }
    }
}
