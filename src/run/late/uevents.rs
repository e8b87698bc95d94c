//! What the kernel tells of devices that come and go, heard from a netlink socket: nothing is polled.
//!
//! If udev runs, its own messages are heard, which come when it has made the node's links and rights. Anybody may send to such
//! a socket, so a message is believed only if the kernel or a process of root's sent it; and it is only a reason to look into
//! sysfs, whatever it says. Source: `lib/kobject_uevent.c`; systemd's `src/libsystemd/sd-device/device-monitor.c`.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, UnixCredentials, bind,
    recvmsg, setsockopt, socket, sockopt,
};
use tokio::io::unix::AsyncFd;

use crate::run::watch_fd::watch_readable;

/// The kernel's own messages, and those of udev.
const KERNEL: u32 = 1;
const UDEV: u32 = 2;
/// One of them is there for as long as udev runs: its sockets, the older and the newer.
const UDEV_RUNS: [&str; 2] = ["/run/udev/control", "/run/udev/io.systemd.Udev"];
/// The subsystems that late devices are of.
const SUBSYSTEMS: [&str; 2] = ["usb", "input"];
/// More than a message has.
const MAX_MESSAGE: usize = 8192;
/// So many are read before others get their turn.
const AT_ONCE: usize = 64;

/// udev's messages begin with this, and with where their properties begin.
const PREFIX: &[u8] = b"libudev\0";
const MAGIC: u32 = 0xfeed_cafe;
const MAGIC_AT: usize = 8;
const PROPERTIES_AT: usize = 16;
/// Where a message has the hash of its subsystem.
const SUBSYSTEM_AT: u32 = 24;

/// An open ear.
#[derive(Debug)]
pub(super) struct Uevents {
    socket: AsyncFd<OwnedFd>,
    group: u32,
}

impl Uevents {
    /// Begins to listen: what happens from now on is told.
    pub(super) fn open() -> io::Result<Self> {
        let group = if UDEV_RUNS.iter().any(|path| Path::new(path).exists()) { UDEV } else { KERNEL };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkKObjectUEvent)?;
        setsockopt(&socket, sockopt::PassCred, &true)?;
        if group == UDEV {
            attach_filter(&socket)?;
        }
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, group))?;
        Ok(Self { socket: watch_readable(socket)?, group })
    }

    /// Waits until a USB device or an event device may have come or gone. May be dropped at any await.
    pub(super) async fn changed(&mut self) -> io::Result<()> {
        loop {
            let mut ready = self.socket.readable().await?;
            let mut changed = false;
            for _ in 0..AT_ONCE {
                match hear(self.socket.get_ref(), self.group) {
                    Ok(concerns) => changed |= concerns,
                    Err(Errno::EAGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    // Messages were lost, so anything may have happened.
                    Err(Errno::ENOBUFS) => changed = true,
                    Err(Errno::EINTR) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            if changed {
                return Ok(());
            }
        }
    }
}

/// Reads a message; whether it is believed and concerns late devices.
fn hear(socket: &OwnedFd, group: u32) -> Result<bool, Errno> {
    let mut text = [0; MAX_MESSAGE];
    let mut space = nix::cmsg_space!(UnixCredentials);
    let mut parts = [IoSliceMut::new(&mut text)];
    let message = recvmsg::<NetlinkAddr>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::empty())?;
    // The kernel has no number; another process cannot have none.
    let from = message.address.filter(|from| from.groups() == group && (group == UDEV || from.pid() == 0));
    let of_root = message.cmsgs()?.any(|part| matches!(part, ControlMessageOwned::ScmCredentials(c) if c.uid() == 0));
    let bytes = message.bytes;
    Ok(from.is_some() && of_root && concerns(&text[..bytes], group == UDEV))
}

/// Whether a message is about a device that may be given late.
fn concerns(message: &[u8], from_udev: bool) -> bool {
    let Some(properties) = properties(message, from_udev) else { return false };
    let value = |key: &str| {
        let mut lines = properties.split(|byte| *byte == 0);
        lines.find_map(|line| line.strip_prefix(key.as_bytes())?.strip_prefix(b"="))
    };
    match value("SUBSYSTEM") {
        Some(b"usb") => value("DEVTYPE") == Some(b"usb_device"),
        Some(b"input") => value("DEVNAME").is_some(),
        _ => false,
    }
}

/// The part with `KEY=value` and a NUL each.
fn properties(message: &[u8], from_udev: bool) -> Option<&[u8]> {
    if !from_udev {
        // `add@/devices/…` comes first.
        let end = message.iter().position(|byte| *byte == 0)?;
        return message[..end].contains(&b'@').then(|| &message[end + 1..]);
    }
    let word = |at: usize| message.get(at..at + 4)?.try_into().ok();
    let begins = message.starts_with(PREFIX) && word(MAGIC_AT).map(u32::from_be_bytes) == Some(MAGIC);
    let from = word(PROPERTIES_AT).map(u32::from_ne_bytes).filter(|_| begins)?;
    message.get(usize::try_from(from).ok()?..)
}

/// Lets the kernel drop udev's messages about other subsystems, so that a battery or a screen wakes nobody.
fn attach_filter(socket: &OwnedFd) -> io::Result<()> {
    let step = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equals = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let give = libc::BPF_RET | libc::BPF_K;
    let [usb, input] = SUBSYSTEMS.map(hash);
    let mut program = [
        step(load, 0, 0, SUBSYSTEM_AT),
        step(equals, 2, 0, usb),
        step(equals, 1, 0, input),
        step(give, 0, 0, 0),
        step(give, 0, 0, u32::MAX),
    ];
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the kernel reads the structure, and the program that it points to, while this call lasts; both live until its
    // end, and the length is that of the program.
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const filter).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    Errno::result(done).map(drop).map_err(io::Error::from)
}

/// A text's hash as udev has it in its messages.
fn hash(text: &str) -> u32 {
    murmur2(text, 0)
}

/// MurmurHash2.
fn murmur2(text: &str, seed: u32) -> u32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = seed ^ text.len() as u32;
    let mut chunks = text.as_bytes().chunks_exact(4);
    for chunk in &mut chunks {
        let k = chunk.iter().rev().fold(0, |k: u32, byte| k << 8 | u32::from(*byte)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ (k ^ k >> 24).wrapping_mul(M);
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        h = (h ^ rest.iter().rev().fold(0, |k: u32, byte| k << 8 | u32::from(*byte))).wrapping_mul(M);
    }
    h = (h ^ h >> 13).wrapping_mul(M);
    h ^ h >> 15
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(properties: &[&str]) -> Vec<u8> {
        let mut message = b"add@/devices/x\0".to_vec();
        properties.iter().for_each(|line| message.extend_from_slice(format!("{line}\0").as_bytes()));
        message
    }

    fn udev(properties: &[&str]) -> Vec<u8> {
        let mut message = PREFIX.to_vec();
        message.extend_from_slice(&MAGIC.to_be_bytes());
        for word in [40u32, 40, 0, 0, 0, 0, 0] {
            message.extend_from_slice(&word.to_ne_bytes());
        }
        properties.iter().for_each(|line| message.extend_from_slice(format!("{line}\0").as_bytes()));
        message
    }

    #[test]
    fn devices_that_may_be_given_are_heard_of_and_others_are_not() {
        for (properties, expected) in [
            (&["ACTION=add", "SUBSYSTEM=usb", "DEVTYPE=usb_device"][..], true),
            (&["ACTION=remove", "SUBSYSTEM=usb", "DEVTYPE=usb_device"], true),
            (&["ACTION=add", "SUBSYSTEM=usb", "DEVTYPE=usb_interface"], false),
            (&["ACTION=add", "SUBSYSTEM=input", "DEVNAME=input/event3"], true),
            (&["ACTION=add", "SUBSYSTEM=input"], false),
            (&["ACTION=change", "SUBSYSTEM=power_supply"], false),
            (&["XSUBSYSTEM=usb", "DEVTYPE=usb_device"], false),
        ] {
            assert_eq!(concerns(&kernel(properties), false), expected, "{properties:?}");
            assert_eq!(concerns(&udev(properties), true), expected, "{properties:?}");
            // One that looks like the other's.
            assert!(!concerns(&udev(properties), false) && !concerns(&kernel(properties), true));
        }
        for junk in [&b""[..], b"\0", b"libudev\0", b"add@", &[0xff; 64], PREFIX] {
            assert!(!concerns(junk, true) && !concerns(junk, false));
        }
        let mut far = udev(&["SUBSYSTEM=usb"]);
        far[PROPERTIES_AT..PROPERTIES_AT + 4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert!(!concerns(&far, true));
    }

    #[test]
    fn the_hash_is_murmurs() {
        // What Apache Kafka's tests expect of their own (`UtilsTest.testMurmur2`).
        for (text, expected) in
            [("21", -973_932_308), ("foobar", -790_332_482), ("a-little-bit-long-string", -985_981_536i32)]
        {
            assert_eq!(murmur2(text, 0x9747_b28c), expected as u32, "{text}");
        }
    }
}
