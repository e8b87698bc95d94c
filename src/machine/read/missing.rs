//! What to name in place of a machine file that is not there.

use std::path::Path;

use super::nearest::nearest;

/// More names of a folder are not looked at.
const MOST_NAMES: usize = 4096;

/// What was probably meant; `None` if nobody can tell.
pub(super) fn meant(path: &Path) -> Option<String> {
    if path.extension().is_none() {
        return Some(format!("a machine is named by its file: `{}.ron`", path.display()));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let entries = std::fs::read_dir(folder).ok()?.take(MOST_NAMES).flatten();
    let names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    // The ending, which all have, makes no name like another.
    let names: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".ron")).collect();
    let name = path.file_name()?.to_str()?;
    let near = nearest(name.strip_suffix(".ron").unwrap_or(name), &names)?;
    Some(format!("did you mean `{}`?", path.with_file_name(format!("{near}.ron")).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_similar_machine_file_of_the_folder_was_meant() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["games.ron", "gams.txt", "s2.ron"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let said = |name: &str| meant(&dir.path().join(name));
        assert_eq!(said("gams.ron"), Some(format!("did you mean `{}`?", dir.path().join("games.ron").display())));
        assert_eq!(said("server.ron"), None);
        assert_eq!(said("no.ron"), None);
        assert_eq!(said("none/gams.ron"), None);
        assert!(said("games").unwrap().starts_with("a machine is named by its file: "));
    }
}
