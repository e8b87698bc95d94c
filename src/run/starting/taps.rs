//! Tap devices: the launcher makes or opens them, since QEMU's account may not, and hands them over as descriptors. One
//! that it makes is not persistent: the kernel removes it with its last descriptor, whoever dies.
//! Source: `Documentation/networking/tuntap.rst` of the kernel, and its `drivers/net/tun.c`.

use std::fs::File;
use std::io::{self, IoSliceMut, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use nix::net::if_::if_nametoindex;
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::child::{self, Command, Session};
use crate::machine::Backend;
use crate::netlink::{self, Link, Netlink};
use crate::plan::{Tap, TapPort};

/// How long QEMU's bridge helper may take: it makes a few system calls.
const HELPER_LIMIT: Duration = Duration::from_secs(10);
/// The number of its socket in the bridge helper.
const HELPER_FD: i32 = 3;

/// `struct ifreq` of netdevice(7), as far as `TUNSETIFF` reads it.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: i16,
    rest: [u8; 22],
}

// `_IOW('T', 202, int)`, whose argument is a pointer to an `ifreq` all the same.
nix::ioctl_write_ptr_bad!(set_interface, nix::request_code_write!(b'T', 202, size_of::<libc::c_int>()), Request);

/// Opens a queue of the device; with the first it makes the device, if it is ours to make.
pub(super) fn open_queue(tap: &Tap, first: bool) -> Result<OwnedFd> {
    let Tap { name, multi_queue, port } = tap;
    let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
    if *multi_queue {
        flags |= libc::IFF_MULTI_QUEUE;
    }
    match (port, first) {
        // Never somebody else's device of this name.
        (Some(_), true) => flags |= libc::IFF_TUN_EXCL,
        // The kernel would make a device that is not there.
        (None, _) if if_nametoindex(name.as_str()).is_err() => bail!("the tap device {name} is gone"),
        _ => {}
    }
    let queue = attach(name, flags).map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) if port.is_some() => {
            anyhow::anyhow!("there is a network interface {name} already; `ip link del {name}` removes it")
        }
        Some(libc::EBUSY) => anyhow::anyhow!("another program has the tap device {name} open"),
        _ => anyhow::Error::new(error).context(format!("cannot open the tap device {name}")),
    })?;
    if let Some(port) = port.as_ref().filter(|_| first) {
        join(name, port).with_context(|| format!("cannot make {name} a port of the bridge {}", port.bridge))?;
    }
    Ok(queue)
}

/// A descriptor of the device of this name.
fn attach(name: &str, flags: libc::c_int) -> io::Result<OwnedFd> {
    // The flags fit 16 bits, of which the kernel's type makes a signed number.
    let mut request = Request { name: [0; libc::IFNAMSIZ], flags: flags as u16 as i16, rest: [0; 22] };
    let room = request.name.len() - 1;
    let name = name.as_bytes();
    request
        .name
        .get_mut(..name.len())
        .filter(|_| name.len() <= room)
        .ok_or(io::ErrorKind::InvalidInput)?
        .copy_from_slice(name);
    let tun = File::options().read(true).write(true).open(Backend::TUN)?;
    // SAFETY: the structure is as long as the kernel's `ifreq` and lives until the call returns; the kernel writes the
    // name back into it, so it is ours and mutable.
    unsafe { set_interface(tun.as_raw_fd(), &raw mut request) }?;
    Ok(tun.into())
}

/// Makes the device a port of its bridge and sets it up.
fn join(name: &str, port: &TapPort) -> Result<()> {
    let bridge = if_nametoindex(port.bridge.as_str()).with_context(|| format!("there is no {}", port.bridge))?;
    let index = if_nametoindex(name)?;
    let address = netlink::mac(&port.address).with_context(|| format!("{:?} is no MAC address", port.address))?;
    let mut link = Link::default().address(address).on_bridge(bridge).up();
    if let Some(mtu) = port.mtu {
        link = link.mtu(mtu);
    }
    Ok(Netlink::open()?.set(index, link)?)
}

/// A queue of the macvtap device of this name. The kernel makes its node; where nobody keeps one in /dev, it is made for this
/// moment.
pub(super) fn open_macvtap(name: &str) -> Result<OwnedFd> {
    let index = if_nametoindex(name).with_context(|| format!("there is no macvtap device {name}"))?;
    let node = PathBuf::from(format!("/dev/tap{index}"));
    let open = |node: &Path| File::options().read(true).write(true).custom_flags(libc::O_NOFOLLOW).open(node);
    let opened = match open(&node) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let numbers = std::fs::read_to_string(format!("/sys/class/net/{name}/tap{index}/dev"));
            let numbers = numbers.with_context(|| format!("the kernel has no device for {name}"))?;
            let numbers = numbers.trim().split_once(':').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
            let (major, minor) = numbers.with_context(|| format!("the device of {name} has no number"))?;
            let own = PathBuf::from(format!("/dev/vfio-run-{index}"));
            mknod(&own, SFlag::S_IFCHR, Mode::S_IRUSR | Mode::S_IWUSR, makedev(major, minor))
                .with_context(|| format!("cannot make {}", own.display()))?;
            let opened = open(&own);
            std::fs::remove_file(&own).with_context(|| format!("cannot remove {}", own.display()))?;
            opened
        }
        other => other,
    };
    Ok(opened.with_context(|| format!("cannot open {}", node.display()))?.into())
}

/// The tap device that QEMU's bridge helper makes: it sends the descriptor over a socket that it inherits. It is started
/// here since it is a setuid program, which QEMU's sandbox does not let run.
pub(super) fn by_helper(program: &Path, bridge: &str) -> Result<OwnedFd> {
    let shown = program.display();
    let (ours, theirs) = UnixStream::pair()?;
    let mut command = Command::new(program);
    command.args(["--use-vnet", &format!("--fd={HELPER_FD}"), &format!("--br={bridge}")]);
    command.fd(HELPER_FD, theirs.into()).session(Session::Own).stderr(Stdio::piped());
    let mut helper = command.spawn()?;
    let Some(status) = child::wait_until(&mut helper, Instant::now() + HELPER_LIMIT)? else {
        drop(helper.kill());
        bail!("{shown} did not end within {} s", HELPER_LIMIT.as_secs());
    };
    if !status.success() {
        let mut words = String::new();
        drop(helper.stderr.take().map(|pipe| pipe.take(4096).read_to_string(&mut words)));
        bail!("{shown} made no tap device on {bridge}: {}", words.trim());
    }
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    recvmsg(&ours, &mut [IoSliceMut::new(&mut byte)], &mut control, flags)?;
    let sent = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    sent.with_context(|| format!("{shown} sent no descriptor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_long_as_the_kernels() {
        assert_eq!(size_of::<Request>(), size_of::<libc::ifreq>());
    }

    #[test]
    fn a_name_that_the_kernel_would_cut_is_refused_before_it_sees_it() {
        let error = attach("a-name-of-16-chr", libc::IFF_TAP).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }

    #[test]
    fn what_the_bridge_helper_says_is_told() {
        let error = by_helper(Path::new("/bin/false"), "br0").unwrap_err().to_string();
        assert_eq!(error, "/bin/false made no tap device on br0: ");
        let error = by_helper(Path::new("/bin/true"), "br0").unwrap_err();
        assert!(error.to_string().contains("sent no descriptor"), "{error:#}");
    }
}
