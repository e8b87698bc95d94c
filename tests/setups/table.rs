//! The tables: a setting a line, `setting | where it was | what carries it | that`, with a note behind if it is another value.

use vfio_run::plan::Plan;

use super::carried;
use super::input::root;

/// A setting.
#[derive(Debug)]
pub struct Row {
    /// As it was.
    pub setting: String,
    /// In which part of the setup.
    pub place: String,
    /// What of the plan carries it: a word of [`carried::HOW`], or `none`.
    pub how: String,
    /// What is looked for there; or why it is not wanted.
    pub what: String,
    /// Each machine has it, whatever its file says.
    pub every: bool,
}

impl Row {
    /// Whether the plan has to carry it.
    pub fn is_wanted(&self) -> bool {
        self.how != "none"
    }

    /// Whether the plan carries it, or need not.
    pub fn is_carried(&self, plan: &Plan) -> bool {
        !self.is_wanted() || carried::is(plan, &self.how, &self.what)
    }
}

/// The table of a machine.
pub fn read(machine: &str) -> Vec<Row> {
    let path = root().join("tests/setups").join(machine).with_extension("txt");
    let text = std::fs::read_to_string(path).unwrap();
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rows: Vec<Row> = lines
        .map(|line| {
            let columns: Vec<&str> = line.split(" | ").map(str::trim).collect();
            let (4 | 5, [setting, place, how, what, ..]) = (columns.len(), columns.as_slice()) else {
                panic!("{machine}: not four columns, or five with a note: {line}");
            };
            let (every, how) = how.strip_prefix("every ").map_or((false, *how), |how| (true, how));
            let text = |text: &str| text.to_owned();
            Row { setting: text(setting), place: text(place), how: text(how), what: text(what), every }
        })
        .collect();
    for (n, row) in rows.iter().enumerate() {
        let twice = rows[..n].iter().any(|other| (&other.setting, &other.place) == (&row.setting, &row.place));
        assert!(!twice, "{machine}: twice in the table: {row:?}");
        assert!(row.is_wanted() || row.what.len() > 20, "{machine}: a reason is a sentence: {row:?}");
    }
    rows
}
