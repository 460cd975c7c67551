use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use super::*;
use crate::{Machine, Oracle, Release, Simulation};

fn simulation(oracle: Oracle) -> Simulation {
    Simulation::new(&Machine::new().disk("vda"), Release::V10_0, oracle)
}

/// What a client hears that negotiates and then asks twice at once.
async fn converse(stream: Stream) -> Vec<String> {
    let mut stream = BufReader::new(stream);
    let mut heard = Vec::new();
    let said: [&[u8]; 3] = [
        b"",
        b"{'execute':'qmp_capabilities'}",
        b"{'execute':'query-version','id':1}{'execute':'foo','id':2}",
    ];
    for (bytes, lines) in said.into_iter().zip([1, 1, 2]) {
        stream.write_all(bytes).await.unwrap();
        for _ in 0..lines {
            let mut line = String::new();
            stream.read_line(&mut line).await.unwrap();
            heard.push(line);
        }
    }
    heard
}

#[test]
fn a_client_converses_under_virtual_time() {
    let simulation = simulation(Oracle::default_order());
    let handle = simulation.handle();
    let stream = handle.connect(Port::Monitor(0)).unwrap();
    let heard = simulation.run(converse(stream)).unwrap();
    assert_eq!(heard.len(), 4);
    assert!(heard[3].contains("The command foo has not been found"));
    assert_eq!(handle.now(), Duration::from_millis(2));
}

#[test]
fn how_a_burst_is_cut_changes_nothing_of_what_is_heard() {
    let hear = |oracle| {
        let simulation = simulation(oracle);
        let stream = simulation.handle().connect(Port::Monitor(0)).unwrap();
        (simulation.run(converse(stream)).unwrap(), simulation.trace())
    };
    let (whole, _) = hear(Oracle::default_order());
    for seed in 0..50 {
        let (heard, trace) = hear(Oracle::seeded(seed));
        assert_eq!(heard, whole, "seed {seed}");
        assert!(trace.deviations().iter().any(|deviation| deviation.label == "read"));
    }
}

#[test]
fn a_run_repeats_from_its_trace() {
    let first = simulation(Oracle::seeded(11));
    let stream = first.handle().connect(Port::Monitor(0)).unwrap();
    let heard = first.run(converse(stream)).unwrap();

    let again = simulation(Oracle::replay(first.trace().to_string().parse().unwrap()));
    let stream = again.handle().connect(Port::Monitor(0)).unwrap();
    assert_eq!(again.run(converse(stream)).unwrap(), heard);
    assert_eq!(again.trace(), first.trace());
    assert_eq!(again.handle().now(), first.handle().now());
}

#[test]
fn a_reader_is_woken_when_qemu_is_killed() {
    let simulation = simulation(Oracle::default_order());
    let handle = simulation.handle();
    let mut stream = handle.connect(Port::Monitor(0)).unwrap();
    let killer = handle.clone();
    handle.spawn_local("killer", async move {
        killer.sleep_until(Duration::from_millis(20)).await;
        killer.kill_qemu();
    });
    let (length, error) = simulation
        .run(async {
            let mut heard = Vec::new();
            let length = stream.read_to_end(&mut heard).await.unwrap();
            (length, stream.write_all(b"{}").await.unwrap_err().kind())
        })
        .unwrap();
    assert!(length > 0, "the greeting came before the end");
    assert_eq!(error, io::ErrorKind::BrokenPipe);
    assert_eq!(handle.now(), Duration::from_millis(20));
}

#[test]
fn a_dropped_stream_frees_the_monitor() {
    let simulation = simulation(Oracle::default_order());
    let handle = simulation.handle();
    let first = handle.connect(Port::Monitor(0)).unwrap();
    let mut second = handle.connect(Port::Monitor(0)).unwrap();
    let client = async move {
        drop(first);
        second.read_u8().await.unwrap()
    };
    assert_eq!(simulation.run(client), Ok(b'{'));
}

#[test]
fn a_client_that_waits_for_what_nobody_says_is_a_deadlock() {
    let simulation = simulation(Oracle::default_order());
    let mut stream = simulation.handle().connect(Port::Monitor(0)).unwrap();
    let client = async move {
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await
    };
    assert_eq!(simulation.run(client).unwrap_err().waiting, ["main"]);
}

/// The same world on tokio with paused time: the parity of whole scenarios rests on this.
#[test]
#[allow(clippy::disallowed_methods, reason = "tokio is the runtime under test here")]
fn tokio_with_paused_time_hears_the_same_at_the_same_time() {
    let simulation = simulation(Oracle::default_order());
    let stream = simulation.handle().connect(Port::Monitor(0)).unwrap();
    let ours = (simulation.run(converse(stream)).unwrap(), simulation.handle().now());

    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let theirs = tokio::task::LocalSet::new().block_on(&runtime, async {
        let start = tokio::time::Instant::now();
        let world = World::new(&Machine::new().disk("vda"), Release::V10_0, Oracle::default_order());
        let sockets = Sockets::new(world, move || start.elapsed());
        tokio::task::spawn_local(sockets.clone().drive(move |at| tokio::time::sleep_until(start + at)));
        let heard = converse(sockets.connect(Port::Monitor(0)).unwrap()).await;
        (heard, start.elapsed())
    });
    assert_eq!(ours, theirs);
}
