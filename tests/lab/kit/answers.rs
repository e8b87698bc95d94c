//! What QEMU answered in an earlier clone of the same template, when the program asked it what it can do: to ask takes an
//! emulated host as long as all the rest of an ordinary test.
//!
//! The program believes its cache only while everything that the answers depend on is unchanged (`src/qemu/cache.rs`), and that is
//! the same in all clones of a template: the disk, the boot, the device node of KVM.

use std::fs;

use anyhow::Result;

use super::cache::{self, Entry, Key};
use super::lab::Lab;

/// Where the program caches QEMU's answers.
const FOLDER: &str = "var/cache/vfio-run";

/// Which answers.
pub struct Answers {
    name: String,
    key: Key,
}

impl Answers {
    /// Those for this template, to this build of the program.
    pub fn of(template: &Entry, payload: &Entry) -> Self {
        let name = template.name();
        let key = Key::new("answers 1").with(&name).with(payload.name());
        // The template's name without its key.
        Self { name: name.rsplit_once('-').map_or(name.clone(), |(name, _)| name.to_owned()), key }
    }

    /// Gives them to a host, if there are any.
    pub fn give_to(&self, lab: &Lab) -> Result<()> {
        let Some(kept) = cache::find("answers", &self.name, &self.key) else { return Ok(()) };
        let packed = fs::read_to_string(kept.file("answers"))?;
        lab.sh(&format!("base64 -d <<'the end' | tar -C / -xz\n{packed}\nthe end")).map(drop)
    }

    /// Keeps what a host has, if it has any and there were none before. An answer that KVM does not run is not kept.
    pub fn keep_from(&self, lab: &Lab) -> Result<()> {
        if cache::find("answers", &self.name, &self.key).is_some() {
            return Ok(());
        }
        let all = format!(
            "! grep -L '\"kvm_error\":null' /{FOLDER}/qemu-*.json | grep -q . && tar -C / -cz {FOLDER} | base64"
        );
        let packed = lab.run(&format!("[ -e /{FOLDER} ] && {all}"))?;
        if packed.status == 0 && !packed.stdout.is_empty() {
            cache::entry("answers", &self.name, &self.key, |folder| {
                Ok(fs::write(folder.join("answers"), &packed.stdout)?)
            })?;
        }
        Ok(())
    }
}
