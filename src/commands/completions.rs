//! `vfio-run completions SHELL`.

use clap_complete::Shell;

use crate::cli;

/// How each shell asks for the names of machines.
const ASK: &str = "vfio-run status --names 2>/dev/null";

/// The script, without hidden commands. In bash, zsh and fish it completes the names of machines too, for which the
/// program is asked at that moment.
pub fn script(shell: Shell) -> String {
    let mut text = Vec::new();
    // Into memory: the generator panics if it cannot write, as to a reader that went away.
    clap_complete::generate(shell, &mut cli::visible(), "vfio-run", &mut text);
    let text = String::from_utf8_lossy(&text);
    let names = cli::MACHINE_NAMES;
    match shell {
        // The words are in double quotes, which bash expands. The generator (clap_complete 4.6) takes the dash in the
        // program's name for a space in some places, so that nothing is completed after a command.
        Shell::Bash => text.replace("vfio__subcmd__run__", "vfio__run__").replace(names, &format!("$({ASK})")),
        Shell::Zsh => {
            let function = format!("_vfio_run_machines() {{ compadd -- ${{(f)\"$({ASK})\"}} }}\n");
            let text = text.replace(&format!("({names})"), "_vfio_run_machines");
            text.replacen("autoload -U is-at-least\n", &format!("autoload -U is-at-least\n\n{function}"), 1)
        }
        // The generator leaves out what arguments without a dash can be.
        Shell::Fish => {
            let words = |verb: &str, words: &str| {
                format!("complete -c vfio-run -n \"__fish_vfio_run_using_subcommand {verb}\" -f -a \"{words}\"\n")
            };
            let machines = ["status", "top", "stop", "alive", "attach", "detach", "cd", "link", "recover"]
                .map(|verb| words(verb, &format!("({ASK})")));
            let pages = words("man", &cli::pages().join(" "));
            format!("{text}{}{pages}{}", machines.concat(), words("help", &cli::helped().join(" ")))
        }
        _ => text.replace(names, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hidden_commands_are_in_no_script_and_names_are_asked_for() {
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish, Shell::Elvish, Shell::PowerShell] {
            let script = script(shell);
            assert!(script.contains("rehearse") && !script.contains("attribute"), "{shell}: {script}");
            assert!(!script.contains(cli::MACHINE_NAMES), "{shell}");
        }
        for shell in [Shell::Bash, Shell::Zsh, Shell::Fish] {
            assert!(script(shell).contains("vfio-run status --names"), "{shell}");
            assert!(script(shell).contains("troubleshooting"), "{shell}");
        }
        let visible = cli::visible();
        let named = visible.get_subcommands().flat_map(clap::Command::get_arguments).filter(|argument| {
            argument.get_possible_values().iter().any(|value| value.get_name() == cli::MACHINE_NAMES)
        });
        // And where it is defined.
        let expected = named.count() + 1;
        assert_eq!(script(Shell::Zsh).matches("_vfio_run_machines").count(), expected, "{}", script(Shell::Zsh));
    }
}
