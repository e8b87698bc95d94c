//! Whether the kernel lets a QEMU without privileges use io_uring.
//!
//! Containers refuse it by seccomp, hardened hosts by `kernel.io_uring_disabled` (`Documentation/admin-guide/sysctl/kernel.rst`,
//! since 6.6): 0 allows it to all, 1 to members of `kernel.io_uring_group` and to who may administrate, 2 to nobody.

use std::mem::MaybeUninit;

use nix::errno::Errno;

use super::Root;

/// Whether a process of this user that may not administrate is allowed to. `groups`: the groups that it has.
pub(super) fn allowed(root: &Root, groups: &[u32]) -> bool {
    let number = |name: &str| root.parse::<i64>(format!("/proc/sys/kernel/{name}"));
    let by_setting = match number("io_uring_disabled") {
        None | Some(0) => true,
        Some(1) => number("io_uring_group").is_some_and(|group| groups.iter().any(|of_us| i64::from(*of_us) == group)),
        Some(_) => false,
    };
    by_setting && !(root.is_real() && refused())
}

/// Whether this process is refused. The kernel, and a filter before it, look at that before the arguments; a ring without
/// entries is none, so nothing is made.
fn refused() -> bool {
    // More than `struct io_uring_params` (120 bytes).
    let mut parameters = MaybeUninit::<[u8; 256]>::zeroed();
    // SAFETY: the kernel reads and writes one `struct io_uring_params` at the address, which has room for it; a ring of 0
    // entries is refused with EINVAL, so no descriptor results. rustix has this call, as unsafe as here.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 0, parameters.as_mut_ptr()) };
    result == -1 && matches!(Errno::last(), Errno::EPERM | Errno::EACCES | Errno::ENOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_setting_counts_for_who_may_not_administrate() {
        let rows = [
            (None, None, true),
            (Some("0"), Some("-1"), true),
            (Some("1"), Some("-1"), false),
            (Some("1"), Some("24"), true),
            (Some("1"), Some("25"), false),
            (Some("2"), Some("24"), false),
        ];
        for (disabled, group, expected) in rows {
            let folder = tempfile::tempdir().unwrap();
            let settings = folder.path().join("proc/sys/kernel");
            std::fs::create_dir_all(&settings).unwrap();
            for (name, value) in [("io_uring_disabled", disabled), ("io_uring_group", group)] {
                if let Some(value) = value {
                    std::fs::write(settings.join(name), format!("{value}\n")).unwrap();
                }
            }
            assert_eq!(allowed(&Root::new(folder.path()), &[24]), expected, "{disabled:?} {group:?}");
        }
    }
}
