//! Changes to units of systemd, of the system and of users.

pub mod stop_unit;
pub mod stop_user_unit;
