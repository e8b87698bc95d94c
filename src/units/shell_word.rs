//! Words of command lines that people paste into a shell.

use std::path::Path;

/// A word as a POSIX shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=+,./:@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A path as the first argument of a command in a POSIX shell: neither an option nor the name of a verb.
pub fn quoted_file(path: &Path) -> String {
    let text = path.to_string_lossy();
    match !text.starts_with('-') && (text.contains('/') || text.ends_with(".ron")) {
        true => quoted(&text),
        false => quoted(&format!("./{text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_come_back_from_a_real_shell_as_they_were() {
        let words = ["", "a b", "it's", "$HOME `id` \\ \"x\"", "{\"a\":[1,2]}", "*?~", "plain-1.2,x=/y", "äß", "a\nb"];
        let line: Vec<String> = words.iter().map(|word| quoted(word)).collect();
        let script = format!("printf '%s\\0' {}", line.join(" "));
        let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
        let back: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().split_terminator('\0').collect();
        assert_eq!(back, words);
    }

    #[test]
    fn a_file_is_no_option_and_no_verb() {
        for (file, shown) in
            [("a.ron", "a.ron"), ("-a.ron", "./-a.ron"), ("check", "./check"), ("-d/a b", "'./-d/a b'")]
        {
            assert_eq!(quoted_file(Path::new(file)), shown);
        }
    }
}
