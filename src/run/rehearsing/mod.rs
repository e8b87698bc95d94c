//! The handover there and back without a guest.

mod rehearse;
mod snapshot;
mod times;
mod try_out;

pub use rehearse::{Rehearsal, rehearse};
pub use snapshot::{Leak, Side};
pub use times::{Spread, Step};
pub use try_out::try_out;
