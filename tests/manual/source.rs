//! Names in the program's source, where the program has them as literals in the places that use them.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// A file of the repository.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn files(folder: &Path, into: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("rs") if !path.file_stem().unwrap().to_str().unwrap().ends_with("tests") => into.push(path),
            _ if path.is_dir() => files(&path, into),
            _ => {}
        }
    }
}

/// The program's source without tests and comments.
fn program() -> String {
    let mut paths = Vec::new();
    files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
    let mut all = String::new();
    for path in paths {
        let text = std::fs::read_to_string(path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
        all.extend(text.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|line| [line, "\n"]));
    }
    all
}

/// The names that follow this text, up to the closing quotation mark.
fn after(text: &str, mark: &str) -> BTreeSet<String> {
    text.split(mark).skip(1).filter_map(|rest| rest.split('"').next()).map(str::to_owned).collect()
}

/// Events of messages.
pub fn events() -> BTreeSet<String> {
    let text = program();
    let mut events = after(&text, "event = \"");
    events.extend(after(&text, "error_line(\""));
    assert!(events.len() > 10, "{events:?}");
    events
}

/// Literals that begin like this, with what follows.
pub fn literals(prefix: &str) -> BTreeSet<String> {
    let found = after(&program(), &format!("\"{prefix}"));
    assert!(!found.is_empty(), "no literal begins with {prefix}");
    found.into_iter().map(|rest| format!("{prefix}{rest}")).collect()
}
