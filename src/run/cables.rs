//! The cables of the guest's network cards: which are unplugged, from the guest's first instruction on and while it runs.

use anyhow::{Context as _, Result, bail};
use qapi::qmp;

use crate::journal::Record;
use crate::plan::Plan;
use crate::qemu::Qmp;

/// The ids of the guest's network cards.
fn cards(plan: &Plan) -> impl Iterator<Item = String> {
    let ids = (0..).map(|index| format!("net{index}"));
    ids.take_while(|id| plan.command.options.iter().any(|option| option.has_id(id)))
}

/// Unplugs those that are to be unplugged, before the guest runs: those of the plan, unless somebody has chosen since, by
/// these records of the journal.
pub(in crate::run) async fn unplug(plan: &Plan, records: &[Record], qmp: &mut Qmp) -> Result<()> {
    let chosen = records.iter().rev().find_map(|record| match record {
        Record::Link { up } => Some(*up),
        _ => None,
    });
    match chosen {
        None => put(&plan.unplugged, false, qmp).await,
        Some(false) => put(&cards(plan).collect::<Vec<_>>(), false, qmp).await,
        // A new QEMU has them all plugged in.
        Some(true) => Ok(()),
    }
}

/// Plugs all in or unplugs them while the guest runs. Says which.
pub(in crate::run) async fn set(plan: &Plan, up: bool, qmp: &mut Qmp) -> Result<String> {
    let cards: Vec<String> = cards(plan).collect();
    if cards.is_empty() {
        bail!("{} has no network card", plan.name);
    }
    put(&cards, up, qmp).await?;
    Ok(cards.join(", "))
}

async fn put(cards: &[String], up: bool, qmp: &mut Qmp) -> Result<()> {
    for card in cards {
        let what = if up { "plug in" } else { "unplug" };
        let answer = qmp.execute(qmp::set_link { name: card.clone(), up }).await;
        answer.with_context(|| format!("QEMU did not {what} the cable of {card}"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::sample::{self, Shape};

    #[test]
    fn the_cards_are_those_of_the_plan() {
        let host = sample::host(Shape::simple(4, 1));
        let of = |networks: &str| {
            let text = format!("(guest: Linux, memory: (size: \"1 GiB\"), networks: [{networks}])");
            cards(&sample::plan(&text, &host)).collect::<Vec<_>>()
        };
        assert_eq!(of("(backend: Slirp), (backend: None, link: Down)"), ["net0", "net1"]);
        assert_eq!(of(""), [""; 0]);
    }
}
