//! Programs that are no QEMU, and QEMUs that fail.

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
fn a_folder_without_a_guest_is_told_before_anything_is_played() {
    let desk = Desk::new().with("probe.toml", PROBE).with_fake("no-monitor").with("half/vmlinuz", "");
    let whole = ["vmlinuz", "initrd.img"]
        .iter()
        .fold(Desk::new().with("probe.toml", PROBE), |desk, file| desk.with(&format!("guest/{file}"), ""));
    let whole = whole.with("guest/agent", "no release\n").with_fake("no-monitor");
    let conform = |guest| ["conform", "probe.toml", "--qemu", "bin/qemu", "--guest", guest];
    for folder in ["nowhere", "half"] {
        let words = format!("error: no guest in {folder}: No such file or directory");
        desk.run(&conform(folder)).assert(2, &words);
    }
    whole.run(&conform("guest")).assert(2, "does not say which release its agent is of");
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
    surroundings_fail("dying", "ended before its monitor was there: fake-qemu: the machine has no floppy");
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
    for (signal, code) in [("INT", 130), ("TERM", 143), ("HUP", 129), ("QUIT", 131)] {
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
    let desk =
        Desk::new().with("probe.toml", &format!("targets = ['sim']\n{PROBE}{stranger}")).with_fake("dying");
    desk.run(&["conform", "probe.toml", "--qemu", "bin/qemu"]).assert(0, "0 passed, 0 failed, 1 skipped\n");
    desk.run(&["record", "probe.toml", "--qemu", "bin/qemu"]).assert(0, "");
    let desk = desk.with("probe.toml", &format!("{PROBE}{stranger}"));
    desk.run(&["conform", "probe.toml", "--qemu", "bin/qemu"]).assert(2, "`migrate` may not be sent");
}
