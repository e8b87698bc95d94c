//! CPU topology.

mod kinds;
mod read;
mod types;

pub use types::{Cache, CacheKind, CoreKind, Cpu, Cpus};
