//! Room for the disks' native asynchronous I/O.
//!
//! QEMU reserves 1024 requests (`MAX_EVENTS` in its `block/linux-aio.c`) for each thread that serves such a disk, and does not
//! start if all programs together would have more than the kernel allows.

use super::super::Severity::Hard;
use super::super::draft::{Draft, by_fact};
use crate::change::{Compare, Setting, Writes};

/// What QEMU reserves for a thread.
const OF_A_THREAD: u64 = 1024;
const FILE: &str = "/proc/sys/fs/aio-max-nr";

/// Makes room if there is too little. The options of the disks are written.
pub(super) fn decide(draft: &mut Draft) {
    let native = |option: &&crate::qemu::command::QemuOption| {
        option.name == "-blockdev" && option.value.written().is_some_and(|text| text.contains("\"aio\":\"native\""))
    };
    let disks = draft.options.iter().filter(native).count() as u64;
    let Some(requests) = draft.host.aio.filter(|_| disks > 0) else { return };
    // At most one thread a disk.
    let need = requests.used.saturating_add(disks * OF_A_THREAD);
    if need <= requests.most {
        return draft.yes("host.aio", Hard, format!("there is room for the disks' requests ({FILE})"));
    }
    if draft.host.process.uid == 0 {
        let why =
            by_fact(format!("{} of {} requests are in use, and the disks need more", requests.used, requests.most));
        let setting = Setting { compare: Compare::Number, ..Setting::new(FILE, need.to_string()) };
        draft.yes("host.aio", Hard, format!("room for the disks' requests is made ({FILE})"));
        let what = "make room for the disks' requests".to_owned();
        return draft.change(Writes { what, files: vec![setting] }, why);
    }
    let detail = format!(
        "programs of this host have {} of {} requests of native I/O, and the disks need {}: QEMU could not start",
        requests.used,
        requests.most,
        need - requests.used
    );
    draft.no(
        "host.aio",
        Hard,
        detail,
        &format!("run `sysctl fs.aio-max-nr={need}` as root, start as root, or write `aio: Threads`"),
    );
}
