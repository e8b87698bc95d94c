//! The manual: reference pages in Markdown, built into the program, for terminals and as man pages.

mod fields;
mod page;
mod roff;
mod terminal;

pub use fields::field;
pub use page::Page;

/// A topic of the manual.
#[derive(Debug)]
pub struct Topic {
    /// Its name, as `vfio-run man` takes it.
    pub name: &'static str,
    /// The section of its man page: 5 for a file's format, 7 for others.
    pub section: u8,
    /// Markdown. The first heading is the name, a colon and what the page is about.
    text: &'static str,
}

/// All topics, in the order in which they are listed.
pub const TOPICS: &[Topic] = &[
    Topic { name: "machine", section: 5, text: include_str!("machine.md") },
    Topic { name: "libvirt", section: 7, text: include_str!("libvirt.md") },
    Topic { name: "display", section: 7, text: include_str!("display.md") },
    Topic { name: "handover", section: 7, text: include_str!("handover.md") },
    Topic { name: "identity", section: 7, text: include_str!("identity.md") },
    Topic { name: "usb", section: 7, text: include_str!("usb.md") },
    Topic { name: "input", section: 7, text: include_str!("input.md") },
    Topic { name: "sound", section: 7, text: include_str!("sound.md") },
    Topic { name: "parts", section: 7, text: include_str!("parts.md") },
    Topic { name: "looking-glass", section: 7, text: include_str!("looking-glass.md") },
    Topic { name: "troubleshooting", section: 7, text: include_str!("troubleshooting.md") },
    Topic { name: "stopping", section: 7, text: include_str!("stopping.md") },
    Topic { name: "running", section: 7, text: include_str!("running.md") },
    Topic { name: "service", section: 7, text: include_str!("service.md") },
    Topic { name: "network", section: 7, text: include_str!("network.md") },
    Topic { name: "fleet", section: 7, text: include_str!("fleet.md") },
    Topic { name: "hooks", section: 7, text: include_str!("hooks.md") },
    Topic { name: "shares", section: 7, text: include_str!("shares.md") },
    Topic { name: "files", section: 7, text: include_str!("files.md") },
    Topic { name: "json", section: 7, text: include_str!("json.md") },
    Topic { name: "exit-codes", section: 7, text: include_str!("exit-codes.md") },
    Topic { name: "security", section: 7, text: include_str!("security.md") },
    Topic { name: "performance", section: 7, text: include_str!("performance.md") },
];

/// The topic of this name.
pub fn topic(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

impl Topic {
    /// The page. That of the machine file ends with all its fields, as the schema has them.
    pub fn page(&self) -> Page {
        if self.name == "machine" {
            return Page::parse(&format!("{}\n{}", self.text, fields::all()));
        }
        Page::parse(self.text)
    }

    /// What it is about, in a few words.
    pub fn about(&self) -> &'static str {
        self.text.lines().next().and_then(|line| line.split_once(": ")).map_or("", |(_, about)| about)
    }

    /// The page as a man page's source.
    pub fn roff(&self) -> String {
        let others = TOPICS.iter().filter(|other| other.name != self.name);
        let others: Vec<String> = others.map(|other| format!("vfio-run-{}({})", other.name, other.section)).collect();
        let head = roff::Head {
            name: format!("vfio-run-{}", self.name),
            section: self.section,
            about: self.about(),
            see_also: format!("vfio-run(1), {}", others.join(", ")),
        };
        roff::source(&head, &self.page())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_begins_with_its_name_and_what_it_is_about() {
        for topic in TOPICS {
            assert!(topic.text.starts_with(&format!("# {}: ", topic.name)), "{}", topic.name);
            assert!(!topic.about().is_empty(), "{}", topic.name);
            let source = topic.roff();
            assert!(source.contains(&format!("vfio-run-{} {}", topic.name, topic.section)), "{source}");
        }
    }
}
