//! The handover there and back without a guest.

pub(super) mod rehearse;
mod snapshot;
mod times;

pub use rehearse::Rehearsal;
pub use snapshot::{Leak, Side};
pub use times::{Spread, Step};
