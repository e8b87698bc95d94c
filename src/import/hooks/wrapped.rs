//! Words before a program that have it run in another way: as another user, on other CPUs, in a terminal of its own.

use std::ops::Range;

/// Programs that start another: the options that take a value in a word of their own, and how many words come before the other's
/// name. Short options by their letters.
const STARTERS: [(&str, &str, &[&str], usize); 40] = [
    ("sudo", "ughpCrtTUDR", &["--user", "--group", "--host", "--prompt", "--chdir"], 0),
    ("doas", "uC", &[], 0),
    ("pkexec", "", &["--user"], 0),
    ("exec", "a", &[], 0),
    ("nohup", "", &[], 0),
    ("command", "", &[], 0),
    ("builtin", "", &[], 0),
    ("eval", "", &[], 0),
    ("setsid", "", &[], 0),
    ("env", "uC", &["--unset", "--chdir"], 0),
    ("time", "fo", &[], 0),
    ("xargs", "nIPLdE", &[], 0),
    ("timeout", "ks", &["--signal", "--kill-after"], 1),
    ("nice", "n", &["--adjustment"], 0),
    ("ionice", "cn", &["--class", "--classdata"], 0),
    ("chrt", "TPD", &[], 1),
    ("taskset", "", &[], 1),
    ("numactl", "imNCPwp", &["--interleave", "--membind", "--cpunodebind", "--physcpubind", "--preferred"], 0),
    ("cgexec", "g", &[], 0),
    ("systemd-run", "puEHM", &["--unit", "--property", "--slice", "--uid", "--gid", "--setenv", "--description"], 0),
    ("systemd-inhibit", "", &["--what", "--who", "--why", "--mode"], 0),
    ("gnome-session-inhibit", "", &["--inhibit", "--reason", "--app-id"], 0),
    ("caffeinate", "", &[], 0),
    ("runuser", "ugG", &["--user", "--group"], 0),
    ("stdbuf", "ioe", &[], 0),
    ("strace", "eopsP", &[], 0),
    ("flock", "wE", &[], 1),
    ("prlimit", "", &[], 0),
    ("dbus-run-session", "", &[], 0),
    ("dbus-launch", "", &[], 0),
    ("gamemoderun", "", &[], 0),
    ("mangohud", "", &[], 0),
    ("prime-run", "", &[], 0),
    ("firejail", "", &[], 0),
    ("screen", "Sceshpt", &[], 0),
    ("xterm", "Tnge", &[], 0),
    ("konsole", "p", &["--workdir", "--profile"], 0),
    ("gnome-terminal", "", &["--title"], 0),
    ("bash", "", &[], 0),
    ("sh", "", &[], 0),
];

/// Starters that mean something by themselves where QEMU is not what they start.
const MEANING: [&str; 15] = [
    "systemd-inhibit",
    "gnome-session-inhibit",
    "caffeinate",
    "cset",
    "cgexec",
    "systemd-run",
    "tmux",
    "screen",
    "su",
    "sg",
    "script",
    "bash",
    "sh",
    "ip",
    "flock",
];

/// A program's name without its folder.
pub fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// The words of each starter before a program, and the place of that program's name.
pub fn starters(words: &[&str]) -> (Vec<Range<usize>>, usize) {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(length) = words.get(at..).and_then(length).filter(|length| at + length < words.len()) {
        found.push(at..at + length);
        at += length;
    }
    (found, at)
}

/// How many words are before what a command of a hook does.
pub fn before(words: &[&str]) -> usize {
    let (starters, at) = starters(words);
    starters.into_iter().find(|starter| MEANING.contains(&base(words[starter.start]))).map_or(at, |own| own.start)
}

/// How many words belong to the starter that these begin with; `None` if they begin with none.
fn length(words: &[&str]) -> Option<usize> {
    let first = base(words.first()?);
    if words[0].contains('=') && !words[0].starts_with(['/', '-', '$', '`']) {
        return Some(1);
    }
    let at = |word: &str| words.iter().position(|known| *known == word);
    match first {
        "su" | "sg" | "script" => return at("-c").map(|option| option + 1),
        "gdb" => return at("--args").map(|option| option + 1),
        // `cset proc -s SET -e -- PROGRAM`, `cset shield --exec PROGRAM`.
        "cset" => {
            let exec = words.iter().position(|word| matches!(*word, "-e" | "--exec"))?;
            return Some(1 + options(&words[1..], 1, "stfu", &["--set", "--toset"])).filter(|length| *length > exec);
        }
        // Another user's, in a shell of its own.
        "machinectl" if words.get(1) == Some(&"shell") && words.len() > 3 => {
            return Some(2 + usize::from(!words[2].starts_with('/')));
        }
        "ip" if words.get(1..3) == Some(&["netns", "exec"]) => return Some(4),
        "tmux" => {
            let starts = |word: &&str| {
                ["new", "new-session", "new-window", "neww", "split-window", "splitw", "send-keys", "send"]
                    .contains(word)
            };
            let verb = words.iter().position(starts)?;
            return Some(verb + 1 + options(&words[verb + 1..], 0, "sntcxyFe", &[]));
        }
        // It looks, or changes what runs already.
        "command" if words.get(1).is_some_and(|word| matches!(*word, "-v" | "-V")) => return None,
        "taskset" | "chrt" | "ionice" | "prlimit"
            if words.iter().take(3).any(|word| {
                word.starts_with("--pid") || word.starts_with('-') && !word.starts_with("--") && word.contains('p')
            }) =>
        {
            return None;
        }
        _ => {}
    }
    let (_, short, long, operands) = STARTERS.iter().find(|(name, ..)| *name == first)?;
    Some(1 + options(&words[1..], *operands, short, long))
}

/// How many of the words are options, their values and this many operands.
fn options(words: &[&str], operands: usize, short: &str, long: &[&str]) -> usize {
    let (mut at, mut left, mut over) = (0, operands, false);
    while let Some(word) = words.get(at) {
        let is_option = word.len() > 1 && word.starts_with('-') && !over;
        if *word == "--" && !over {
            over = true;
        } else if !is_option {
            if left == 0 {
                break;
            }
            left -= 1;
        } else if long.contains(word)
            || !word.starts_with("--") && word.find(|c| short.contains(c)) == Some(word.len() - 1)
        {
            at += 1;
        }
        at += 1;
    }
    at.min(words.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_the_first_word_after_those_that_start_it() {
        for (line, program) in [
            ("qemu -m 1", "qemu"),
            ("sudo -E -u me env A=b QEMU_AUDIO_DRV=pa qemu -m 1", "qemu"),
            ("sudo -Hu me nice -n -10 qemu", "qemu"),
            ("nice -10 ionice -c2 -n 0 qemu", "qemu"),
            ("taskset -c 2,3 chrt -f 1 qemu", "qemu"),
            ("taskset 0x80 qemu -p x", "qemu"),
            ("timeout -k 5 10 qemu", "qemu"),
            ("cset proc -e -s vm -- qemu -e", "qemu"),
            ("cset proc --exec --set=vm qemu", "qemu"),
            ("cset shield --exec -- qemu", "qemu"),
            ("numactl --membind=0 -N 0 qemu", "qemu"),
            ("tmux new-session -d -s kvm qemu -m 1", "qemu"),
            ("screen -dmS kvm qemu -s", "qemu"),
            ("su - me -c qemu", "qemu"),
            ("machinectl shell me@ /usr/bin/pactl x", "/usr/bin/pactl"),
            ("ip tuntap add dev tap0 mode tap user me group kvm", "ip"),
            ("sudo usermod -aG kvm me", "usermod"),
            ("sudo taskset -pc 2 100", "taskset"),
            ("command -v qemu", "command"),
            ("sudo -v", "sudo"),
            ("", ""),
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            let (found, at) = starters(&words);
            assert_eq!(words.get(at).copied().unwrap_or_default(), program, "{line}");
            assert_eq!(found.iter().map(ExactSizeIterator::len).sum::<usize>(), at, "{line}");
        }
        assert_eq!(before(&["sudo", "bash", "a.sh"]), 1);
    }
}
