//! Who has the keyboard and mouse that host and guest share.

/// Who has the keyboard and mouse that host and guest share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InputHolder {
    /// What is typed reaches the guest alone.
    Guest,
    /// What is typed is the host's.
    Host,
}

impl InputHolder {
    /// Its name, as `VFIO_RUN_INPUT` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Host => "host",
        }
    }
}
