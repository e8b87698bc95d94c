//! What a run came to: each step of the handover with its time, kept beside the log for `vfio-run report`.

mod contents;
mod file;
mod timeline;

pub use contents::{Black, ChangeResult, End, Ended, ReportedChange, RunReport, Seen, TimedStep, VcpuTime};
pub(in crate::run) use file::{forget, keep_in_run_dir, of_dead, put_back, write};
pub use file::{names as report_names, of_run as report_of_run, path as report_path, read as read_report};
pub(in crate::run) use timeline::Timeline;
