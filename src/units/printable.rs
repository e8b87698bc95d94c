//! Text that others chose, made fit for a terminal.

/// The text with U+FFFD for each character that a terminal obeys: a process, a USB device or a guest gives itself any name.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if is_obeyed(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

/// The same of each line of a text that has some.
pub fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

/// Whether a terminal obeys it and shows something else: a control character, or one that turns the direction of what follows
/// (`Bidi_Control` of Unicode's), so that a name reads as another.
pub fn is_obeyed(c: char) -> bool {
    const DIRECTIONS: [std::ops::RangeInclusive<char>; 4] =
        ['\u{61c}'..='\u{61c}', '\u{200e}'..='\u{200f}', '\u{202a}'..='\u{202e}', '\u{2066}'..='\u{2069}'];
    c.is_control() || DIRECTIONS.iter().any(|range| range.contains(&c))
}

/// The text as [`printable`] has it, and no longer than so many bytes; three dots stand for the rest.
pub fn printable_up_to(text: &str, bytes: usize) -> String {
    let mut end = bytes.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let rest = if end < text.len() { "…" } else { "" };
    printable(&text[..end]) + rest
}

/// The same of its first characters, for a part of a list.
pub fn printable_start(text: &str, characters: usize) -> String {
    printable(&text.chars().take(characters).collect::<String>())
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
        assert_eq!(printable_lines("a\u{9b}1m\nb\r\n"), "a\u{fffd}1m\nb\u{fffd}\n");
        assert_eq!(
            printable("\u{61c}\u{200e}\u{200f}\u{202a}\u{202e}gpj.x\u{2066}\u{2069}").matches('\u{fffd}').count(),
            7
        );
        assert_eq!(printable("שלום \u{200d}\u{2010}"), "שלום \u{200d}\u{2010}");
        assert_eq!(printable_up_to("Maus", 4), "Maus");
        assert_eq!(printable_up_to("aé\n", 2), "a…");
    }

    #[test]
    fn the_start_of_a_text_is_counted_in_characters() {
        assert_eq!(printable_start("é\u{1b}[2Jab", 5), "é\u{fffd}[2J");
        assert_eq!(printable_start("a", 5), "a");
    }
}
