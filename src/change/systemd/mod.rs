//! Changes to units of systemd, of the system and of users.

pub(super) mod stop_unit;
pub(super) mod stop_user_unit;
