//! Writing an initramfs: the "newc" cpio format of the kernel's `Documentation/driver-api/early-userspace/buffer-format.rst`.

use std::collections::BTreeSet;
use std::path::{Component, Path};

/// An archive in memory. Everything in it belongs to root.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    inode: u32,
}

const FOLDER: u32 = 0o040_755;
const LINK: u32 = 0o120_777;
const FILE: u32 = 0o100_000;

impl Archive {
    /// Adds a folder and those above it.
    pub fn folder(&mut self, path: &str) {
        let mut sofar = String::new();
        for part in Path::new(path).components() {
            let Component::Normal(part) = part else { continue };
            if !sofar.is_empty() {
                sofar.push('/');
            }
            sofar.push_str(&part.to_string_lossy());
            if self.folders.insert(sofar.clone()) {
                self.member(&sofar, FOLDER, &[]);
            }
        }
    }

    /// Adds a file with its permission bits, and the folders above it.
    pub fn file(&mut self, path: &str, permissions: u32, contents: &[u8]) {
        self.above(path);
        self.member(path, FILE | permissions, contents);
    }

    /// Adds a symbolic link, and the folders above it.
    pub fn link(&mut self, path: &str, target: &str) {
        self.above(path);
        self.member(path, LINK, target.as_bytes());
    }

    /// Ends the archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.member("TRAILER!!!", 0, &[]);
        self.bytes
    }

    fn above(&mut self, path: &str) {
        if let Some(parent) = Path::new(path).parent() {
            self.folder(&parent.to_string_lossy());
        }
    }

    fn member(&mut self, path: &str, mode: u32, contents: &[u8]) {
        self.inode += 1;
        let path = path.trim_start_matches('/');
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), length of name with NUL, check
        let fields = [self.inode, mode, 0, 0, 1, 0, contents.len() as u32, 0, 0, 0, 0, path.len() as u32 + 1, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").bytes());
        }
        self.bytes.extend(path.bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(contents);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}
