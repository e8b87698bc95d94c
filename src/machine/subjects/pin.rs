//! Which host CPUs the vCPU threads run on: CPUs for all of them, or a list with what each has.

use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};
use serde_json::json;

use crate::units::{CpuSet, counted};

/// Which host CPUs the vCPU threads run on.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Pin {
    /// One thread to a CPU, in the order that is best.
    Cpus(CpuSet),
    /// What each vCPU has, in the order of their numbers.
    Each(Vec<VcpuCpus>),
}

/// The host CPUs of one vCPU.
#[derive(Debug, Clone, PartialEq)]
pub enum VcpuCpus {
    /// These; the kernel moves it among them.
    On(CpuSet),
    /// Those that no other vCPU has for itself.
    Any,
}

const ANY: &str = "Any";

impl Pin {
    /// How many vCPUs it is for.
    pub fn len(&self) -> usize {
        match self {
            Self::Cpus(cpus) => cpus.len(),
            Self::Each(each) => each.len(),
        }
    }

    /// Whether it is for none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All CPUs that it names.
    pub fn cpus(&self) -> CpuSet {
        match self {
            Self::Cpus(cpus) => cpus.clone(),
            Self::Each(each) => each.iter().filter_map(VcpuCpus::named).flat_map(CpuSet::iter).collect(),
        }
    }

    /// For how many vCPUs it is, as the end of a sentence: `names 4 CPUs`, `has 4 entries`.
    pub fn counted(&self) -> String {
        match self {
            Self::Cpus(cpus) => format!("names {}", counted(cpus.len(), "CPU", "CPUs")),
            Self::Each(each) => format!("has {}", counted(each.len(), "entry", "entries")),
        }
    }
}

impl VcpuCpus {
    /// The CPUs, if it names some.
    pub fn named(&self) -> Option<&CpuSet> {
        match self {
            Self::On(cpus) => Some(cpus),
            Self::Any => None,
        }
    }
}

impl fmt::Display for VcpuCpus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::On(cpus) => cpus.fmt(f),
            Self::Any => f.write_str(ANY),
        }
    }
}

impl FromStr for VcpuCpus {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            ANY => Ok(Self::Any),
            _ => text.parse().map(Self::On).map_err(|error| format!("{error}, or {ANY:?}")),
        }
    }
}

impl Serialize for VcpuCpus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for VcpuCpus {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(from)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Pin {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Pin;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a CPU list or a list of them")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Pin, E> {
                text.parse().map(Pin::Cpus).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Pin, A::Error> {
                let mut each = Vec::new();
                while let Some(vcpu) = list.next_element()? {
                    each.push(vcpu);
                }
                Ok(Pin::Each(each))
            }
        }
        from.deserialize_any(Either)
    }
}

impl JsonSchema for Pin {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pin".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = CpuSet::json_schema(generator);
        let pattern = schema.get("pattern").and_then(|text| text.as_str()).unwrap_or_default();
        let item = json!({
            "type": "string",
            "description": format!("A CPU list such as \"4\" or \"4-7\", or {ANY:?}"),
            "pattern": format!("({pattern})|^{ANY}$"),
        });
        schema.insert("type".to_owned(), json!(["string", "array"]));
        schema.insert("items".to_owned(), item);
        schema
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::machine::parse;

    fn read(cpu: &str) -> Result<Option<Pin>, String> {
        let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), cpu: ({cpu}))");
        let read = parse(Path::new("/a.ron"), &text).map_err(|refused| refused.to_string());
        read.map(|source| source.machine.cpu.pin)
    }

    #[test]
    fn cpus_are_named_for_all_or_for_each() {
        let set = |text: &str| text.parse::<CpuSet>().unwrap();
        assert_eq!(read("pin: \"4-7\"").unwrap(), Some(Pin::Cpus(set("4-7"))));
        let each = vec![VcpuCpus::On(set("2")), VcpuCpus::On(set("4-5")), VcpuCpus::Any];
        assert_eq!(read("pin: [\"2\", \"4-5\", \"Any\"]").unwrap(), Some(Pin::Each(each.clone())));
        let json = serde_json::to_value(Pin::Each(each.clone())).unwrap();
        assert_eq!(json, json!(["2", "4-5", "Any"]));
        assert_eq!(serde_json::from_value::<Pin>(json).unwrap(), Pin::Each(each));
    }

    #[test]
    fn an_error_says_which_entry_and_what_it_takes() {
        let any = read("pin: [\"2\", \"any\"]").unwrap_err();
        assert!(any.contains("`cpu.pin[1]`: \"any\" is not a CPU list") && any.contains("or \"Any\""), "{any}");
        let kind = read("pin: 4").unwrap_err();
        assert!(kind.contains("text in double quotes") && kind.contains("or a list in brackets"), "{kind}");
        assert!(read("pin: [\"2\", \"\"]").unwrap_err().contains("`cpu.pin[1]` names no CPU"));
        assert!(read("pin: []").unwrap_err().contains("`cpu.pin` names no CPU"));
        let count = read("vcpus: 3, pin: [\"2\", \"3\"]").unwrap_err();
        assert!(count.contains("`cpu.vcpus` is 3, but `cpu.pin` has 2 entries"), "{count}");
    }
}
