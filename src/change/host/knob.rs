//! A row of host tuning as data: which files get which value, and why. The plan has the table; this makes settings of a row.

use super::writes::Setting;
use crate::change::compare::Compare;
use crate::units::CpuSet;

/// A row of host tuning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Knob {
    /// The field of the machine file that asks for it: `host.governor`.
    pub field: &'static str,
    /// The files; `{cpu}` stands for the number of each CPU that is meant.
    pub files: &'static [&'static str],
    /// What is written.
    pub value: &'static str,
    /// How the value reads back.
    pub compare: Compare,
    /// Whether a host may not have these files.
    pub may_be_missing: bool,
    /// Error numbers by which the kernel may refuse one of them and nothing is wrong.
    pub may_refuse: &'static [i32],
    /// Whether these files and those of another row of the same change limit each other.
    pub paired: bool,
    /// Why it helps the guest, as the plan's origin says it.
    pub why: &'static str,
}

impl Knob {
    /// A row of this value for this reason; field and files are to be filled in.
    pub const fn new(value: &'static str, why: &'static str) -> Self {
        Self {
            field: "",
            files: &[],
            value,
            compare: Compare::Text,
            may_be_missing: false,
            may_refuse: &[],
            paired: false,
            why,
        }
    }

    /// The row's settings for these CPUs, in the order of its files.
    pub fn settings(&self, cpus: &CpuSet) -> Vec<Setting> {
        self.settings_with(self.value, cpus)
    }

    /// As [`Knob::settings`], with a value that only the plan knows.
    pub fn settings_with(&self, value: &str, cpus: &CpuSet) -> Vec<Setting> {
        let paths = self.files.iter().flat_map(|file| match file.contains("{cpu}") {
            true => cpus.iter().map(|cpu| file.replace("{cpu}", &cpu.to_string())).collect(),
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
    fn a_row_has_a_setting_for_each_file_and_cpu() {
        const ROW: Knob = Knob {
            field: "host.frequency",
            files: &["/cpu{cpu}/min", "/all", "/cpu{cpu}/max"],
            paired: true,
            may_refuse: &[libc::EBUSY],
            ..Knob::new("1", "a CPU that sleeps deeply takes long to wake")
        };
        let settings = ROW.settings_with("800000", &"4-5".parse().unwrap());
        let paths: Vec<_> = settings.iter().map(|setting| setting.path.to_str().unwrap()).collect();
        assert_eq!(paths, ["/cpu4/min", "/cpu5/min", "/all", "/cpu4/max", "/cpu5/max"]);
        assert!(settings.iter().all(|s| s.value == "800000" && s.paired && s.may_refuse == [libc::EBUSY]));
    }
}
