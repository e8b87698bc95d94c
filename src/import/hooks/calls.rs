//! Loops and functions of a script that is read: where their commands begin, and where reading goes on after them.

use std::collections::BTreeMap;

use super::command::{Script, assignment};
use super::marks::{SPLIT, is_mark};
use super::tokens::Place;
use super::variables::{OnlyIf, Variables};

/// Functions that call functions that call functions.
const MAX_DEPTH: usize = 8;
/// Why a command of a function is never run.
pub const UNCALLED: &str = "the script never runs it: nothing calls the function";

/// A loop that is open.
#[derive(Debug, Default)]
pub struct Loop {
    /// The variable of `for`.
    name: String,
    /// What it becomes in the rounds that are left, the next last, with the test that a round depends on.
    items: Vec<(String, Option<OnlyIf>)>,
    /// Where its commands begin.
    pub body: Option<Place>,
    /// Whether a branch is open for the round.
    pub branch: bool,
    /// The loop as it is written, if its list has nothing as far as the script tells.
    pub of_nothing: Option<String>,
}

impl Loop {
    /// `for NAME in LIST`, with the words of the list.
    pub fn of(name: &str, list: &[String], variables: &Variables) -> Self {
        let mut items = Vec::new();
        for part in list.iter().flat_map(|word| word.split(SPLIT)).filter(|part| !part.is_empty()) {
            let plain: String = part.chars().filter(|c| !is_mark(*c)).collect();
            if !plain.is_empty() {
                items.push((plain, None));
            }
            let mut only_if = Vec::new();
            variables.only_if(part, &mut only_if);
            for one in only_if {
                let value = assignment(&one.text).map_or_else(|| one.text.clone(), |(_, value)| value);
                items.extend(value.split_whitespace().map(|item| (item.to_owned(), Some(one.clone()))));
            }
        }
        items.truncate(512);
        items.reverse();
        Self { name: name.to_owned(), items, ..Self::default() }
    }

    /// Whether its list has nothing.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Has the first of the list stand for all of it: the user is asked for one.
    pub fn first_alone(&mut self) {
        self.items.drain(..self.items.len().saturating_sub(1));
    }

    /// Has the variable be the next of the list: whether there is one, and the test that it depends on.
    pub fn next(&mut self, variables: &mut Variables) -> Option<Option<OnlyIf>> {
        let (item, only_if) = self.items.pop()?;
        variables.set(&self.name, item);
        Some(only_if)
    }
}

/// A function of which the commands are read when it is called.
#[derive(Debug)]
pub struct Function {
    name: String,
    body: Place,
    /// How many characters are before its end.
    end: usize,
    called: bool,
    text: String,
}

/// A call that is open.
#[derive(Debug)]
pub struct Call {
    function: usize,
    /// Where reading goes on.
    pub back: Place,
    /// How many loops and branches were open.
    pub loops: usize,
    /// How many branches stay open after it.
    pub branches: usize,
    /// The parameters before it.
    parameters: BTreeMap<String, String>,
}

/// The functions of a script, and the calls that are open.
#[derive(Debug, Default)]
pub struct Calls {
    functions: Vec<Function>,
    open: Vec<Call>,
}

impl Calls {
    /// Adds a function; one that has the name already counts no more.
    pub fn define(&mut self, name: &str, body: Place, end: usize, text: String) {
        self.functions.iter_mut().filter(|function| function.name == name).for_each(|function| function.called = true);
        self.functions.push(Function { name: name.to_owned(), body, end, called: false, text });
    }

    /// Opens a call of the function with this name, if there is one: where its commands are.
    pub fn call(&mut self, words: &[String], variables: &mut Variables, call: (Place, usize, usize)) -> Option<Place> {
        let name = words.first()?;
        let function = self.functions.iter().rposition(|function| function.name == *name)?;
        let again = self.open.iter().any(|call| call.function == function);
        if again || self.open.len() >= MAX_DEPTH {
            return None;
        }
        self.functions[function].called = true;
        let is_parameter =
            |name: &str| name.starts_with(|c: char| c.is_ascii_digit()) || matches!(name, "@" | "*" | "#");
        let names: Vec<String> = variables.values.keys().filter(|name| is_parameter(name)).cloned().collect();
        let parameters = names.into_iter().filter_map(|name| variables.values.remove_entry(&name)).collect();
        let given: Vec<&str> = words[1..].iter().flat_map(|word| word.split(SPLIT)).collect();
        for (number, word) in (1..10).zip(&given) {
            variables.values.insert(number.to_string(), (*word).to_owned());
        }
        (given.len() + 1..10).for_each(|number| drop(variables.values.insert(number.to_string(), String::new())));
        for all in ["@", "*"] {
            variables.values.insert(all.to_owned(), given.join(&SPLIT.to_string()));
        }
        variables.values.insert("#".to_owned(), given.len().to_string());
        let (back, loops, branches) = call;
        self.open.push(Call { function, back, loops, branches, parameters });
        Some(self.functions[function].body)
    }

    /// Whether a call's function ends before this many characters.
    pub fn is_over(&self, at: usize) -> bool {
        self.open.last().is_some_and(|call| at >= self.functions[call.function].end)
    }

    /// Whether a function's commands are being read.
    pub fn is_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Ends the innermost call.
    pub fn end(&mut self, variables: &mut Variables) -> Option<Call> {
        let call = self.open.pop()?;
        (1..10).for_each(|number| drop(variables.values.remove(&number.to_string())));
        ["@", "*", "#"].iter().for_each(|all| drop(variables.values.remove(*all)));
        variables.values.extend(call.parameters.clone());
        Some(call)
    }

    /// A function that nothing has called by its name, at the script's end, and whether something may call it yet.
    pub fn uncalled(&self, script: &Script) -> Option<(String, bool)> {
        let left = || self.functions.iter().filter(|function| !function.called);
        let live = || script.commands.iter().filter(|command| command.never.is_none());
        let names = |text: &str, name: &str| {
            text.split(|c: char| !(c.is_ascii_alphanumeric() || "_-".contains(c))).any(|word| word == name)
        };
        let handed = |function: &&Function| {
            live().any(|command| command.words.iter().skip(1).any(|word| names(word, &function.name)))
        };
        // `"$1"` calls what the user says.
        let computed = live().any(|command| command.words.first().is_some_and(|word| word.starts_with('$')));
        let starts_qemu = |text: &str| text.contains("qemu") || text.contains("kvm");
        let started = live().any(|command| !command.control && command.words.iter().any(|word| starts_qemu(word)));
        let may = left().find(|function| computed || handed(function) || (!started && starts_qemu(&function.text)));
        may.map(|function| (function.name.clone(), true)).or_else(|| left().next().map(|one| (one.name.clone(), false)))
    }
}
