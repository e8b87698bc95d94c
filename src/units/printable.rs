//! Text that others chose, made fit for a terminal.

/// The text with U+FFFD for each control character: a process, a USB device or a guest gives itself any name, and a terminal
/// obeys what is in it.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_is_left() {
        assert_eq!(
            printable("Maus \u{1b}[2J\nerror: x\u{9b}1m\u{7f}é"),
            "Maus \u{fffd}[2J\u{fffd}error: x\u{fffd}1m\u{fffd}é"
        );
    }
}
