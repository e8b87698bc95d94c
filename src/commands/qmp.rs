//! `vfio-run qmp NAME COMMAND`: one command on QEMU's monitor for the user's tools, and its answer without events.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value, json};

use super::shared::machines;
use super::shared::outcome::block_on;
use crate::cli::{OutputArgs, QmpArgs};
use crate::machine::nearest;
use crate::qemu::{Qmp, QmpError};
use crate::report;
use crate::run;
use crate::units::exit;

/// How long QEMU may take to greet: it does at once, unless another program has the monitor.
const GREETING: Duration = Duration::from_secs(5);
/// How long a command may take; some write all of the guest's memory.
const LIMIT: Duration = Duration::from_secs(600);
/// The longest answer: QEMU's whole schema is a tenth of it.
const LINE_LIMIT: usize = 16 << 20;
/// What a command may have beside its name.
const MEMBERS: [&str; 2] = ["execute", "arguments"];

/// Prints the answer, as JSON whether or not that was asked for.
pub fn qmp(args: &QmpArgs, _: OutputArgs) -> Result<u8> {
    let name = args.name.as_str();
    let command = match Command::read(&args.command) {
        Ok(command) => command,
        Err(wrong) => {
            report::complain(&format!("vfio-run: error: {wrong}"));
            return Ok(exit::USAGE);
        }
    };
    let run_dir = machines::run_dir(name)?;
    if !run::guest_runs(&run_dir) {
        bail!(machines::does_not_run(name));
    }
    machines::refuse_stopped_qemu(name, &run_dir)?;
    report::json(&block_on(ask(&run_dir.join("qmp.sock"), &command))?)?;
    Ok(exit::OK)
}

async fn ask(socket: &Path, command: &Command) -> Result<Value> {
    let stream = tokio::net::UnixStream::connect(socket).await;
    let stream = stream.with_context(|| format!("cannot reach QEMU at {}", socket.display()))?;
    let mut qmp = match Qmp::negotiate(stream, GREETING).await {
        Err(QmpError::Deadline { .. }) => {
            bail!("QEMU does not greet at {}: another program uses it, and QEMU serves one at a time", socket.display())
        }
        other => other?,
    };
    qmp.set_line_limit(LINE_LIMIT);
    match qmp.execute_raw_within(&command.execute, Value::Object(command.arguments.clone()), LIMIT).await {
        Err(QmpError::Refused { class, detail, .. }) if class == "CommandNotFound" => {
            let known = qmp.execute_raw("query-commands", json!({})).await?;
            let known: Vec<&str> = known.as_array().into_iter().flatten().filter_map(|c| c["name"].as_str()).collect();
            // QEMU says so too of one that it knows, and does not take now.
            let near = nearest(&command.execute, &known)
                .filter(|near| *near != command.execute)
                .map(|near| format!("; did you mean `{near}`?"));
            bail!("{detail}{}", near.unwrap_or_default())
        }
        other => Ok(other?),
    }
}

/// What QEMU is to do.
#[derive(Debug, PartialEq)]
struct Command {
    execute: String,
    arguments: Map<String, Value>,
}

impl Command {
    /// Reads `query-status`, or `{"execute": "…", "arguments": {…}}`; the error says what is wrong, and where.
    fn read(text: &str) -> Result<Self, String> {
        let is_name =
            |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
        if is_name(text.trim()) {
            return Ok(Self { execute: text.trim().to_owned(), arguments: Map::new() });
        }
        let example = "a command is `query-status` or '{\"execute\": \"eject\", \"arguments\": {\"id\": \"disk0\"}}'";
        let value: Value = serde_json::from_str(text).map_err(|error| pointed_at(text, &error))?;
        let Value::Object(mut members) = value else { return Err(format!("this is no QMP command: {example}")) };
        if let Some(unknown) = members.keys().find(|key| !MEMBERS.contains(&key.as_str())) {
            let near = nearest(unknown, &MEMBERS).map(|near| format!("; did you mean `{near}`?")).unwrap_or_default();
            return Err(format!("a QMP command has no `{unknown}` here{near}; {example}"));
        }
        let execute = match members.remove("execute") {
            Some(Value::String(name)) => name,
            Some(_) => return Err(format!("`execute` must be the command's name, a text; {example}")),
            None => return Err(format!("`execute` is missing; {example}")),
        };
        match members.remove("arguments") {
            None => Ok(Self { execute, arguments: Map::new() }),
            Some(Value::Object(arguments)) => Ok(Self { execute, arguments }),
            Some(_) => Err(format!("`arguments` must be an object, {{…}}; {example}")),
        }
    }
}

/// Shows the line that JSON's reader stumbled over, with a mark below the place.
fn pointed_at(text: &str, error: &serde_json::Error) -> String {
    let words = error.to_string();
    let words = words.split(" at line ").next().unwrap_or(&words);
    let line = text.lines().nth(error.line().saturating_sub(1)).unwrap_or_default();
    // The column counts bytes, and is that of the last one read.
    let end = error.column().saturating_sub(1).min(line.len());
    let before = (0..=end).rev().find(|at| line.is_char_boundary(*at)).map_or(0, |at| line[..at].chars().count());
    let help = if line.contains('\'') || !line.contains('"') {
        "\n    names and texts are in double quotes, and the whole in single ones for the shell"
    } else {
        ""
    };
    format!("this is no JSON: {words}\n    {line}\n    {}^{help}", " ".repeat(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_name_or_an_object() {
        let eject = r#"{"execute": "eject", "arguments": {"id": "disk0"}}"#;
        assert_eq!(Command::read("query-status").unwrap().execute, "query-status");
        let read = Command::read(eject).unwrap();
        assert_eq!((read.execute.as_str(), &read.arguments["id"]), ("eject", &"disk0".into()));
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (text, words) in [
            ("{\"execute\": query-status}", "    {\"execute\": query-status}\n                ^"),
            ("{execute: 1}", "double quotes"),
            ("{\"execute\": \"stop\"", "    {\"execute\": \"stop\"\n"),
            ("", "no JSON"),
            ("[1]", "this is no QMP command"),
            ("{\"exec\": \"stop\"}", "no `exec` here"),
            ("{\"execute\": \"stop\", \"argumets\": {}}", "did you mean `arguments`?"),
            ("{\"execute\": 7}", "must be the command's name"),
            ("{\"arguments\": {}}", "`execute` is missing"),
            ("{\"execute\": \"stop\", \"arguments\": [1]}", "must be an object"),
        ] {
            let wrong = Command::read(text).unwrap_err();
            assert!(wrong.contains(words), "{text}: {wrong}");
        }
    }
}
