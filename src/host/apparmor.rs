//! AppArmor's profile of swtpm (Ubuntu's package has one: `/etc/apparmor.d/usr.bin.swtpm`), which lists the folders that swtpm may use.

use std::path::Path;

use super::Root;

/// Whether the profile that confines swtpm names this folder; `None` if none does.
pub(super) fn swtpm_names(root: &Root, folder: &Path) -> Option<bool> {
    const PROFILE: &str = "usr.bin.swtpm";
    /// Profiles are some kilobytes.
    const LIMIT: usize = 64 << 10;
    let enabled = root.text("/sys/module/apparmor/parameters/enabled")? == "Y";
    let at = |part: &str| Path::new("/etc/apparmor.d").join(part).join(PROFILE);
    // The package's profile of this program leads to another one of swtpm.
    let is_confined = root.text("/proc/self/attr/current").is_some_and(|label| label.starts_with("vfio-run "));
    if !enabled || is_confined || root.path(at("disable")).exists() {
        return None;
    }
    let profile = root.text_up_to(at(""), LIMIT)?;
    let own = root.text_up_to(at("local"), LIMIT).unwrap_or_default();
    Some(profile.lines().chain(own.lines()).any(|line| names(line, folder)))
}

/// Whether a line of a profile lets files in this folder be written: a rule for it, or for all below one that it is in. Its
/// permissions stand behind the path or before it (`apparmor.d(5)`).
fn names(line: &str, folder: &Path) -> bool {
    let rule = line.split('#').next().unwrap_or_default().trim().trim_end_matches(',');
    let words: Vec<&str> = rule.split_ascii_whitespace().collect();
    let permits = |word: &&str| word.contains('w') && word.bytes().all(|letter| b"rwalkmixpucPUC".contains(&letter));
    let is_above = |word: &str| {
        word.trim_matches('"').strip_suffix("/**").is_some_and(|above| match above.strip_prefix("@{HOME}") {
            Some(below) => home_of(folder).is_some_and(|home| folder.starts_with(format!("{}{below}", home.display()))),
            None => above.is_empty() || folder.starts_with(above),
        })
    };
    let is_for = |word: &&str| word.contains(&*folder.to_string_lossy()) || is_above(word);
    !words.contains(&"deny") && words.iter().any(permits) && words.iter().any(is_for)
}

/// The home that a path is in, of those that AppArmor calls one (`/etc/apparmor.d/tunables/home`).
fn home_of(path: &Path) -> Option<&Path> {
    path.ancestors().find(|path| *path == Path::new("/root") || path.parent() == Some(Path::new("/home")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_counts_while_it_is_in_force_and_the_users_own_part_of_it_too() {
        let tree = tempfile::tempdir().unwrap();
        let root = Root::new(tree.path());
        let write = |path: &str, text: &str| {
            let path = root.path(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let found = || swtpm_names(&root, Path::new("/var/lib/vfio-run"));
        assert_eq!(found(), None);
        write("/sys/module/apparmor/parameters/enabled", "Y\n");
        assert_eq!(found(), None);
        let profile = "profile swtpm /usr/bin/swtpm {\n  owner /var/lib/libvirt/swtpm/** rwk,\n}\n";
        write("/etc/apparmor.d/usr.bin.swtpm", profile);
        assert_eq!(found(), Some(false));
        write("/etc/apparmor.d/local/usr.bin.swtpm", "# owner /var/lib/vfio-run/** rwk,\n");
        assert_eq!(found(), Some(false));
        write("/etc/apparmor.d/local/usr.bin.swtpm", "owner /var/lib/vfio-run/** rwk,\n");
        assert_eq!(found(), Some(true));
        write("/proc/self/attr/current", "vfio-run (enforce)\n");
        assert_eq!(found(), None);
        write("/proc/self/attr/current", "unconfined\n");
        write("/etc/apparmor.d/disable/usr.bin.swtpm", "");
        assert_eq!(found(), None);
    }

    #[test]
    fn a_rule_for_all_below_a_folder_is_one_for_each_folder_there() {
        let of = |line: &str, folder: &str| names(line, Path::new(folder));
        assert!(of("  owner @{HOME}/** rwk,", "/home/anna/.local/state/vfio-run"));
        assert!(of("owner @{HOME}/.local/** rwk,", "/root/.local/state/vfio-run"));
        assert!(!of("owner @{HOME}/.cache/** rwk,", "/home/anna/.local/state/vfio-run"));
        assert!(!of("owner @{HOME}/** rwk,", "/srv/anna/.local/state/vfio-run"));
        assert!(of("/var/lib/** rwk,", "/var/lib/vfio-run"));
        assert!(!of("/var/lib/vfio/** rwk,", "/var/lib/vfio-run"));
        assert!(of("/** rwk,", "/var/lib/vfio-run"));
        assert!(!of("/var/lib/**", "/var/lib/vfio-run"));
    }

    #[test]
    fn a_rule_counts_if_it_lets_files_be_written() {
        let of = |line: &str| names(line, Path::new("/var/lib/vfio-run"));
        assert!(of("audit owner \"/var/lib/vfio-run/**\" rwk, # the TPM's state"));
        assert!(of("w /var/lib/**,"));
        for line in [
            "/var/lib/** r,",
            "/var/lib/vfio-run/** rk,",
            "deny /var/lib/** w,",
            "audit deny /var/lib/vfio-run/** rwk,",
            "#/var/lib/** rwk,",
            "/srv/** rwk, # not /var/lib/vfio-run/**",
        ] {
            assert!(!of(line), "{line}");
        }
    }
}
