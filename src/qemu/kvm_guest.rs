//! Whether KVM really runs a guest: found out by running the smallest one.
//!
//! A `/dev/kvm` that opens, and a QEMU that starts with `-accel kvm`, prove nothing: with `-S` no instruction of the
//! guest has run. So a firmware of a few instructions is started, which does what every 64-bit kernel does
//! first (looks at its CPU, turns paging and long mode on) and then ends QEMU with an exit code that nothing else gives.
//! There are hosts (sandboxes that offer a KVM within a KVM) where real mode runs and exactly this hangs.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::short::{Ended, Short, memory_file};

/// How long the guest may take at least. It takes a tenth of a second; a KVM that hangs takes for ever.
const DEADLINE: Duration = Duration::from_secs(3);
/// After how long the user is told what is waited for.
const SILENT: Duration = Duration::from_secs(1);

/// QEMU's `isa-debug-exit` ends with `value << 1 | 1`.
const GOOD: i32 = 0x21 << 1 | 1;
const NO_64_BIT_CPU: i32 = 0x22 << 1 | 1;

/// The firmware's code, which runs at f000:ff00 in real mode (GNU `as`, `.code16`):
///
/// ```asm
/// start:  mov $1, %eax;  cpuid;  and $0x0700a169, %edx;  cmp $0x0700a169, %edx;  jne bad
///         mov $0x80000001, %eax;  cpuid;  and $0x20000000, %edx;  jz bad
///         xor %ax, %ax;  mov %ax, %ds                    # one large page maps the first 2 MiB to themselves
///         movw $0x2003, 0x1000;  movw $0x3003, 0x2000;  movw $0x0083, 0x3000
///         mov $0x1000, %ax;  movzwl %ax, %eax;  mov %eax, %cr3
///         mov %cr4, %eax;  or $0x20, %al;  mov %eax, %cr4                     # PAE
///         mov $0xc0000080, %ecx;  rdmsr;  or $1, %ah;  wrmsr                  # EFER.LME
///         lgdtl %cs:gdtr;  mov %cr0, %eax;  or $0x80000001, %eax;  mov %eax, %cr0
///         ljmpl $8, $long
/// bad:    mov $0x22, %al;  out %al, $0xf4
/// end:    hlt;  jmp end
///         .code64
/// long:   mov $0x21, %al;  out %al, $0xf4;  jmp long
///         .balign 8
/// gdt:    .quad 0, 0x00209a0000000000
/// gdtr:   .word 15;  .long gdt
/// ```
///
/// The first mask is what Linux requires of an x86-64 (arch/x86/include/asm/required-features.h): fpu, pse, msr, pae,
/// cx8, pge, cmov, fxsr, sse, sse2; the second is long mode.
const CODE: [u8; 158] = [
    0x66, 0xb8, 0x01, 0x00, 0x00, 0x00, 0x0f, 0xa2, 0x66, 0x81, 0xe2, 0x69, 0xa1, 0x00, 0x07, 0x66, 0x81, 0xfa, 0x69,
    0xa1, 0x00, 0x07, 0x75, 0x61, 0x66, 0xb8, 0x01, 0x00, 0x00, 0x80, 0x0f, 0xa2, 0x66, 0x81, 0xe2, 0x00, 0x00, 0x00,
    0x20, 0x74, 0x50, 0x31, 0xc0, 0x8e, 0xd8, 0xc7, 0x06, 0x00, 0x10, 0x03, 0x20, 0xc7, 0x06, 0x00, 0x20, 0x03, 0x30,
    0xc7, 0x06, 0x00, 0x30, 0x83, 0x00, 0xb8, 0x00, 0x10, 0x66, 0x0f, 0xb7, 0xc0, 0x0f, 0x22, 0xd8, 0x0f, 0x20, 0xe0,
    0x0c, 0x20, 0x0f, 0x22, 0xe0, 0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, 0x0f, 0x32, 0x80, 0xcc, 0x01, 0x0f, 0x30, 0x2e,
    0x66, 0x0f, 0x01, 0x16, 0x98, 0xff, 0x0f, 0x20, 0xc0, 0x66, 0x0d, 0x01, 0x00, 0x00, 0x80, 0x0f, 0x22, 0xc0, 0x66,
    0xea, 0x80, 0xff, 0x0f, 0x00, 0x08, 0x00, 0xb0, 0x22, 0xe6, 0xf4, 0xf4, 0xeb, 0xfd, 0xb0, 0x21, 0xe6, 0xf4, 0xeb,
    0xfa, 0x66, 0x90, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x9a, 0x20, 0x00,
    0x0f, 0x00, 0x88, 0xff, 0x0f, 0x00,
];

/// The smallest guest, running on an accelerator.
#[derive(Debug)]
pub struct KvmGuest {
    qemu: Result<Short, String>,
    started: Instant,
}

impl KvmGuest {
    /// Starts it; it runs beside the caller.
    pub fn start(binary: &Path, accelerator: &str, cpu: &str) -> Self {
        let machine = format!("q35,accel={accelerator}");
        let started = Instant::now();
        let firmware = match firmware() {
            Ok(firmware) => firmware,
            Err(error) => return Self { qemu: Err(error.to_string()), started },
        };
        #[rustfmt::skip]
        let arguments = [
            "-machine", &machine, "-cpu", cpu, "-m", "16", "-no-user-config", "-nodefaults", "-display", "none",
            "-no-reboot", "-bios", "/proc/self/fd/4", "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
        ];
        let qemu = Short::start(binary, &arguments, vec![(4, firmware.into())]).map_err(|e| e.to_string());
        Self { qemu, started }
    }

    /// Waits for the answer: `None` if it ran, else what went wrong. The deadline stretches with what another QEMU
    /// took on this machine, which may be slow, loaded or itself emulated.
    pub fn error(self, another_took: Duration) -> Option<String> {
        let deadline = DEADLINE.max(another_took * 4);
        let mut qemu = match self.qemu {
            Ok(qemu) => qemu,
            Err(error) => return Some(error),
        };
        let ended = qemu.wait_until(self.started + SILENT).and_then(|ended| match ended {
            Some(ended) => Ok(Some(ended)),
            None => {
                let limit = deadline.as_secs();
                tracing::info!("testing whether KVM runs a guest; that takes long on this host: at most {limit} s");
                qemu.wait_until(self.started + deadline)
            }
        });
        match ended {
            Ok(Some(ended)) => judge(&ended),
            Ok(None) => {
                let said = qemu.kill();
                let hang = "a test guest of a few instructions hung: KVM is there but does not run 64-bit code";
                Some(if said.trim().is_empty() {
                    hang.to_owned()
                } else {
                    format!("{hang}; QEMU said: {}", said.trim())
                })
            }
            Err(error) => Some(error.to_string()),
        }
    }
}

fn judge(ended: &Ended) -> Option<String> {
    match ended.status.code() {
        Some(GOOD) => None,
        Some(NO_64_BIT_CPU) => Some("KVM gives the guest a CPU that no 64-bit kernel runs on".to_owned()),
        _ if ended.stderr.trim().is_empty() => Some(format!("QEMU ended with {}", ended.status)),
        _ => Some(ended.stderr.trim().to_owned()),
    }
}

/// 64 KiB that end at 4 GiB; the CPU starts 16 bytes before the end, from where a far jump leads to the code
/// (QEMU shows the firmware below 1 MiB too).
fn firmware() -> io::Result<File> {
    let mut image = vec![0xf4; 0x1_0000];
    image[0xff00..0xff00 + CODE.len()].copy_from_slice(&CODE);
    image[0xfff0..0xfff5].copy_from_slice(&[0xea, 0x00, 0xff, 0x00, 0xf0]);
    let mut file = File::from(memory_file("vfio-run-firmware")?);
    file.write_all(&image)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_that_hangs_is_ended_in_time() {
        let start = Instant::now();
        let qemu = Short::start(Path::new("sleep"), &["1000"], Vec::new()).map_err(|e| e.to_string());
        let guest = KvmGuest { qemu, started: start };
        assert!(guest.error(Duration::ZERO).unwrap().contains("hung"));
        assert!(start.elapsed() < DEADLINE * 2);
    }
}
