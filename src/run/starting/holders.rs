//! A last look before anything is taken from the host: whether a program has it open that nothing would end. The plan has
//! looked too, but guest's memory, helpers and the trial have taken their time since.

use anyhow::{Context as _, Result};

use crate::change::{Change, HideCard, StopUnit};
use crate::host::Root;
use crate::plan::Plan;

/// Refuses, with the names, if such a program has what the plan takes.
pub(in crate::run) fn look(plan: &Plan, root: &Root) -> Result<()> {
    let changes = || plan.changes.iter().map(|planned| &planned.change);
    let stopped = changes().filter_map(|change| match change {
        Change::StopUnit(StopUnit { unit }) => Some(unit.as_str()),
        _ => None,
    });
    let stopped: Vec<&str> = stopped.collect();
    let hidden = changes().filter_map(|change| match change {
        Change::HideCard(HideCard { node, .. }) => Some(node.path.as_path()),
        _ => None,
    });
    let hidden: Vec<_> = hidden.collect();
    changes().try_for_each(|change| match change {
        Change::FreeNodes(nodes) => {
            nodes.look(root, &stopped, &hidden).context("the host keeps its devices, and nothing was stopped")
        }
        _ => Ok(()),
    })
}
