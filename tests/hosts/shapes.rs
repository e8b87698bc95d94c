//! The hosts of tests/hosts that were made up: what their /sys and /proc would say.

use vfio_run::units::CpuSet;

use crate::tree::{CacheShape, CoreShape, NodeShape, Shape};

pub const GIB: u64 = 1 << 20;

/// What every x86-64 CPU of the last ten years has, in the order of /proc/cpuinfo.
pub const COMMON: &str = "fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht \
     syscall nx pdpe1gb rdtscp lm constant_tsc rep_good nopl xtopology nonstop_tsc cpuid aperfmperf pni pclmulqdq \
     monitor ssse3 fma cx16 sse4_1 sse4_2 movbe popcnt aes xsave avx f16c rdrand lahf_lm abm 3dnowprefetch fsgsbase \
     bmi1 avx2 smep bmi2 rdseed adx smap clflushopt xsaveopt xsavec xgetbv1 arat";
pub const AMD: &str = "mmxext fxsr_opt rapl cmp_legacy svm extapic cr8_legacy sse4a misalignsse osvw skinit wdt tce topoext \
     perfctr_core perfctr_nb bpext perfctr_llc mwaitx cpb hw_pstate ssbd ibpb vmmcall sha_ni clzero irperf xsaveerptr \
     npt lbrv svm_lock nrip_save tsc_scale vmcb_clean flushbyasid decodeassists pausefilter pfthreshold avic \
     v_vmsave_vmload vgif overflow_recov succor smca";
pub const ZEN3: &str = "pcid x2apic ibs invpcid cqm rdt_a clwb erms umip pku ospke vaes vpclmulqdq rdpid fsrm";
const ZEN4: &str = "avx512f avx512dq avx512ifma avx512cd avx512bw avx512vl avx512_bf16 avx512vbmi avx512_vbmi2 gfni \
     avx512_vnni avx512_bitalg avx512_vpopcntdq la57 flush_l1d x2avic v_spec_ctrl vnmi";
pub const INTEL: &str = "dts acpi ss tm pbe art arch_perfmon pebs bts dtes64 ds_cpl vmx est tm2 sdbg xtpr pdcm pcid x2apic \
     tsc_deadline_timer cpuid_fault invpcid_single ssbd ibrs ibpb stibp ibrs_enhanced tpr_shadow flexpriority ept vpid \
     ept_ad tsc_adjust erms invpcid intel_pt xsaves dtherm ida pln pts hwp hwp_notify md_clear flush_l1d \
     arch_capabilities";

pub fn flags(parts: &[&str]) -> String {
    parts.join(" ").split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// Cores of two threads, siblings `n` and `n + cores`, numbered by `core_id` in the order given, all of one package.
pub fn threads_apart(core_ids: impl ExactSizeIterator<Item = u32>) -> Vec<CoreShape> {
    let cores = core_ids.len() as u32;
    (0..)
        .zip(core_ids)
        .map(|(n, core)| CoreShape { cpus: [n, n + cores].into_iter().collect(), core, package: 0 })
        .collect()
}

/// The sets of so many cores in a row.
pub fn by(cores: &[CoreShape], count: usize) -> Vec<CpuSet> {
    cores.chunks(count).map(|cores| cores.iter().flat_map(|c| c.cpus.iter().collect::<Vec<_>>()).collect()).collect()
}

/// The usual four caches: L1 and L2 by core, L3 by a number of cores.
pub fn caches(
    cores: &[CoreShape],
    data: u64,
    instructions: u64,
    l2: u64,
    l3: u64,
    cores_by_l3: usize,
) -> Vec<CacheShape> {
    let one = |index, level, kind, kib, count| CacheShape { index, level, kind, kib, shared: by(cores, count) };
    vec![
        one(0, 1, "Data", data, 1),
        one(1, 1, "Instruction", instructions, 1),
        one(2, 2, "Unified", l2, 1),
        one(3, 3, "Unified", l3, cores_by_l3),
    ]
}

/// A host of one node, root in a session on a Debian with KVM on AMD; its CPUs are filled in.
pub fn desktop(model: &'static str, flags: String, cores: Vec<CoreShape>, caches: Vec<CacheShape>, gib: u64) -> Shape {
    let cpus = by(&cores, cores.len()).remove(0);
    // What the firmware and the kernel reserve.
    let total_kib = gib * GIB - 530_512;
    Shape {
        kernel: "6.1.0-28-amd64",
        cmdline: "BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 root=/dev/nvme0n1p2 ro quiet amd_iommu=on iommu=pt",
        isolated: "",
        vendor: "AuthenticAMD",
        model,
        flags,
        cores,
        caches,
        nodes: vec![NodeShape { cpus, total_kib, free_kib: total_kib - 6 * GIB, distances: "10" }],
        available_kib: total_kib - 3 * GIB,
        hybrid: None,
        pools: vec![(2048, 0, 0), (1 << 20, 0, 0)],
        uid: 0,
        cgroup: "/user.slice/user-0.slice/session-2.scope",
        memlock: "8388608",
        parameters: vec![
            ("kvm/halt_poll_ns", "200000"),
            ("kvm/ignore_msrs", "N"),
            ("kvm/nx_huge_pages", "N"),
            ("kvm/tdp_mmu", "Y"),
            ("kvm_amd/avic", "N"),
            ("kvm_amd/nested", "1"),
            ("kvm_amd/npt", "Y"),
            ("kvm_amd/sev", "N"),
        ],
        board: None,
    }
}

pub fn intel(shape: Shape) -> Shape {
    Shape {
        vendor: "GenuineIntel",
        cmdline: "BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 root=/dev/nvme0n1p2 ro quiet intel_iommu=on iommu=pt",
        parameters: vec![
            ("kvm/halt_poll_ns", "200000"),
            ("kvm/ignore_msrs", "N"),
            ("kvm/nx_huge_pages", "N"),
            ("kvm/tdp_mmu", "Y"),
            ("kvm_intel/enable_apicv", "Y"),
            ("kvm_intel/enable_ipiv", "Y"),
            ("kvm_intel/ept", "Y"),
            ("kvm_intel/nested", "Y"),
        ],
        ..shape
    }
}

/// Eight cores, one L3 of 96 MiB.
pub fn ryzen_5800x3d() -> Shape {
    let cores = threads_apart(0..8);
    let caches = caches(&cores, 32, 32, 512, 98_304, 8);
    desktop("AMD Ryzen 7 5800X3D 8-Core Processor", flags(&[COMMON, AMD, ZEN3]), cores, caches, 32)
}

/// Two dies of eight cores: the first has 96 MiB of L3, the second 32 MiB and the higher clock.
pub fn ryzen_7950x3d() -> Shape {
    let cores = threads_apart(0..16);
    let mut caches = caches(&cores, 32, 32, 1024, 98_304, 8);
    let second = CacheShape { kib: 32_768, shared: vec![caches[3].shared.remove(1)], ..caches[3] };
    caches.push(second);
    let shape = desktop("AMD Ryzen 9 7950X3D 16-Core Processor", flags(&[COMMON, AMD, ZEN3, ZEN4]), cores, caches, 64);
    // A machine that runs as a unit, with huge pages made at boot.
    Shape {
        cmdline: "BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 root=/dev/nvme0n1p2 ro quiet iommu=pt default_hugepagesz=1G \
             hugepagesz=1G hugepages=24",
        pools: vec![(2048, 0, 0), (1 << 20, 24, 24)],
        cgroup: "/system.slice/vfio-run-win11.service",
        memlock: "unlimited",
        ..shape
    }
}

/// Two complexes of three cores with 8 MiB each; `core_id` has a hole in place of the fourth core, which was fused off.
pub fn ryzen_1600() -> Shape {
    let cores = threads_apart([0, 1, 2, 4, 5, 6].into_iter());
    let caches = caches(&cores, 32, 64, 512, 8192, 3);
    desktop("AMD Ryzen 5 1600 Six-Core Processor", flags(&[COMMON, AMD]), cores, caches, 16)
}

/// Eight P cores of two threads, siblings adjacent, and eight E cores whose L2 is shared by four.
pub fn core_i7_13700k() -> Shape {
    let performance =
        (0..8).map(|n| CoreShape { cpus: [2 * n, 2 * n + 1].into_iter().collect(), core: 4 * n, package: 0 });
    let efficiency = (0..8).map(|n| CoreShape { cpus: [16 + n].into_iter().collect(), core: 32 + n, package: 0 });
    let cores: Vec<CoreShape> = performance.chain(efficiency).collect();
    let (p, e) = cores.split_at(8);
    let one = |index, level, kind, kib, shared| CacheShape { index, level, kind, kib, shared };
    let caches = vec![
        one(0, 1, "Data", 48, by(p, 1)),
        one(1, 1, "Instruction", 32, by(p, 1)),
        one(2, 2, "Unified", 2048, by(p, 1)),
        one(0, 1, "Data", 32, by(e, 1)),
        one(1, 1, "Instruction", 64, by(e, 1)),
        one(2, 2, "Unified", 4096, by(e, 4)),
        one(3, 3, "Unified", 30_720, by(&cores, 16)),
    ];
    let more = "sha_ni umip pku ospke waitpkg gfni vaes vpclmulqdq rdpid movdiri movdir64b fsrm serialize split_lock_detect \
         avx_vnni clwb";
    let shape = desktop("13th Gen Intel(R) Core(TM) i7-13700K", flags(&[COMMON, INTEL, more]), cores, caches, 64);
    Shape { hybrid: Some(("0-15", "16-23")), ..intel(shape) }
}

/// Two sockets of 128 cores and 256 threads, one node each (NPS1); an L3 of 16 MiB for eight cores.
pub fn epyc_9754x2() -> Shape {
    let cores: Vec<CoreShape> = (0..256)
        .map(|n| CoreShape { cpus: [n, n + 256].into_iter().collect(), core: n % 128, package: n / 128 })
        .collect();
    let caches = caches(&cores, 32, 32, 1024, 16_384, 8);
    let nodes = by(&cores, 128);
    let model = "AMD EPYC 9754 128-Core Processor";
    let shape = desktop(model, flags(&[COMMON, AMD, ZEN3, ZEN4, "sev sev_es"]), cores, caches, 768);
    let node = |cpus: &CpuSet, distances| NodeShape {
        cpus: cpus.clone(),
        total_kib: 384 * GIB - 1_052_672,
        free_kib: 371 * GIB,
        distances,
    };
    Shape {
        nodes: vec![node(&nodes[0], "10 32"), node(&nodes[1], "32 10")],
        available_kib: 745 * GIB,
        cgroup: "/user.slice/user-0.slice/session-11.scope",
        ..shape
    }
}

/// Two sockets of 16 cores without SMT, numbered in turn as many servers do: node 0 has the even CPUs.
pub fn xeon_2numa() -> Shape {
    const CORE_IDS: [u32; 16] = [0, 1, 2, 3, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 16, 17];
    let cores: Vec<CoreShape> = (0..2)
        .flat_map(|package| {
            (0..).zip(CORE_IDS).map(move |(n, core)| CoreShape {
                cpus: CpuSet::from_iter([2 * n + package]),
                core,
                package,
            })
        })
        .collect();
    let caches = caches(&cores, 32, 32, 1024, 22_528, 16);
    let nodes = by(&cores, 16);
    let more = "hle rtm mpx avx512f avx512dq clwb avx512cd avx512bw avx512vl xsaves pku ospke avx512_vnni umip dca";
    let shape =
        intel(desktop("Intel(R) Xeon(R) Gold 6226R CPU @ 2.90GHz", flags(&[COMMON, INTEL, more]), cores, caches, 192));
    let node = |cpus: &CpuSet, free_kib, distances| NodeShape {
        cpus: cpus.clone(),
        total_kib: 96 * GIB - 821_336,
        free_kib,
        distances,
    };
    Shape {
        nodes: vec![node(&nodes[0], 60 * GIB, "10 21"), node(&nodes[1], 88 * GIB, "21 10")],
        available_kib: 170 * GIB,
        isolated: "17,19,21,23,25,27,29,31",
        cmdline: "BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 root=/dev/sda2 ro quiet intel_iommu=on \
             isolcpus=17,19,21,23,25,27,29,31",
        pools: vec![(2048, 4096, 1024), (1 << 20, 0, 0)],
        ..shape
    }
}

/// Four cores, eight threads, a user at the desktop.
pub fn laptop_4c() -> Shape {
    let cores = threads_apart(0..4);
    let caches = caches(&cores, 32, 32, 256, 8192, 4);
    let flags = flags(&[COMMON, INTEL, "mpx hle rtm"]);
    let shape = intel(desktop("Intel(R) Core(TM) i7-8565U CPU @ 1.80GHz", flags, cores, caches, 16));
    Shape {
        uid: 1000,
        cgroup: "/user.slice/user-1000.slice/session-3.scope",
        cmdline: "BOOT_IMAGE=/boot/vmlinuz-6.1.0-28-amd64 root=/dev/nvme0n1p2 ro quiet splash",
        ..shape
    }
}

/// The lab: Debian 12 in a QEMU that emulates `-cpu EPYC-v1,+svm -smp 4`.
pub fn debian12_lab() -> Shape {
    let cores: Vec<CoreShape> =
        (0..4).map(|n| CoreShape { cpus: CpuSet::from_iter([n]), core: n, package: 0 }).collect();
    let caches = caches(&cores, 32, 64, 512, 8192, 4);
    let flags = "fpu de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush mmx fxsr sse sse2 ht syscall \
         nx mmxext fxsr_opt pdpe1gb rdtscp lm rep_good nopl cpuid extd_apicid pni pclmulqdq ssse3 fma cx16 sse4_1 sse4_2 \
         movbe popcnt aes xsave avx f16c rdrand hypervisor lahf_lm cmp_legacy svm cr8_legacy abm sse4a 3dnowprefetch \
         vmmcall fsgsbase bmi1 avx2 smep bmi2 rdseed adx smap clflushopt sha_ni xsaveopt xgetbv1 arat npt";
    let shape = desktop("AMD EPYC Processor", flags.to_owned(), cores, caches, 16);
    let cpus = shape.nodes[0].cpus.clone();
    let node = NodeShape { cpus, total_kib: 2_989_164, free_kib: 2_651_008, distances: "10" };
    Shape {
        kernel: "6.1.0-50-amd64",
        cmdline: "console=tty0 console=ttyS0 intel_iommu=on quiet lab.root=disk lab.init=/sbin/init",
        nodes: vec![node],
        available_kib: 2_702_336,
        cgroup: "/system.slice/lab-agent.service",
        ..shape
    }
}
