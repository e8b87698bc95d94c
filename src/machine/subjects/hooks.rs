//! Programs of the user's own that take part in a run.

use std::path::{Component, Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use crate::machine::named::Named;
use crate::machine::problems::Problems;
use crate::machine::short_or_fields::{FromShort, ShortOrFields};
use crate::machine::subject::Subject;
use crate::units::Stage;

/// More than anybody wants to wait for.
const MAX_HOOKS: usize = 32;
const MAX_TIMEOUT: u32 = 3600;

/// Programs that vfio-run starts at the stages of a run: as the user who starts the machine, one after the other, without a
/// shell.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hooks {
    /// Before vfio-run changes anything on the host. One that fails stops the start.
    #[serde(default, deserialize_with = "list")]
    #[schemars(schema_with = "list_schema")]
    pub before: Vec<Hook>,
    /// When the host is ready for the guest, before QEMU starts. One that fails stops the start.
    #[serde(default, deserialize_with = "list")]
    #[schemars(schema_with = "list_schema")]
    pub ready: Vec<Hook>,
    /// When the guest runs. The guest does not wait for them.
    #[serde(default, deserialize_with = "list")]
    #[schemars(schema_with = "list_schema")]
    pub running: Vec<Hook>,
    /// When the keyboard and mouse that host and guest share (`input`) have changed hands: `VFIO_RUN_INPUT` is `guest` or
    /// `host`.
    #[serde(default, deserialize_with = "list")]
    #[schemars(schema_with = "list_schema")]
    pub toggled: Vec<Hook>,
    /// When the guest has ended, before vfio-run restores the host; also if the guest never ran, once `ready` was reached.
    #[serde(default, deserialize_with = "list")]
    #[schemars(schema_with = "list_schema")]
    pub ended: Vec<Hook>,
    /// When the host is restored; also if the start failed.
    #[serde(default, deserialize_with = "list")]
    #[schemars(schema_with = "list_schema")]
    pub restored: Vec<Hook>,
}

/// A program that vfio-run starts at a stage: a list of the program and its arguments, or fields in parentheses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hook {
    /// The path of the program, and its arguments.
    pub argv: Vec<String>,
    /// Seconds that it may take, 1 to 3600; then vfio-run ends it, and it has failed. Default 30.
    #[serde(default)]
    pub timeout: Option<u32>,
}

impl Hooks {
    /// The programs of a stage.
    pub fn of(&self, stage: Stage) -> &[Hook] {
        match stage {
            Stage::Before => &self.before,
            Stage::Ready => &self.ready,
            Stage::Running => &self.running,
            Stage::Toggled => &self.toggled,
            Stage::Ended => &self.ended,
            Stage::Restored => &self.restored,
        }
    }

    /// The same, to be changed.
    fn of_mut(&mut self, stage: Stage) -> &mut Vec<Hook> {
        match stage {
            Stage::Before => &mut self.before,
            Stage::Ready => &mut self.ready,
            Stage::Running => &mut self.running,
            Stage::Toggled => &mut self.toggled,
            Stage::Ended => &mut self.ended,
            Stage::Restored => &mut self.restored,
        }
    }

    /// Seconds that the programs of these stages may take in all.
    pub fn limit(&self, stages: &[Stage]) -> u32 {
        let hooks = stages.iter().flat_map(|stage| self.of(*stage));
        hooks.fold(0, |sum: u32, hook| sum.saturating_add(hook.timeout()))
    }
}

impl Hook {
    /// Seconds that it may take.
    pub fn timeout(&self) -> u32 {
        self.timeout.unwrap_or(30)
    }
}

impl Subject for Hooks {
    fn check(&self, problems: &mut Problems) {
        for stage in Stage::ALL {
            let hooks = self.of(stage);
            if hooks.len() > MAX_HOOKS {
                problems
                    .add(format!("hooks.{stage}[{MAX_HOOKS}]"), format!("{} hooks are too many", hooks.len()))
                    .allowed(format!("at most {MAX_HOOKS} for a stage"));
            }
            for (i, hook) in hooks.iter().enumerate() {
                let field = format!("hooks.{stage}[{i}]");
                match hook.argv.first().map(String::as_str) {
                    None | Some("") => {
                        problems
                            .add(&field, format!("`{field}` names no program"))
                            .allowed("a program and its arguments, such as [\"/usr/local/bin/lights\", \"off\"]");
                    }
                    Some(program) if program.starts_with('~') => {
                        problems
                            .add(&field, format!("`{field}`: `~` is not your home folder here"))
                            .allowed("an absolute path, or one that starts from the machine file's folder");
                    }
                    Some(program) if !program.contains('/') => {
                        problems
                            .add(&field, format!("`{field}`: {program:?} is not a path"))
                            .allowed(format!("an absolute path, or `./{program}` for one in the machine file's folder"))
                            .help("hooks are not looked up in PATH, so that only one program can be meant");
                    }
                    Some(_) => {}
                }
                if let Some(seconds) = hook.timeout.filter(|seconds| !(1..=MAX_TIMEOUT).contains(seconds)) {
                    problems
                        .add(format!("{field}.timeout"), format!("`timeout` cannot be {seconds}"))
                        .allowed(format!("1 to {MAX_TIMEOUT} seconds"));
                }
            }
        }
    }

    fn resolve(&mut self, folder: &Path) {
        for stage in Stage::ALL {
            for hook in self.of_mut(stage) {
                if let Some(program) = hook.argv.first_mut().filter(|p| p.contains('/') && !p.starts_with('~')) {
                    let relative: PathBuf =
                        Path::new(&*program).components().filter(|c| *c != Component::CurDir).collect();
                    *program = folder.join(relative).to_string_lossy().into_owned();
                }
            }
        }
    }

    fn name(&self, named: &mut Named) {
        let hooks = Stage::ALL.into_iter().flat_map(|stage| self.of(stage));
        named.files.extend(hooks.filter_map(|hook| hook.argv.first().map(PathBuf::from)));
    }
}

impl FromShort for Hook {
    type Short = Vec<String>;

    const EXPECTED: &str = "a list of a program and its arguments, or fields";

    fn from_short(argv: Vec<String>) -> Result<Self, String> {
        Ok(Self { argv, timeout: None })
    }
}

/// Reads the list of a stage.
fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Hook>, D::Error> {
    Ok(Vec::<ShortOrFields<_>>::deserialize(from)?.into_iter().map(|ShortOrFields(hook)| hook).collect())
}

/// What such a list takes: for a list the items count, for an object the fields.
fn list_schema(generator: &mut SchemaGenerator) -> Schema {
    let mut item = Hook::json_schema(generator);
    item.insert("type".to_owned(), json!(["array", "object"]));
    item.insert("items".to_owned(), json!({ "type": "string" }));
    schemars::json_schema!({ "type": "array", "items": item })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::{Machine, parse};

    fn read(hooks: &str) -> Result<Machine, String> {
        let text = format!("(\n    guest: Other, memory: (size: \"1 GiB\"),\n    hooks: ({hooks}),\n)");
        parse(Path::new("/machines/a.ron"), &text).map(|source| source.machine).map_err(|refused| refused.to_string())
    }

    #[test]
    fn a_hook_is_a_list_of_words_or_fields() {
        let hooks =
            read(r#"ready: [["/bin/lights", "off", "a b"], (argv: ["./x", "./y"], timeout: 5)]"#).unwrap().hooks;
        let first = Hook { argv: ["/bin/lights", "off", "a b"].map(str::to_owned).to_vec(), timeout: None };
        // The program starts from the file's folder; its arguments are its own.
        let second = Hook { argv: ["/machines/x", "./y"].map(str::to_owned).to_vec(), timeout: Some(5) };
        assert_eq!(hooks.ready, [first, second]);
        assert_eq!((hooks.limit(&[Stage::Ready, Stage::Before]), hooks.limit(&[Stage::Ended])), (35, 0));
        assert_eq!(read("").unwrap().hooks, Hooks::default());
    }

    #[test]
    fn a_wrong_hook_is_named_with_its_place_and_what_is_allowed() {
        for (hooks, place, words) in [
            (r#"ready: [["lights"]]"#, "a.ron:3:21:", "`hooks.ready[0]`: \"lights\" is not a path"),
            (r#"ready: [["lights"]]"#, "a.ron:3:21:", "not looked up in PATH"),
            (r#"ready: [[]]"#, "a.ron:3:21:", "names no program"),
            (r#"ready: [["~/lights"]]"#, "a.ron:3:21:", "is not your home folder"),
            (
                r#"ready: ["/bin/lights"]"#,
                "a.ron:3:21:",
                "a list in brackets: `[ … ]`, or fields in parentheses: `(argv: …)`",
            ),
            (r#"ready: [["/bin/lights", 5]]"#, "a.ron:3:37:", "text in double quotes"),
            (r#"ready: [(argv: ["/x"], timeout: 0)]"#, "a.ron:3:45:", "1 to 3600 seconds"),
            (r#"ready: [(argv: ["/x"], time: 1)]"#, "a.ron:3:36:", "unknown field `time`"),
            (r#"raedy: []"#, "a.ron:3:13:", "did you mean `ready`?"),
        ] {
            let refused = read(hooks).unwrap_err();
            assert!(refused.contains(place) && refused.contains(words), "{hooks}: {refused}");
        }
    }
}
