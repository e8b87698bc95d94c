//! systemd-logind: whether it runs, and how long it holds up a shutdown for those who asked for that (logind.conf(5)).

use serde::{Deserialize, Serialize};

use super::Root;

/// What is known about logind.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logind {
    /// Whether it runs.
    pub runs: bool,
    /// For how many seconds it holds up a shutdown at most (`InhibitDelayMaxSec=`); `None`: its configuration was not
    /// understood.
    pub delay: Option<u64>,
}

/// There while logind, or elogind, runs.
const FOLDER: &str = "/run/systemd/inhibit";
/// `InhibitDelayMaxSec=` if nothing else is configured.
const DELAY: u64 = 5;
/// The main file is in the first of these that has one; drop-ins of all are read, and one of an earlier folder replaces one
/// of the same name (systemd.syntax(7)).
const CONFIGURATION: [&str; 4] = ["/etc", "/run", "/usr/local/lib", "/usr/lib"];

impl Logind {
    pub(super) fn read(root: &Root) -> Self {
        let runs = root.path(FOLDER).is_dir();
        Self { runs, delay: if runs { delay(root) } else { None } }
    }
}

fn delay(root: &Root) -> Option<u64> {
    let main = CONFIGURATION.iter().map(|folder| format!("{folder}/systemd/logind.conf"));
    let main = main.filter_map(|path| root.text_up_to(path, 64 << 10)).take(1);
    let mut parts = std::collections::BTreeMap::new();
    for folder in CONFIGURATION {
        let folder = format!("{folder}/systemd/logind.conf.d");
        for name in root.names(&folder).into_iter().filter(|name| name.ends_with(".conf")) {
            parts.entry(name.clone()).or_insert_with(|| format!("{folder}/{name}"));
        }
    }
    let parts = parts.into_values().filter_map(|path| root.text_up_to(path, 64 << 10));
    let texts: Vec<String> = main.chain(parts).collect();
    let mut values = texts.iter().flat_map(|text| text.lines()).filter_map(|line| {
        let (key, value) = line.trim().split_once('=')?;
        (key.trim() == "InhibitDelayMaxSec").then_some(value.trim())
    });
    match values.next_back() {
        None | Some("") => Some(DELAY),
        Some(span) => seconds(span),
    }
}

/// A time span as systemd writes it (systemd.time(7)): `5`, `90s`, `1min 30s`; whole seconds.
fn seconds(span: &str) -> Option<u64> {
    let mut total = 0.0;
    let mut rest = span.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().ok()?;
        rest = rest[digits..].trim_start();
        let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
        total += number
            * match &rest[..letters] {
                "us" | "usec" | "µs" => 1e-6,
                "ms" | "msec" => 1e-3,
                "" | "s" | "sec" | "second" | "seconds" => 1.0,
                "m" | "min" | "minute" | "minutes" => 60.0,
                "h" | "hr" | "hour" | "hours" => 3600.0,
                "d" | "day" | "days" => 86400.0,
                _ => return None,
            };
        rest = rest[letters..].trim_start();
    }
    (!span.trim().is_empty()).then_some(total as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sample_tree;

    #[test]
    fn time_spans_of_systemd() {
        for (span, expected) in [
            ("5", Some(5)),
            ("90s", Some(90)),
            ("1min 30s", Some(90)),
            ("1.5m", Some(90)),
            ("2h", Some(7200)),
            ("900ms", Some(0)),
            ("soon", None),
            ("5 parsecs", None),
            ("", None),
        ] {
            assert_eq!(seconds(span), expected, "{span}");
        }
    }

    #[test]
    fn the_last_of_the_drop_ins_counts_and_the_nearer_of_two_with_one_name() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| sample_tree::put(folder.path(), path, text);
        let read = || Logind::read(&Root::new(folder.path()));
        assert_eq!(read(), Logind::default());
        put("run/systemd/inhibit/1.ref", "");
        assert_eq!(read(), Logind { runs: true, delay: Some(5) });
        put("usr/lib/systemd/logind.conf", "[Login]\nInhibitDelayMaxSec=7\n");
        put("etc/systemd/logind.conf", "[Login]\n#InhibitDelayMaxSec=5\n");
        assert_eq!(read().delay, Some(5));
        put("usr/lib/systemd/logind.conf.d/unattended-upgrades.conf", "[Login]\nInhibitDelayMaxSec = 30\n");
        assert_eq!(read().delay, Some(30));
        put("etc/systemd/logind.conf.d/unattended-upgrades.conf", "[Login]\n");
        put("etc/systemd/logind.conf.d/10-vm.conf", "InhibitDelayMaxSec=2min\n");
        assert_eq!(read().delay, Some(120));
        put("run/systemd/logind.conf.d/99.conf", "InhibitDelayMaxSec=for ever\n");
        assert_eq!(read(), Logind { runs: true, delay: None });
    }
}
