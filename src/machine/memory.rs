//! The guest's memory and the pages that back it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::units::{CpuSet, Size};

/// The guest's memory.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// How much: `"16 GiB"`.
    pub size: Size,
    /// The pages that back it. Default `Normal`: 4 KiB and transparent huge pages.
    #[serde(default)]
    pub pages: Pages,
    /// The host's NUMA nodes that it comes from, as a list. Default: the nodes of the vCPUs, where there are several.
    #[serde(default)]
    pub nodes: Option<CpuSet>,
    /// Share it with helper processes (virtiofsd needs it). Default: yes with huge pages, else no.
    #[serde(default)]
    pub shared: Option<bool>,
}

/// Which pages back the guest's memory.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Pages {
    /// 4 KiB pages, made into transparent huge pages by the kernel where it can.
    #[default]
    Normal,
    /// Huge pages of this size, reserved for the run: `Huge("2 MiB")` or `Huge("1 GiB")`.
    Huge(Size),
}
