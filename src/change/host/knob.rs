//! A row of host tuning as data: which files it is about, how they read back, and why. The plan has the table and the values;
//! this makes settings of a row.

use super::writes::Setting;
use crate::change::compare::Compare;
use crate::units::CpuSet;

/// A row of host tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knob {
    /// The field of the machine file that asks for it: `host.governor`.
    pub field: &'static str,
    /// The files; `{n}` stands for each number that is meant: a CPU's, a cpufreq policy's, an interrupt's.
    pub files: &'static [&'static str],
    /// How the value reads back.
    pub compare: Compare,
    /// Whether a host may not have these files.
    pub may_be_missing: bool,
    /// Error numbers by which the kernel may refuse one of them and nothing is wrong.
    pub may_refuse: &'static [i32],
    /// Whether another file limits these, or these limit one another.
    pub paired: bool,
    /// What it does, as an imperative: `set the governor of cpufreq`.
    pub what: &'static str,
    /// Why it helps the guest, as a sentence's beginning: `the CPUs need not speed up first`.
    pub why: &'static str,
}

impl Knob {
    /// A row that does this for this reason; field and files are to be filled in.
    pub const fn new(what: &'static str, why: &'static str) -> Self {
        Self {
            field: "",
            files: &[],
            compare: Compare::Text,
            may_be_missing: false,
            may_refuse: &[],
            paired: false,
            what,
            why,
        }
    }

    /// The settings of this value for these numbers, in the order of the row's files.
    pub fn settings(&self, value: &str, numbers: &CpuSet) -> Vec<Setting> {
        let paths = self.files.iter().flat_map(|file| match file.contains("{n}") {
            true => numbers.iter().map(|number| file.replace("{n}", &number.to_string())).collect(),
            false => vec![(*file).to_owned()],
        });
        let setting = |path| Setting {
            compare: self.compare,
            may_be_missing: self.may_be_missing,
            may_refuse: self.may_refuse.to_vec(),
            paired: self.paired,
            ..Setting::new(path, value)
        };
        paths.map(setting).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_a_setting_for_each_file_and_number() {
        const ROW: Knob = Knob {
            files: &["/cpu{n}/min", "/all", "/cpu{n}/max"],
            paired: true,
            may_refuse: &[libc::EBUSY],
            ..Knob::new("keep the CPUs fast", "a CPU that sleeps deeply takes long to wake")
        };
        let settings = ROW.settings("800000", &"4-5".parse().unwrap());
        let paths: Vec<_> = settings.iter().map(|setting| setting.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/cpu4/min", "/cpu5/min", "/all", "/cpu4/max", "/cpu5/max"]);
        assert!(settings.iter().all(|s| s.value == "800000" && s.paired && s.may_refuse == [libc::EBUSY]));
    }
}
