//! Whether KVM really runs a guest: found out by running the smallest one.
//!
//! A `/dev/kvm` that opens, and a QEMU that starts with `-accel kvm`, prove nothing: with `-S` no instruction of the
//! guest has run. So a firmware of a few instructions is started, which looks whether its CPU is one that a 64-bit
//! kernel starts on and ends QEMU with an exit code that nothing else gives.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::short::{Ended, Short, memory_file};

/// How long the guest may take. It takes a tenth of a second; a KVM that hangs takes for ever.
const DEADLINE: Duration = Duration::from_secs(3);

/// QEMU's `isa-debug-exit` ends with `value << 1 | 1`.
const GOOD: i32 = 0x21 << 1 | 1;
const NO_64_BIT_CPU: i32 = 0x22 << 1 | 1;

/// The firmware's code at 0xff00, for a CPU in real mode:
///
/// ```asm
///     mov eax, 1 ; cpuid ; and edx, 0x0700a169 ; cmp edx, 0x0700a169 ; jne bad
///     mov eax, 0x80000001 ; cpuid ; and edx, 0x20000000 ; jz bad
///     mov al, 0x21 ; jmp out
/// bad: mov al, 0x22
/// out: out 0xf4, al
/// end: hlt ; jmp end
/// ```
///
/// The first mask is what Linux requires of an x86-64 (arch/x86/include/asm/required-features.h): fpu, pse, msr, pae,
/// cx8, pge, cmov, fxsr, sse, sse2; the second is long mode.
const CODE: [u8; 52] = [
    0x66, 0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0xa2, 0x66, 0x81, 0xe2, 0x69, 0xa1, 0x00, 0x07, 0x66, 0x81, 0xfa, 0x69,
    0xa1, 0x00, 0x07, 0x75, 0x15, 0x66, 0xb8, 0x01, 0x00, 0x00, 0x80, 0x0f, 0xa2, 0x66, 0x81, 0xe2, 0x00, 0x00, 0x00,
    0x20, 0x74, 0x04, 0xb0, 0x21, 0xeb, 0x02, 0xb0, 0x22, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd,
];

/// Runs the smallest guest on an accelerator. `None` where it ran, else what went wrong.
pub(super) struct KvmGuest {
    qemu: Result<Short, String>,
    deadline: Instant,
}

impl KvmGuest {
    /// Starts it; it runs beside the caller.
    pub(super) fn start(binary: &Path, accelerator: &str, cpu: &str) -> Self {
        let machine = format!("q35,accel={accelerator}");
        let firmware = match firmware() {
            Ok(firmware) => firmware,
            Err(error) => return Self { qemu: Err(error.to_string()), deadline: Instant::now() },
        };
        #[rustfmt::skip]
        let arguments = [
            "-machine", &machine, "-cpu", cpu, "-m", "16", "-no-user-config", "-nodefaults", "-display", "none",
            "-no-reboot", "-bios", "/proc/self/fd/4", "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
        ];
        let qemu = Short::start(binary, &arguments, vec![(4, firmware.into())]).map_err(|e| e.to_string());
        Self { qemu, deadline: Instant::now() + DEADLINE }
    }

    /// Waits for the answer.
    pub(super) fn error(self) -> Option<String> {
        let mut qemu = match self.qemu {
            Ok(qemu) => qemu,
            Err(error) => return Some(error),
        };
        match qemu.wait_until(self.deadline) {
            Ok(Some(ended)) => judge(&ended),
            Ok(None) => {
                let said = qemu.kill();
                let hang = format!("a guest of a few instructions did not end within {} s", DEADLINE.as_secs());
                Some(if said.trim().is_empty() { hang } else { format!("{hang}; QEMU said: {}", said.trim()) })
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

fn judge(ended: &Ended) -> Option<String> {
    match ended.status.code() {
        Some(GOOD) => None,
        Some(NO_64_BIT_CPU) => Some("it gives the guest a CPU that no 64-bit kernel runs on".to_owned()),
        _ if ended.stderr.trim().is_empty() => Some(format!("QEMU ended with {}", ended.status)),
        _ => Some(ended.stderr.trim().to_owned()),
    }
}

/// 64 KiB that end at 4 GiB; the CPU starts 16 bytes before the end and jumps back to the code.
fn firmware() -> io::Result<File> {
    let mut image = vec![0xf4; 0x1_0000];
    image[0xff00..0xff00 + CODE.len()].copy_from_slice(&CODE);
    image[0xfff0..0xfff3].copy_from_slice(&[0xe9, 0x0d, 0xff]);
    let mut file = File::from(memory_file("vfio-run-firmware")?);
    file.write_all(&image)?;
    Ok(file)
}
