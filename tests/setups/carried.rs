//! What of a plan carries a setting.

use serde_json::Value;
use vfio_run::plan::{Plan, Verdict};
use vfio_run::qemu::command::OptionValue;

/// Whether `what` is in that part of the plan:
///
/// | `how` | `what` |
/// |---|---|
/// | `vcpu` | `3=19`: vCPU 3 runs on CPU 19 |
/// | `emulator` | the CPUs of QEMU's other threads |
/// | `iothread` | `io-disk0=2-3`: that thread's CPUs |
/// | `option` | `-cpu hv-vapic=on`: an option with this among its values, or with JSON that has this in it |
/// | `change`, `late` | JSON that a change to the host, or a device that is given late, has in it |
/// | `hold`, `keep`, `helper`, `descriptor` | words in what is held, kept, started beside QEMU, or handed over to it |
/// | `finding` | `pci.iommu yes the IOMMU`: a finding's key, its verdict, and words in what it says |
/// | `alive`, `timeout` | the seconds within which a sign of life must come; those for powering off |
pub fn is(plan: &Plan, how: &str, what: &str) -> bool {
    let pair = || what.split_once('=').unwrap_or_else(|| panic!("`{how}` takes `name=CPUs`: {what}"));
    match how {
        "vcpu" => {
            let (vcpu, cpu) = pair();
            plan.placement.vcpus.get(vcpu.parse::<usize>().unwrap()) == Some(&cpu.parse().unwrap())
        }
        "emulator" => plan.placement.emulator.to_string() == what,
        "iothread" => plan.placement.iothreads.iter().any(|(id, cpus)| (id.as_str(), &*cpus.to_string()) == pair()),
        "option" => has_option(plan, what),
        "change" => {
            let isolation = plan.isolation.iter().flat_map(|isolation| &isolation.changes);
            plan.changes.iter().chain(isolation).any(|planned| has(&planned.change, what))
        }
        "late" => plan.late.iter().any(|late| has(&late.what, what)),
        "hold" => plan.holds.iter().any(|planned| planned.hold.to_string().contains(what)),
        "keep" => plan.keep.iter().any(|keep| format!("{keep:?}").contains(what)),
        "helper" => plan.helpers.iter().any(|helper| helper.argv.join(" ").contains(what)),
        "descriptor" => plan.descriptors.iter().any(|descriptor| format!("{:?}", descriptor.what).contains(what)),
        "finding" => {
            let mut parts = what.splitn(3, ' ');
            let (key, verdict, words) =
                (parts.next().unwrap(), parts.next().unwrap(), parts.next().unwrap_or_default());
            let verdict = match verdict {
                "yes" => Verdict::Yes,
                "no" => Verdict::No,
                other => panic!("`{other}` is no verdict: {what}"),
            };
            plan.findings.iter().any(|finding| {
                let said = format!("{} {}", finding.detail, finding.remedy.as_deref().unwrap_or_default());
                finding.key == key && finding.ok == verdict && said.contains(words)
            })
        }
        "alive" => plan.give_back_unless.as_ref().is_some_and(|switch| switch.within.to_string() == what),
        "timeout" => plan.shutdown_timeout.to_string() == what,
        other => panic!("no part of a plan is called `{other}`"),
    }
}

fn has_option(plan: &Plan, what: &str) -> bool {
    let (name, wanted) = what.split_once(' ').unwrap_or_else(|| panic!("an option and its value: {what}"));
    plan.command.options.iter().filter(|option| option.name == name).any(|option| match &option.value {
        OptionValue::Json(object) => has(object, wanted),
        value => value.written().unwrap_or_default().split(',').any(|part| part == wanted),
    })
}

/// Whether a value has this JSON in it.
fn has(value: &impl serde::Serialize, what: &str) -> bool {
    let wanted: Value = serde_json::from_str(what).unwrap_or_else(|error| panic!("{error} in {what}"));
    within(&serde_json::to_value(value).unwrap(), &wanted)
}

/// Objects may have more members, and lists more elements.
fn within(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Object(value), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| value.get(key).is_some_and(|value| within(value, wanted)))
        }
        (Value::Array(value), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| value.iter().any(|value| within(value, wanted)))
        }
        (value, wanted) => value == wanted,
    }
}
