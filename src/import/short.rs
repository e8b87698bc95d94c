//! A machine as a short file: only what differs from what is derived anyway, with comments at the fields that need one.

mod layout;
mod tree;

use std::collections::BTreeMap;
use std::path::Path;

use ron::extensions::Extensions;
use ron::ser::PrettyConfig;

use crate::machine::{self, Machine};
use tree::Tree;

/// A machine file.
pub struct Written {
    /// Its text.
    pub text: String,
    /// Why it would be refused, in one line.
    pub refused: Option<String>,
}

/// Values that most fields have when nothing is said.
const NOTHING: [&str; 3] = ["None", "false", "\"\""];

/// Writes the file.
pub fn write(machine: &Machine, comments: &BTreeMap<String, Vec<String>>, path: &Path) -> Written {
    let extensions = Extensions::IMPLICIT_SOME | Extensions::UNWRAP_VARIANT_NEWTYPES;
    let options = ron::Options::default().with_default_extension(extensions);
    let config = PrettyConfig::new().new_line("").indentor("").separator("");
    let whole = options.to_string_pretty(machine, config).unwrap_or_default();
    let Some(mut tree) = Tree::parse(&whole) else {
        return Written { text: whole, refused: Some("it could not be laid out".to_owned()) };
    };
    // As it is read: with absolute paths.
    let whole = machine::parse(path, &layout::text(&tree, &BTreeMap::new())).map(|source| source.machine);
    let says_the_same = |tree: &Tree| {
        let read = machine::parse(path, &layout::text(tree, &BTreeMap::new())).map(|source| source.machine);
        read.is_ok() && read == whole
    };
    // All at once first, since most can go.
    let mut all = tree.clone();
    all.remove_where(&mut |path, value| {
        NOTHING.contains(&value.head()) && path != "video" && !path.ends_with(".cache")
    });
    let valid = says_the_same(&tree);
    if !valid || says_the_same(&all) {
        tree = all;
    }
    if valid {
        for path in tree.fields() {
            // A file that is moved keeps its machine.
            if path == "name" || path == "guest" {
                continue;
            }
            let mut without = tree.clone();
            if without.remove(&path) && says_the_same(&without) {
                tree = without;
            }
        }
    }
    tree.shorten();
    let text = layout::text(&tree, comments);
    let refused = machine::parse(path, &text)
        .err()
        .map(|refused| refused.to_string().lines().next().unwrap_or_default().to_owned());
    Written { text, refused }
}
