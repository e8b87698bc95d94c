//! Carries a plan out: lock, changes, helpers, QEMU, placement; then supervises the guest, and restores the host.

mod cables;
mod ending;
mod hooks;
mod kept;
mod late;
mod left_behind;
mod lifecycle;
mod outcome;
pub mod process;
mod processes;
mod rehearsing;
mod reporting;
mod signals;
mod starting;
mod supervising;
mod systemd_notify;
mod terminal;
mod watch_fd;

pub use ending::recover::{Orphan, Recovered, recover};
pub use kept::folders::is_run_dir;
pub use kept::guest_lock::{guest_lives, guest_runs};
pub use kept::last_failure::{LastFailure, forget as forget_failure};
pub use kept::launcher::Launcher;
pub use kept::leases::sweep as sweep_leases;
pub use kept::lock::{Lock, Owner};
pub use kept::plan_file::read as kept_plan;
pub use lifecycle::{adopt, run};
pub use outcome::{HOOK_OUTCOMES, Outcome, Report};
pub use rehearsing::{Leak, Rehearsal, Side, Spread, Step, rehearse, try_out};
pub use reporting::{
    Black, ChangeResult, End, Ended, ReportedChange, RunReport, Seen, TimedStep, VcpuTime, read_report, report_names,
    report_of_run, report_path,
};
pub use signals::{Asked, Signals};
pub use starting::{contents, memory, sockets, transient_unit, wait_for_display_manager};
pub use supervising::activity::first_look;
pub use supervising::control;
pub use supervising::event_loop::was_alive;
pub use supervising::stdout::Output;
pub use supervising::visit::{Visited, visit as visit_console};
pub use terminal::Typed;
