//! The exit codes; `--help` and the manual list them.

/// The guest shut down, or what was asked was done.
pub const OK: u8 = 0;
/// It could not start, or could not be done; the host is as it was.
pub const NOT_STARTED: u8 = 1;
/// The machine file or the arguments are wrong.
pub const USAGE: u8 = 2;
/// The check refused; nothing was touched.
pub const REFUSED: u8 = 3;
/// Something of the host could not be restored; it is named.
pub const NOT_RESTORED: u8 = 5;
/// QEMU or the guest crashed, was ended by force, or showed no life in time; the host is as it was.
pub const CRASHED: u8 = 4;
/// All of them.
pub const ALL: [u8; 6] = [OK, NOT_STARTED, USAGE, REFUSED, CRASHED, NOT_RESTORED];
