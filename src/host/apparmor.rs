//! AppArmor's profile of swtpm (Debian and Ubuntu: `/etc/apparmor.d/usr.bin.swtpm`), which lists the folders that swtpm may use.

use std::path::Path;

use super::Root;

/// Whether the profile that confines swtpm names this folder; `None` if none does.
pub(super) fn swtpm_names(root: &Root, folder: &Path) -> Option<bool> {
    const PROFILE: &str = "usr.bin.swtpm";
    /// Profiles are some kilobytes.
    const LIMIT: usize = 64 << 10;
    let enabled = root.text("/sys/module/apparmor/parameters/enabled")? == "Y";
    let at = |part: &str| Path::new("/etc/apparmor.d").join(part).join(PROFILE);
    if !enabled || root.path(at("disable")).exists() {
        return None;
    }
    let profile = root.text_up_to(at(""), LIMIT)?;
    let own = root.text_up_to(at("local"), LIMIT).unwrap_or_default();
    let folder = folder.to_string_lossy();
    let names = |line: &str| !line.trim_start().starts_with('#') && line.contains(&*folder);
    Some(profile.lines().chain(own.lines()).any(names))
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
        let names = || swtpm_names(&root, Path::new("/var/lib/vfio-run"));
        assert_eq!(names(), None);
        write("/sys/module/apparmor/parameters/enabled", "Y\n");
        assert_eq!(names(), None);
        let profile = "profile swtpm /usr/bin/swtpm {\n  owner /var/lib/libvirt/swtpm/** rwk,\n}\n";
        write("/etc/apparmor.d/usr.bin.swtpm", profile);
        assert_eq!(names(), Some(false));
        write("/etc/apparmor.d/local/usr.bin.swtpm", "# owner /var/lib/vfio-run/** rwk,\n");
        assert_eq!(names(), Some(false));
        write("/etc/apparmor.d/local/usr.bin.swtpm", "owner /var/lib/vfio-run/** rwk,\n");
        assert_eq!(names(), Some(true));
        write("/etc/apparmor.d/disable/usr.bin.swtpm", "");
        assert_eq!(names(), None);
    }
}
