//! The driver on real sockets, at whose other end there is no QEMU, a broken one, or one that takes its time: every
//! connection and every command ends within its bound, with an error that says what was found, and the socket closed.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "the other end of the sockets, played by the test"
)]

use std::{io, io::Write as _, os::unix::net, thread, time::Duration};

use camino::Utf8PathBuf;
use freezeframe_driver::{
    agent::{Agent, AgentError},
    client::{Client, CommandError, ConnectError, Lost, listens},
    commands::QueryStatus,
    env::{Endpoint, Env as _, tokio::TokioEnv},
    wire::{Band, MAX_LINE, WireError},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixSocket, UnixStream},
    task::LocalSet,
};

/// How long the driver is given; what takes longer on the other side never comes.
const WITHIN: Duration = Duration::from_millis(400);
/// How late an error may be on a busy machine.
const LATE: Duration = Duration::from_secs(10);

const GREETING: &str = concat!(
    r#"{"QMP": {"version": {"qemu": {"micro": 13, "minor": 0, "major": 10}, "package": "p"}, "capabilities": ["oob"]}}"#,
    "\r\n"
);
const EVENT: &str = r#"{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "RESUME"}"#;

/// A socket in a folder of its own.
struct Place {
    _folder: tempfile::TempDir,
    path: Utf8PathBuf,
    /// The driver's world; made with the place, so that its clock runs for both.
    env: TokioEnv,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = Utf8PathBuf::try_from(folder.path().join("monitor")).unwrap();
        Self { _folder: folder, path, env: TokioEnv::new() }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Unix(self.path.clone())
    }

    async fn connect(&self, oob: bool) -> Result<Client<TokioEnv>, ConnectError> {
        let connected = Client::connect(&self.env, &self.endpoint(), oob, WITHIN).await;
        assert!(self.env.now() < WITHIN + LATE, "after {:?}", self.env.now());
        connected
    }
}

/// The other side of one connection.
struct Peer {
    stream: BufReader<UnixStream>,
}

impl Peer {
    async fn say(&mut self, text: &str) {
        // The driver may have had enough: whether it has closed is asked for where it matters.
        let _ = self.stream.write_all(text.as_bytes()).await;
    }

    /// The id of the next command, and the command.
    async fn hear(&mut self) -> (String, String) {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        let request: serde_json::Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("{line:?}"));
        let id = request["id"].as_str().unwrap().to_owned();
        let command = request.get("execute").or(request.get("exec-oob")).unwrap();
        (id, command.as_str().unwrap().to_owned())
    }

    async fn answer(&mut self, id: &str, returned: &str) {
        self.say(&format!("{{\"return\": {returned}, \"id\": \"{id}\"}}\r\n")).await;
    }

    /// Greets and negotiates; returns what was asked for.
    async fn greet(&mut self) {
        self.say(GREETING).await;
        let (id, command) = self.hear().await;
        assert_eq!(command, "qmp_capabilities");
        self.answer(&id, "{}").await;
    }

    /// Whether the driver closes the connection; what it still says is passed over.
    async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        matches!(tokio::time::timeout(LATE, self.stream.read_to_end(&mut rest)).await, Ok(Ok(_) | Err(_)))
    }
}

/// Plays the driver against a peer; both must come to their end.
fn against<R>(driver: impl AsyncFnOnce(&Place) -> R, peer: impl AsyncFnOnce(&mut Peer)) -> R {
    alone(async {
        let place = Place::new();
        let listener = UnixListener::bind(&place.path).unwrap();
        let other = async {
            let (stream, _) = listener.accept().await.unwrap();
            let mut other = Peer { stream: BufReader::new(stream) };
            peer(&mut other).await;
            assert!(other.is_closed().await, "the driver left the socket open");
        };
        tokio::join!(driver(&place), other).0
    })
}

fn alone<R>(work: impl Future<Output = R>) -> R {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, work)
}

/// What comes of connecting to a peer.
fn refused(peer: impl AsyncFnOnce(&mut Peer)) -> ConnectError {
    against(async |place| place.connect(false).await.expect_err("this is no monitor"), peer)
}

#[track_caller]
fn assert_says(error: &impl std::error::Error, words: &[&str]) {
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{text}");
}

mod a_connection {
    use super::*;

    #[test]
    fn to_nothing_is_refused_at_once() {
        alone(async {
            let place = Place::new();
            let error = place.connect(false).await.unwrap_err();
            let ConnectError::Unreachable { endpoint, source } = &error else { panic!("{error:?}") };
            assert_eq!((endpoint, source.kind()), (&place.endpoint(), io::ErrorKind::NotFound));
            assert_says(&error, &[place.path.as_str(), "is the machine running"]);
        });
    }

    #[test]
    fn to_a_socket_that_nobody_listens_on_is_refused_at_once() {
        alone(async {
            let place = Place::new();
            drop(UnixListener::bind(&place.path).unwrap());
            let error = place.connect(false).await.unwrap_err();
            let ConnectError::Unreachable { source, .. } = &error else { panic!("{error:?}") };
            assert_eq!(source.kind(), io::ErrorKind::ConnectionRefused);
        });
    }

    #[test]
    fn to_a_file_that_is_no_socket_is_refused_at_once() {
        alone(async {
            let place = Place::new();
            std::fs::write(&place.path, "").unwrap();
            let error = place.connect(false).await.unwrap_err();
            assert!(matches!(error, ConnectError::Unreachable { .. }), "{error:?}");
            assert_says(&error, &["is this its QMP socket"]);
        });
    }

    #[test]
    fn to_another_protocol_shows_its_banner() {
        let error = refused(async |peer| peer.say("220 mail.example ESMTP\r\n").await);
        let ConnectError::NotAMonitor { lost: Lost::Wire(WireError::NotQmp(shown)), .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(shown, "220 mail.example ESMTP");
        assert_says(&error, &["is no QMP monitor", "220 mail.example"]);
    }

    #[test]
    fn to_a_silent_socket_is_given_up_in_time() {
        let error = refused(async |_| {});
        let ConnectError::Silent { waited, .. } = &error else { panic!("{error:?}") };
        assert_eq!(*waited, WITHIN);
        assert_says(&error, &["said nothing for 0.4 s", "another client may hold the monitor"]);
    }

    #[test]
    fn that_is_closed_at_once_is_told_so() {
        let error = against(
            async |place| place.connect(false).await.unwrap_err(),
            async |peer| peer.stream.get_mut().shutdown().await.unwrap(),
        );
        assert!(matches!(error, ConnectError::NotAMonitor { lost: Lost::Closed, .. }), "{error:?}");
        assert_says(&error, &["QEMU closed the monitor"]);
    }

    #[test]
    fn that_greets_and_then_says_nothing_is_given_up_in_time() {
        let error = refused(async |peer| peer.say(GREETING).await);
        let ConnectError::Silent { waited, .. } = &error else { panic!("{error:?}") };
        assert!(*waited <= WITHIN + LATE, "{waited:?}");
    }

    #[test]
    fn whose_negotiation_is_refused_has_the_words() {
        let error = refused(async |peer| {
            peer.say(GREETING).await;
            let (id, _) = peer.hear().await;
            let refusal =
                format!(r#"{{"id": "{id}", "error": {{"class": "GenericError", "desc": "not today"}}}}"#);
            peer.say(&format!("{refusal}\r\n")).await;
        });
        let ConnectError::Negotiation { error: words, .. } = &error else { panic!("{error:?}") };
        assert_eq!((words.class.as_str(), words.desc.as_str()), ("GenericError", "not today"));
        assert_says(&error, &["refused the negotiation", "not today"]);
    }

    #[test]
    fn that_turns_into_garbage_after_the_greeting_is_none() {
        let error = refused(async |peer| peer.say(&format!("{GREETING}%!\u{7}\r\n")).await);
        let ConnectError::NotAMonitor { lost: Lost::Wire(WireError::NotQmp(shown)), .. } = &error else {
            panic!("{error:?}")
        };
        assert_eq!(shown, r"%!\u{7}", "what a terminal would obey is escaped");
    }

    #[test]
    fn that_answers_before_it_greets_is_none() {
        let error = refused(async |peer| peer.say("{\"return\": {}}\r\n").await);
        let lost = Lost::Wire(WireError::ReplyBeforeGreeting);
        assert!(
            matches!(&error, ConnectError::NotAMonitor { lost: found, .. } if *found == lost),
            "{error:?}"
        );
    }

    #[test]
    fn with_a_line_without_end_is_cut_off() {
        // It takes its time to send more than the longest line.
        let error = against(
            async |place| Client::connect(&place.env, &place.endpoint(), false, LATE).await.unwrap_err(),
            async |peer| peer.say(&"x".repeat(MAX_LINE + 2)).await,
        );
        let lost = Lost::Wire(WireError::TooLong);
        assert!(
            matches!(&error, ConnectError::NotAMonitor { lost: found, .. } if *found == lost),
            "{error:?}"
        );
    }

    #[test]
    fn may_have_events_before_the_greeting_and_before_the_reply() {
        let greeted = against(
            async |place| place.connect(false).await.unwrap().greeting().version,
            async |peer| {
                peer.say(&format!("{EVENT}\r\n{GREETING}{EVENT}\r\n")).await;
                let (id, _) = peer.hear().await;
                peer.say(&format!("{EVENT}\r\n")).await;
                peer.answer(&id, "{}").await;
            },
        );
        assert_eq!(greeted, (10, 0, 13));
    }

    #[test]
    fn enables_out_of_band_only_when_it_is_wanted_and_offered() {
        let without = GREETING.replace(r#"["oob"]"#, "[]");
        for (wanted, greeting, enabled) in [
            (true, GREETING, r#"{"enable":["oob"]}"#),
            (false, GREETING, r#"{"enable":[]}"#),
            (true, &without, r#"{"enable":[]}"#),
        ] {
            against(
                async |place| drop(place.connect(wanted).await.unwrap()),
                async |peer| {
                    peer.say(greeting).await;
                    let mut line = String::new();
                    peer.stream.read_line(&mut line).await.unwrap();
                    assert!(line.contains(enabled), "{line}");
                    peer.answer("connect#1", "{}").await;
                },
            );
        }
    }
}

mod a_command {
    use super::*;

    async fn status(client: &Client<TokioEnv>, env: &TokioEnv) -> Result<bool, CommandError> {
        let status = client.execute("test", &QueryStatus {}, env.now() + WITHIN).await;
        status.map(|status| status.running)
    }

    /// What a connected driver gets from a peer that has been asked how the machine is.
    fn asked(peer: impl AsyncFnOnce(&mut Peer, String)) -> Result<bool, CommandError> {
        against(
            async |place| {
                let client = place.connect(false).await.unwrap();
                status(&client, &place.env).await
            },
            async |other| {
                other.greet().await;
                let (id, command) = other.hear().await;
                assert_eq!(command, "query-status");
                peer(other, id).await;
            },
        )
    }

    const RUNNING: &str = r#"{"running": true, "status": "running"}"#;

    #[test]
    fn is_answered_by_its_id_and_by_no_other() {
        let answer = asked(async |peer, id| {
            peer.answer("somebody#1", r#"{"running": false, "status": "paused"}"#).await;
            peer.say("{\"return\": {}}\r\n{\"return\": {}, \"id\": 7}\r\n").await;
            peer.say(&format!("{EVENT}\r\n")).await;
            peer.answer(&id, RUNNING).await;
        });
        assert_eq!(answer, Ok(true));
    }

    #[test]
    fn that_overtakes_another_gets_its_own_answer() {
        let answers = against(
            async |place| {
                let client = place.connect(true).await.unwrap();
                let deadline = place.env.now() + LATE;
                let slow = client.call(Band::In, "slow", "query-block", None::<&()>, deadline);
                let fast = client.call(Band::Out, "fast", "migrate-pause", None::<&()>, deadline);
                let (slow, fast) = tokio::join!(slow, fast);
                (slow.unwrap(), fast.unwrap())
            },
            async |peer| {
                peer.greet().await;
                let (slow, fast) = (peer.hear().await, peer.hear().await);
                assert_eq!((slow.1.as_str(), fast.1.as_str()), ("query-block", "migrate-pause"));
                peer.answer(&fast.0, "\"fast\"").await;
                peer.answer(&slow.0, "\"slow\"").await;
            },
        );
        assert_eq!(answers, ("\"slow\"".into(), "\"fast\"".into()));
    }

    #[test]
    fn without_an_answer_times_out_and_the_connection_stays_usable() {
        let (first, mute, second) = against(
            async |place| {
                let client = place.connect(false).await.unwrap();
                let first = status(&client, &place.env).await;
                let mute = client.is_mute();
                (first, mute, client.execute("test", &QueryStatus {}, place.env.now() + LATE).await)
            },
            async |peer| {
                peer.greet().await;
                let (late, _) = peer.hear().await;
                let (id, _) = peer.hear().await;
                peer.answer(&late, r#"{"running": false, "status": "paused"}"#).await;
                peer.answer(&id, RUNNING).await;
            },
        );
        let error = first.unwrap_err();
        let CommandError::TimedOut { command, waited } = &error else { panic!("{error:?}") };
        assert_eq!(command, "query-status");
        assert!((WITHIN..WITHIN + LATE).contains(waited), "{waited:?}");
        assert_says(&error, &["no reply to `query-status` within 0."]);
        assert!(mute);
        assert!(second.unwrap().running, "the late answer to the first is nobody's");
    }

    #[test]
    fn that_is_refused_has_the_words() {
        let error = asked(async |peer, id| {
            let refusal =
                format!(r#"{{"id": "{id}", "error": {{"class": "CommandNotFound", "desc": "gone"}}}}"#);
            peer.say(&format!("{refusal}\r\n")).await;
        })
        .unwrap_err();
        let CommandError::Refused { command, error: words } = &error else { panic!("{error:?}") };
        assert_eq!((command.as_str(), words.class.as_str()), ("query-status", "CommandNotFound"));
        assert_says(&error, &["QEMU refused `query-status`: gone"]);
    }

    #[test]
    fn whose_connection_ends_first_is_lost() {
        let error = asked(async |peer, _| peer.stream.get_mut().shutdown().await.unwrap()).unwrap_err();
        assert_eq!(error, CommandError::Lost { command: "query-status".into(), lost: Lost::Closed });
        assert_says(&error, &["the connection ended before the reply to `query-status`"]);
    }

    #[test]
    fn answered_with_garbage_is_lost_and_so_is_all_after_it() {
        let (first, second) = against(
            async |place| {
                let client = place.connect(false).await.unwrap();
                (status(&client, &place.env).await, status(&client, &place.env).await)
            },
            async |peer| {
                peer.greet().await;
                let (id, _) = peer.hear().await;
                peer.say("garbage\r\n").await;
                peer.answer(&id, RUNNING).await;
            },
        );
        let lost = Lost::Wire(WireError::NotQmp("garbage".into()));
        assert_eq!(first, Err(CommandError::Lost { command: "query-status".into(), lost }));
        assert_eq!(second, first);
    }

    #[test]
    fn answered_in_another_shape_is_unreadable() {
        let error = asked(async |peer, id| peer.answer(&id, "[]").await).unwrap_err();
        let CommandError::Unreadable { command, .. } = &error else { panic!("{error:?}") };
        assert_eq!(command, "query-status");
        assert_says(&error, &["the reply to `query-status` cannot be read"]);
    }
}

#[test]
fn a_monitor_whose_queue_is_full_is_listened_to() {
    alone(async {
        let place = Place::new();
        assert!(!listens(&place.env, &place.endpoint()).await, "nothing is there");
        let socket = UnixSocket::new_stream().unwrap();
        socket.bind(&place.path).unwrap();
        // As QEMU's: it takes one client, and lets one wait.
        let listener = socket.listen(1).unwrap();
        let mut waiting = Vec::new();
        let full = loop {
            match UnixStream::connect(&place.path).await {
                Ok(stream) => waiting.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
        assert!(listens(&place.env, &place.endpoint()).await, "{} clients wait", waiting.len());
        drop(listener);
        assert!(!listens(&place.env, &place.endpoint()).await, "it has ended");
    });
}

/// On a thread of its own, so that the driver never finds nothing to read.
#[test]
fn an_agent_that_never_stops_sending_blank_lines_is_given_up_in_time() {
    let place = Place::new();
    let listener = net::UnixListener::bind(&place.path).unwrap();
    let agent = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let lines = vec![b'\n'; 1 << 20];
        while stream.write_all(&lines).is_ok() {}
    });
    let error = alone(async {
        let deadline = place.env.now() + WITHIN;
        let mut agent = Agent::connect(&place.env, &place.endpoint(), deadline).await.unwrap();
        agent.sync(deadline).await.unwrap_err()
    });
    let AgentError::Unresponsive { waited, .. } = &error else { panic!("{error}") };
    assert!(*waited < 2 * WITHIN, "after {waited:?}");
    agent.join().unwrap();
}
