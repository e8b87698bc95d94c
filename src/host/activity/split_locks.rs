//! Split locks: instructions that lock memory across two cache lines, of which the kernel's log tells.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;

use crate::host::Root;

/// More records than the kernel keeps.
const MAX_RECORDS: usize = 1 << 20;

/// How many threads the kernel has told of that took a split lock, since so many milliseconds after boot. It tells once a
/// thread (`split_lock_warn()` in the kernel's `arch/x86/kernel/cpu/`). `None`: its log cannot be read.
pub fn split_locks(root: &Root, since_ms: u64) -> Option<u64> {
    let options = libc::O_NONBLOCK | libc::O_NOCTTY;
    let mut log = OpenOptions::new().read(true).custom_flags(options).open(root.path("/dev/kmsg")).ok()?;
    let (mut count, mut record) = (0, [0; 8192]);
    for _ in 0..MAX_RECORDS {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => count += told(&String::from_utf8_lossy(&record[..length]), since_ms),
            // The kernel has overwritten what was to be read next.
            Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return None,
        }
    }
    Some(count)
}

/// Of records (`Documentation/ABI/testing/dev-kmsg`): priority, number, microseconds since boot, flags; text.
fn told(records: &str, since_ms: u64) -> u64 {
    let is_one = |line: &&str| {
        let Some((head, text)) = line.split_once(';') else { return false };
        let time = head.split(',').nth(2).and_then(|time| time.parse::<u64>().ok());
        time.is_some_and(|time| time / 1000 >= since_ms) && text.contains("split_lock trap")
    };
    records.lines().filter(is_one).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_those_of_the_run_count() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        assert_eq!(split_locks(&root, 0), None);
        std::fs::create_dir(root.path("/dev")).unwrap();
        let record = |time: u64, text: &str| format!("4,1,{time},-;{text}\n SUBSYSTEM=x\n");
        let trap = "x86/split lock detection: #AC: CPU 0/KVM/1234 took a split_lock trap at address: 0x1";
        let text = [record(999_000, trap), record(1_000_000, trap), record(2_000_000, "usb 1-1: new device")].concat();
        std::fs::write(root.path("/dev/kmsg"), text).unwrap();
        assert_eq!(split_locks(&root, 1000), Some(1));
    }
}
