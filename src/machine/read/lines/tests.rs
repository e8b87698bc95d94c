use proptest::prelude::*;

use super::super::position::{byte_at, position};
use super::*;

fn found(text: &str) -> Vec<(String, &str, (u32, u32))> {
    let lines = Lines::find(text).unwrap();
    let values = lines.values.iter();
    values.map(|v| (v.path.clone(), &text[v.head.start..v.head.end], (v.at.line, v.at.column))).collect()
}

#[test]
fn every_value_has_a_path() {
    let text = r##"#![enable(implicit_some)] // a comment with ( and "
Machine(
    guest: Linux, /* nested /* ( */ [ */ memory: (size: "1 \" GiB"),
    disks: [
        (file: r#"a"b,c:d"#, boot: 1),
        (file: 'x', r#id: '\''),
    ],
    display: Vnc(port: 5_900), pages: Huge("2 MiB"), é: Some((a: -1.5e3)), map: { "k": [1, 2], 'c': (), (1): 2 },
)"##;
    let expected = [
        ("", "Machine", (2, 1)),
        ("guest", "Linux", (3, 5)),
        ("memory", "(", (3, 42)),
        ("memory.size", "\"1 \\\" GiB\"", (3, 51)),
        ("disks", "[", (4, 5)),
        ("disks[0]", "(", (5, 9)),
        ("disks[0].file", "r#\"a\"b,c:d\"#", (5, 10)),
        ("disks[0].boot", "1", (5, 30)),
        ("disks[1]", "(", (6, 9)),
        ("disks[1].file", "'x'", (6, 10)),
        ("disks[1].id", "'\\''", (6, 21)),
        ("display", "Vnc", (8, 5)),
        ("display.port", "5_900", (8, 18)),
        ("pages", "Huge", (8, 32)),
        ("pages.0", "\"2 MiB\"", (8, 44)),
        ("é", "Some", (8, 54)),
        ("é.0", "(", (8, 62)),
        ("é.0.a", "-1.5e3", (8, 63)),
        ("map", "{", (8, 76)),
        ("map.k", "[", (8, 83)),
        ("map.k[0]", "1", (8, 89)),
        ("map.k[1]", "2", (8, 92)),
        ("map.'c'", "(", (8, 96)),
        ("map.0", "(", (8, 105)),
        ("map.0.0", "1", (8, 106)),
        ("map.1", "2", (8, 110)),
    ];
    let expected: Vec<_> = expected.map(|(path, head, at)| (path.to_owned(), head, at)).into();
    assert_eq!(found(text), expected);
}

#[test]
fn variants_in_a_path_may_be_named_or_not() {
    let text = "(display: Vnc(\n  port: 5900), memory: (pages: Huge(\n\"2 MiB\")))";
    let lines = Lines::find(text).unwrap();
    let line = |path| lines.line(path).unwrap();
    assert_eq!((line("display.port"), line("display.Vnc.port"), line("display.Vnc")), (2, 2, 1));
    assert_eq!((line("memory.pages"), line("memory.pages.Huge")), (2, 3));
    assert_eq!(lines.at("memory.pages"), Some(Position { line: 2, column: 25 }));
    assert_eq!(lines.at("video"), None);
    assert_eq!(Lines::default().line("guest"), None);
}

#[test]
fn what_no_person_writes_is_refused() {
    let deep = "(a:".repeat(MAX_DEPTH + 1);
    let many = format!("[{}", "1,".repeat(MAX_VALUES));
    let long = format!("\"{}\"", "x".repeat(MAX_TEXT));
    for (text, what) in
        [(deep, "this is nested too deeply"), (many, "too many values"), (long, "this text is too long")]
    {
        assert_eq!(Lines::find(&text).unwrap_err().what, what);
    }
    // A long name in front of many fields must not be copied into every path.
    let long_name = format!("(r#{}: [{}])", "x".repeat(500_000), "1,".repeat(1000));
    assert!(Lines::find(&long_name).unwrap().values.iter().all(|v| v.path.len() < 100));
}

#[test]
fn positions_and_bytes_agree() {
    let text = "aé\n\n  b";
    for (byte, (line, column)) in [(0, (1, 1)), (1, (1, 2)), (3, (1, 3)), (4, (2, 1)), (7, (3, 3)), (8, (3, 4))] {
        let at = Position { line, column };
        assert_eq!(position(text, byte), at);
        assert_eq!(byte_at(text, at), byte);
    }
    assert_eq!(byte_at(text, Position { line: 9, column: 9 }), text.len());
}

/// A value, to be written as RON.
#[derive(Debug, Clone)]
enum Tree {
    Atom(&'static str),
    List(Vec<Tree>),
    Struct(&'static str, Vec<Tree>),
    Newtype(&'static str, Box<Tree>),
}

const ATOMS: [&str; 13] = [
    "1",
    "-2",
    "0x1f",
    "1.5e3",
    "true",
    "Unit",
    "\"\"",
    "\"a, (b: \\\" \\\\\"",
    "r\"\\\"",
    "r##\"a\"# ] b\"##",
    "'\"'",
    "'\\''",
    "'\\u{e9}'",
];
const BLANKS: [&str; 8] = ["", " ", "\n", "\r\n\t", "// ( [ \" ' é\n", "/* ) : /* , */ ' */", "\u{2028}", " /**/ "];

fn tree() -> impl Strategy<Value = Tree> {
    let atom = prop::sample::select(&ATOMS[..]).prop_map(Tree::Atom);
    atom.prop_recursive(4, 40, 5, |inner| {
        let name = prop::sample::select(&["", "Name", "Ünit"][..]);
        let named = prop::sample::select(&["Some", "Vnc", "_x"][..]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Tree::List),
            (name, prop::collection::vec(inner.clone(), 1..5)).prop_map(|(name, items)| Tree::Struct(name, items)),
            (named, inner).prop_map(|(name, item)| Tree::Newtype(name, Box::new(item))),
        ]
    })
}

/// Writes the tree with blanks and comments everywhere, and notes what stands where.
struct Writer<'a> {
    text: String,
    blanks: std::iter::Cycle<std::slice::Iter<'a, &'static str>>,
    paths: Vec<(String, String)>,
}

impl Writer<'_> {
    fn put(&mut self, text: &str) {
        let blank = self.blanks.next().copied().unwrap_or_default();
        self.text.push_str(blank);
        self.text.push_str(text);
    }

    fn write(&mut self, tree: &Tree, path: &str) {
        match tree {
            Tree::Atom(text) => {
                self.put(text);
                self.paths.push((path.to_owned(), (*text).to_owned()));
            }
            Tree::List(items) => {
                self.put("[");
                self.paths.push((path.to_owned(), "[".to_owned()));
                for (i, item) in items.iter().enumerate() {
                    self.write(item, &format!("{path}[{i}]"));
                    self.put(",");
                }
                self.put("]");
            }
            Tree::Struct(name, items) => {
                self.put(name);
                self.put("(");
                self.paths.push((path.to_owned(), if name.is_empty() { "(" } else { name }.to_owned()));
                for (i, item) in items.iter().enumerate() {
                    self.put(&format!("f{i}"));
                    self.put(":");
                    self.write(item, &join(path, &format!("f{i}")));
                    self.put(if i + 1 < items.len() { "," } else { "" });
                }
                self.put(")");
            }
            Tree::Newtype(name, item) => {
                self.put(name);
                self.put("(");
                self.paths.push((path.to_owned(), (*name).to_owned()));
                self.write(item, &join(path, "0"));
                self.put(")");
            }
        }
    }
}

proptest! {
    #[test]
    fn cuts_valid_text_as_ron_does(tree in tree(), blanks in prop::collection::vec(prop::sample::select(&BLANKS[..]), 1..9)) {
        let mut writer = Writer { text: String::new(), blanks: blanks.iter().cycle(), paths: Vec::new() };
        writer.write(&tree, "");
        let text = &writer.text;
        prop_assert!(ron::from_str::<ron::Value>(text).is_ok(), "{:?}: {text}", ron::from_str::<ron::Value>(text));
        let lines = Lines::find(text).unwrap();
        let heads: Vec<_> = lines.values.iter().map(|v| (v.path.clone(), text[v.head.start..v.head.end].to_owned())).collect();
        prop_assert_eq!(&heads, &writer.paths);
        for value in &lines.values {
            prop_assert_eq!(position(text, value.key.unwrap_or(value.head).start), value.at);
        }
    }

    #[test]
    fn survives_any_text(text in "(?s).{0,200}") {
        drop(Lines::find(&text));
    }

    #[test]
    fn survives_any_heap_of_tokens(parts in prop::collection::vec(prop::sample::select(
        &["(", ")", "[", "]", "{", "}", ":", ",", "\"", "'", "\\", "r#", "r##\"", "b'", "br#", "//", "/*", "*/", "\n", "#![", "a", "é", "1", "-"][..]
    ), 0..60)) {
        let text = parts.concat();
        if let Ok(lines) = Lines::find(&text) {
            for value in &lines.values {
                prop_assert!(text.get(value.head.start..value.head.end).is_some());
            }
        }
    }
}
