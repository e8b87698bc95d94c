//! While the guest runs: the event loop and what it attends to.

pub(in crate::run) mod activity;
pub(super) mod console;
pub mod control;
pub(super) mod dead_man_switch;
mod device_irqs;
mod drop_startup_pages;
pub(super) mod event_loop;
#[cfg(test)]
mod event_loop_tests;
mod inotify;
pub(super) mod lasting;
mod log_limit;
mod partition_watch;
pub(super) mod reach_guest;
mod screen;
mod signs_of_life;
mod slices_watch;
pub mod stdout;
pub(super) mod switch_clock;
pub(super) mod throttle;
pub mod visit;
