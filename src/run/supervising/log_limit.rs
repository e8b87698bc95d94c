//! Keeps the machine's log from filling the disk: a QEMU whose sound server has gone writes two lines at each tick of its
//! clock, and a guest can make a QEMU talk too. QEMU has the file open, so it is cut and not exchanged.

use std::fs::{File, OpenOptions};
use std::future::pending;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use rustix::fs::inotify::WatchFlags;

use super::inotify::Watched;

/// A log that is longer than this is cut.
const LIMIT: u64 = 16 << 20;
/// What stays is its beginning, which tells how the run began.
const KEEP: u64 = 2 << 20;

/// A watch on the log; it wakes nobody while nothing is written.
pub(super) struct LogLimit {
    file: File,
    watched: Watched,
}

impl LogLimit {
    /// Watches the log. If that cannot be, the log has no limit, which is said.
    pub fn watch(path: &Path) -> Option<Self> {
        let watch = || -> io::Result<Self> {
            let file = OpenOptions::new().append(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
            // The very file that is open.
            let watched = Watched::new(Path::new(&format!("/proc/self/fd/{}", file.as_raw_fd())), WatchFlags::MODIFY)?;
            Ok(Self { file, watched })
        };
        let unwatched = |error: &io::Error| {
            tracing::warn!("cannot watch the log {}, so it may grow without end: {error}", path.display());
        };
        watch().inspect_err(unwatched).ok()
    }

    /// Waits until the log is longer than its limit, and cuts it.
    async fn cut_when_full(&self, limit: u64, keep: u64) -> io::Result<()> {
        loop {
            self.watched.happens().await?;
            let length = self.file.metadata()?.len();
            if length > limit {
                self.file.set_len(keep)?;
                writeln!(&self.file, "\nvfio-run cut the log here: it had grown to {} MiB", length >> 20)?;
                return Ok(());
            }
        }
    }
}

/// Waits until a log has been cut; for ever if there is none to watch.
pub(super) async fn cut_when_full(log: Option<&LogLimit>) -> io::Result<()> {
    match log {
        Some(log) => log.cut_when_full(LIMIT, KEEP).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_that_is_written_without_end_is_cut_and_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.log");
        std::fs::write(&path, "the beginning of the run\n").unwrap();
        let limit = LogLimit::watch(&path).unwrap();
        let mut qemu = OpenOptions::new().append(true).open(&path).unwrap();
        for _ in 0..100 {
            qemu.write_all(b"pa_threaded_mainloop_lock failed\n").unwrap();
        }
        tokio::time::timeout(std::time::Duration::from_secs(10), limit.cut_when_full(1000, 25)).await.unwrap().unwrap();
        qemu.write_all(b"more\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "the beginning of the run\n\nvfio-run cut the log here: it had grown to 0 MiB\nmore\n");
    }
}
