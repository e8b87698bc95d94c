//! The questions of `vfio-run new`, each a line with what an empty answer stands for in brackets.

use std::io::BufRead;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use crate::cli::NewArgs;
use crate::import::new::{Card, NewDisk, Wishes};
use crate::machine::{Display, Guest, is_name};
use crate::units::{PciAddress, PciSlot, Size, printable_up_to};

/// A disk that Windows and a few games fit on; it is sparse.
const DISK: Size = Size::bytes(128 * Size::GIB);
/// More of what is wrong with an answer is not shown.
const MESSAGE: usize = 240;
/// No person answers a question wrong so often.
const ATTEMPTS: usize = 10;

/// What the machine is to be: what the arguments say, then what is answered if `asks`, else what is usual. `None`: the answers
/// ended before that.
pub fn wishes(
    args: &NewArgs,
    cards: &[Card],
    asks: bool,
    answers: &mut dyn BufRead,
    say: &mut dyn FnMut(&str),
) -> Result<Option<Wishes>> {
    let mut ask = Ask { asks, answers, say };
    let guest = ask.one(args.guest.as_deref(), "Guest (windows11, windows10, linux, other)", "windows11", guest)?;
    let Some(guest) = guest else { return Ok(None) };
    let usual = match guest {
        Guest::Windows11 => "win11",
        Guest::Windows10 => "win10",
        Guest::Linux => "linux",
        Guest::Other => "guest",
    };
    let stem = args.output.as_ref().and_then(|path| path.file_stem()).map(|stem| stem.to_string_lossy().into_owned());
    let Some(name) = ask.one(args.name.as_deref(), "Name", &stem.unwrap_or_else(|| usual.to_owned()), name)? else {
        return Ok(None);
    };
    let Some(card) = which_card(args, cards, &mut ask)? else { return Ok(None) };
    let question = "ISO of the installation, or none";
    let Some(setup) = ask.one(shown(&args.iso).as_deref(), question, "none", cd)? else { return Ok(None) };
    let drivers = if guest.is_windows() && (setup.is_some() || args.virtio_iso.is_some()) {
        let question = "ISO with virtio's drivers (virtio-win.iso), or none";
        ask.one(shown(&args.virtio_iso).as_deref(), question, "none", cd)?
    } else {
        Some(None)
    };
    let Some(drivers) = drivers else { return Ok(None) };
    let question = "Disk: the size of a new image, or the path of one that is there";
    let Some(disk) = ask.one(args.disk.as_deref(), question, &DISK.to_string(), disk)? else { return Ok(None) };
    Ok(Some(Wishes { name, guest, card, disk, setup, drivers, display: Display::Spice(Default::default()) }))
}

/// The card; the outer `None`: the answers ended.
fn which_card(args: &NewArgs, cards: &[Card], ask: &mut Ask) -> Result<Option<Option<PciAddress>>> {
    let numbered = |text: &str| number(text, cards);
    let usual = match cards.first() {
        Some(card) if !card.built_in => "1",
        _ => "none",
    };
    if args.gpu.is_none() && cards.is_empty() {
        return Ok(Some(None));
    }
    if ask.asks && args.gpu.is_none() {
        let mut text = "Graphics cards of this host:\n".to_owned();
        for (index, card) in cards.iter().enumerate() {
            let mut remarks = Vec::new();
            if card.boots {
                remarks.push(if cards.len() > 1 { "the host's screen" } else { "the host's only screen" });
            }
            if card.built_in {
                remarks.push("a part of the processor");
            }
            if !card.beside.is_empty() {
                remarks.push("its IOMMU group has other devices in use");
            }
            let remarks = if remarks.is_empty() { String::new() } else { format!(" ({})", remarks.join("; ")) };
            text.push_str(&format!("  {}  {}  {}{remarks}\n", index + 1, card.address, card.name));
        }
        (ask.say)(&text);
    }
    ask.one(
        args.gpu.as_deref(),
        "Card for the guest: its number or address, or none for an emulated screen",
        usual,
        numbered,
    )
}

/// The one who asks.
struct Ask<'a> {
    asks: bool,
    answers: &'a mut dyn BufRead,
    say: &'a mut dyn FnMut(&str),
}

impl Ask<'_> {
    /// The value that an argument has, or an answer, or else `usual`; `None` if the answers have ended.
    fn one<T>(
        &mut self,
        argument: Option<&str>,
        question: &str,
        usual: &str,
        read: impl Fn(&str) -> Result<T>,
    ) -> Result<Option<T>> {
        if let Some(text) = argument {
            return read(text).map(Some);
        }
        if !self.asks {
            return read(usual).map(Some);
        }
        for _ in 0..ATTEMPTS {
            (self.say)(&format!("{question} [{usual}]: "));
            let mut line = String::new();
            // A line of a person's is short; what comes without an end is no answer.
            let read_bytes = std::io::Read::take(&mut *self.answers, 8192).read_line(&mut line);
            if read_bytes.context("cannot read standard input")? == 0 {
                (self.say)("\n");
                return Ok(None);
            }
            match read(if line.trim().is_empty() { usual } else { line.trim() }) {
                Ok(value) => return Ok(Some(value)),
                Err(wrong) => {
                    let wrong = printable_up_to(&format!("{wrong:#}"), MESSAGE);
                    (self.say)(&format!("  {wrong}\n"));
                }
            }
        }
        bail!("no answer of {ATTEMPTS} was one to the question")
    }
}

fn guest(text: &str) -> Result<Guest> {
    Ok(match text.to_lowercase().replace([' ', '-'], "").as_str() {
        "windows11" | "win11" => Guest::Windows11,
        "windows10" | "win10" => Guest::Windows10,
        "linux" => Guest::Linux,
        "other" => Guest::Other,
        _ => bail!("{text:?} is no guest; say windows11, windows10, linux or other"),
    })
}

fn name(text: &str) -> Result<String> {
    if !is_name(text) {
        bail!("{text:?} cannot be a machine's name: letters, digits, `-`, `_` and `.`, at most 48");
    }
    Ok(text.to_owned())
}

fn is_none(text: &str) -> bool {
    matches!(text.to_lowercase().as_str(), "none" | "no" | "-")
}

/// A card by its number in the list, or by its address.
fn number(text: &str, cards: &[Card]) -> Result<Option<PciAddress>> {
    if is_none(text) {
        return Ok(None);
    }
    if let Some(card) = text.parse::<usize>().ok().and_then(|number| cards.get(number.checked_sub(1)?)) {
        return Ok(Some(card.address));
    }
    // `01:00` is how people say it.
    let slots: [Result<PciSlot, _>; 2] = [text.parse(), format!("{text}.*").parse()];
    let mut slots = slots.into_iter().flatten();
    let found = slots.find_map(|slot| cards.iter().find(|card| slot.contains(card.address)));
    match found {
        Some(card) => Ok(Some(card.address)),
        None if cards.is_empty() => bail!("{text:?} is no graphics card of this host, which has none; say none"),
        None => {
            let known: Vec<String> = cards.iter().map(|card| card.address.to_string()).collect();
            bail!("{text:?} is no graphics card of this host; it has {}, or say none", known.join(", "))
        }
    }
}

fn cd(text: &str) -> Result<Option<PathBuf>> {
    if is_none(text) {
        return Ok(None);
    }
    let path = there(text)?;
    Ok(Some(path))
}

fn disk(text: &str) -> Result<NewDisk> {
    match text.parse() {
        Ok(size) => Ok(NewDisk::Create(size)),
        Err(_) if text.bytes().all(|byte| byte.is_ascii_digit()) => {
            bail!("name the unit of the disk's size: `{text}G`")
        }
        Err(_) if text.to_lowercase().ends_with(".iso") => {
            bail!("{text} is a CD's image; the disk is what the guest is installed on")
        }
        Err(_) => there(text).map(NewDisk::There),
    }
}

/// A file that is there, by its absolute path: the machine file may be in another folder.
fn there(text: &str) -> Result<PathBuf> {
    let path = std::path::absolute(text)?;
    let data = std::fs::metadata(&path).with_context(|| format!("cannot look at {text}"))?;
    if data.is_dir() {
        bail!("{text} is a folder");
    }
    Ok(path)
}

fn shown(path: &Option<PathBuf>) -> Option<String> {
    path.as_deref().map(Path::display).map(|path| path.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(guest: Option<&str>) -> NewArgs {
        let none = || None;
        NewArgs {
            guest: guest.map(str::to_owned),
            name: None,
            gpu: none(),
            iso: None,
            virtio_iso: None,
            disk: None,
            host: None,
            output: None,
        }
    }

    fn card(address: &str, built_in: bool) -> Card {
        let address: PciAddress = address.parse().unwrap();
        Card {
            address,
            ids: "10de:2684".parse().unwrap(),
            name: "a card".to_owned(),
            slots: vec![address.into()],
            boots: false,
            built_in,
            beside: vec![],
        }
    }

    fn answered(text: &str, cards: &[Card]) -> Option<Wishes> {
        wishes(&args(None), cards, true, &mut text.as_bytes(), &mut |_| {}).unwrap()
    }

    #[test]
    fn an_empty_answer_is_the_usual_one_and_a_wrong_one_is_asked_for_again() {
        let cards = [card("02:00.0", false), card("01:00.0", false)];
        let usual = answered("\n\n\n\n\n", &cards).unwrap();
        assert_eq!((usual.name.as_str(), usual.guest), ("win11", Guest::Windows11));
        assert_eq!((usual.card, usual.disk), (Some(cards[0].address), NewDisk::Create(DISK)));
        let other = answered("beos\nLinux\nmy name\nbox\n03:00\n01:00\nnowhere.iso\nnone\n64\n64G\n", &cards).unwrap();
        assert_eq!((other.name.as_str(), other.guest), ("box", Guest::Linux));
        assert_eq!((other.card, other.disk), (Some(cards[1].address), NewDisk::Create(Size::bytes(64 << 30))));
        // What is in the processor is given to nobody unasked.
        assert_eq!(answered("\n\n\n\n\n", &[card("00:02.0", true)]).unwrap().card, None);
    }

    #[test]
    fn answers_that_end_make_no_machine() {
        let cards = [card("01:00.0", false)];
        for text in ["", "linux\n", "linux\nbox\n1\nnone\n"] {
            assert!(answered(text, &cards).is_none(), "{text:?}");
        }
        let endless = "x".repeat(1 << 20);
        let mut said = String::new();
        let mut say = |text: &str| said.push_str(text);
        assert!(wishes(&args(None), &cards, true, &mut endless.as_bytes(), &mut say).is_err());
        assert!(
            said.len() < 10_000 && said.starts_with("Guest (windows11, windows10, linux, other) [windows11]: "),
            "{said}"
        );
    }

    #[test]
    fn without_questions_all_is_usual_and_a_wrong_argument_is_refused() {
        let made = |gpu: &str| {
            let args = NewArgs { gpu: Some(gpu.to_owned()), ..args(Some("windows10")) };
            wishes(&args, &[card("01:00.0", false)], false, &mut "".as_bytes(), &mut |text| panic!("asks {text}"))
        };
        assert_eq!(made("01:00").unwrap().unwrap().card, Some("01:00.0".parse().unwrap()));
        assert_eq!(made("none").unwrap().unwrap().card, None);
        let wrong = made("05:00").unwrap_err().to_string();
        assert_eq!(wrong, "\"05:00\" is no graphics card of this host; it has 0000:01:00.0, or say none");
    }
}
