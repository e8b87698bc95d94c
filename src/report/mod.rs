//! How things look: messages while a guest runs, tables and JSON of what was asked for.

mod activity;
pub mod cpus;
mod devices;
mod excerpt;
mod findings;
mod hanging;
mod import;
mod messages;
mod pager;
mod plan;
mod print;
mod rehearsal;
pub mod run_report;
mod shell;
mod svg;
mod table;
mod top;

pub use activity::{before_first_look as activity_before_first_look, memory as memory_use, since as activity, stutter};
pub use devices::{Group, devices};
pub use findings::findings;
pub use hanging::{each_within, hanging, messages_width, wrap_width};
pub use import::import;
pub use messages::{error_line, install as install_messages};
pub use pager::{page, picture_width, text_width, window};
pub use plan::{explained, summary};
pub use print::{complain, is_over, json, json_line, print, say, unwritten};
pub use rehearsal::rehearsal;
pub use shell::{command as shell_command, helper_at as shell_helper, line as shell_line};
pub use table::Table;
pub use top::{DiskRate, InterruptRate, MachineLoad, NetworkRate, Top, VcpuLoad, fitted, top};
