//! Kernel modules for an initramfs: which ones, in which order, uncompressed.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::kit::tools;

/// A module ready for `insmod`.
pub struct Module {
    /// File name, such as `virtio_blk.ko`.
    pub name: String,
    /// Uncompressed contents.
    pub contents: Vec<u8>,
}

/// The wanted modules with all that they need, in an order in which `insmod` takes them. What is built into the
/// kernel is left out.
///
/// # Errors
/// When a name is known neither as a module nor as built in.
pub fn collect(folder: &Path, wanted: &[&str]) -> Result<Vec<Module>> {
    let listed = fs::read_to_string(folder.join("modules.dep"))?;
    let builtin = fs::read_to_string(folder.join("modules.builtin"))?;
    let needs: HashMap<&str, Vec<&str>> = listed
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(module, needs)| (module, needs.split_whitespace().collect()))
        .collect();
    let by_name: HashMap<String, &str> = needs.keys().map(|path| (bare(path), *path)).collect();
    let mut order: Vec<&str> = Vec::new();
    for name in wanted {
        let Some(path) = by_name.get(&name.replace('-', "_")) else {
            let is_builtin = builtin.lines().any(|line| bare(line) == name.replace('-', "_"));
            anyhow::ensure!(is_builtin, "the kernel has no module `{name}`");
            continue;
        };
        // modules.dep names the nearest first: load from the end.
        for path in needs[path].iter().rev().chain([path]) {
            if !order.contains(path) {
                order.push(path);
            }
        }
    }
    order.into_iter().map(|path| load(folder, path)).collect()
}

/// `kernel/fs/ext4/ext4.ko.xz` → `ext4`
fn bare(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    file.split(".ko").next().unwrap_or(file).replace('-', "_")
}

fn load(folder: &Path, path: &str) -> Result<Module> {
    let file = folder.join(path);
    let name = format!("{}.ko", bare(path));
    let contents = if path.ends_with(".xz") {
        tools::unpack("xz", &file)?
    } else {
        fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?
    };
    Ok(Module { name, contents })
}
