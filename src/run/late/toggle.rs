//! Who has the shared keyboard and mouse: the guest or the host. QEMU tells nobody, so the launcher listens to the devices
//! beside it, if a hook wants to know.
//!
//! While the guest has a device, QEMU has grabbed it, and the kernel gives its events to nobody else. So what is heard then
//! tells that the host has it again. While the host has it, the launcher hears the keys of the toggle, as QEMU does, and has
//! the kernel keep all others from it: it wakes up for no other key, and for no movement of the mouse.
//! Source: the kernel's `drivers/input/evdev.c` (`EVIOCGRAB`, `EVIOCSMASK`); QEMU's `ui/input-linux.c`.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use nix::errno::Errno;
use nix::sys::stat::{major, minor};
use tokio::io::unix::AsyncFd;

use crate::host::Root;
use crate::host::input::EventDevice;
use crate::machine::Toggle;
use crate::plan::LateInput;
use crate::run::watch_fd::watch_readable;
use crate::units::InputHolder;

/// `EV_KEY`, `EV_REL` and `EV_ABS` (`linux/input-event-codes.h`). The mask of type 0 says which types are heard at all.
const TYPES: u16 = 0;
const KEY: u16 = 1;
const REL: u16 = 2;
const ABS: u16 = 3;
/// `EV_CNT` and `KEY_CNT` in bytes, in whole words of 64 bits.
const TYPE_BYTES: usize = 8;
const KEY_BYTES: usize = 0x300 / 8;

const LEFT_CTRL: u16 = 29;
const RIGHT_CTRL: u16 = 97;
const LEFT_ALT: u16 = 56;
const RIGHT_ALT: u16 = 100;
const LEFT_SHIFT: u16 = 42;
const RIGHT_SHIFT: u16 = 54;
const LEFT_META: u16 = 125;
const RIGHT_META: u16 = 126;
const SCROLL_LOCK: u16 = 70;

/// How long QEMU may take to grab the devices once the toggle was released: what is heard before is no sign of the host.
const SETTLE: Duration = Duration::from_millis(500);
/// `struct input_event` with times of 64 bits.
const EVENT: usize = 24;
/// So many events are read at once.
const AT_ONCE: usize = 64;

/// `struct input_mask`.
#[repr(C)]
struct Mask {
    kind: u32,
    bytes: u32,
    bits: u64,
}

nix::ioctl_write_ptr!(set_mask, b'E', 0x93, Mask);

/// An event, without its time.
#[derive(Debug, Clone, Copy)]
struct Heard {
    kind: u16,
    code: u16,
    value: i32,
}

/// What has been heard, and so who has the devices.
#[derive(Debug)]
struct State {
    holder: InputHolder,
    /// When the guest was given the devices.
    since: Instant,
    /// Keys of the toggle that are down, and whether they have all been.
    down: BTreeSet<u16>,
    requested: bool,
}

impl State {
    fn new(now: Instant) -> Self {
        Self { holder: InputHolder::Guest, since: now, down: BTreeSet::new(), requested: false }
    }

    /// Records an event that is read now, of the keyboard with this toggle or of another device. Returns who has the devices now, if that has
    /// changed.
    fn hears(&mut self, now: Instant, heard: Heard, toggle: Option<Toggle>) -> Option<InputHolder> {
        let before = self.holder;
        let touched = heard.kind == KEY && heard.value == 1 || [REL, ABS].contains(&heard.kind);
        if self.holder == InputHolder::Guest && touched && now >= self.since + SETTLE {
            self.holder = InputHolder::Host;
            self.down.clear();
            self.requested = false;
        }
        if self.holder == InputHolder::Host
            && let Some(toggle) = toggle.filter(|toggle| heard.kind == KEY && keys(*toggle).contains(&heard.code))
        {
            match heard.value {
                0 => self.down.remove(&heard.code),
                _ => self.down.insert(heard.code),
            };
            self.requested |= is_pressed(toggle, &self.down);
            // QEMU waits until all keys are released.
            if self.requested && self.down.is_empty() {
                self.holder = InputHolder::Guest;
                self.since = now;
                self.requested = false;
            }
        }
        (self.holder != before).then_some(self.holder)
    }
}

/// The keys of a toggle.
fn keys(toggle: Toggle) -> &'static [u16] {
    match toggle {
        Toggle::CtrlCtrl => &[LEFT_CTRL, RIGHT_CTRL],
        Toggle::AltAlt => &[LEFT_ALT, RIGHT_ALT],
        Toggle::ShiftShift => &[LEFT_SHIFT, RIGHT_SHIFT],
        Toggle::MetaMeta => &[LEFT_META, RIGHT_META],
        Toggle::ScrollLock => &[SCROLL_LOCK],
        Toggle::CtrlScrollLock => &[LEFT_CTRL, RIGHT_CTRL, SCROLL_LOCK],
    }
}

/// Whether the keys that are down are a toggle (`input_linux_check_toggle()`).
fn is_pressed(toggle: Toggle, down: &BTreeSet<u16>) -> bool {
    match toggle {
        Toggle::CtrlScrollLock => {
            down.contains(&SCROLL_LOCK) && (down.contains(&LEFT_CTRL) || down.contains(&RIGHT_CTRL))
        }
        toggle => keys(toggle).iter().all(|key| down.contains(key)),
    }
}

/// A device that is listened to.
#[derive(Debug)]
struct Ear {
    /// QEMU's id for it, and what tells the host's device from every other.
    id: String,
    identity: String,
    /// The keys, if it is the keyboard whose toggle moves all devices.
    toggle: Option<Toggle>,
    device: AsyncFd<OwnedFd>,
}

/// The devices that are listened to, and who has them.
#[derive(Debug)]
pub(super) struct Toggles {
    state: State,
    ears: Vec<Ear>,
}

impl Toggles {
    /// None yet. The guest has the devices when it is given them.
    pub(super) fn new() -> Self {
        Self { state: State::new(Instant::now()), ears: Vec::new() }
    }

    /// Listens to a device that QEMU has under this id, unless it does already.
    pub(super) fn listen(&mut self, root: &Root, id: &str, input: &LateInput, device: &EventDevice) -> Result<()> {
        let identity = device.identity();
        if self.ears.iter().any(|ear| ear.id == id && ear.identity == identity) {
            return Ok(());
        }
        self.ears.retain(|ear| ear.id != id);
        let toggle = Toggle::ALL.into_iter().find(|toggle| input.grab_all && toggle.word() == input.toggle);
        let device = watch_readable(open(root, device)?.into())?;
        self.ears.push(Ear { id: id.to_owned(), identity, toggle, device });
        // QEMU grabs it at once, whoever had the others.
        if toggle.is_some() {
            self.state = State::new(Instant::now());
        }
        self.ears.iter().try_for_each(|ear| mask(ear, self.state.holder))
    }

    /// Listens no longer to others than these, by QEMU's ids.
    pub(super) fn keep(&mut self, which: impl Fn(&str) -> bool) {
        self.ears.retain(|ear| which(&ear.id));
    }

    /// Waits until the devices have changed hands; who has them now. May be dropped at any await.
    pub(super) async fn changed(&mut self) -> InputHolder {
        std::future::poll_fn(|context| self.poll(context)).await
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<InputHolder> {
        let mut gone = Vec::new();
        let mut changed = None;
        for ear in &self.ears {
            while let Poll::Ready(ready) = ear.device.poll_read_ready(context) {
                let Ok(mut ready) = ready else { break };
                match read(ear.device.get_ref()) {
                    Ok(events) => {
                        let now = Instant::now();
                        for event in events {
                            changed = self.state.hears(now, event, ear.toggle).or(changed);
                        }
                    }
                    Err(Errno::EAGAIN) => ready.clear_ready(),
                    Err(Errno::EINTR) => {}
                    // It was unplugged; it is listened to again when QEMU is given it.
                    Err(_) => {
                        gone.push(ear.id.clone());
                        break;
                    }
                }
            }
        }
        self.ears.retain(|ear| !gone.contains(&ear.id));
        let Some(holder) = changed else { return Poll::Pending };
        for ear in &self.ears {
            if let Err(error) = mask(ear, holder) {
                tracing::warn!("the toggle of the shared keyboard may not be noticed: {error:#}");
            }
        }
        Poll::Ready(holder)
    }
}

/// Has the kernel tell only what matters while this one has the devices.
fn mask(ear: &Ear, holder: InputHolder) -> Result<()> {
    let mut types = [0; TYPE_BYTES];
    let mut codes = [0; KEY_BYTES];
    match (holder, ear.toggle) {
        (InputHolder::Guest, _) => {
            [KEY, REL, ABS].into_iter().for_each(|kind| set(&mut types, kind));
            codes.fill(0xff);
        }
        (InputHolder::Host, Some(toggle)) => {
            set(&mut types, KEY);
            keys(toggle).iter().for_each(|key| set(&mut codes, *key));
        }
        (InputHolder::Host, None) => {}
    }
    for (kind, bits) in [(TYPES, types.as_slice()), (KEY, codes.as_slice())] {
        let mask = Mask { kind: kind.into(), bytes: bits.len() as u32, bits: bits.as_ptr() as u64 };
        // SAFETY: the structure is the kernel's, and the bits that it points to live until the call returns; the kernel only
        // reads them.
        unsafe { set_mask(ear.device.get_ref().as_raw_fd(), &mask) }.context("cannot choose which keys are heard")?;
    }
    Ok(())
}

fn set(bits: &mut [u8], bit: u16) {
    if let Some(byte) = bits.get_mut(usize::from(bit / 8)) {
        *byte |= 1 << (bit % 8);
    }
}

/// Opens the node of just this device: its number is another one's after it was unplugged.
fn open(root: &Root, device: &EventDevice) -> Result<File> {
    let path = root.path(format!("/dev/input/{}", device.event));
    let mut options = OpenOptions::new();
    options.read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    let file = options.open(&path).with_context(|| format!("cannot listen to {}", path.display()))?;
    let node = file.metadata()?.rdev();
    let numbers = root.text(format!("/sys/class/input/{}/dev", device.event));
    ensure!(numbers == Some(format!("{}:{}", major(node), minor(node))), "{} is not its node", path.display());
    Ok(file)
}

/// Reads what is there.
fn read(device: &OwnedFd) -> Result<Vec<Heard>, Errno> {
    let mut bytes = [0; EVENT * AT_ONCE];
    match nix::unistd::read(device, &mut bytes)? {
        0 => Err(Errno::ENODEV),
        length => Ok(bytes[..length].chunks_exact(EVENT).map(event).collect()),
    }
}

/// The last eight bytes of an event have its type, code and value.
fn event(bytes: &[u8]) -> Heard {
    let last = |at: usize| bytes.get(EVENT - 8 + at).copied().unwrap_or(0);
    Heard {
        kind: u16::from_ne_bytes([last(0), last(1)]),
        code: u16::from_ne_bytes([last(2), last(3)]),
        value: i32::from_ne_bytes([last(4), last(5), last(6), last(7)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use InputHolder::{Guest, Host};

    const CTRL: Option<Toggle> = Some(Toggle::CtrlCtrl);

    fn key(millis: u64, code: u16, value: i32) -> (u64, Heard) {
        (millis, Heard { kind: KEY, code, value })
    }

    /// What a state comes to that began at this moment.
    fn after(state: &mut State, begin: Instant, events: &[(u64, Heard)], toggle: Option<Toggle>) -> Vec<InputHolder> {
        let at = |millis: &u64| begin + Duration::from_millis(*millis);
        events.iter().filter_map(|(millis, event)| state.hears(at(millis), *event, toggle)).collect()
    }

    #[test]
    fn what_is_heard_is_the_hosts_and_the_toggle_gives_it_to_the_guest() {
        let begin = Instant::now();
        let mut state = State::new(begin);
        let mut after = |events: &[(u64, Heard)], toggle| after(&mut state, begin, events, toggle);
        // Keys that were held down at the start are released; QEMU has not grabbed anything yet.
        assert_eq!(after(&[key(100, 30, 1), key(900, 30, 0)], CTRL), []);
        assert_eq!(after(&[key(1000, 30, 1), key(1001, 30, 0)], CTRL), [Host]);
        assert_eq!(after(&[key(2000, LEFT_CTRL, 1), key(2001, RIGHT_CTRL, 1), key(2002, LEFT_CTRL, 0)], CTRL), []);
        assert_eq!(after(&[key(2003, RIGHT_CTRL, 0)], CTRL), [Guest]);
        // The mouse moves while QEMU grabs it.
        let moved = |millis| (millis, Heard { kind: REL, code: 0, value: 5 });
        assert_eq!(after(&[moved(2010), moved(2400)], None), []);
        assert_eq!(after(&[moved(9000), moved(9001)], None), [Host]);
    }

    #[test]
    fn a_toggle_right_after_the_host_has_the_keyboard_is_counted() {
        let begin = Instant::now();
        let there_and_back =
            [key(1000, LEFT_CTRL, 1), key(1001, RIGHT_CTRL, 1), key(1002, LEFT_CTRL, 0), key(1003, RIGHT_CTRL, 0)];
        assert_eq!(after(&mut State::new(begin), begin, &there_and_back, CTRL), [Host, Guest]);
    }

    #[test]
    fn each_toggle_needs_its_own_keys() {
        let down = |keys: &[u16]| keys.iter().copied().collect::<BTreeSet<u16>>();
        assert!(!is_pressed(Toggle::CtrlCtrl, &down(&[LEFT_CTRL])));
        assert!(is_pressed(Toggle::ScrollLock, &down(&[SCROLL_LOCK])));
        assert!(!is_pressed(Toggle::CtrlScrollLock, &down(&[SCROLL_LOCK])));
        assert!(is_pressed(Toggle::CtrlScrollLock, &down(&[RIGHT_CTRL, SCROLL_LOCK])));
        assert!(is_pressed(Toggle::MetaMeta, &down(&[LEFT_META, RIGHT_META])));
    }

    #[test]
    fn an_event_is_read_as_the_kernel_writes_it() {
        let mut bytes = vec![7; EVENT - 8];
        bytes.extend(KEY.to_ne_bytes());
        bytes.extend(LEFT_CTRL.to_ne_bytes());
        bytes.extend((-1i32).to_ne_bytes());
        let heard = event(&bytes);
        assert_eq!((heard.kind, heard.code, heard.value), (KEY, LEFT_CTRL, -1));
    }
}
