//! Something that passes for QEMU until it is to do something: for tests of what the command makes of it.
//!
//! `fake-qemu MANNER [QEMU'S ARGUMENTS...]`. It tells a version, and otherwise runs until it is killed:
//!
//! | manner | what it does |
//! | --- | --- |
//! | `no-monitor` | opens nothing |
//! | `silent` | opens its monitors and says nothing there |
//! | `closing` | opens its monitors and closes each connection at once |
//! | `banner` | opens its monitors and speaks another protocol there |
//! | `greeting` | greets on its monitors, and says nothing more |
//! | `dying` | says why on standard error and ends |
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a program of its own, which the tests start"
)]

use std::{io::Write as _, os::unix::net::UnixListener, process::ExitCode, thread};

const GREETING: &str = concat!(
    r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 10}, "package": ""}, "#,
    r#""capabilities": ["oob"]}}"#,
    "\r\n"
);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let manner = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    if arguments.iter().any(|argument| argument == "--version") {
        println!("QEMU emulator version 10.0.0 (fake)");
        return ExitCode::SUCCESS;
    }
    if manner == "dying" {
        eprintln!("fake-qemu: the machine has no floppy");
        return ExitCode::FAILURE;
    }
    if manner != "no-monitor" {
        for path in arguments.iter().filter_map(|argument| argument.split_once(",path=")) {
            let listener = UnixListener::bind(path.1).expect("the folder of the monitors is there");
            let manner = manner.clone();
            thread::spawn(move || serve(&listener, &manner));
        }
    }
    loop {
        thread::park();
    }
}

fn serve(listener: &UnixListener, manner: &str) {
    let mut held = Vec::new();
    for connection in listener.incoming() {
        let mut connection = connection.expect("the listener stays");
        match manner {
            "closing" => continue,
            "banner" => connection.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n").expect("the other side reads"),
            "greeting" => connection.write_all(GREETING.as_bytes()).expect("the other side reads"),
            _ => {}
        }
        held.push(connection);
    }
}
