//! Programs of the user's.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::Access;

/// Whether there is a program that is started by this: a path, or a name that is looked up in `PATH`.
pub fn is_installed(program: &OsStr) -> bool {
    if program.as_bytes().contains(&b'/') {
        return is_program(Path::new(program));
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    !program.is_empty() && std::env::split_paths(&path).any(|folder| is_program(&folder.join(program)))
}

fn is_program(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, Access::EXEC_OK).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_by_its_path_and_by_its_name() {
        for (program, there) in [("sh", true), ("/bin/sh", true), ("/dev/null", false), ("/bin", false), ("", false)] {
            assert_eq!(is_installed(OsStr::new(program)), there, "{program}");
        }
        assert!(!is_installed(OsStr::new("no-such-program-at-all")));
    }
}
