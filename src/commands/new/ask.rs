//! The questions of `vfio-run new`, each a line with what an empty answer stands for in brackets.

use std::io::BufRead;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::super::shared::wrong_argument::WrongArgument;
use super::values::{self, Target};

use crate::cli::NewArgs;
use crate::import::new::{Card, Wishes};
use crate::machine::{Display, Guest, is_name};
use crate::units::{PciAddress, Size, printable_up_to};

/// A disk that Windows and a few games fit on; it is sparse.
const DISK: Size = Size::bytes(128 * Size::GIB);
/// More of what is wrong with an answer is not shown.
const MESSAGE: usize = 240;
/// No person answers a question wrong so often.
const ATTEMPTS: usize = 10;

/// Where the answers come from, and where the questions go.
pub type Talk<'a> = (&'a mut dyn BufRead, &'a mut dyn FnMut(&str));

/// What the machine is to be: what the arguments say, then what is answered if `asks`, else what is usual. `None`: the answers
/// ended before that.
pub fn wishes(
    args: &NewArgs,
    target: &Target,
    cards: &[Card],
    home: Option<&Path>,
    asks: bool,
    (answers, say): Talk,
) -> Result<Option<Wishes>> {
    let mut ask = Ask { asks, home, answers, say };
    let question = "Guest (windows11, windows10, linux, other)";
    let Some(guest) = ask.one("--guest", args.guest.as_deref(), question, "windows11", values::guest)? else {
        return Ok(None);
    };
    let (setup_given, drivers_given) = (shown(args.iso.as_deref()), shown(args.virtio_iso.as_deref()));
    let wants_drivers = drivers_given.as_deref().is_some_and(|text| !values::is_none(text));
    if wants_drivers && !guest.is_windows() {
        let words = "only Windows needs these drivers; leave it out";
        return Err(WrongArgument::new("--virtio-iso", words).into());
    }
    let usual = match guest {
        Guest::Windows11 => "win11",
        Guest::Windows10 => "win10",
        Guest::Linux => "linux",
        Guest::Other => "guest",
    };
    let stem = target.file.as_ref().and_then(|path| path.file_stem()).map(|stem| stem.to_string_lossy().into_owned());
    // Who is asked is proposed nothing that is refused.
    let usual = stem.filter(|stem| !asks || is_name(stem)).unwrap_or_else(|| usual.to_owned());
    let free_name = |text: &str| {
        let name = values::name(text)?;
        values::free(&target.file(&name))?;
        Ok(name)
    };
    let Some(name) = ask.one("--name", args.name.as_deref(), "Name", &usual, free_name)? else { return Ok(None) };
    let machine = target.file(&name);
    let Some(card) = which_card(args, cards, &mut ask)? else { return Ok(None) };
    let question = "ISO of the installation, or none";
    let setup = ask.one("--iso", setup_given.as_deref(), question, "none", |text| values::setup(text, &machine))?;
    let Some(setup) = setup else { return Ok(None) };
    let drivers = match &setup {
        None if wants_drivers => {
            let words = "it takes `--iso` too: the drivers are on a second CD while Windows is installed";
            return Err(WrongArgument::new("--virtio-iso", words).into());
        }
        Some(setup) if guest.is_windows() => {
            let question = "ISO with virtio's drivers (virtio-win.iso, which `vfio-run man machine` tells of), or none";
            let read = |text: &str| values::drivers(text, setup);
            ask.one("--virtio-iso", drivers_given.as_deref(), question, "none", read)?
        }
        _ => Some(None),
    };
    let Some(drivers) = drivers else { return Ok(None) };
    let question = "Disk: the size of a new image, or the path of one that is there";
    let read = |text: &str| values::disk(text, &name, &machine);
    let Some(disk) = ask.one("--disk", args.disk.as_deref(), question, &DISK.to_string(), read)? else {
        return Ok(None);
    };
    Ok(Some(Wishes { name, guest, card, disk, setup, drivers, display: Display::Spice(Default::default()) }))
}

/// The card; the outer `None`: the answers ended.
fn which_card(args: &NewArgs, cards: &[Card], ask: &mut Ask) -> Result<Option<Option<PciAddress>>> {
    let numbered = |text: &str| values::number(text, cards);
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
        "--gpu",
        args.gpu.as_deref(),
        "Card for the guest: its number or address, or none for an emulated screen",
        usual,
        numbered,
    )
}

/// The one who asks.
struct Ask<'a> {
    asks: bool,
    home: Option<&'a Path>,
    answers: &'a mut dyn BufRead,
    say: &'a mut dyn FnMut(&str),
}

impl Ask<'_> {
    /// The value that the argument of this option has, or an answer, or else `usual`; `None` if the answers have ended.
    fn one<T>(
        &mut self,
        option: &'static str,
        argument: Option<&str>,
        question: &str,
        usual: &str,
        read: impl Fn(&str) -> Result<T>,
    ) -> Result<Option<T>> {
        if let Some(text) = argument.or((!self.asks).then_some(usual)) {
            return match read(text) {
                Ok(value) => Ok(Some(value)),
                Err(wrong) => {
                    Err(WrongArgument::new(option, printable_up_to(&format!("{wrong:#}"), 4 * MESSAGE)).into())
                }
            };
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
            let line = values::pasted(&line, self.home);
            match read(if line.is_empty() { usual } else { &line }) {
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

fn shown(path: Option<&Path>) -> Option<String> {
    path.map(|path| path.display().to_string())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::import::new::NewDisk;

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
            desktop: false,
            built_in,
            beside: vec![],
        }
    }

    fn nowhere() -> Target {
        Target { folder: PathBuf::from("/nowhere"), file: None }
    }

    fn answered(text: &str, cards: &[Card]) -> Option<Wishes> {
        wishes(&args(None), &nowhere(), cards, None, true, (&mut text.as_bytes(), &mut |_| {})).unwrap()
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
        assert!(wishes(&args(None), &nowhere(), &cards, None, true, (&mut endless.as_bytes(), &mut say)).is_err());
        assert!(
            said.len() < 10_000 && said.starts_with("Guest (windows11, windows10, linux, other) [windows11]: "),
            "{said}"
        );
    }

    #[test]
    fn without_questions_all_is_usual_and_a_wrong_argument_is_refused() {
        let made = |gpu: &str| {
            let args = NewArgs { gpu: Some(gpu.to_owned()), ..args(Some("windows10")) };
            let (mut answers, mut say) = ("".as_bytes(), |text: &str| panic!("asks {text}"));
            wishes(&args, &nowhere(), &[card("01:00.0", false)], None, false, (&mut answers, &mut say))
        };
        assert_eq!(made("01:00").unwrap().unwrap().card, Some("01:00.0".parse().unwrap()));
        assert_eq!(made("none").unwrap().unwrap().card, None);
        let wrong = made("05:00").unwrap_err().to_string();
        assert_eq!(wrong, "--gpu: \"05:00\" is no graphics card of this host; it has 0000:01:00.0, or say none");
    }
}
