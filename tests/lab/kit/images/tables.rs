//! An ACPI table that gives the emulated processors frequencies to choose from.
//!
//! QEMU's processors have none. `acpi-cpufreq` takes what `_PCT` and `_PSS` describe; the "register" of each processor
//! is one of the ISA DMA page registers, which remember a byte and do nothing else as no ISA DMA is used.

use std::fmt::Write;
use std::fs;

use anyhow::Result;

use crate::kit::cache::{self, Entry, Key};
use crate::kit::tools;

/// One free 8-bit register a processor.
const REGISTERS: [u16; 8] = [0x81, 0x82, 0x83, 0x87, 0x89, 0x8a, 0x8b, 0x8f];

/// Frequency in MHz and power in mW of each step, fastest first.
const STEPS: [(u32, u32); 4] = [(3600, 65_000), (2800, 45_000), (2200, 30_000), (1400, 15_000)];

/// The table for up to eight processors: `ssdt.aml`.
pub fn cpufreq() -> Result<Entry> {
    let source = source();
    let key = Key::new("tables 1").with(&source);
    cache::entry("tables", "cpufreq", &key, |folder| {
        let asl = folder.join("ssdt.dsl");
        fs::write(&asl, &source)?;
        tools::run("iasl", ["-p".as_ref(), folder.join("ssdt").as_os_str(), asl.as_os_str()])?;
        Ok(())
    })
}

fn source() -> String {
    let mut asl = String::from("DefinitionBlock (\"\", \"SSDT\", 2, \"VFIORN\", \"LABFREQ\", 1)\n{\n");
    for cpu in 0..REGISTERS.len() {
        let _ = writeln!(asl, "External (\\_SB.CPUS.C{cpu:03X}, DeviceObj)");
    }
    for (cpu, register) in REGISTERS.iter().enumerate() {
        let at = format!("ResourceTemplate () {{ Register (SystemIO, 8, 0, 0x{register:04X}) }}");
        let _ = writeln!(asl, "Scope (\\_SB.CPUS.C{cpu:03X})\n{{");
        let _ = writeln!(asl, "  Name (_PCT, Package () {{ {at}, {at} }})");
        let steps: Vec<String> = STEPS
            .iter()
            .enumerate()
            .map(|(n, (mhz, mw))| format!("Package () {{ {mhz}, {mw}, 10, 10, {n}, {n} }}"))
            .collect();
        let _ = writeln!(asl, "  Name (_PSS, Package () {{ {} }})", steps.join(", "));
        let _ = writeln!(asl, "  Name (_PPC, 0)");
        // Each processor is a domain of its own (0xFD: software-any).
        let _ = writeln!(asl, "  Name (_PSD, Package () {{ Package () {{ 5, 0, {cpu}, 0xFD, 1 }} }})\n}}");
    }
    asl.push_str("}\n");
    asl
}
