//! What a check found, as people read it.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::plan::{Finding, Severity, Verdict};

/// The findings, those that forbid the start first. Without `all`, what is as it should be is left out.
pub fn findings(findings: &[Finding], all: bool) -> String {
    let mut shown: Vec<&Finding> = findings.iter().filter(|f| all || f.ok == Verdict::No).collect();
    shown.sort_by_key(|f| (!f.blocks(), f.ok == Verdict::Yes));
    let mut text = String::new();
    for finding in shown {
        let (mark, style) = mark(finding);
        let key = &finding.key;
        // Writing to a String cannot fail.
        let _ = write!(text, "{style}{mark}{style:#} {} [{key}]", finding.sentence());
        if let Some(remedy) = finding.remedy.as_deref().filter(|_| finding.ok != Verdict::Yes) {
            let _ = write!(text, "\n     → {remedy}");
        }
        text.push('\n');
    }
    text.truncate(text.trim_end().len());
    text
}

fn mark(finding: &Finding) -> (&'static str, Style) {
    let (mark, color) = match (finding.ok, finding.severity) {
        (Verdict::Yes, _) => ("ok  ", AnsiColor::Green),
        (Verdict::Unknown, _) => ("?   ", AnsiColor::Cyan),
        (Verdict::No, Severity::Soft) => ("warn", AnsiColor::Yellow),
        (Verdict::No, Severity::Hard) => ("FAIL", AnsiColor::Red),
    };
    (mark, color.on_default().bold())
}
