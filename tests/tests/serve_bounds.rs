//! What a client that keeps no measure costs `freezeframe serve`: little memory, and nobody else's time.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "real clients on real sockets, in real time"
)]

mod served;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

use rstest::rstest;
use served::{Client, Server};

const MIB: u64 = 1 << 10;

/// What a busy host may add to an answer that nobody holds up.
const PROMPT: Duration = Duration::from_secs(2);

/// A command that a client pipelines: long to send, longer to answer.
fn schema(id: usize) -> Vec<u8> {
    format!("{{\"execute\":\"query-qmp-schema\",{:1000}\"id\":{id}}}\n", "").into_bytes()
}

/// Writes for a time and never reads; how much was taken, in bytes.
fn flood(stream: &UnixStream, command: &[u8], time: Duration) -> usize {
    stream.set_nonblocking(true).unwrap();
    let (begun, mut taken) = (Instant::now(), 0);
    while begun.elapsed() < time {
        match (&*stream).write(&command[taken % command.len()..]) {
            Ok(length) => taken += length,
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
    stream.set_nonblocking(false).unwrap();
    taken
}

#[rstest]
#[case::monitor("0.qmp", schema(7))]
#[case::agent("0.agent", b"{\"execute\":\"guest-info\"}\n".to_vec())]
fn a_client_that_writes_and_never_reads_is_left_waiting_and_nobody_else(
    #[case] socket: &str,
    #[case] command: Vec<u8>,
) {
    let mut server = Server::machine(
        "vm.toml",
        "[machine]\nagent = \"linux\"\n",
        &[
            &["--count", "2", "--qmp", "unix:{dir}/{n}.qmp", "--agent", "unix:{dir}/{n}.agent"][..],
            &["--speed", "max", "--transcript", "{dir}/{n}.transcript"],
        ]
        .concat(),
    );
    let mut flooding = server.connect(socket);
    if socket.ends_with("qmp") {
        flooding.negotiate();
    }
    let mut other = server.connect("1.qmp");
    other.negotiate();
    let before = server.memory("VmRSS");
    let flooding = flooding.into_inner();
    let taken = thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&flooding, &command, Duration::from_secs(3)));
        let mut slowest = Duration::ZERO;
        while !flood.is_finished() {
            let asked = Instant::now();
            other.send(b"{\"execute\":\"query-status\"}\n");
            assert!(other.line().contains("running"));
            slowest = slowest.max(asked.elapsed());
        }
        assert!(slowest < PROMPT, "another machine answered after {slowest:?}");
        flood.join().unwrap()
    });
    assert!(taken < 4 << 20, "{taken} bytes were taken of a client that does not read");
    let grown = server.memory("VmHWM").saturating_sub(before);
    assert!(grown < 32 * MIB, "{grown} KiB more for a client that does not read");
    let asked = Instant::now();
    assert_eq!(server.end("TERM").code(), Some(143));
    assert!(asked.elapsed() < PROMPT, "the end took {:?}", asked.elapsed());
    if socket.ends_with("qmp") {
        the_transcript_has_all_that_was_said(&server, flooding);
    }
}

/// What the system still holds for the client of an ended server was said, and so stands in the transcript.
fn the_transcript_has_all_that_was_said(server: &Server, mut client: UnixStream) {
    let mut said = Vec::new();
    let _ = client.read_to_end(&mut said);
    let whole = said.iter().filter(|byte| **byte == b'\n').count();
    let transcript = fs::read_to_string(server.path("0.transcript")).unwrap();
    let noted = transcript.lines().filter(|line| line.contains("<- return")).count();
    assert!(noted > whole, "{whole} lines were said after the first, and {noted} stand in the transcript");
}

#[rstest]
#[case::without_faults("external/one-disk")]
#[case::with_faults("internal/save-reply-lost")]
fn a_client_that_reads_late_is_answered_in_full_and_in_order(#[case] scenario: &str) {
    const COMMANDS: usize = 60;
    let server = Server::start(scenario, &["--qmp", "unix:{dir}/qmp"]);
    let mut client = server.connect("qmp");
    client.negotiate();
    let writing = client.0.get_ref().try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(|| (0..COMMANDS).for_each(|id| (&writing).write_all(&schema(id)).unwrap()));
        thread::sleep(Duration::from_millis(500));
        for id in 0..COMMANDS {
            let line = client.line();
            assert!(line.ends_with(&format!("\"id\": {id}}}")), "{id} is answered by {}", tail(&line));
        }
    });
}

fn tail(line: &str) -> &str {
    &line[line.len().saturating_sub(80)..]
}

/// A real QEMU takes 256 MiB for the second, and for as many objects 2.8 GiB (the agents of 7.2 and 11.1).
#[rstest]
#[case::as_many_tokens_as_qemu_takes(
    [&b"{\"execute\":\"query-status\",\"id\":["[..], &b"[1],".repeat((1 << 19) - 4), b"1]}\n"].concat(),
    160
)]
#[case::a_string_that_grows_when_it_is_said(
    [&b"{\"execute\":\"query-status\",\"id\":\""[..], &"\u{4f60}".repeat(10 << 20).into_bytes(), b"\"}\n"].concat(),
    160
)]
#[case::a_string_that_does_not_end([&b"{\"execute\":\""[..], &vec![b'x'; 200 << 20]].concat(), 128)]
fn the_longest_messages_take_no_more_memory_than_they_must(#[case] message: Vec<u8>, #[case] mib: u64) {
    let server = Server::start("external/one-disk", &["--qmp", "unix:{dir}/qmp", "--release", "10.0"]);
    let mut client = server.connect("qmp");
    client.negotiate();
    client.0.get_ref().set_read_timeout(Some(Duration::from_secs(120))).unwrap();
    client.send(&message);
    assert!(!client.line().is_empty());
    let most = server.memory("VmHWM") / MIB;
    assert!(most <= mib, "{most} MiB for a message of {} bytes", message.len());
    let mut another = Client::over({
        drop(client);
        UnixStream::connect(server.path("qmp")).unwrap()
    });
    another.negotiate();
}
