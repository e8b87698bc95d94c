//! What a check found, as people read it.

use anstyle::{AnsiColor, Style};

use super::hanging::within;
use crate::plan::{Finding, Severity, Verdict};
use crate::units::printable_lines;

/// The findings, those that forbid the start first. Without `all`, what is as it should be is left out, and what could not
/// be found out, if it would not forbid the start. For a reader of this width.
pub fn findings(findings: &[Finding], all: bool, width: usize) -> String {
    let matters = |f: &Finding| match f.ok {
        Verdict::Yes => false,
        Verdict::No => true,
        Verdict::Unknown => f.severity == Severity::Hard,
    };
    let mut shown: Vec<&Finding> = findings.iter().filter(|f| all || matters(f)).collect();
    shown.sort_by_key(|f| (!f.blocks(), f.ok == Verdict::Yes));
    let mut text = String::new();
    for finding in shown {
        let (mark, style) = mark(finding);
        let key = &finding.key;
        text.push_str(&within(
            width,
            &format!("{style}{mark}{style:#} "),
            &format!("{} [{key}]", printable_lines(&finding.sentence())),
        ));
        if let Some(remedy) = finding.remedy.as_deref().filter(|_| all || finding.ok != Verdict::Yes) {
            text.push('\n');
            text.push_str(&within(width, "     → ", &printable_lines(remedy)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_and_could_forbid_the_start_is_always_shown() {
        let finding = |key: &str, severity, ok| Finding {
            key: key.to_owned(),
            severity,
            ok,
            detail: format!("the {key}"),
            remedy: Some("mend it".to_owned()),
            origin: None,
            place: None,
        };
        let found = [
            finding("unknown", Severity::Hard, Verdict::Unknown),
            finding("unimportant", Severity::Soft, Verdict::Unknown),
            finding("good", Severity::Hard, Verdict::Yes),
            finding("bad", Severity::Hard, Verdict::No),
        ];
        let text = anstream::adapter::strip_str(&findings(&found, false, usize::MAX)).to_string();
        assert_eq!(text, "FAIL the bad [bad]\n     → mend it\n?    the unknown [unknown]\n     → mend it");
        assert_eq!(findings(&found, true, usize::MAX).lines().count(), 8);
        let named = Finding {
            detail: "/\u{1b}[2J\u{202e}gpj.x\nis not there".to_owned(),
            ..finding("file", Severity::Hard, Verdict::No)
        };
        let text = anstream::adapter::strip_str(&findings(&[named], false, usize::MAX)).to_string();
        assert!(text.starts_with("FAIL /\u{fffd}[2J\u{fffd}gpj.x\n     is not there [file]"), "{text}");
        let narrow = anstream::adapter::strip_str(&findings(&found[3..], false, 11)).to_string();
        assert_eq!(narrow, "FAIL the\n     bad\n     [bad]\n     → mend\n       it");
    }
}
