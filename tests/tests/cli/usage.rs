//! Help, wrong arguments and scenarios with mistakes.

use super::*;

#[test]
fn the_help_tells_every_option() {
    let desk = Desk::new();
    let commands = ["run", "conform", "record", "fidelity", "explore", "snapshot"]
        .map(|command| vec![command, "--help"]);
    for arguments in [vec!["--help"]].into_iter().chain(commands) {
        let said = desk.run(&arguments);
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
fn a_machine_that_could_never_be_served_so_ends_with_2() {
    let desk = Desk::new().with("probe.toml", PROBE).with("file", "");
    let cases: [(&[&str], &str); 8] = [
        (&["--qmp", "unix:gone/qmp"], "cannot listen on unix:gone/qmp: No such file or directory"),
        (&["--qmp", "unix:file"], "cannot listen on unix:file"),
        (&["--qmp", "unix:a", "--images", "gone"], "cannot use gone: No such file or directory"),
        (&["--qmp", "unix:a", "--transcript", "gone/a"], "cannot use gone/a: No such file or directory"),
        (&["--qmp", "unix:a", "--qmp", "unix:a"], "unix:a is given twice: each socket needs its own"),
        (&["--qmp", "unix:a", "--count", "2"], "`--qmp unix:a`: several machines need a path each"),
        (
            &["--qmp", "tcp:127.0.0.1:9", "--count", "2"],
            "`--qmp tcp:127.0.0.1:9`: several machines cannot share",
        ),
        (
            &["--qmp", "unix:{n}", "--transcript", "a", "--count", "2"],
            "`--transcript a`: several machines need a path each: write `{n}`",
        ),
    ];
    for (options, words) in cases {
        desk.run(&[&["serve", "probe.toml"], options].concat()).assert(2, words);
    }
    desk.run(&["serve", "gone.toml", "--qmp", "unix:a"]).assert(2, "gone.toml");
}

#[test]
fn an_address_that_another_program_has_may_be_free_later() {
    let desk = Desk::new().with("probe.toml", PROBE);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("tcp:{}", listener.local_addr().unwrap());
    desk.run(&["serve", "probe.toml", "--qmp", &address]).assert(75, "cannot listen on tcp:127.0.0.1:");
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
