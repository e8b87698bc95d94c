//! Where the lab keeps what is slow to make, and how two test processes share it without disturbing each other.
//!
//! Every entry is a folder `KIND/NAME-KEY`. The key is a hash of all that goes in, so an entry is never changed
//! after it was made: it is written under another name and renamed when complete.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};
use uuid::Uuid;

/// Environment variable that names another cache folder.
pub const VARIABLE: &str = "VFIO_RUN_LAB_CACHE";

/// The cache folder: `$VFIO_RUN_LAB_CACHE`, or `vfio-run-lab` in the user's cache folder, so that all checkouts share it.
pub fn root() -> PathBuf {
    if let Some(given) = std::env::var_os(VARIABLE) {
        return given.into();
    }
    let base = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")))
        .unwrap_or_else(std::env::temp_dir);
    base.join("vfio-run-lab")
}

/// How long an entry that nobody uses is kept beside a newer one.
const STALE: Duration = Duration::from_secs(4 * 3600);

/// How long an entry that nobody uses is kept at all.
const FORGOTTEN: Duration = Duration::from_secs(3 * 24 * 3600);

/// A key for the given ingredients, in this order.
pub struct Key(Vec<u8>);

impl Key {
    /// A key that already depends on what `what` names.
    pub fn new(what: &str) -> Self {
        Self(Vec::new()).with(what)
    }

    /// Adds an ingredient. Its length goes in too, so that two ingredients never run together.
    #[must_use]
    pub fn with(mut self, ingredient: impl AsRef<[u8]>) -> Self {
        let ingredient = ingredient.as_ref();
        self.0.extend((ingredient.len() as u64).to_le_bytes());
        self.0.extend(ingredient);
        self
    }

    /// Adds a file by path, size and time of change; for files that are too large to read each time.
    pub fn with_file_stamp(self, path: &Path) -> Result<Self> {
        let meta = fs::metadata(path).with_context(|| format!("{} is missing", path.display()))?;
        let time = meta.modified()?.duration_since(std::time::UNIX_EPOCH)?;
        Ok(self.with(format!("{} {} {}", path.display(), meta.len(), time.as_nanos())))
    }

    /// The key as text: SHA-1 by way of a version 5 UUID, which is at hand and needs no further crate.
    pub fn text(&self) -> String {
        let hash = Uuid::new_v5(&Uuid::NAMESPACE_OID, &self.0).simple().to_string();
        hash[..16].to_owned()
    }
}

/// The folder `KIND/NAME-KEY` of the cache, made by `make` when it is not there.
///
/// `make` gets an empty folder; it becomes the entry when it returns well. Entries of the same kind and name with
/// another key are removed then, if nobody holds them (see [`Entry`]) or has used them lately: another checkout may work
/// with them.
///
/// # Errors
/// What `make` returns; nothing half made stays behind under the entry's name.
pub fn entry(kind: &str, name: &str, key: &Key, make: impl FnOnce(&Path) -> Result<()>) -> Result<Entry> {
    let folder = root().join(kind);
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join(format!("{name}-{}", key.text()));
    // One maker at a time for a name; the others wait and then find it made.
    let making = lock(&folder.join(format!("{name}.lock")), FlockArg::LockExclusive)?;
    if !path.exists() {
        let draft = folder.join(format!("{name}-draft"));
        remove(&draft)?;
        fs::create_dir(&draft)?;
        make(&draft).with_context(|| format!("while making {kind} `{name}`"))?;
        File::create(draft.join("in-use"))?;
        fs::rename(&draft, &path)?;
        remove_old(&folder, name, &path);
    }
    let held = lock(&path.join("in-use"), FlockArg::LockShared)?;
    held.set_modified(SystemTime::now())?;
    drop(making);
    Ok(Entry { path, _held: held })
}

/// The entry, if it was made before.
pub fn find(kind: &str, name: &str, key: &Key) -> Option<Entry> {
    let path = root().join(kind).join(format!("{name}-{}", key.text()));
    let held = File::open(path.join("in-use")).ok()?;
    let held = Flock::lock(held, FlockArg::LockShared).ok()?;
    held.set_modified(SystemTime::now()).ok();
    Some(Entry { path, _held: held })
}

/// An entry of the cache; it is not removed while this lives.
pub struct Entry {
    path: PathBuf,
    _held: Flock<File>,
}

impl Entry {
    /// A file of this entry.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The entry's own name with its key.
    pub fn name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Takes a lock on `path`, waiting for it.
pub fn lock(path: &Path, how: FlockArg) -> Result<Flock<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, how).map_err(|(_, errno)| anyhow::anyhow!("cannot lock {}: {errno}", path.display()))
}

/// Takes a lock on `path` if nobody has it.
pub fn try_lock(path: &Path) -> Option<Flock<File>> {
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).ok()?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).ok()
}

/// Removes what has another key. A failure is no matter: it only costs room.
fn remove_old(folder: &Path, name: &str, keep: &Path) {
    let prefix = format!("{name}-");
    for other in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = other.path();
        let file_name = other.file_name().to_string_lossy().into_owned();
        let Some(key) = file_name.strip_prefix(&prefix) else { continue };
        // `one-gpu` must not take `one-gpu-ovmf-…` for an old one of its own.
        if path == keep || key.len() != 16 || !key.bytes().all(|b| b.is_ascii_hexdigit()) {
            continue;
        }
        if is_unused(&path, STALE) {
            drop(fs::remove_dir_all(&path));
        }
    }
}

/// Whether nobody uses an entry, nor has for this long.
fn is_unused(entry: &Path, long: Duration) -> bool {
    let mark = entry.join("in-use");
    let used = fs::metadata(&mark).and_then(|meta| meta.modified());
    used.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > long)) && try_lock(&mark).is_some()
}

/// Removes what nobody has used for long, whatever its name: variants come and go. Also what a maker that was killed has
/// left half made.
///
/// # Errors
/// When the cache cannot be read.
pub fn prune() -> Result<()> {
    let Ok(kinds) = fs::read_dir(root()) else { return Ok(()) };
    for kind in kinds.flatten().filter(|kind| kind.file_type().is_ok_and(|kind| kind.is_dir())) {
        for entry in fs::read_dir(kind.path())?.flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let is_left = match name.strip_suffix("-draft") {
                Some(name) => try_lock(&path.with_file_name(format!("{name}.lock"))).is_some(),
                None => is_unused(&path, FORGOTTEN),
            };
            if is_left {
                remove(&path)?;
            }
        }
    }
    Ok(())
}

/// Removes a folder if it is there.
fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}
