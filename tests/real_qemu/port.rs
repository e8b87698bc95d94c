//! Ports of the host for tests that run side by side.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below those that the kernel gives to connections (from 32768 on), above those that VNC cannot have (below 5900).
const FIRST: u16 = 10_000;

/// A port that nobody listens on and that no other test is given: between the look and QEMU's `bind`, another test's
/// program could otherwise take it.
pub fn free() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    loop {
        // Tests of two checkouts do not begin at the same one.
        let begin = FIRST + (std::process::id() % 1000) as u16 * 16;
        let port = begin + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("0.0.0.0", port)).is_ok() {
            return port;
        }
    }
}
