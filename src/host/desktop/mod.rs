//! The user whose desktop it is, that user's sound servers, and the session bus.

mod bus;
mod facts;
mod find;
pub mod servers;

pub use bus::{SessionBus, WantedBus};
pub use facts::Desktop;
pub use find::{Found, WantedDesktop};
pub use servers::{Answer, SoundServerFact};
