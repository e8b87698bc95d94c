//! Every reader of what others write, with input that somebody has damaged: none panics, and none takes for ever.
//!
//! Each reads for a second, or for as many as `$VFIO_RUN_FUZZ_SECONDS` says (`scripts/test --thorough`: a minute each).
//! What fails names its seed: `VFIO_RUN_FUZZ_SEED=… cargo test --test fuzz NAME` begins with that input.

#[path = "fuzz/files.rs"]
mod files;
#[path = "fuzz/import.rs"]
mod import;
#[path = "fuzz/mutate.rs"]
mod mutate;
#[path = "fuzz/qmp.rs"]
mod qmp;
#[path = "fuzz/values.rs"]
mod values;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutate::Mutator;

/// What one input may take; a debug build on a busy machine takes far less.
const SLOW: Duration = Duration::from_secs(20);

/// Says which input it was, if the reader panics.
struct Case<'a> {
    target: &'a str,
    seed: u64,
}

impl Drop for Case<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("once more: VFIO_RUN_FUZZ_SEED={} cargo test --test fuzz {}", self.seed, self.target);
        }
    }
}

/// Reads one damaged input after the other, until the time is over.
fn fuzz(target: &str, mut read: impl FnMut(&mut Mutator)) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let time = Duration::from_secs(number("VFIO_RUN_FUZZ_SECONDS").unwrap_or(1));
    let first = number("VFIO_RUN_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..u64::MAX / 2));
    let begun = Instant::now();
    let mut read_so_far = 0;
    // At least some, however slow the machine is.
    while begun.elapsed() < time || read_so_far < 10 {
        let case = Case { target, seed: first + read_so_far };
        let started = Instant::now();
        read(&mut Mutator::new(case.seed));
        assert!(started.elapsed() < SLOW, "it took {:?}", started.elapsed());
        read_so_far += 1;
    }
    println!("{target}: {read_so_far} inputs from seed {first}");
}

/// The files of a folder of the repository that end so, in order.
fn seeds(folder: &str, ending: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = entries.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    found.sort();
    assert!(!found.is_empty(), "{} has nothing that ends in {ending}", folder.display());
    found
}
