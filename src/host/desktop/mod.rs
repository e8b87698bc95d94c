//! The user whose desktop it is, and that user's sound servers.

mod facts;
mod find;
pub mod servers;

pub use facts::Desktop;
pub use find::{Found, WantedDesktop};
pub use servers::{Answer, SoundServerFact};
