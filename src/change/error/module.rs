//! Kernel modules that modprobe refused.

/// A kernel module could not be loaded or removed.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// modprobe failed.
    #[error("modprobe of {module}: {why}")]
    Modprobe {
        /// The module.
        module: String,
        /// What modprobe said.
        why: String,
    },
}
