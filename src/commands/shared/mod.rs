//! What several verbs share.

pub mod asked;
pub mod guest_agent;
pub mod home;
pub mod machines;
pub mod move_to_unit;
pub mod no_disk;
pub mod outcome;
pub mod pages;
pub mod planned;
pub mod programs;
mod stutter;
pub mod svg_file;
pub mod unit_file;
pub mod whole_file;
pub mod wrong_argument;
