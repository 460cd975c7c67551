//! A client that is none of ours against the simulator: what a user's own test looks like.

use freezeframe_sim::{Machine, Oracle, Port, Release, Simulation, stream::Stream};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};

/// The client under test: it knows nothing of the simulator but that it is a byte stream.
struct Qmp<S>(Lines<BufReader<S>>);

impl<S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin> Qmp<S> {
    async fn over(stream: S) -> Option<Self> {
        let mut qmp = Self(BufReader::new(stream).lines());
        qmp.message().await?;
        qmp.execute("qmp_capabilities", json!({})).await.map(|_| qmp)
    }

    /// The next line; none at the end.
    async fn message(&mut self) -> Option<Value> {
        self.0.next_line().await.ok()?.map(|line| serde_json::from_str(&line).expect("QEMU speaks JSON"))
    }

    /// The reply to a command. Events that come first are not taken for it.
    async fn execute(&mut self, command: &str, arguments: Value) -> Option<Value> {
        let request = json!({ "execute": command, "arguments": arguments }).to_string();
        self.0.get_mut().write_all(request.as_bytes()).await.ok()?;
        loop {
            let mut message = self.message().await?;
            if message.get("event").is_none() {
                return Some(message["return"].take());
            }
        }
    }
}

fn running() -> Simulation {
    Simulation::new(&Machine::new().disk("vda"), Release::V10_0, Oracle::default_order())
}

fn monitor(simulation: &Simulation) -> Stream {
    simulation.handle().connect(Port::Monitor(0)).expect("QEMU runs")
}

#[test]
fn my_client_survives_an_event_before_the_reply() {
    let simulation = running();
    let stream = monitor(&simulation);
    let status = simulation.run(async {
        let mut qmp = Qmp::over(stream).await?;
        qmp.execute("stop", json!({})).await?;
        qmp.execute("query-status", json!({})).await
    });
    assert_eq!(status.unwrap().unwrap()["status"], "paused");
    simulation.world().check_invariants().unwrap();
}

#[test]
fn my_client_survives_every_order_and_every_cut_of_the_bytes() {
    for seed in 0..50 {
        let simulation = Simulation::new(&Machine::new().disk("vda"), Release::V11_1, Oracle::seeded(seed));
        let stream = monitor(&simulation);
        let jobs = simulation.run(async {
            let mut qmp = Qmp::over(stream).await?;
            let save = json!({"job-id": "j", "tag": "s1", "vmstate": "vda", "devices": ["vda"]});
            qmp.execute("snapshot-save", save).await?;
            qmp.execute("query-jobs", json!({})).await
        });
        assert_eq!(jobs.unwrap().unwrap()[0]["status"], "concluded", "seed {seed}");
        simulation.world().check_invariants().unwrap();
    }
}

#[test]
fn my_client_hears_the_end_of_the_stream_when_qemu_is_killed() {
    let simulation = running();
    let stream = monitor(&simulation);
    let handle = simulation.handle();
    let last = simulation.run(async {
        let mut qmp = Qmp::over(stream).await.expect("it greets and negotiates");
        handle.kill_qemu();
        let reply = qmp.execute("query-status", json!({})).await;
        (reply, qmp.message().await, handle.connect(Port::Monitor(0)).is_err())
    });
    assert_eq!(last.unwrap(), (None, None, true));
    simulation.world().check_invariants().unwrap();
}

#[test]
fn my_client_that_waits_for_a_reply_hears_the_end_when_qemu_is_killed_meanwhile() {
    let simulation = running();
    let stream = monitor(&simulation);
    let handle = simulation.handle();
    let killer = simulation.handle();
    let reply = simulation.run(async {
        let mut qmp = Qmp::over(stream).await.expect("it greets and negotiates");
        // Before the request is dispatched, a millisecond after it was sent.
        handle.spawn_local("killer", async move { killer.kill_qemu() });
        qmp.execute("query-status", json!({})).await
    });
    assert_eq!(reply.unwrap(), None);
    assert!(!simulation.world().qemu_is_running());
}
