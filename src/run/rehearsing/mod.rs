//! The handover there and back without a guest.

mod rehearse;
mod snapshot;
mod times;

pub use rehearse::{Rehearsal, rehearse};
pub use snapshot::{Leak, Side};
pub use times::{Spread, Step};
