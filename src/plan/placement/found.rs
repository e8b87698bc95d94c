//! What the checks of a placement look at.

use super::choose::Choice;
use super::cores::Cores;
use super::placed::Placement;
use super::wish::Wish;

/// A placement, with what it was made from.
pub(super) struct Found<'a> {
    /// The host's cores.
    pub cores: &'a Cores,
    /// What the machine wants of them.
    pub wish: &'a Wish<'a>,
    /// What the program would choose, or has chosen; `None` if there are too few CPUs.
    pub own: Option<&'a Choice>,
    /// Whether the host keeps the cores that `cpu.leave` wants.
    pub keeps: bool,
    /// The order of the user's CPUs in which the guest could be told more, if theirs is not one.
    pub ordered: Option<Vec<u32>>,
    /// The placement.
    pub placement: &'a Placement,
}
