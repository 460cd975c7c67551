//! `fidelity`: what is counted, listed and asked for.

use super::*;

/// A recording of one command and its reply.
fn recording(reply: &str) -> String {
    let line =
        |dir: &str, line: &str| format!("{}\n", serde_json::json!({"t": 1.0, "dir": dir, "line": line}));
    let greeting = r#"{"QMP": {"version": {"qemu": {"micro": 13, "minor": 0, "major": 10}, "package": "Debian 1:10.0.13+ds-0+deb13u1"}, "capabilities": ["oob"]}}"#;
    let arguments = "args -machine q35 -chardev socket,id=m,path=$DIR/qmp,server=on,wait=off -mon chardev=m";
    [
        line("note", arguments),
        line("S>C", greeting),
        line("C>S", r#"{"execute": "qmp_capabilities", "id": 1}"#),
        line("S>C", reply),
    ]
    .concat()
}

fn desk() -> Desk {
    Desk::new()
        .with("good/10.0/a.jsonl", &recording(r#"{"return": {}, "id": 1}"#))
        .with("wrong/10.0/a.jsonl", &recording(r#"{"return": {}, "id": 2}"#))
}

#[test]
fn what_differs_ends_with_1_unless_less_is_asked_for() {
    let desk = desk();
    let all = "2 lines, 2 equal, 0 explained, 0 differ, 0 not simulated";
    desk.run(&["fidelity", "--recordings", "good"]).assert(0, all);
    let wrong = ["fidelity", "--recordings", "wrong"];
    let said = desk.run(&wrong);
    said.assert(1, "QEMU 10.0: 50.00 % of the lines are equal, 97 % are to be");
    said.assert(1, "QEMU 10.0: 50.00 % of the lines are equal or explained, 100 % are to be");
    desk.run(&[&wrong[..], &["--least-equal", "50", "--least-explained", "50"]].concat())
        .assert(0, "1 differ");
}

#[test]
fn what_is_not_simulated_ends_with_1() {
    let text = recording(r#"{"return": {}, "id": 1}"#).replace("-machine q35", "-machine microvm");
    let desk = Desk::new().with("good/10.0/a.jsonl", &text);
    desk.run(&["fidelity", "--recordings", "good"])
        .assert(1, "2 not simulated: a machine with `-machine microvm`");
}

#[test]
fn what_cannot_be_used_ends_with_2_before_anything_is_replayed() {
    let desk = desk().with_fake("greets");
    let cases: [(&[&str], &str); 5] = [
        (&["--recordings", "gone"], "no recordings in gone: expected <release>/<name>.jsonl"),
        (&["--recordings", "good", "--release", "7.2"], "no recordings in good: expected 7.2/<name>.jsonl"),
        (&["--recordings", "good", "--qemu", "bin/gone"], "cannot run `bin/gone`"),
        (&["--recordings", "good", "--qemu", "/bin/true"], "`/bin/true` is no QEMU"),
        (&["--recordings", "good", "--least-equal", "101"], "--least-equal <PERCENT>"),
    ];
    for (arguments, words) in cases {
        let said = desk.run(&[&["fidelity"], arguments].concat());
        said.assert(2, words);
        assert_eq!(said.stdout, "", "nothing was replayed yet");
    }
}

#[test]
fn a_qemu_of_which_there_is_no_recording_is_told() {
    let desk = desk().with_program("bin/qemu", "echo QEMU emulator version 7.2.0");
    desk.run(&["fidelity", "--recordings", "good", "--qemu", "bin/qemu"])
        .assert(2, "bin/qemu is QEMU 7.2, of which no recording is here");
}
