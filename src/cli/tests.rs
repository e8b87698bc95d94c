use std::ffi::OsString;

use super::*;

#[test]
fn the_definition_holds_together() {
    Cli::command().debug_assert();
}

#[test]
fn a_file_alone_is_run_and_options_may_come_before_verbs() {
    let read = |line: &str| Cli::read(line.split(' ').map(OsString::from)).unwrap();
    for line in ["vfio-run win11.ron", "vfio-run -v win11.ron", "vfio-run win11.ron -v", "vfio-run -v run win11.ron"] {
        assert!(matches!(read(line).command, Command::Run(args) if args.file.as_os_str() == "win11.ron"), "{line}");
    }
    assert!(matches!(read("vfio-run -v recover").command, Command::Recover(_)));
    assert!(matches!(read("vfio-run --json status win11").command, Command::Status(_)));
    assert!(matches!(read("vfio-run ./plan").command, Command::Run(_)));
}

#[test]
fn a_verb_that_the_guest_agent_does_not_have_is_told_whatever_follows() {
    let refused = |line: &str| Cli::read(line.split(' ').map(OsString::from)).unwrap_err().to_string();
    let told = refused("vfio-run agent win11 exec");
    assert!(told.contains("invalid value 'exec'") && told.contains("set-time, freeze, thaw"), "{told}");
    assert_eq!(refused("vfio-run --json agent -v win11 exec ls -l"), told);
    assert!(refused("vfio-run agent win11 ping ls").contains("unexpected argument 'ls'"));
}

#[test]
fn a_misspelt_verb_is_refused_with_the_nearest_and_nothing_hidden_is_named() {
    let refused = |line: &str| Cli::read(line.split(' ').map(OsString::from)).unwrap_err();
    for line in ["vfio-run chek win11.ron", "vfio-run -v chek"] {
        let error = refused(line);
        assert!(error.to_string().contains("no command `chek`; did you mean `check`?"), "{error}");
        assert_eq!(error.exit_code(), i32::from(crate::units::exit::USAGE));
    }
    for (line, words) in [
        ("vfio-run start win11.ron", "`vfio-run win11.ron`"),
        ("vfio-run destroy win11", "`vfio-run stop --force win11`"),
        ("vfio-run shutdown win11", "`vfio-run stop win11`"),
        ("vfio-run list", "`vfio-run status`"),
        ("vfio-run edit win11", "edit it"),
        ("vfio-run virt-top", "`vfio-run top win11`"),
        ("vfio-run halt win11", "`vfio-run stop win11`"),
        ("vfio-run quit win11", "`vfio-run stop --force win11`"),
        ("vfio-run continue win11", "`vfio-run resume win11`"),
        ("vfio-run logs win11", "which log has more"),
        ("vfio-run log win11", "which log has more"),
        ("vfio-run screendump win11", "`vfio-run screenshot win11 screen.png`"),
        ("vfio-run ssh win11", "`vfio-run agent win11 addresses`"),
        ("vfio-run rm win11", "a machine is its file"),
        ("vfio-run delete win11", "a machine is its file"),
        ("vfio-run version", "`vfio-run --version`"),
        ("vfio-run define x.xml", "`vfio-run import x.xml`"),
        ("vfio-run ps", "`vfio-run status`"),
        ("vfio-run new win11.ron", "`vfio-run new -o win11.ron`"),
        ("vfio-run win11.ron --check", "`vfio-run check win11.ron`"),
        ("vfio-run run win11.ron --dry-run", "`vfio-run plan win11.ron`"),
        ("vfio-run frobnicate a b", "there is no command `frobnicate`"),
    ] {
        let error = refused(line).to_string();
        assert!(error.contains(words) && !error.contains("unexpected argument"), "{error}");
    }
    // A machine's name in place of its file: what reads the file says more.
    assert!(matches!(Cli::read(["vfio-run".into(), "win11".into()]).unwrap().command, Command::Run(_)));
    let error = refused("vfio-run -q").to_string();
    assert!(error.contains("a machine file or a command is missing"), "{error}");
    assert!(error.contains("[OPTIONS] FILE") && !error.contains("attribute"), "{error}");
}
