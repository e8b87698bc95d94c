//! CPU features by their CPUID bit, with the names of /proc/cpuinfo: what KVM usually passes to guests.
//! Source: `kvm_set_cpu_caps()` in `arch/x86/kvm/cpuid.c` and `arch/x86/include/asm/cpufeatures.h`.
//!
//! What KVM never passes on (`ht`, `monitor`, `est`, `acpi`, `ibs`, …) or only with nested virtualisation (`svm`,
//! `vmx`) is left out, so that a feature of this table that is missing means something.

/// A register of a CPUID answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Register {
    Ebx,
    Ecx,
    Edx,
}

/// One register of one leaf, with its bits by name.
pub(super) struct Word {
    pub(super) leaf: u32,
    pub(super) subleaf: u32,
    pub(super) register: Register,
    pub(super) bits: &'static [(u32, &'static str)],
}

/// The baseline that any 64-bit guest needs (x86-64-v1, the features that a kernel refuses to boot without).
pub(super) const BASELINE: [&str; 9] = ["lm", "nx", "sse2", "sse", "fxsr", "cx8", "cmov", "pae", "fpu"];

pub(super) const WORDS: [Word; 6] = [
    Word {
        leaf: 1,
        subleaf: 0,
        register: Register::Edx,
        bits: &[
            (0, "fpu"),
            (1, "vme"),
            (2, "de"),
            (3, "pse"),
            (4, "tsc"),
            (5, "msr"),
            (6, "pae"),
            (7, "mce"),
            (8, "cx8"),
            (9, "apic"),
            (11, "sep"),
            (12, "mtrr"),
            (13, "pge"),
            (14, "mca"),
            (15, "cmov"),
            (16, "pat"),
            (17, "pse36"),
            (19, "clflush"),
            (23, "mmx"),
            (24, "fxsr"),
            (25, "sse"),
            (26, "sse2"),
            (27, "ss"),
        ],
    },
    Word {
        leaf: 1,
        subleaf: 0,
        register: Register::Ecx,
        bits: &[
            (0, "pni"),
            (1, "pclmulqdq"),
            (9, "ssse3"),
            (12, "fma"),
            (13, "cx16"),
            (17, "pcid"),
            (19, "sse4_1"),
            (20, "sse4_2"),
            (21, "x2apic"),
            (22, "movbe"),
            (23, "popcnt"),
            (25, "aes"),
            (26, "xsave"),
            (28, "avx"),
            (29, "f16c"),
            (30, "rdrand"),
        ],
    },
    Word {
        leaf: 7,
        subleaf: 0,
        register: Register::Ebx,
        bits: &[
            (0, "fsgsbase"),
            (3, "bmi1"),
            (4, "hle"),
            (5, "avx2"),
            (7, "smep"),
            (8, "bmi2"),
            (9, "erms"),
            (10, "invpcid"),
            (11, "rtm"),
            (16, "avx512f"),
            (17, "avx512dq"),
            (18, "rdseed"),
            (19, "adx"),
            (20, "smap"),
            (21, "avx512ifma"),
            (23, "clflushopt"),
            (24, "clwb"),
            (28, "avx512cd"),
            (29, "sha_ni"),
            (30, "avx512bw"),
            (31, "avx512vl"),
        ],
    },
    Word {
        leaf: 7,
        subleaf: 0,
        register: Register::Ecx,
        bits: &[
            (1, "avx512vbmi"),
            (2, "umip"),
            (3, "pku"),
            (6, "avx512_vbmi2"),
            (8, "gfni"),
            (9, "vaes"),
            (10, "vpclmulqdq"),
            (11, "avx512_vnni"),
            (12, "avx512_bitalg"),
            (14, "avx512_vpopcntdq"),
            (16, "la57"),
            (22, "rdpid"),
            (25, "cldemote"),
            (27, "movdiri"),
            (28, "movdir64b"),
        ],
    },
    Word {
        leaf: 0x8000_0001,
        subleaf: 0,
        register: Register::Edx,
        bits: &[
            (11, "syscall"),
            (20, "nx"),
            (22, "mmxext"),
            (25, "fxsr_opt"),
            (26, "pdpe1gb"),
            (27, "rdtscp"),
            (29, "lm"),
        ],
    },
    Word {
        leaf: 0x8000_0001,
        subleaf: 0,
        register: Register::Ecx,
        bits: &[
            (0, "lahf_lm"),
            (4, "cr8_legacy"),
            (5, "abm"),
            (6, "sse4a"),
            (7, "misalignsse"),
            (8, "3dnowprefetch"),
            (9, "osvw"),
            (11, "xop"),
            (16, "fma4"),
            (21, "tbm"),
            (22, "topoext"),
            (23, "perfctr_core"),
        ],
    },
];

/// Features of the table that are among the CPU's flags and whose bit is clear in what is offered. `offered` answers
/// a leaf's register, or nothing if CPUID has no such leaf.
pub(super) fn missing(flags: &[String], offered: impl Fn(u32, u32, Register) -> Option<u32>) -> Vec<String> {
    let flags: std::collections::HashSet<&str> = flags.iter().map(String::as_str).collect();
    let mut missing = Vec::new();
    for word in &WORDS {
        let value = offered(word.leaf, word.subleaf, word.register).unwrap_or(0);
        for (bit, name) in word.bits {
            if value & (1 << bit) == 0 && flags.contains(name) {
                missing.push((*name).to_owned());
            }
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_bit_and_no_name_is_twice_in_the_table() {
        let mut names = std::collections::BTreeSet::new();
        for word in &WORDS {
            assert!(word.bits.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[1].0 < 32));
            assert!(word.bits.iter().all(|(_, name)| names.insert(*name)));
        }
        assert!(BASELINE.iter().all(|name| names.contains(name)));
    }

    #[test]
    fn only_what_the_cpu_has_can_be_missing() {
        let flags = ["fpu", "nx", "ht", "avx"].map(str::to_owned);
        let offered = |leaf, _, register| (leaf == 1 && register == Register::Edx).then_some(1);
        assert_eq!(missing(&flags, offered), ["avx", "nx"]);
        assert!(missing(&flags, |_, _, _| Some(u32::MAX)).is_empty());
    }
}
