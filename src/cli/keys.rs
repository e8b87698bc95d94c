//! Keys that are pressed together, by QEMU's names (`QKeyCode` in QEMU's `qapi/ui.json`) and by those that people use.

use std::str::FromStr;

use qapi::Enum as _;
use qapi::qmp::QKeyCode;

use crate::machine::nearest;

/// What keyboards and other programs call keys that QEMU calls otherwise.
const ALIASES: &[(&str, &str)] = &[
    ("control", "ctrl"),
    ("ctl", "ctrl"),
    ("rctrl", "ctrl_r"),
    ("option", "alt"),
    ("altgr", "alt_r"),
    ("ralt", "alt_r"),
    ("rshift", "shift_r"),
    ("win", "meta_l"),
    ("windows", "meta_l"),
    ("super", "meta_l"),
    ("meta", "meta_l"),
    ("cmd", "meta_l"),
    ("escape", "esc"),
    ("enter", "ret"),
    ("return", "ret"),
    ("space", "spc"),
    ("bksp", "backspace"),
    ("del", "delete"),
    ("ins", "insert"),
    ("pageup", "pgup"),
    ("pagedown", "pgdn"),
    ("printscreen", "print"),
    ("prtsc", "print"),
    ("break", "pause"),
    ("capslock", "caps_lock"),
    ("numlock", "num_lock"),
    ("scrolllock", "scroll_lock"),
    ("period", "dot"),
    ("-", "minus"),
    ("=", "equal"),
    ("[", "bracket_left"),
    ("]", "bracket_right"),
    (";", "semicolon"),
    ("'", "apostrophe"),
    ("`", "grave_accent"),
    ("\\", "backslash"),
    (",", "comma"),
    (".", "dot"),
    ("/", "slash"),
    ("<", "less"),
];
/// More than a hand can press. A keyboard's queue is as small as this.
const MOST: usize = 8;

/// Keys that are pressed together, by QEMU's names, in this order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys(pub Vec<String>);

impl FromStr for Keys {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let keys: Vec<String> = text.split('+').map(key).collect::<Result<_, _>>()?;
        match keys.len() {
            0..=MOST => Ok(Self(keys)),
            number => Err(format!("{number} keys are more than the {MOST} that can be pressed together")),
        }
    }
}

fn key(word: &str) -> Result<String, String> {
    let name = word.trim().to_lowercase();
    let known = || QKeyCode::NAMES.iter().copied().filter(|known| *known != "unmapped");
    let alias = ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, key)| *key);
    if let Some(key) = alias.or_else(|| known().find(|known| *known == name)) {
        return Ok(key.to_owned());
    }
    let few = "keys are joined by a plus, as in ctrl+alt+delete, win+l, shift+f10";
    if name.is_empty() {
        return Err(format!("a key is missing; {few}"));
    }
    let all: Vec<&str> = known().chain(ALIASES.iter().map(|(alias, _)| *alias)).filter(|name| name.len() > 1).collect();
    match nearest(&name, &all) {
        Some(near) => Err(format!("there is no key `{word}`; did you mean `{near}`?")),
        None => Err(format!("there is no key `{word}`; {few}, and QEMU's QKeyCode has the names")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_have_qemus_names_and_those_of_people() {
        let read = |text: &str| text.parse::<Keys>().map(|keys| keys.0.join(" "));
        for (text, keys) in [
            ("ctrl+alt+delete", "ctrl alt delete"),
            ("Ctrl+Alt+Del", "ctrl alt delete"),
            ("win+l", "meta_l l"),
            ("F8", "f8"),
            ("7", "7"),
            ("shift+-", "shift minus"),
        ] {
            assert_eq!(read(text).as_deref(), Ok(keys), "{text}");
        }
        for (text, words) in [
            ("ctrl+alt+delte", "there is no key `delte`; did you mean `delete`?"),
            ("contrl+c", "did you mean `control`?"),
            ("ctrl++", "a key is missing"),
            ("", "a key is missing"),
            ("frobnicate", "QKeyCode has the names"),
            ("a+b+c+d+e+f+g+h+i", "9 keys are more than the 8"),
            ("unmapped", "there is no key"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn an_alias_is_no_name_of_qemus_and_leads_to_one() {
        for (alias, key) in ALIASES {
            assert!(QKeyCode::NAMES.contains(key) && !QKeyCode::NAMES.contains(alias), "{alias}");
        }
    }
}
