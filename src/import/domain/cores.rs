//! The host's cores, and better CPUs for vCPUs than a domain has.

use crate::host::Root;
use crate::units::CpuSet;

const FOLDER: &str = "/sys/devices/system/cpu";

/// The threads of each core, in the order of their first CPUs.
pub fn all(root: &Root) -> Vec<CpuSet> {
    let online = root.list(format!("{FOLDER}/online")).unwrap_or_default();
    let threads = |cpu: u32| root.list(format!("{FOLDER}/cpu{cpu}/topology/thread_siblings_list"));
    let mut cores: Vec<CpuSet> = Vec::new();
    for cpu in online.iter() {
        if !cores.iter().any(|core| core.contains(cpu)) {
            cores.extend(threads(cpu));
        }
    }
    cores
}

/// The cores that these CPUs are of, whole.
pub fn whole(cores: &[CpuSet], cpus: &CpuSet) -> CpuSet {
    let touched = cores.iter().filter(|core| !core.intersection(cpus).is_empty());
    touched.fold(cpus.clone(), |all, core| all.union(core))
}

/// Better CPUs, and why.
pub struct Better {
    /// As many as before.
    pub cpus: CpuSet,
    /// What is wrong with those so far.
    pub why: &'static str,
}

/// Better CPUs for vCPUs that have these, `threads` to a core of the guest's: as many whole cores from the other end, if they
/// are threads of cores that the host uses too, or CPU 0 is among them. `None` if they are well chosen, or there are no others.
pub fn better(cores: &[CpuSet], written: &CpuSet, threads: usize) -> Option<Better> {
    let first = cores.iter().find(|core| core.contains(0))?;
    let why = if threads > 1 && whole(cores, written) != *written {
        "the other threads of their cores were the host's, for which the vCPUs had to wait"
    } else if written.contains(0) && whole(cores, written) == *written {
        "CPU 0 was among them, where the host's interrupts and timers disturb a vCPU"
    } else {
        return None;
    };
    let wanted = written.len() / first.len();
    let alike: Vec<&CpuSet> = cores.iter().filter(|core| core.len() == first.len() && *core != first).collect();
    let found = alike.len().checked_sub(wanted)?;
    let cpus = alike[found..].iter().fold(CpuSet::new(), |all, core| all.union(core));
    (cpus.len() == written.len()).then_some(Better { cpus, why })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cpus(text: &str) -> CpuSet {
        text.parse().unwrap()
    }

    fn chosen(cores: &[&str], written: &str, threads: usize) -> Option<String> {
        let cores: Vec<CpuSet> = cores.iter().map(|core| cpus(core)).collect();
        better(&cores, &cpus(written), threads).map(|better| better.cpus.to_string())
    }

    #[test]
    fn vcpus_have_whole_cores_and_not_cpu_0s() {
        // Siblings side by side, and a small core without one.
        let near = ["0-1", "2-3", "4-5", "6-7", "8"];
        assert_eq!(chosen(&near, "0-3", 2), Some("4-7".to_owned()));
        assert_eq!(chosen(&near, "2-5", 2), None);
        assert_eq!(chosen(&near, "0-7", 2), None, "there are no others");
        // Second threads of all cores.
        let far = ["0,4", "1,5", "2,6", "3,7"];
        assert_eq!(chosen(&far, "4-7", 2), Some("2-3,6-7".to_owned()));
        assert_eq!(chosen(&far, "4-7", 1), None, "a guest without threads has a core for each vCPU");
        assert_eq!(chosen(&far, "1-2", 1), None);
        assert_eq!(chosen(&[], "0-3", 2), None, "a host that tells nothing");
        assert_eq!(whole(&far.map(cpus), &cpus("0,3")), cpus("0,3-4,7"));
    }
}
