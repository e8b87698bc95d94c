//! What the guest reads in its SMBIOS tables: maker, model and serial numbers of the machine that it believes to run on.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::machine::named::Named;
use crate::machine::problems::Problems;
use crate::machine::subject::Subject;

/// Longer than what boards have; a structure of QEMU's holds some of them.
const MAX_TEXT: usize = 255;
/// A structure counts its strings in one byte.
const MAX_STRINGS: usize = 255;

/// The guest's SMBIOS tables (DMI), by which programs and licences recognize a computer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub enum Smbios {
    /// QEMU's own, with the machine's `uuid`.
    #[default]
    Qemu,
    /// The host's: BIOS, system, board, chassis and OEM strings, with all serial numbers, and with the host's UUID unless
    /// `uuid` is given. Only root may read them.
    Host,
    /// QEMU's own with these fields in place: `Fields(system: (manufacturer: "ACME"))`. They stand on QEMU's command line,
    /// which other users of the host can read.
    Fields(Box<SmbiosFields>),
}

/// Fields of SMBIOS structures, by the standard's names (DMTF DSP0134). What is left out stays QEMU's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SmbiosFields {
    /// BIOS information (type 0).
    #[serde(default)]
    pub bios: BiosInformation,
    /// System information (type 1). Its UUID is the machine's `uuid`.
    #[serde(default)]
    pub system: SystemInformation,
    /// Baseboard information (type 2).
    #[serde(default)]
    pub board: BoardInformation,
    /// System enclosure or chassis (type 3).
    #[serde(default)]
    pub chassis: ChassisInformation,
    /// Processor information (type 4), the same for each socket.
    #[serde(default)]
    pub processor: ProcessorInformation,
    /// OEM strings (type 11), at most 255.
    #[serde(default)]
    pub oem_strings: Vec<String>,
    /// Memory devices (type 17), the same for each.
    #[serde(default)]
    pub memory: MemoryDevice,
}

/// A field that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SmbiosValue {
    /// Its path in the machine file: `smbios.system.serial`.
    pub field: String,
    /// QEMU's word for it: `serial`.
    pub key: &'static str,
    /// Its value as text.
    pub value: String,
}

/// Makes the type of a structure: each field with its type and QEMU's word for it (`qemu_smbios_type*_opts` in QEMU's
/// `hw/smbios/smbios.c`).
macro_rules! structure {
    ($(#[$about:meta])* $name:ident, $part:literal { $($(#[$doc:meta])* $field:ident: $type:ty => $key:literal,)* }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($(#[$doc])* #[serde(default)] pub $field: Option<$type>,)*
        }

        impl $name {
            /// The fields that were written.
            fn written(&self) -> Vec<SmbiosValue> {
                let all = [$((
                    concat!("smbios.", $part, ".", stringify!($field)),
                    $key,
                    self.$field.as_ref().map(ToString::to_string),
                )),*];
                let written = all.into_iter().filter_map(|(field, key, value)| {
                    Some(SmbiosValue { field: field.to_owned(), key, value: value? })
                });
                written.collect()
            }
        }
    };
}

structure! {
    /// BIOS information (SMBIOS type 0).
    BiosInformation, "bios" {
        /// The firmware's maker. Default: QEMU's own firmware's.
        vendor: String => "vendor",
        /// Its version. Default: QEMU's own firmware's.
        version: String => "version",
        /// Its release date, as month/day/year. Default: QEMU's own firmware's.
        date: String => "date",
        /// Its release as two numbers from 0 to 255: `"5.17"`. Default: QEMU's own firmware's.
        release: String => "release",
    }
}

structure! {
    /// System information (SMBIOS type 1).
    SystemInformation, "system" {
        /// The computer's maker. Default: `QEMU`.
        manufacturer: String => "manufacturer",
        /// Its model. Default: QEMU's name for the board.
        product: String => "product",
        /// Its version. Default: the machine type.
        version: String => "version",
        /// Its serial number. Default: none.
        serial: String => "serial",
        /// Its stock keeping unit, the number under which it is sold. Default: none.
        sku: String => "sku",
        /// Its family. Default: none.
        family: String => "family",
    }
}

structure! {
    /// Baseboard information (SMBIOS type 2). The guest has none unless a field is given.
    BoardInformation, "board" {
        /// The board's maker. Default: `QEMU`.
        manufacturer: String => "manufacturer",
        /// Its model. Default: QEMU's name for the board.
        product: String => "product",
        /// Its version. Default: the machine type.
        version: String => "version",
        /// Its serial number. Default: none.
        serial: String => "serial",
        /// Its asset tag. Default: none.
        asset: String => "asset",
        /// Where in the chassis it is. Default: none.
        location: String => "location",
    }
}

structure! {
    /// System enclosure or chassis (SMBIOS type 3).
    ChassisInformation, "chassis" {
        /// The chassis' maker. Default: `QEMU`.
        manufacturer: String => "manufacturer",
        /// Its version. Default: the machine type.
        version: String => "version",
        /// Its serial number. Default: none.
        serial: String => "serial",
        /// Its asset tag. Default: none.
        asset: String => "asset",
        /// Its stock keeping unit. Default: none.
        sku: String => "sku",
    }
}

structure! {
    /// Processor information (SMBIOS type 4).
    ProcessorInformation, "processor" {
        /// What the sockets' names begin with; QEMU adds a number. Default: `CPU`.
        socket_prefix: String => "sock_pfx",
        /// The processor's maker. Default: `QEMU`.
        manufacturer: String => "manufacturer",
        /// Its version, which is the name that Windows shows. Default: the machine type.
        version: String => "version",
        /// Its serial number. Default: none.
        serial: String => "serial",
        /// Its asset tag. Default: none.
        asset: String => "asset",
        /// Its part number. Default: none.
        part: String => "part",
        /// The highest speed that its socket allows, in MHz. Default: 2000.
        max_speed: u16 => "max-speed",
        /// Its speed, in MHz. Default: 2000.
        current_speed: u16 => "current-speed",
    }
}

structure! {
    /// Memory device (SMBIOS type 17).
    MemoryDevice, "memory" {
        /// What the slots' names begin with; QEMU adds a number. Default: `DIMM`.
        locator_prefix: String => "loc_pfx",
        /// The bank. Default: none.
        bank: String => "bank",
        /// The module's maker. Default: `QEMU`.
        manufacturer: String => "manufacturer",
        /// Its serial number. Default: none.
        serial: String => "serial",
        /// Its asset tag. Default: none.
        asset: String => "asset",
        /// Its part number. Default: none.
        part: String => "part",
        /// Its speed, in million transfers a second. Default: unknown.
        speed: u16 => "speed",
    }
}

impl Smbios {
    /// The host's SMBIOS tables, as the kernel shows them to root.
    pub const TABLES: &str = "/sys/firmware/dmi/tables/DMI";
}

impl SmbiosFields {
    /// The fields that were written, by the number of their structure's type; none of OEM strings.
    pub fn structures(&self) -> [(u8, Vec<SmbiosValue>); 6] {
        [
            (0, self.bios.written()),
            (1, self.system.written()),
            (2, self.board.written()),
            (3, self.chassis.written()),
            (4, self.processor.written()),
            (17, self.memory.written()),
        ]
    }
}

impl Subject for Smbios {
    fn check(&self, problems: &mut Problems) {
        let Self::Fields(fields) = self else { return };
        for value in fields.structures().into_iter().flat_map(|(_, values)| values) {
            text(&value.field, &value.value, problems);
        }
        for (i, string) in fields.oem_strings.iter().enumerate() {
            text(&format!("smbios.oem_strings[{i}]"), string, problems);
        }
        if fields.oem_strings.len() > MAX_STRINGS {
            let count = fields.oem_strings.len();
            problems
                .add(format!("smbios.oem_strings[{MAX_STRINGS}]"), format!("{count} OEM strings are too many"))
                .allowed(format!("at most {MAX_STRINGS}"));
        }
        if let Some(release) = fields.bios.release.as_deref().filter(|text| !is_release(text)) {
            problems
                .add("smbios.bios.release", format!("`smbios.bios.release` cannot be {release:?}"))
                .allowed("two numbers from 0 to 255 with a dot between: \"5.17\"")
                .help("`version` takes any text");
        }
    }

    fn name(&self, named: &mut Named) {
        if *self == Self::Host {
            named.files.push(PathBuf::from(Self::TABLES));
            named.smbios = true;
        }
    }
}

/// What a string of SMBIOS can hold: it ends with a NUL, and guests read other characters in different ways.
fn text(field: &str, text: &str, problems: &mut Problems) {
    let printable = text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    if text.is_empty() {
        problems.add(field, format!("`{field}` is empty")).help("leave it out");
    } else if text.len() > MAX_TEXT || !printable {
        problems
            .add(field, format!("`{field}` cannot be {text:?}"))
            .allowed(format!("at most {MAX_TEXT} letters, digits and other printable characters of ASCII"));
    }
}

fn is_release(text: &str) -> bool {
    text.split_once('.').is_some_and(|(major, minor)| {
        [major, minor].iter().all(|n| n.parse::<u8>().is_ok() && n.bytes().all(|digit| digit.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::machine::parse;

    fn refused(written: &str) -> Option<String> {
        let text = format!("(guest: Linux, memory: (size: \"1 GiB\"),\nsmbios: {written})");
        let error = parse(Path::new("m.ron"), &text).err()?;
        error.to_string().lines().next().map(str::to_owned)
    }

    #[test]
    fn what_smbios_cannot_hold_is_refused_with_its_place() {
        let long = "x".repeat(256);
        for (written, expected) in [
            ("Host", None),
            ("Fields()", None),
            (r#"Fields(system: (serial: "a,b=c", sku: "x"), oem_strings: ["1", "2"])"#, None),
            (r#"Fields(bios: (release: "5.17"))"#, None),
            (r#"Fields(bios: (release: "5"))"#, Some("m.ron:2:32: `smbios.bios.release` cannot be \"5\"")),
            (r#"Fields(bios: (release: "1.256"))"#, Some("m.ron:2:32: `smbios.bios.release` cannot be \"1.256\"")),
            (r#"Fields(board: (serial: ""))"#, Some("m.ron:2:32: `smbios.board.serial` is empty")),
            (r#"Fields(board: (serial: "ü"))"#, Some("m.ron:2:32: `smbios.board.serial` cannot be \"ü\"")),
            (r#"Fields(oem_strings: ["a", "b\nc"])"#, Some("m.ron:2:35: `smbios.oem_strings[1]` cannot be \"b\\nc\"")),
            (r#"Fields(system: (vendor: "a"))"#, Some("m.ron:2:25: unknown field `vendor` in `smbios.system`")),
            ("host", Some("m.ron:2:9: unknown value `host` for `smbios`; did you mean `Host`?")),
        ] {
            assert_eq!(refused(written).as_deref(), expected, "{written}");
        }
        assert!(refused(&format!("Fields(chassis: (asset: \"{long}\"))")).unwrap().contains("`smbios.chassis.asset`"));
        let many = vec!["\"a\""; 256].join(", ");
        let many = refused(&format!("Fields(oem_strings: [{many}])")).unwrap();
        assert!(many.ends_with("256 OEM strings are too many"), "{many}");
    }
}
