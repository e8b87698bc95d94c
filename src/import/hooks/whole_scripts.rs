//! Scripts that build a command bit by bit, as a shell would run them.

use std::collections::BTreeMap;

use super::command::Command;
use super::shell::{read, read_calls};

fn qemu(text: &str) -> Command {
    let script = read_calls(text, &mut BTreeMap::new());
    script.commands.into_iter().find(|command| command.never.is_none() && command.words[0] == "qemu").unwrap()
}

/// What `qemu` is certainly given, and what only if a test holds.
fn given(text: &str) -> (String, Vec<(String, String)>) {
    let command = qemu(text).certain();
    let only_if = command.only_if.iter().map(|one| (one.text.clone(), one.condition.clone())).collect();
    (command.words[1..].join(" "), only_if)
}

fn only(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(text, condition)| ((*text).to_owned(), format!("`{condition}`"))).collect()
}

#[test]
fn what_a_test_adds_is_told_and_not_taken() {
    for text in [
        "O=\"-M q35\"\nif [ \"$GPU\" = 1 ]; then O=\"$O -device a,host=1\"; fi\nqemu $O\n",
        "O=\"-M q35\"\n[ \"$GPU\" = 1 ] && O=\"$O -device a,host=1\"\nqemu $O\n",
        "O=\"-M q35\"\n[ \"$GPU\" = 1 ] && {\n  O+=\" -device a,host=1\"\n}\nqemu $O\n",
        "O=(-M q35)\nif [ \"$GPU\" = 1 ]\nthen O+=(-device a,host=1); fi\nqemu \"${O[@]}\"\n",
        "g() { O=\"$O -device a,host=1\"; }\nO=\"-M q35\"\nif [ \"$GPU\" = 1 ]; then g; fi\nqemu $O\n",
    ] {
        let expected = only(&[("-device a,host=1", "[ \"$GPU\" = 1 ]")]);
        assert_eq!(given(text), ("-M q35".to_owned(), expected), "{text}");
    }
    // A value that is longer by chance is another value.
    let text = "M=4\nif [ -n \"$BIG\" ]; then M=40; fi\nqemu -m $M -k de\n";
    assert_eq!(given(text), ("-m 4 -k de".to_owned(), only(&[("M=40", "[ -n \"$BIG\" ]")])));
}

#[test]
fn of_two_branches_neither_is_taken() {
    let text = "if [ \"$1\" = a ]; then\n  G=\"-device a\"\nelse\n  G=\"-device b\"\nfi\nqemu -M q35 $G\n";
    let both = only(&[("-device a", "[ \"$1\" = a ]"), ("-device b", "! [ \"$1\" = a ]")]);
    assert_eq!(given(text), ("-M q35".to_owned(), both));
    let text = "case $1 in\n a) G=01 ;;\n b|c) G=02 ;;\n *) G=03 ;;\nesac\nqemu -M q35 -device x,host=$G -k de\n";
    let all = only(&[("G=01", "$1 is a"), ("G=02", "$1 is b|c"), ("G=03", "$1 is *")]);
    assert_eq!(given(text), ("-M q35 -device x,host=01 -k de".to_owned(), all));
    let taken: Vec<bool> = qemu(text).only_if.iter().map(|one| one.taken).collect();
    assert_eq!(taken, [true, false, false]);
    let text = "B=$1\nif [ $B ]; then M=32G; else M=16G; fi\nqemu -m ${M:-8G} -k de\n";
    assert_eq!(given(text).0, "-m 32G -k de");
    // Tests in tests.
    let text = "O=\nif [ $1 = a ]; then O=\"$O -x\"; if [ $2 = b ]; then O=\"$O -y\"; fi; fi\nqemu $O\n";
    let both = only(&[("-x", "[ $1 = a ]"), ("-y", "[ $1 = a ]`, and `[ $2 = b ]")]);
    assert_eq!(given(text), (String::new(), both));
}

#[test]
fn a_branch_that_starts_qemu_is_as_it_is() {
    let text = "O=\"-m 4G\"\nif [ $1 = a ]; then\n  O=\"$O -k de\"\n  qemu $O\nfi\n";
    assert_eq!(given(text), ("-m 4G -k de".to_owned(), Vec::new()));
}

#[test]
fn what_the_script_sets_decides_its_tests() {
    let text = "X=0\nY=1\nO=(-m 4G)\nif [ $X -eq 1 ]; then O+=(-a); elif [[ $Y == 1 ]]; then O+=(-b); else O+=(-c); fi\n\
                [[ $Y == 1 && $X == 0 ]] && O+=(-d)\n[ $X = 0 ] || O+=(-e)\ncase $Y in 0) O+=(-f);; 1) O+=(-g);; esac\nqemu ${O[@]}\n";
    assert_eq!(given(text), ("-m 4G -b -d -g".to_owned(), Vec::new()));
    let script = read_calls("X=0\nif [ $X = 1 ]; then systemctl stop a; fi\nqemu\n", &mut BTreeMap::new());
    let stop = script.commands.iter().find(|command| command.words[0] == "systemctl").unwrap();
    assert!(stop.control && stop.never.is_some());
    // Options of the script's own may set it.
    let text = "X=0\nwhile getopts x o; do case $o in x) X=1 ;; esac; done\nO=-a\n[ $X = 1 ] && O=\"$O -b\"\nqemu $O\n";
    assert_eq!(given(text), ("-a".to_owned(), only(&[("-b", "[ $X = 1 ]")])));
}

#[test]
fn a_default_is_taken() {
    for text in ["[ -z \"$M\" ] && M=4G\nqemu -m $M\n", "if [ -z \"$M\" ]; then M=4G; fi\nqemu -m $M\n"] {
        assert_eq!(given(text), ("-m 4G".to_owned(), Vec::new()), "{text}");
    }
}

#[test]
fn a_command_line_is_split_though_a_run_computes_a_part_of_it() {
    let text = "M=$(free -g | awk '{print $2}')\nC=\"qemu -M q35\"\nC+=\" -m ${M}G -smp `nproc` -device a,osk=our(c)A\"\n$C \"$@\"\n";
    let words = qemu(text).words;
    let expected =
        ["qemu", "-M", "q35", "-m", "$(free -g | awk '{print $2}')G", "-smp", "`nproc`", "-device", "a,osk=our(c)A"];
    assert_eq!(words[..expected.len()], expected);
}

#[test]
fn loops_over_lists_are_gone_through() {
    for text in [
        "for d in 1.0 1.1; do P=\"$P -device a,host=$d\"; done\nqemu $P\n",
        "L=\"1.0 1.1\"\nfor d in $L\ndo P+=(-device a,host=$d)\ndone\nqemu \"${P[@]}\"\n",
        "add() { P+=\" -$1 a,host=$2\"; }\nfor d in 1.0 1.1; do\n  add device $d\ndone\nqemu $P\n",
    ] {
        assert_eq!(given(text), ("-device a,host=1.0 -device a,host=1.1".to_owned(), Vec::new()), "{text}");
    }
    let text = "for a in 1 2; do for b in 3 4; do P=\"$P $a$b\"; done; done\nqemu $P\n";
    assert_eq!(given(text).0, "13 14 23 24");
    let text = "L=()\n[ $1 ] && L+=($1)\nfor d in \"${L[@]}\"; do P=\"$P -$d\"; done\nqemu -a $P\n";
    let (certain, only_if) = given(text);
    assert_eq!((certain.as_str(), only_if), ("-a", only(&[("-$1", "[ $1 ]")])));
    let text = "for d in 1.0; do A=(\"${A[@]}\" -x $d); done\nqemu \"${A[@]}\"\n";
    assert_eq!(given(text).0, "-x 1.0");
}

#[test]
fn functions_are_read_where_they_are_called() {
    let text = "up() {\n  systemctl start a\n}\ndown() { systemctl stop a; }\nother() { rm -rf /; }\nlast() { echo bye; }\n\
                trap last EXIT\nmain() { up; qemu -k de; down; }\nmain\n";
    let script = read_calls(text, &mut BTreeMap::new());
    let run = |command: &&Command| command.never.is_none() && !command.control;
    let shown: Vec<String> = script.commands.iter().filter(run).map(Command::shown).collect();
    let expected =
        ["trap last EXIT", "main", "up", "systemctl start a", "qemu -k de", "down", "systemctl stop a", "echo bye"];
    assert_eq!(shown, expected);
    let never = script.commands.iter().find(|command| command.words[0] == "rm").unwrap();
    assert!(never.never.is_some() && never.control);
    // What the user says names the function.
    assert_eq!(given("start() { qemu -k de; }\n\"$1\"\n").0, "-k de");
    assert_eq!(given("start() { qemu -k de; }\ncase $1 in start) start ;; esac\n").0, "-k de");
}

#[test]
fn a_name_of_qemu_that_a_run_looks_up_is_known() {
    for looked_up in ["$(which qemu)", "$(command -v qemu)", "$(type -P qemu)"] {
        assert_eq!(given(&format!("Q={looked_up}\n$Q -k de\n")).0, "-k de", "{looked_up}");
    }
}

#[test]
fn what_a_test_gives_stays_apart_in_a_text_for_a_shell() {
    let text = "O=\"-m 4G\"\nif [ $1 ]; then O=\"$O -device a\"; fi\nsudo sh -c \"qemu-kvm $O\"\n";
    let script = read_calls(text, &mut BTreeMap::new());
    let last = script.commands.last().unwrap().clone();
    assert_eq!(last.words[3], "qemu-kvm -m 4G -device a");
    assert_eq!(last.certain().words[3], "qemu-kvm -m 4G");
}

#[test]
fn a_hook_that_is_for_several_guests_has_each_branchs_values_in_it() {
    let text = "if [ \"$1\" = win10 ]; then\n  G=a\n  detach $G\nelif [ \"$1\" = mac ]; then\n  G=b\n  detach $G\nfi\nreset $G\n";
    let script = read(text, &mut BTreeMap::new());
    let run: Vec<String> = script.commands.iter().filter(|command| !command.control).map(Command::shown).collect();
    assert_eq!(run, ["detach a", "detach b", "reset a"]);
}

#[test]
fn what_would_go_on_for_ever_ends() {
    let loops = "for a in 1 2 3 4 5 6 7 8 9; do\n".repeat(40) + &"done\n".repeat(40);
    read_calls(&loops, &mut BTreeMap::new());
    read_calls("f() { g; g; }\ng() { f; f; }\nf\nf\n", &mut BTreeMap::new());
    let calls: String = (1..60).map(|n| format!("f{n}() {{ f{}; f{}; }}\n", n - 1, n - 1)).collect();
    read_calls(&format!("{calls}f59\n"), &mut BTreeMap::new());
    let tests = "if $a; then X=\"$X$X\"\n".repeat(200) + &"fi\n".repeat(200) + "qemu $X\n";
    read_calls(&tests, &mut BTreeMap::new());
    for text in [
        "for a in",
        "f() {",
        "f() { f",
        "for a in 1 2; do",
        "if a; then",
        "case a in b)",
        "x && {",
        "done; fi; esac; }",
    ] {
        read_calls(&(text.to_owned() + " "), &mut BTreeMap::new());
        read_calls(&format!("{text}\n").repeat(50), &mut BTreeMap::new());
    }
}
