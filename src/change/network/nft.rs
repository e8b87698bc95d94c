//! Tables of the firewall: nft(8), which reads what it does from its standard input.

use std::io::{Seek as _, Write as _};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{MemfdFlags, memfd_create};

use crate::change::error::NetworkError;
use crate::change::program::run;
use crate::child::Command;

/// How long it may take; the kernel may have to load modules.
const LIMIT: Duration = Duration::from_secs(20);

/// Makes the table with these chains, in place of one that is there; without chains, none is there afterwards.
pub(super) fn set(program: &Path, table: &str, chains: &str) -> Result<(), NetworkError> {
    // `add` before `delete`, so that it does no harm if there is no table. The kernel does all of it or nothing.
    let mut script = format!("add table ip {table}\ndelete table ip {table}\n");
    if !chains.is_empty() {
        script.push_str(&format!("table ip {table} {{\n{chains}}}\n"));
    }
    tell(program, &script)
}

/// Removes the table, if it is there.
pub(super) fn remove(program: &Path, table: &str) -> Result<(), NetworkError> {
    set(program, table, "")
}

fn tell(program: &Path, script: &str) -> Result<(), NetworkError> {
    let failed = |why: String| NetworkError::Program { program: program.to_owned(), why };
    let file = || -> std::io::Result<std::fs::File> {
        let mut file = std::fs::File::from(memfd_create(c"nft", MemfdFlags::CLOEXEC)?);
        file.write_all(script.as_bytes())?;
        file.rewind()?;
        Ok(file)
    };
    let mut command = Command::new(program);
    command.args(["-f", "-"]).stdin(file().map_err(|error| failed(error.to_string()))?);
    run(command, "nft", LIMIT).map(drop).map_err(failed)
}
