//! What the passes say together: whole files, right and wrong.

use std::time::Duration;

use camino::Utf8Path;

use super::*;

/// A file that uses every word of the language.
const WHOLE: &str = include_str!("tests/whole.toml");

const WHOLE_FILE: &str = "scenarios/suite/language/whole.toml";

/// The least that a scenario must say, to which a test adds what it is about.
const LEAST: &str = "id = 'least'\ntitle = 't'\nwhy = 'w'\n[machine]\ndisks = [{ target = 'vda' }]\n";

fn parsed(text: &str) -> Scenario {
    Scenario::parse("least.toml".into(), text).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

/// What is said of [`LEAST`] and more: each mistake as `line:column message | help`.
fn mistakes(more: &str) -> Vec<String> {
    mistakes_in(&format!("{LEAST}{more}"))
}

/// What is said of a text.
fn mistakes_in(text: &str) -> Vec<String> {
    let Err(mistakes) = Scenario::parse("least.toml".into(), text) else { return Vec::new() };
    mistakes
        .iter()
        .map(|Diagnostic { line, column, message, help, .. }| {
            format!("{line}:{column} {message} | {}", help.as_deref().unwrap_or_default())
        })
        .collect()
}

#[test]
fn every_word_of_the_language_is_read() {
    let scenario = Scenario::parse(WHOLE_FILE.into(), WHOLE).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    insta::assert_debug_snapshot!(scenario);
}

#[test]
fn what_is_left_out_has_its_default() {
    let scenario = parsed(&format!("{LEAST}[[step]]\nsnapshot = {{ name = 's' }}\n"));
    assert_eq!(scenario.level, Level::Must);
    assert_eq!(scenario.releases.len(), 4);
    assert_eq!(scenario.targets.len(), 2);
    assert_eq!(scenario.machine.state, Power::Running);
    assert_eq!(scenario.machine.memory, Size::mebibytes(64));
    assert_eq!(scenario.machine.serial_ports, Vec::<String>::new());
    let disk = Disk {
        werror: OnWriteError::Enospc,
        storage: None,
        quiesce: None,
        target: "vda".into(),
        format: Format::Qcow2,
        root_port: None,
        size: Size::mebibytes(16),
        readonly: false,
        snapshot: None,
        shareable: false,
        transient: false,
    };
    assert_eq!(scenario.machine.disks, [disk]);
    assert_eq!(scenario.faults, []);
    assert_eq!(scenario.expect, Expect::default());
    let Action::Snapshot(snapshot) = &scenario.steps[0].action else { panic!("{:?}", scenario.steps) };
    assert_eq!((snapshot.disk_only, snapshot.dry_run, &snapshot.disks), (false, false, &None));
}

#[test]
fn a_fault_strikes_by_default_where_qemu_has_acted_and_nobody_was_told() {
    let fault = |at: &str| {
        let more = format!("[[step]]\nprobe = {{}}\n[[fault]]\nat = {at}\ndo = 'disconnect'\n");
        parsed(&format!("{LEAST}{more}")).faults.remove(0)
    };
    let at_command = fault("{ qmp = 'stop' }");
    assert_eq!(at_command.at.moment, Moment::Command("stop".into()));
    assert_eq!(
        (at_command.at.point, at_command.at.nth.get(), at_command.times.get()),
        (Point::Applied, 1, 1)
    );
    assert_eq!(fault("{ event = 'STOP' }").at.point, Point::Before);
    assert_eq!(fault("{ job = 'running' }").at.point, Point::Before);
    assert_eq!(fault("{ job = 'null', point = 'after', nth = 3 }").at.point, Point::After);
}

#[test]
fn times_and_sizes_are_read_in_their_units() {
    let more = "[[step]]\nrevert = { name = 's', within = '1500ms' }\n";
    let scenario = parsed(&format!("{LEAST}{more}").replace("'vda' }", "'vda', size = '3K' }"));
    let Action::Revert(revert) = &scenario.steps[0].action else { panic!("{:?}", scenario.steps) };
    assert_eq!(revert.within.map(Timespan::duration), Some(Duration::from_millis(1500)));
    assert_eq!(scenario.machine.disks[0].size.bytes(), 3072);
}

/// Every wrong file beside this one, with all that is said of it.
#[test]
fn all_mistakes_of_a_file_are_reported_at_once() {
    let wrong = [
        ("three-passes", include_str!("tests/wrong/three-passes.toml")),
        ("shape", include_str!("tests/wrong/shape.toml")),
        ("choices", include_str!("tests/wrong/choices.toml")),
        ("meaning", include_str!("tests/wrong/meaning.toml")),
        ("host-files", include_str!("tests/wrong/host-files.toml")),
        ("off", include_str!("tests/wrong/off.toml")),
        ("nothing", include_str!("tests/wrong/nothing.toml")),
        ("syntax", include_str!("tests/wrong/syntax.toml")),
    ];
    for (name, text) in wrong {
        let file = format!("scenarios/suite/language/{name}.toml");
        let mistakes = Scenario::parse(Utf8Path::new(&file), text).expect_err(name);
        insta::assert_snapshot!(name, mistakes);
    }
}

#[test]
fn a_mistake_carries_its_place_for_machines() {
    let text = format!("{LEAST}[[step]]\nprobe = {{}}\n[expect]\nchain.vdc = []\n");
    let mistakes = Scenario::parse("least.toml".into(), &text).unwrap_err();
    let expected = Diagnostic {
        line: 9,
        column: 7,
        span: text.find("vdc").unwrap()..text.find("vdc").unwrap() + 3,
        message: "no disk `vdc` in this machine".into(),
        help: Some("disks are: vda".into()),
    };
    assert_eq!(mistakes.iter().collect::<Vec<_>>(), [&expected]);
    assert_eq!(mistakes.file(), "least.toml");
}

#[test]
fn codes_are_checked_against_those_that_the_driver_has() {
    let more = "[[step]]\nsnapshot = { name = 's' }\nfails = { code = 'OPERATION_FAILURE' }\n";
    let text = format!("{LEAST}{more}");
    let parse = |codes: &[&str]| Scenario::parse_with_codes("least.toml".into(), &text, codes);
    assert!(parse(&[]).is_ok());
    assert!(parse(&["OPERATION_FAILURE"]).is_ok());
    let mistakes = parse(&["OPERATION_FAILED", "INTERNAL_ERROR"]).unwrap_err().to_string();
    assert!(mistakes.contains("no error of the driver has the code `OPERATION_FAILURE`"), "{mistakes}");
    assert!(mistakes.contains("did you mean `OPERATION_FAILED`?"), "{mistakes}");
}

#[test]
fn the_place_of_broken_json_is_inside_its_string() {
    let at = |json: &str| mistakes(&format!("[[step]]\nqmp = {{ json = {json} }}\n")).join("\n");
    assert_eq!(at("'''{\"execute\": }'''"), "7:31 this is no JSON | expected value");
    assert_eq!(at("'''\n{\"a\": 1,\n  b}'''"), "9:3 this is no JSON | key must be a string");
    assert_eq!(at("'''{\"a\": 1'''"), "7:26 this is no JSON | EOF while parsing an object");
    assert_eq!(at("''"), "7:16 this is no JSON | EOF while parsing a value");
    assert_eq!(at("\"{\\\"a\\\": }\""), "7:16 this is no JSON | expected value", "escapes: the whole string");
    assert_eq!(at("'[]'"), "7:16 this JSON is no object | a command is {\"execute\": …}");
    assert_eq!(at("'{}'"), "");
}

#[test]
fn raw_commands_of_a_stranger_stay_in_the_machines_folder() {
    let create = r#"{"execute": "blockdev-create", "arguments": {"options": {"filename": "/etc/x"}}}"#;
    let migrate = r#"{"execute": "migrate", "arguments": {"uri": "exec:touch x"}}"#;
    let more = format!(
        "[[step]]\nqmp = {{ json = '{create}' }}\n\
         [[fault]]\nat = {{ qmp = 'stop' }}\ndo = {{ qmp = '{migrate}' }}\n\
         [[fault]]\nat = {{ qmp = 'stop', point = 'before' }}\ndo = {{ garbage = '{{' }}\n"
    );
    let told = mistakes(&more);
    let starts = [
        "7:86 `/etc/x` could name something outside the machine's folder | a file is named by its name alone; or",
        "10:27 `migrate` may not be sent to a real QEMU | with arguments these may be sent: block-commit, ",
        "13:18 garbage with a `{` may not be sent to a real QEMU | it could be a command; or targets",
    ];
    assert_eq!(told.len(), starts.len(), "{told:#?}");
    for (told, start) in told.iter().zip(starts) {
        assert!(told.starts_with(start), "{told}\n{start}");
    }
    let only_simulated = format!("targets = ['sim']\n{LEAST}{more}");
    assert!(Scenario::parse("least.toml".into(), &only_simulated).is_ok());
}

#[test]
fn overlay_files_cannot_leave_the_machines_folder() {
    for name in ["../x", "/etc/passwd", "a/b", ".hidden", "-o", "", "a\\u0000"] {
        let more = format!("snapshot = {{ name = 's', disk-only = true, files = {{ vda = \"{name}\" }} }}");
        let said = mistakes(&format!("[[step]]\n{more}\n")).join("\n");
        assert!(said.contains("is no file name"), "{name}: {said}");
    }
}

#[test]
fn an_id_is_held_against_the_path_only_below_a_suite() {
    let parse = |file: &str| Scenario::parse(file.into(), &WHOLE.replace("language/whole", "other"));
    assert!(parse("scenarios/suite/other.toml").is_ok());
    assert!(parse("elsewhere/whole.toml").is_ok());
    assert!(parse("scenarios/suite/language/whole.toml").is_err());
}

#[test]
fn a_broken_place_hides_no_mistake_elsewhere() {
    let more = "[[step]]\nsnapshot = 3\n[[step]]\nsnapshot = { name = 's', disks = ['vdx', 4] }\n";
    assert_eq!(
        mistakes(more),
        [
            "7:12 `snapshot` must be a table, not a whole number | \
             Takes a snapshot: of disks and memory inside the images, of disks alone in overlay files, or of disks in overlay files and the memory in a file",
            "9:35 no disk `vdx` in this machine | disks are: vda",
            "9:42 an item of `disks` must be a string, not a whole number | ",
        ]
    );
}

#[test]
fn a_machine_has_as_many_disks_as_a_bus_has_slots() {
    let with_disks = |count: usize| {
        let disks: Vec<String> = (0..count).map(|number| format!("{{ target = 'vd{number}' }}")).collect();
        let text = LEAST.replace("{ target = 'vda' }", &disks.join(", "));
        Scenario::parse("least.toml".into(), &format!("{text}[[step]]\nprobe = {{}}\n"))
    };
    assert_eq!(with_disks(32).unwrap().machine.disks.len(), 32);
    assert!(with_disks(33).unwrap_err().to_string().contains("`disks` has 33 items"));
}

/// Whatever a file holds, reading it ends with a scenario or with mistakes.
#[test]
fn no_cut_and_no_flipped_byte_makes_reading_fail() {
    for end in (0..WHOLE.len()).filter(|end| WHOLE.is_char_boundary(*end)) {
        let _ = Scenario::parse(WHOLE_FILE.into(), &WHOLE[..end]).map_err(|mistakes| mistakes.to_string());
    }
    for (at, flip) in (0..WHOLE.len()).zip([0x01, 0x10, 0x20, 0x7f, 0x80].into_iter().cycle()) {
        let mut bytes = WHOLE.as_bytes().to_vec();
        bytes[at] ^= flip;
        let text = String::from_utf8_lossy(&bytes);
        let _ = Scenario::parse(WHOLE_FILE.into(), &text).map_err(|mistakes| mistakes.to_string());
    }
}

#[test]
fn hostile_files_are_refused_in_little_time_and_space() {
    let deep = 200_000;
    let hostile = [
        format!("a = {}", "[".repeat(deep)),
        format!("a = {}", "{a = ".repeat(deep)),
        format!("{}a = 1", "a.".repeat(deep)),
        format!("[{}a]", "a.".repeat(deep)),
        "a".repeat(tree::FILE_BYTES_MAX + 1),
        "=\n".repeat(deep),
        format!("[machine]\ndisks = [{}]\n", "{}, ".repeat(deep)),
        format!("[expect.chain]\n{} = [{}]\n", "k".repeat(deep), "1, ".repeat(deep)),
        format!("[[step]]\nqmp = {{ json = '{}' }}\n", "[".repeat(deep)),
    ];
    for text in hostile {
        let start: String = text.chars().take(30).collect();
        let mistakes = Scenario::parse("hostile.toml".into(), &text).expect_err(&start);
        assert!(mistakes.to_string().len() < 200_000, "{start}: {} bytes said", mistakes.to_string().len());
    }
}

mod files {
    //! Files and folders, in a folder of the test's own.
    #![allow(clippy::disallowed_methods, reason = "the test makes the files that are loaded")]

    use camino::Utf8PathBuf;

    use super::*;

    fn folder_with(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Utf8PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().to_owned()).unwrap();
        for (name, text) in files {
            std::fs::create_dir_all(path.join(name).parent().unwrap()).unwrap();
            std::fs::write(path.join(name), text).unwrap();
        }
        (folder, path)
    }

    #[test]
    fn a_folder_stands_for_the_toml_files_below_it_sorted_and_once() {
        let files: [(&str, &[u8]); 4] =
            [("b.toml", b""), ("a/z.toml", b""), ("a/b/c.toml", b""), ("a/n.md", b"")];
        let (_folder, path) = folder_with(&files);
        let found = find(&[path.join("b.toml"), path.clone()]).unwrap();
        assert_eq!(found, ["a/b/c.toml", "a/z.toml", "b.toml"].map(|name| path.join(name)));
    }

    #[test]
    fn a_path_to_nothing_is_named() {
        let (_folder, path) = folder_with(&[("empty/x.md", b"")]);
        assert!(
            matches!(find(&[path.join("gone")]), Err(FindError::Missing(gone)) if gone.ends_with("gone"))
        );
        assert!(
            matches!(find(&[path.join("empty")]), Err(FindError::Empty(empty)) if empty.ends_with("empty"))
        );
    }

    #[test]
    fn a_file_is_loaded_or_said_why_not() {
        let long = vec![b'#'; tree::FILE_BYTES_MAX + 1];
        let files: [(&str, &[u8]); 3] = [
            ("suite/language/whole.toml", WHOLE.as_bytes()),
            ("latin1.toml", b"id = '\xe9'"),
            ("long.toml", &long),
        ];
        let (_folder, path) = folder_with(&files);
        let load = |name: &str| Scenario::load(&path.join(name));
        assert_eq!(load("suite/language/whole.toml").unwrap().id, "language/whole");
        assert!(matches!(load("latin1.toml"), Err(LoadError::NoText { offset: 6, .. })));
        assert!(matches!(load("gone.toml"), Err(LoadError::Unreadable { .. })));
        assert!(load("long.toml").unwrap_err().to_string().contains("at most 1048576 bytes"));
    }

    #[test]
    fn all_files_are_read_and_the_second_of_one_id_is_refused() {
        let files: [(&str, &[u8]); 3] =
            [("a.toml", WHOLE.as_bytes()), ("b.toml", WHOLE.as_bytes()), ("c.toml", b"x = 1")];
        let (_folder, path) = folder_with(&files);
        let names = ["a.toml", "b.toml", "c.toml"].map(|name| path.join(name));
        assert_eq!(load_all(&names[..1], &[]).unwrap().len(), 1);
        let errors: Vec<String> =
            load_all(&names, &[]).unwrap_err().iter().map(ToString::to_string).collect();
        assert_eq!(errors.len(), 2);
        assert!(errors[0].contains("another scenario has this id"), "{}", errors[0]);
        assert!(errors[0].contains("b.toml:2:") && errors[0].contains("a.toml"), "{}", errors[0]);
        assert!(errors[1].contains("no key `x`"), "{}", errors[1]);
    }
}

#[test]
fn an_agent_needs_a_machine_that_has_one_and_a_simulated_guest() {
    let asked = "[[step]]\nagent = { json = '{}' }\n";
    let none = mistakes(asked);
    assert_eq!(none.len(), 1, "{none:?}");
    assert!(none[0].contains("no agent in this machine | [machine] agent = \"linux\""), "{none:?}");
    let real = mistakes(&format!("agent = 'linux'\n{asked}"));
    assert_eq!(real.len(), 1, "{real:?}");
    assert!(real[0].contains("targets = [\"sim\"]"), "{real:?}");
    let act = mistakes("[[step]]\nguest = 'kill-agent'\n");
    assert!(act[0].contains("no agent in this machine"), "{act:?}");
    let hook = mistakes("agent-hook.thaw = { status = 1 }\n[[step]]\nprobe = {}\n");
    assert!(hook[0].contains("no agent in this machine"), "{hook:?}");
}

#[test]
fn what_is_frozen_in_part_somebody_has_frozen() {
    let step = |more: &str| format!("[[step]]\nsnapshot = {{ name = 's', frozen-in-part = 'why'{more} }}\n");
    let found = mistakes(&step(""));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("nobody has left word of this freeze | frozen-by = "), "{found:?}");
    assert_eq!(mistakes(&step(", frozen-by = 'us'")), [""; 0]);
}

#[test]
fn a_hook_ends_with_an_exit_status() {
    let ends = |status: &str| {
        let hook = format!("agent = 'linux'\nagent-hook.thaw = {{ status = {status} }}\n");
        mistakes_in(&format!("targets = ['sim']\n{LEAST}{hook}[[step]]\nprobe = {{}}\n"))
    };
    assert_eq!(ends("255"), [""; 0]);
    assert!(ends("256")[0].contains("a whole number from 0 to 255"), "{:?}", ends("256"));
}

#[test]
fn a_guest_that_boots_is_linux_with_an_agent_and_has_booted_before_the_first_step() {
    let boots = |machine: &str| {
        mistakes_in(&format!("targets = ['sim', 'guest']\n{LEAST}{machine}\n[[step]]\nprobe = {{}}\n"))
    };
    assert_eq!(boots("agent = 'linux'\nstate = 'paused'"), [""; 0]);
    let wrong = [
        ("", "has an agent, and this machine none"),
        ("agent = 'windows'", "is Linux"),
        ("agent = 'linux'\nstate = 'prelaunch'", "has booted before the first step"),
        ("agent = 'linux'\nlauncher = true", "is started by the runner"),
    ];
    for (machine, says) in wrong {
        let found = boots(machine);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains(says), "{found:?}");
    }
}

#[test]
fn what_the_guest_does_takes_a_device_and_a_failing_write_a_simulated_guest() {
    let fault = |does: &str| {
        format!("[[step]]\nprobe = {{}}\n[[fault]]\nat = {{ qmp = 'transaction' }}\ndo = {does}\n")
    };
    let panics = mistakes(&fault("'guest-panics'"));
    assert_eq!(panics.len(), 1, "{panics:?}");
    assert!(panics[0].contains("no `pvpanic` in this machine | [machine] panic = \"pause\""), "{panics:?}");
    assert_eq!(mistakes(&format!("panic = 'pause'\n{}", fault("'guest-panics'"))), [""; 0]);
    let watchdog = mistakes(&fault("'watchdog-fires'"));
    assert!(watchdog[0].contains("[machine] watchdog = \"pause\""), "{watchdog:?}");
    assert_eq!(mistakes(&format!("watchdog = 'none'\n{}", fault("'watchdog-fires'"))), [""; 0]);
    let write = mistakes(&fault("{ guest-write-fails = 'vdz' }"));
    assert_eq!(write.len(), 2, "{write:?}");
    assert!(write.iter().any(|mistake| mistake.contains("no disk `vdz`")), "{write:?}");
    assert!(write.iter().any(|mistake| mistake.contains("targets = [\"sim\"]")), "{write:?}");
}

#[test]
fn a_description_changes_where_records_are_held_against_it() {
    let step = "[[step]]\ndescribe = { memory = '128M' }\n";
    let found = mistakes(step);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("[machine] records = true"), "{found:?}");
    assert_eq!(mistakes(&format!("records = true\n{step}")), [""; 0]);
    let off = mistakes(&format!("records = true\nstate = 'off'\n{step}"));
    assert!(off[0].contains("the description of a machine that is off"), "{off:?}");
    let nothing = mistakes("records = true\n[[step]]\ndescribe = {}\n");
    assert_eq!(nothing.len(), 1, "{nothing:?}");
}

#[test]
fn what_lies_below_a_real_qemus_disks_is_nobodys_to_name() {
    let least = LEAST.replace("{ target = 'vda' }", "{ target = 'vda', storage = 'lvm' }");
    let found = mistakes_in(&format!("{least}[[step]]\nprobe = {{}}\n"));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains("no storage below the disks of a real QEMU | targets = [\"sim\"]"),
        "{found:?}"
    );
    let act = mistakes("[[step]]\nhost = 'fill-storages'\n");
    assert_eq!(act.len(), 1, "{act:?}");
    assert!(act[0].contains("no storage below the disks of a real QEMU"), "{act:?}");
}

#[test]
fn a_host_without_space_is_a_simulated_one() {
    let fault = "[[step]]\nprobe = {}\n[[fault]]\nat = { qmp = 'migrate' }\ndo = { no-space = 'vm.mem' }\n";
    let found = mistakes(fault);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("no way to fill a real host | targets = [\"sim\"]"), "{found:?}");
    let elsewhere = mistakes(&fault.replace("vm.mem", "../vm.mem"));
    assert!(elsewhere.iter().any(|mistake| mistake.contains("../vm.mem")), "{elsewhere:?}");
}
