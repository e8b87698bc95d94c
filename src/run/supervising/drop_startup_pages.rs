//! Drops the pages of code and constants that only the start needed, so that a launcher that waits keeps little memory.

use nix::libc;

/// Drops the pages of code and constants that planning and starting needed. They belong to files (the program and its libraries)
/// and come back from the page cache when they are used again; the event loop needs few of them.
pub fn drop_startup_pages() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for (start, end) in maps.lines().filter_map(unmodified_range) {
        // SAFETY: the range is a mapping of our own that is private, not writable and backed by a file
        // (proc_pid_maps(5)), and either code or the file's first segment. The loader writes to neither: this program has
        // no text relocations, and what is relocated and read-only afterwards (RELRO) is in a later segment (elf(5)). So
        // its pages are the file's, unmodified, and after MADV_DONTNEED the next access reads the same bytes from the
        // file (madvise(2)).
        let result = unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
        if result != 0 {
            tracing::debug!("pages of the start stay resident: {}", std::io::Error::last_os_error());
        }
    }
}

/// The address range of a line of `/proc/self/maps` that has a file's bytes as they are in the file: its code, or its first
/// segment, with constants and what only the loader reads.
fn unmodified_range(line: &str) -> Option<(usize, usize)> {
    let mut words = line.split_ascii_whitespace();
    let (range, permissions, offset) = (words.next()?, words.next()?, words.next()?);
    // Device, inode.
    let path = words.nth(2)?;
    let (start, end) = range.split_once('-')?;
    let range = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
    let is_first = usize::from_str_radix(offset, 16).ok()? == 0;
    ((permissions == "r-xp" || (permissions == "r--p" && is_first)) && path.starts_with('/')).then_some(range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_as_in_its_file_is_dropped() {
        let lines = [
            ("55d0c0a00000-55d0c0c00000 r-xp 00100000 fe:00 1234 /usr/bin/vfio-run", true),
            ("55d0c0a00000-55d0c0c00000 r--p 00100000 fe:00 1234 /usr/bin/vfio-run", false),
            ("55d0c0900000-55d0c0a00000 r--p 00000000 fe:00 1234 /usr/bin/vfio-run", true),
            ("55d0c0900000-55d0c0a00000 rw-p 00000000 fe:00 1234 /usr/bin/vfio-run", false),
            ("55d0c0a00000-55d0c0c00000 rwxp 00100000 fe:00 1234 /usr/bin/vfio-run", false),
            ("7ffd1a5f2000-7ffd1a5f4000 r-xp 00000000 00:00 0 [vdso]", false),
            ("7f0000000000-7f0000001000 r-xp 00000000 00:00 0 ", false),
        ];
        for (line, expected) in lines {
            assert_eq!(unmodified_range(line).is_some(), expected, "{line}");
        }
    }

    #[test]
    fn code_still_runs_after_it_was_dropped() {
        drop_startup_pages();
        assert_eq!("4-11,16".parse::<crate::units::CpuSet>().unwrap().len(), 9);
    }
}
