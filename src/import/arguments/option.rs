//! An option's value: `driver,key=value,…` or a JSON object.

/// The members of an option's value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Members(Vec<(String, String)>);

/// The members of a value as they are written, with two commas for one that belongs to a member.
pub fn parts(text: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match (c, parts.last_mut()) {
            (',', Some(part)) if chars.peek() == Some(&',') => {
                chars.next();
                part.push_str(",,");
            }
            (',', _) => parts.push(String::new()),
            (c, Some(part)) => part.push(c),
            (_, None) => {}
        }
    }
    parts
}

/// The key of the first member if it has none.
const FIRST: &str = "";

impl Members {
    /// Reads a value. Two commas are one that belongs to a member.
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim_start().starts_with('{') {
            let value: serde_json::Value = serde_json::from_str(text).ok()?;
            let members = value.as_object()?.iter().map(|(key, value)| {
                let key = if matches!(key.as_str(), "driver" | "qom-type") { FIRST } else { key };
                let text = match value {
                    serde_json::Value::String(text) => text.clone(),
                    serde_json::Value::Bool(on) => if *on { "on" } else { "off" }.to_owned(),
                    other => other.to_string(),
                };
                (key.to_owned(), text)
            });
            return Some(Self(members.collect()));
        }
        let parts: Vec<String> = parts(text).iter().map(|part| part.replace(",,", ",")).collect();
        let member = |(index, part): (usize, &String)| match part.split_once('=') {
            Some((key, value)) => (key.trim().to_owned(), value.to_owned()),
            None if index == 0 => (FIRST.to_owned(), part.clone()),
            None => (part.clone(), "on".to_owned()),
        };
        Some(Self(parts.iter().enumerate().filter(|(_, part)| !part.is_empty()).map(member).collect()))
    }

    /// The first member, if it has no key: the driver.
    pub fn driver(&self) -> Option<&str> {
        self.get(FIRST).or_else(|| self.get("driver"))
    }

    /// The member of this key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == key).map(|(_, value)| value.as_str())
    }

    /// Whether the member says yes.
    pub fn on(&self, key: &str) -> Option<bool> {
        self.get(key).map(|value| matches!(value, "on" | "yes" | "y" | "true"))
    }

    /// The value without these members, as QEMU takes it.
    pub fn without(&self, keys: &[&str]) -> String {
        let kept = self.0.iter().filter(|(key, _)| !keys.contains(&key.as_str()));
        let members = kept.map(|(key, value)| match key.as_str() {
            FIRST => value.replace(',', ",,"),
            key => format!("{key}={}", value.replace(',', ",,")),
        });
        members.collect::<Vec<_>>().join(",")
    }

    /// These members with those of what is below, but for the name that leads there.
    pub fn on_top_of(&self, below: &Self) -> Self {
        let own = self.0.iter().filter(|(key, _)| key != "file");
        let more = below.0.iter().filter(|(key, _)| self.get(key).is_none() && key != FIRST && key != "driver");
        Self(own.chain(more).cloned().collect())
    }

    /// The value with another of a member, as QEMU takes it.
    pub fn with(&self, key: &str, value: &str) -> String {
        let other = |(known, old): &(String, String)| {
            (known.clone(), if known == key { value.to_owned() } else { old.clone() })
        };
        Self(self.0.iter().map(other).collect()).without(&[])
    }

    /// The members as a JSON object.
    pub fn json(&self) -> String {
        let members = self.0.iter().map(|(key, text)| {
            let key = if key == FIRST { "driver" } else { key };
            let value = match text.as_str() {
                "on" | "yes" | "true" => serde_json::Value::from(true),
                "off" | "no" | "false" => serde_json::Value::from(false),
                // Names are no numbers, though they may look so.
                _ if ["id", "drive", "chardev", "serial", "name", "bus"].contains(&key) => text.as_str().into(),
                _ => text.parse::<i64>().map_or_else(|_| text.as_str().into(), serde_json::Value::from),
            };
            (key.to_owned(), value)
        });
        serde_json::Value::Object(members.collect()).to_string()
    }

    /// All members but the driver.
    pub fn rest(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter(|(key, _)| key != FIRST).map(|(key, value)| (key.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_words_with_commas_or_json() {
        let members = Members::parse("ivshmem-plain,id=a,,b,memdev=c,x").unwrap();
        assert_eq!(members.driver(), Some("ivshmem-plain"));
        assert_eq!((members.get("id"), members.get("memdev"), members.on("x")), (Some("a,b"), Some("c"), Some(true)));
        let json = Members::parse(r#"{"driver": "ivshmem-plain", "id": "a", "size": 4, "share": true}"#).unwrap();
        assert_eq!((json.driver(), json.get("size"), json.on("share")), (Some("ivshmem-plain"), Some("4"), Some(true)));
        assert_eq!(Members::parse("{").map(drop), None);
    }
}
