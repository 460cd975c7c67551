//! The command line as a clumsy or an unlucky user meets it: what is said, with which exit code, and what is left
//! behind. Nothing ever is: each test has a temporary folder of its own that must be empty afterwards.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "starts the command as a user does, and makes the files that it reads"
)]

use std::{
    fs,
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};

/// A scenario that needs no disk, so that anything can pass for QEMU until it is asked something.
const PROBE: &str =
    "id = 'probe'\ntitle = 't'\nwhy = 'w'\nreleases = ['10.0']\n[machine]\n[[step]]\nprobe = {}\n";

/// A user's folder, and the folder for temporary files of all that is started there.
struct Desk {
    _folder: tempfile::TempDir,
    path: Utf8PathBuf,
    temporary: Utf8PathBuf,
}

/// What a command said, and its exit code.
struct Said {
    stdout: String,
    stderr: String,
    code: Option<i32>,
}

impl Said {
    /// All of it as one text, without what changes from release to release.
    fn whole(&self) -> String {
        let Self { stdout, stderr, code } = self;
        let text = format!("{stdout}--- standard error\n{stderr}--- exit code {}\n", code.unwrap_or(-1));
        text.replace(env!("CARGO_PKG_VERSION"), "<version>")
    }

    #[track_caller]
    fn assert(&self, code: i32, words: &str) {
        assert_eq!(self.code, Some(code), "{}", self.whole());
        assert!(self.stdout.contains(words) || self.stderr.contains(words), "{}", self.whole());
    }
}

impl Desk {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().canonicalize().unwrap()).unwrap();
        let temporary = path.join("tmp");
        fs::create_dir(&temporary).unwrap();
        Self { _folder: folder, path, temporary }
    }

    fn with(self, name: &str, text: &str) -> Self {
        fs::create_dir_all(self.path.join(name).parent().unwrap()).unwrap();
        fs::write(self.path.join(name), text).unwrap();
        self
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path.join(name)).unwrap()
    }

    /// A program `bin/qemu` that behaves in this manner, with a `qemu-img` beside it.
    fn with_fake(self, manner: &str) -> Self {
        let fake = env!("CARGO_BIN_EXE_fake-qemu");
        self.with_program("bin/qemu", &format!("exec {fake} {manner} \"$@\""))
            .with_program("bin/qemu-img", "exit 0")
    }

    fn with_program(self, name: &str, script: &str) -> Self {
        let desk = self.with(name, &format!("#!/bin/sh\n{script}\n"));
        fs::set_permissions(desk.path.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        desk
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"));
        command
            .arg0("freezeframe")
            .args(arguments)
            .current_dir(&self.path)
            .env("TMPDIR", &self.temporary)
            .stdin(Stdio::null());
        command
    }

    /// Runs the command to its end; nothing of it is left.
    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Said {
        let said = said(self.command(arguments).output().unwrap());
        self.assert_nothing_left();
        said
    }

    #[track_caller]
    fn assert_nothing_left(&self) {
        assert_eq!(names(&self.temporary), Vec::<String>::new(), "temporary files");
        assert_eq!(self.processes(), Vec::<String>::new(), "processes");
    }

    /// Whatever runs with this desk's temporary folder in its environment.
    fn processes(&self) -> Vec<String> {
        let here = format!("TMPDIR={}", self.temporary);
        let running = names(Utf8Path::new("/proc")).into_iter().filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == here.as_bytes())
        });
        running.map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or(pid)).collect()
    }
}

fn names(folder: &Utf8Path) -> Vec<String> {
    let entries = folder.read_dir_utf8().unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_owned()).collect()
}

fn said(output: Output) -> Said {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Said { stdout: text(output.stdout), stderr: text(output.stderr), code: output.status.code() }
}

/// A scenario of the suite.
fn suite(name: &str) -> String {
    fs::read_to_string(format!("{}/../scenarios/suite/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

mod usage {
    use super::*;

    #[test]
    fn the_help_tells_every_option() {
        let desk = Desk::new();
        for arguments in [&["--help"][..], &["run", "--help"], &["conform", "--help"], &["record", "--help"]]
        {
            let said = desk.run(arguments);
            assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
            insta::assert_snapshot!(arguments.join(" ").replace("--", ""), said.stdout);
        }
    }

    #[test]
    fn every_mistake_of_a_scenario_is_told_with_its_place() {
        let text = "id = 'three'\ntitle = 't'\nwhy = 'w'\n\n[machine]\ndisks = [{ target = 'vda' }]\nmemroy = '64M'\n\n\
                    [[step]]\nsnapshot = { name = 's1', dry-run = 'yes' }\n\n[expect]\nchain.vdc = []\n";
        let desk = Desk::new().with("three.toml", text);
        insta::assert_snapshot!("three mistakes", desk.run(&["run", "three.toml"]).whole());
    }

    #[test]
    fn what_cannot_be_understood_or_read_ends_with_2() {
        let desk = Desk::new().with("probe.toml", PROBE).with("empty/README", "").with("notes.toml", "\0");
        let cases: [(&[&str], &str); 14] = [
            (&[], "Usage: freezeframe <COMMAND>"),
            (&["play"], "unrecognized subcommand 'play'"),
            (&["run", "gone.toml"], "no such file or folder: gone.toml"),
            (&["run", "empty"], "no scenario in empty: they end in .toml"),
            (&["run", "notes.toml"], "notes.toml:1:1"),
            (&["run", "probe.toml", "--filter", "zzz"], "no scenario has `zzz` in its id"),
            (&["run", "probe.toml", "--release", "9.9"], "the simulator knows 5.2, 7.2, 10.0 and 11.1"),
            (&["run", "probe.toml", "--release", "7.2"], "none of these scenarios is for QEMU 7.2"),
            (&["run", "probe.toml", "--target", "qemu"], "--qemu <BIN>"),
            (&["run", "probe.toml", "--jobs", "0"], "--jobs <N>"),
            (&["run", "probe.toml", "--seed", "18446744073709551616"], "--seed <N>"),
            (&["run", "probe.toml", "--qemu", "bin/qemu"], "`--qemu` goes with `--target qemu`"),
            (&["conform", "probe.toml"], "--qemu <BIN>"),
            (&["conform", "--qemu", "x", "--accel", "hvf"], "possible values: tcg, kvm"),
        ];
        for (arguments, words) in cases {
            desk.run(arguments).assert(2, words);
        }
    }

    #[test]
    fn an_argument_that_is_no_text_is_refused() {
        use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
        let desk = Desk::new();
        let mut command = desk.command(&["run"]);
        let said = said(command.arg(OsStr::from_bytes(b"caf\xe9.toml")).output().unwrap());
        said.assert(2, "invalid UTF-8");
    }

    #[test]
    fn the_largest_seed_is_a_seed() {
        let desk = Desk::new().with("probe.toml", PROBE);
        let said = desk.run(&["run", "probe.toml", "--seed", "18446744073709551615", "--jobs", "9999"]);
        said.assert(0, "1 passed, 0 failed, 0 skipped\n");
    }
}

mod running {
    use super::*;

    /// Two scenarios of the suite, with their expected transcripts.
    fn desk() -> Desk {
        let files = [
            "external/two-disks.toml",
            "external/two-disks.snap",
            "monitor/garbage.toml",
            "monitor/garbage.snap",
        ];
        files.into_iter().fold(Desk::new(), |desk, name| desk.with(&format!("suite/{name}"), &suite(name)))
    }

    /// The arguments that a failure names to repeat it.
    fn repeat(said: &Said) -> Vec<&str> {
        let line = said.stdout.lines().find_map(|line| line.trim().strip_prefix("repeat: freezeframe "));
        line.expect("a failure names what repeats it").split(' ').collect()
    }

    #[test]
    fn the_last_line_is_the_count_and_a_second_run_says_the_same() {
        let desk = desk();
        let first = desk.run(&["run", "suite", "--release", "10.0", "--jobs", "4"]);
        first.assert(0, "");
        assert_eq!(first.stdout.lines().last(), Some("2 passed, 0 failed, 0 skipped"));
        assert_eq!(desk.run(&["run", "suite", "--release", "10.0"]).whole(), first.whole());
    }

    #[test]
    fn another_transcript_than_expected_is_shown_can_be_repeated_and_can_be_taken() {
        let snap = "suite/external/two-disks.snap";
        let desk = desk();
        let good = desk.read(snap);
        let desk = desk.with(snap, &good.replace("== snapshot s1", "== snapshot s9"));
        let first = desk.run(&["run", "suite", "--filter", "two-disks", "--release", "10.0"]);
        first.assert(1, "the transcript differs (- expected, + found)");
        assert!(first.stdout.contains("\n  -") && first.stdout.contains("\n  +"), "{}", first.whole());
        assert_eq!(first.stdout.lines().last(), Some("0 passed, 1 failed, 0 skipped"));
        assert_eq!(desk.run(&repeat(&first)).whole(), first.whole());

        desk.run(&["run", "suite", "--update"]).assert(0, &format!("wrote   {snap}"));
        assert_eq!(desk.read(snap), good);
        desk.run(&["run", "suite"]).assert(0, "0 failed");
    }

    #[test]
    fn a_scenario_that_fails_with_a_seed_is_repeated_with_it() {
        let failing = format!("{PROBE}fails = {{ code = 'OPERATION_FAILED' }}\n");
        let desk = Desk::new().with("a folder/it's.toml", &failing);
        let first = desk.run(&["run", "a folder", "--seed", "7"]);
        first.assert(1, "step 1: it succeeded, and was to fail");
        let line = first.stdout.lines().find_map(|line| line.trim().strip_prefix("repeat: ")).unwrap();
        let shell =
            format!("{} {}", env!("CARGO_BIN_EXE_freezeframe-command"), &line["freezeframe ".len()..]);
        let mut again = Command::new("sh");
        again.args(["-c", &shell]).current_dir(&desk.path);
        assert_eq!(said(again.output().unwrap()).whole(), first.whole());
    }

    #[test]
    fn a_transcript_that_cannot_be_written_is_named() {
        let desk = Desk::new().with("probe.toml", PROBE).with("probe.snap/in-the-way", "");
        desk.run(&["run", "probe.toml", "--update"]).assert(2, "cannot write probe.snap: Is a directory");
    }

    #[test]
    fn a_scenario_for_a_real_qemu_alone_is_skipped_on_the_simulator() {
        let desk = Desk::new().with("probe.toml", &format!("targets = ['qemu']\n{PROBE}"));
        desk.run(&["run", "probe.toml"]).assert(0, "0 passed, 0 failed, 1 skipped\n");
        desk.run(&["run", "probe.toml", "--update"]).assert(0, "0 passed, 0 failed, 0 skipped\n");
    }

    #[test]
    fn a_reader_that_has_seen_enough_is_no_error() {
        let desk = desk();
        let mut child =
            desk.command(&["run", "suite"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let said = said(child.wait_with_output().unwrap());
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""));
    }

    #[test]
    fn a_full_disk_under_the_output_is_an_error() {
        let desk = desk();
        for arguments in [&["run", "suite"][..], &["schema"]] {
            let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
            let said = said(desk.command(arguments).stdout(full).output().unwrap());
            said.assert(2, "cannot write to standard output: No space left on device");
        }
    }
}

mod real_qemu {
    use super::*;

    #[test]
    fn what_is_no_qemu_is_told_before_anything_is_played() {
        let desk = Desk::new()
            .with("probe.toml", PROBE)
            .with_program("bin/endless", "while :; do echo QEMU; done")
            .with_program("bin/hanging", "sleep 1000");
        let start = Instant::now();
        let cases = [
            ("/bin/true", "`/bin/true` is no QEMU"),
            ("bin/gone", "cannot run `bin/gone`: No such file or directory"),
            ("no-such-qemu", "cannot run `no-such-qemu`: No such file or directory"),
            ("probe.toml", "cannot run `probe.toml`"),
            ("bin/endless", "`bin/endless` is no QEMU"),
            ("bin/hanging", "cannot run `bin/hanging`: it did not end within 1 s"),
        ];
        for (program, words) in cases {
            // Only what hangs is waited for to the end; the others get time on a loaded machine too.
            let within = if program == "bin/hanging" { "1" } else { "20" };
            let options = ["probe.toml", "--qemu", program, "--start-within", within];
            desk.run(&[&["conform"], &options[..]].concat()).assert(2, words);
            desk.run(&[&["record"], &options[..]].concat()).assert(2, words);
            desk.run(&[&["run", "--target", "qemu"], &options[..]].concat()).assert(2, words);
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}", start.elapsed());
    }

    /// Holds the command against a QEMU that behaves in this manner.
    #[track_caller]
    fn surroundings_fail(manner: &str, words: &str) {
        let other = PROBE.replace("'probe'", "'other'");
        let desk = Desk::new().with("a/probe.toml", PROBE).with("a/other.toml", &other).with_fake(manner);
        let start = Instant::now();
        let options = ["a", "--qemu", "bin/qemu", "--start-within", "1"];
        desk.run(&[&["conform", "--jobs", "1"], &options[..]].concat()).assert(75, words);
        // The second scenario is not tried any more.
        assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
        desk.run(&[&["record"], &options[..]].concat()).assert(75, words);
    }

    #[test]
    fn one_that_opens_no_monitor_is_given_up_in_time() {
        surroundings_fail("no-monitor", "`bin/qemu` did not open its monitor within 1 s");
    }

    #[test]
    fn one_that_says_nothing_is_given_up_in_time() {
        surroundings_fail("silent", "the monitor of `bin/qemu` does not work: ");
    }

    #[test]
    fn one_that_only_greets_is_given_up_in_time() {
        surroundings_fail("greeting", "the monitor of `bin/qemu` does not work: ");
    }

    #[test]
    fn one_that_closes_its_monitor_is_told() {
        surroundings_fail(
            "closing",
            "is no QMP monitor, or went away while it was greeted: QEMU closed the monitor",
        );
    }

    #[test]
    fn one_that_speaks_another_protocol_is_told() {
        surroundings_fail("banner", "not a QMP message: `SSH-2.0-OpenSSH_9.2p1`");
    }

    #[test]
    fn one_that_ends_at_once_is_told_in_its_own_words() {
        surroundings_fail(
            "dying",
            "ended before its monitor was there: fake-qemu: the machine has no floppy",
        );
    }

    #[test]
    fn one_whose_images_cannot_be_made_is_told_in_the_words_of_qemu_img() {
        let probe = PROBE.replace("[machine]", "[machine]\ndisks = [{ target = 'vda' }]");
        let desk = Desk::new()
            .with("probe.toml", &probe)
            .with_fake("silent")
            .with_program("bin/qemu-img", "echo 'qemu-img: no space' >&2; exit 1");
        desk.run(&["conform", "probe.toml", "--qemu", "bin/qemu"])
            .assert(75, "qemu-img` failed: qemu-img: no space");
    }

    /// A command that plays four scenarios at once on QEMUs that never answer.
    fn hanging(desk: &Desk) -> Child {
        let options = ["conform", "a", "--qemu", "bin/qemu", "--start-within", "600", "--jobs", "4"];
        let mut command = desk.command(&options);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let monitors = || {
            let folders = names(&desk.temporary).into_iter().map(|folder| desk.temporary.join(folder));
            folders.filter(|folder| folder.join("monitor1").exists()).count()
        };
        let start = Instant::now();
        while monitors() < 4 {
            assert!(start.elapsed() < Duration::from_secs(60), "the QEMUs do not start");
            thread::sleep(Duration::from_millis(20));
        }
        child
    }

    #[test]
    fn a_signal_ends_every_qemu_and_clears_its_folder_away() {
        let mut desk = Desk::new().with_fake("silent");
        for number in 0..8 {
            let probe = PROBE.replace("'probe'", &format!("'probe-{number}'"));
            desk = desk.with(&format!("a/probe-{number}.toml"), &probe);
        }
        for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
            let child = hanging(&desk);
            let kill = format!("kill -{signal} {}", child.id());
            assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
            let start = Instant::now();
            let said = said(child.wait_with_output().unwrap());
            said.assert(code, "ended by a signal");
            assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
            desk.assert_nothing_left();
        }
    }

    #[test]
    fn a_scenario_for_the_simulator_alone_is_never_played_on_it() {
        let stranger =
            "[[step]]\nqmp = { json = '{\"execute\": \"migrate\", \"arguments\": {\"uri\": \"exec:x\"}}' }\n";
        let desk = Desk::new()
            .with("probe.toml", &format!("targets = ['sim']\n{PROBE}{stranger}"))
            .with_fake("dying");
        desk.run(&["conform", "probe.toml", "--qemu", "bin/qemu"])
            .assert(0, "0 passed, 0 failed, 1 skipped\n");
        desk.run(&["record", "probe.toml", "--qemu", "bin/qemu"]).assert(0, "");
        let desk = desk.with("probe.toml", &format!("{PROBE}{stranger}"));
        desk.run(&["conform", "probe.toml", "--qemu", "bin/qemu"]).assert(2, "`migrate` may not be sent");
    }
}

mod snapshot_xml {
    use super::*;

    const WISH: &str = "<domainsnapshot>\n<name>s1</name>\n<disks><disk name='vda'>\n\
                        <source file='/images/vda.s1'/></disk></disks></domainsnapshot>";

    #[test]
    fn a_wish_is_printed_in_its_canonical_form_which_reads_as_itself() {
        let desk = Desk::new().with("wish.xml", WISH);
        let said = desk.run(&["snapshot", "xml", "wish.xml"]);
        insta::assert_snapshot!("snapshot xml", said.whole());
        let desk = desk.with("again.xml", &said.stdout);
        assert_eq!(desk.run(&["snapshot", "xml", "again.xml"]).stdout, said.stdout);
    }

    #[test]
    fn a_document_that_is_refused_is_shown_where_and_with_libvirts_code() {
        let desk = Desk::new()
            .with("relative.xml", &WISH.replace("/images", "images"))
            .with(
                "laughs.xml",
                "<!DOCTYPE a [<!ENTITY a 'ha'>]>\n<domainsnapshot><name>&a;</name></domainsnapshot>",
            )
            .with("long.xml", &format!("<domainsnapshot>{}", " ".repeat(5 << 20)));
        insta::assert_snapshot!(
            "snapshot xml relative",
            desk.run(&["snapshot", "xml", "relative.xml"]).whole()
        );
        for (arguments, words) in [
            (&["laughs.xml"][..], "laughs.xml:1:1"),
            (&["long.xml"], "the document is larger than 4194304 bytes"),
            (&["relative.xml", "--redefine"], "relative.xml:1:1"),
            (&["gone.xml"], "error: cannot read gone.xml: No such file or directory"),
            (&["relative.xml", "--redefine", "--disk-only"], "cannot be used with"),
        ] {
            desk.run(&[&["snapshot", "xml"], arguments].concat()).assert(2, words);
        }
    }
}

mod snapshot_records {
    use super::*;

    const DOMAIN: &str =
        "<domain type='qemu'><name>vm</name><uuid>11111111-2222-3333-4444-555555555555</uuid></domain>";
    const HERE: [&str; 4] = ["--domain", "vm.xml", "--state", "state"];

    fn record(name: &str, parent: Option<&str>, state: &str) -> String {
        let parent =
            parent.map(|parent| format!("<parent><name>{parent}</name></parent>")).unwrap_or_default();
        format!(
            "<domainsnapshot><name>{name}</name><state>{state}</state>{parent}\
             <creationTime>1795212236</creationTime></domainsnapshot>"
        )
    }

    fn snapshot(desk: &Desk, arguments: &[&str]) -> Said {
        desk.run(&[&["snapshot"], arguments, &HERE].concat())
    }

    /// `a` with `b` and `d`, `b` with `c`, `d` with `e`; `f` alone. `e` is current.
    fn desk_with_records() -> Desk {
        let mut desk = Desk::new().with("vm.xml", DOMAIN);
        let records = [
            ("a", None),
            ("b", Some("a")),
            ("c", Some("b")),
            ("d", Some("a")),
            ("e", Some("d")),
            ("f", None),
        ];
        for (name, parent) in records {
            let state = if name == "c" { "shutoff" } else { "running" };
            desk = desk.with("record.xml", &record(name, parent, state));
            let current: &[&str] = if name == "e" { &["--current"] } else { &[] };
            snapshot(&desk, &[&["redefine", "record.xml"], current].concat()).assert(0, "recorded");
        }
        desk
    }

    #[test]
    fn records_are_listed_as_table_tree_names_and_json() {
        let desk = desk_with_records();
        for arguments in [
            &["list"][..],
            &["list", "--tree"],
            &["list", "--json", "--leaves"],
            &["list", "--parent", "--topological", "--active"],
            &["list", "--from", "a", "--descendants", "--name"],
            &["list", "--from", "a", "--tree"],
            &["info", "d"],
            &["dumpxml", "b"],
        ] {
            let name = format!("snapshot {}", arguments.join(" ").replace("--", ""));
            insta::assert_snapshot!(name, snapshot(&desk, arguments).whole());
        }
        snapshot(&desk, &["current"]).assert(0, "e\n");
        snapshot(&desk, &["parent", "e"]).assert(0, "d\n");
    }

    #[test]
    fn a_record_that_is_removed_gives_its_children_to_its_parent() {
        let desk = desk_with_records();
        snapshot(&desk, &["delete", "d", "--metadata"]).assert(0, "record of snapshot d removed\n");
        snapshot(&desk, &["parent", "e"]).assert(0, "a\n");
        snapshot(&desk, &["delete", "e", "--metadata"]).assert(0, "");
        snapshot(&desk, &["current"]).assert(0, "a\n");
        snapshot(&desk, &["delete", "a", "--metadata", "--children-only"]).assert(0, "");
        snapshot(&desk, &["list", "--name"]).assert(0, "a\nf\n");
        snapshot(&desk, &["delete", "a", "--metadata", "--children"]).assert(0, "");
        snapshot(&desk, &["current"])
            .assert(1, "error: NO_DOMAIN_SNAPSHOT: this machine has no current snapshot");
    }

    #[test]
    fn a_record_that_does_not_fit_is_refused_and_changes_nothing() {
        let mut desk = desk_with_records();
        let before = snapshot(&desk, &["list", "--parent"]).stdout;
        for (name, parent, state, words) in [
            ("g", Some("zz"), "running", "error: INVALID_ARG: snapshot `g` says that its parent is `zz`"),
            ("a", Some("a"), "running", "error: INVALID_ARG: snapshot `a` cannot be its own parent"),
            ("a", Some("e"), "running", "error: INVALID_ARG: snapshot `a` cannot descend from `e`"),
            ("c", Some("b"), "running", "error: INVALID_ARG: snapshot `c` cannot change between"),
            ("..", None, "running", "error: XML_DETAIL: the name `..` begins with a `.`"),
            ("a/b", None, "running", "error: XML_DETAIL: the name `a/b` holds a `/`"),
        ] {
            desk = desk.with("record.xml", &record(name, parent, state));
            snapshot(&desk, &["redefine", "record.xml"]).assert(1, words);
        }
        assert_eq!(snapshot(&desk, &["list", "--parent"]).stdout, before);
        snapshot(&desk, &["dumpxml", "nobody"]).assert(1, "error: NO_DOMAIN_SNAPSHOT: no snapshot `nobody`");
    }

    #[test]
    fn what_is_no_record_is_passed_over_with_a_warning_and_stays() {
        let desk = desk_with_records()
            .with("state/vm/bad.xml", "<domainsnapshot>")
            .with("state/vm/x.xml", &record("y", None, "running"));
        std::os::unix::fs::symlink("/etc/passwd", desk.path.join("state/vm/link.xml")).unwrap();
        let said = snapshot(&desk, &["list", "--name"]);
        assert_eq!((said.code, said.stdout.as_str()), (Some(0), "a\nb\nc\nd\ne\nf\n"));
        for file in ["bad.xml", "link.xml", "x.xml"] {
            assert!(
                said.stderr.contains(&format!("warning: the record `state/vm/{file}` is passed over")),
                "{}",
                said.stderr
            );
            assert!(desk.path.join("state/vm").join(file).symlink_metadata().is_ok());
        }
    }

    #[test]
    fn two_at_once_are_kept_apart_and_the_folder_is_its_owners() {
        let desk = desk_with_records();
        let lock = fs::File::open(desk.path.join("state/vm/lock")).unwrap();
        lock.lock().unwrap();
        snapshot(&desk, &["list", "--name"]).assert(
            0, "a
",
        );
        snapshot(&desk, &["delete", "a", "--metadata"])
            .assert(75, "error: OPERATION_TIMEOUT: another freezeframe works on this machine");
        drop(lock);
        let mode = |path: &str| fs::metadata(desk.path.join(path)).unwrap().permissions().mode() & 0o777;
        assert_eq!(
            (mode("state/vm"), mode("state/vm/a.xml"), mode("state/vm/current")),
            (0o700, 0o600, 0o600)
        );
        snapshot(&desk, &["delete", "a", "--metadata"]).assert(0, "");
    }
}
