//! Makes the guest's memory and has it filled, before anything is taken from the host. A child fills it, in the guest's
//! cgroup, which is charged for it; the launcher waits, tells how far the child is, and hears signals. Until QEMU has the
//! memory it is the launcher's alone: it goes with the descriptor, whatever becomes of the launcher.

use std::io::Error;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::sys::signal::Signal;
use nix::unistd::{Gid, Uid, fchown};
use rustix::fs::{MemfdFlags, Mode, SealFlags, fchmod, fcntl_add_seals, ftruncate, memfd_create};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::contents::Contents;
use super::spawn::join_cgroup;
use crate::child::{Command, Session};
use crate::fill::{self, Part, Said};
use crate::plan::{Account, GuestMemory, Inherited, Plan};
use crate::run::process::{KilledOnDrop, Watched};
use crate::run::signals::{Asked, Signals};
use crate::run::systemd_notify;
use crate::units::Size;

/// How much is filled between two messages that say so.
const NEWS: u64 = Size::GIB;

/// The guest's memory, filled, with the number that it has in QEMU. Nothing, if QEMU makes it itself.
pub async fn make(plan: &Plan, signals: &mut Signals) -> Result<Contents> {
    let mut made = Contents::new();
    for descriptor in &plan.descriptors {
        let Inherited::Memory(memory) = &descriptor.what else { continue };
        let file = match filled(memory, plan, signals).await {
            Err(Failed::Short(error)) if memory.or_normal => {
                tracing::warn!("the guest has normal pages: {error:#}");
                let normal = GuestMemory { pages: None, ..memory.clone() };
                filled(&normal, plan, signals).await
            }
            tried => tried,
        };
        made.push((descriptor.fd, file.map_err(Failed::into_inner)?));
    }
    Ok(made)
}

/// Why there is no memory.
enum Failed {
    /// There is too little of it.
    Short(anyhow::Error),
    /// Anything else.
    Otherwise(anyhow::Error),
}

impl Failed {
    fn into_inner(self) -> anyhow::Error {
        match self {
            Self::Short(error) | Self::Otherwise(error) => error,
        }
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failed {
    fn from(error: E) -> Self {
        Self::Otherwise(error.into())
    }
}

async fn filled(memory: &GuestMemory, plan: &Plan, signals: &mut Signals) -> Result<OwnedFd, Failed> {
    let file = create(memory, plan.account.as_ref())?;
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new("/proc/self/exe");
    let parts = memory.parts.iter().map(|part| Part { bytes: part.size.as_bytes(), nodes: part.nodes.clone() });
    command.arg(fill::VERB).args(parts.map(|part| part.to_string()));
    command.stdin(file.try_clone()?).stdout(OwnedFd::from(theirs)).session(Session::Own).death_signal(Signal::SIGKILL);
    join_cgroup(&mut command, plan)?;
    let child = KilledOnDrop(Watched::child(command.spawn()?.id() as i32)?);
    ours.set_nonblocking(true)?;
    let listened = listen(memory, tokio::net::UnixStream::from_std(ours)?);
    let failed = tokio::select! {
        failed = listened => failed?,
        signal = signals.next() => {
            child.0.end("the process that fills the guest's memory").await?;
            return Err(anyhow::Error::from(Asked { signal, before: "the guest's memory was filled" }).into());
        }
    };
    child.0.ended().await?;
    let status = child.0.reap().context("the process that fills the guest's memory was not waited for")?;
    match failed {
        Some((part, errno)) => {
            let part = memory.parts.get(part).map_or_else(|| memory.to_string(), |part| part.to_string());
            let pages = memory.pages.map_or_else(String::new, |size| format!(" in pages of {size}"));
            let error = Error::from_raw_os_error(errno);
            Err(Failed::Short(anyhow!("this host has too little memory for the guest: {part}{pages}: {error}")))
        }
        None if status.success() => Ok(file),
        // The kernel ends a process when no memory is left.
        None => Err(Failed::Short(anyhow!("the process that filled the guest's memory ended early ({status})"))),
    }
}

/// Listens to the child until it says no more; what it could not fill, if it says so.
async fn listen(memory: &GuestMemory, from: tokio::net::UnixStream) -> Result<Option<(usize, i32)>> {
    let mut lines = BufReader::new(from).lines();
    let (mut told, whole) = (0, memory.bytes());
    while let Some(line) = lines.next_line().await? {
        match line.parse() {
            Ok(Said::Filled(bytes)) if bytes == whole || bytes < told + NEWS => {}
            Ok(Said::Filled(bytes)) => {
                told = bytes;
                let text = format!("fill the guest's memory: {} of {} MiB", bytes / Size::MIB, whole / Size::MIB);
                systemd_notify::status(&text);
                tracing::info!("{text}");
            }
            Ok(Said::Failed { part, errno }) => return Ok(Some((part, errno))),
            Err(()) => bail!("the process that fills the guest's memory said {line:?}"),
        }
    }
    Ok(None)
}

/// The file, without pages yet, which QEMU's account alone can open. Nobody can change its size: whoever had mapped it would
/// lose pages.
pub fn create(memory: &GuestMemory, account: Option<&Account>) -> Result<OwnedFd> {
    let kind = match memory.pages.map(Size::as_bytes) {
        None => MemfdFlags::empty(),
        Some(size) if size == 2 * Size::MIB => MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB,
        Some(size) if size == Size::GIB => MemfdFlags::HUGETLB | MemfdFlags::HUGE_1GB,
        Some(size) => bail!("there are no huge pages of {}", Size::bytes(size)),
    };
    let made = || -> std::io::Result<OwnedFd> {
        let file = memfd_create("vfio-run-memory", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | kind)?;
        ftruncate(&file, memory.bytes())?;
        fcntl_add_seals(&file, SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)?;
        fchmod(&file, Mode::RUSR | Mode::WUSR)?;
        if let Some(account) = account {
            fchown(&file, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid)))?;
        }
        Ok(file)
    };
    made().with_context(|| format!("cannot make the guest's memory ({memory})"))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd as _;

    use super::*;
    use crate::plan::MemoryPart;
    use crate::units::CpuSet;

    fn memory(pages: Option<u64>) -> GuestMemory {
        let part = MemoryPart { size: Size::bytes(4 << 20), nodes: CpuSet::new() };
        GuestMemory { pages: pages.map(Size::bytes), or_normal: false, parts: vec![part.clone(), part] }
    }

    #[test]
    fn the_file_has_the_size_of_all_parts_and_keeps_it() {
        let file = create(&memory(None), None).unwrap();
        let stat = rustix::fs::fstat(file.as_fd()).unwrap();
        assert_eq!((stat.st_size, stat.st_mode & 0o777, stat.st_blocks), (8 << 20, 0o600, 0));
        assert!(ftruncate(&file, 0).is_err());
        let odd = create(&memory(Some(3 << 20)), None).unwrap_err().to_string();
        assert_eq!(odd, "there are no huge pages of 3 MiB");
    }

    #[tokio::test]
    async fn what_the_child_says_is_understood() {
        async fn heard(words: &str) -> Result<Option<(usize, i32)>> {
            let (ours, theirs) = UnixStream::pair().unwrap();
            std::io::Write::write_all(&mut &theirs, words.as_bytes()).unwrap();
            drop(theirs);
            ours.set_nonblocking(true).unwrap();
            listen(&memory(None), tokio::net::UnixStream::from_std(ours).unwrap()).await
        }
        assert_eq!(heard("filled 4194304\nfilled 8388608\n").await.unwrap(), None);
        assert_eq!(heard("filled 4194304\nfailed 1 12\n").await.unwrap(), Some((1, 12)));
        assert!(heard("nonsense\n").await.is_err());
    }
}
