//! Reads the pictures that the program makes: enough of XML to say that any reader of XML takes them.

/// A rectangle or a text.
#[derive(Debug)]
pub struct Element {
    pub name: String,
    pub x: f64,
    pub y: f64,
    pub width: f64,
    pub height: f64,
    size: f64,
    middle: bool,
    /// What is written.
    pub text: String,
    /// Its own title.
    pub tip: Option<String>,
}

impl Element {
    /// Whether all of the other, or a text's place, is in this rectangle.
    pub fn contains(&self, other: &Element) -> bool {
        let within =
            |x: f64, y: f64| x >= self.x && x <= self.x + self.width && y >= self.y && y <= self.y + self.height;
        within(other.x, other.y) && within(other.x + other.width, other.y + other.height)
    }

    /// Whether the two have nothing in common.
    pub fn is_apart(&self, other: &Element) -> bool {
        self.x + self.width <= other.x
            || other.x + other.width <= self.x
            || self.y + self.height <= other.y
            || other.y + other.height <= self.y
    }

    /// From where to where a text goes, by what its characters need at least.
    pub fn extent(&self) -> (f64, f64) {
        let length = self.text.chars().count() as f64 * self.size * 0.38;
        let from = if self.middle { self.x - length / 2.0 } else { self.x };
        (from, from + length)
    }
}

/// All rectangles and texts in their order. Panics if the document is not well-formed.
pub fn elements(document: &str) -> Vec<Element> {
    let mut found: Vec<Element> = Vec::new();
    let mut open: Vec<String> = Vec::new();
    let mut rest = document;
    while let Some(at) = rest.find('<') {
        let words = unescaped(&rest[..at]);
        match open.last().map(String::as_str) {
            Some("text") => found.last_mut().unwrap().text.push_str(&words),
            Some("title") if open.len() == 3 => found.last_mut().unwrap().tip = Some(words),
            Some("title") => {}
            _ => assert_eq!(words.trim(), "", "a text outside of elements"),
        }
        let end = rest[at..].find('>').expect("a tag ends") + at;
        let tag = &rest[at + 1..end];
        rest = &rest[end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop().as_deref(), Some(name), "elements end in the reverse order");
            continue;
        }
        let (tag, is_empty) = tag.strip_suffix('/').map_or((tag, false), |tag| (tag, true));
        let (name, attributes) = tag.split_once(' ').unwrap_or((tag, ""));
        assert!(!open.is_empty() || found.is_empty(), "one root");
        if name == "rect" || name == "text" {
            found.push(element(name, attributes));
        }
        if !is_empty {
            open.push(name.to_owned());
        }
    }
    assert!(open.is_empty() && rest.trim().is_empty() && document.starts_with("<svg xmlns="), "{open:?} {rest:?}");
    found
}

fn element(name: &str, mut attributes: &str) -> Element {
    let mut values = std::collections::BTreeMap::new();
    while !attributes.trim().is_empty() {
        let (key, after) = attributes.split_once("=\"").expect("a name and a value");
        let (value, after) = after.split_once('"').expect("a value ends");
        assert!(values.insert(key.trim(), unescaped(value)).is_none(), "{key} twice");
        attributes = after;
    }
    let number = |key: &str| values.get(key).map_or(0.0, |value| value.parse().unwrap());
    Element {
        name: name.to_owned(),
        x: number("x"),
        y: number("y"),
        width: number("width"),
        height: number("height"),
        size: number("font-size"),
        middle: values.contains_key("text-anchor"),
        text: String::new(),
        tip: None,
    }
}

fn unescaped(text: &str) -> String {
    assert!(!text.contains('>') && text.chars().all(|c| c == '\n' || !c.is_control()), "{text:?}");
    let entities = [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&amp;", "&")];
    let bare = entities.iter().fold(text.to_owned(), |text, (entity, _)| text.replace(entity, ""));
    assert!(!bare.contains('&'), "{text:?}");
    entities.iter().fold(text.to_owned(), |text, (entity, c)| text.replace(entity, c))
}
