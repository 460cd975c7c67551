use super::*;

/// All that a session has to say.
fn all(session: &mut AgentSession) -> Vec<AgentSays> {
    std::iter::from_fn(|| session.poll().expect("a sound stream")).collect()
}

/// What a real agent of 7.2 says to a client that begins with 0xFF, behind a reply that somebody else never heard.
const STREAM: &[u8] = b"{\"return\": 2}\n\
    {\"error\": {\"class\": \"GenericError\", \"desc\": \"JSON parse error, stray '\\uFFFD'\"}}\n\
    \xFF{\"return\": 41}\n\
    \xFF{\"return\": 42}\n\
    {\"return\": \"thawed\"}\n\
    {\"error\": {\"class\": \"CommandNotFound\", \"desc\": \"The command guest-nope has not been found\"}}\n";

fn of_the_stream() -> Vec<AgentSays> {
    let error = QmpError {
        class: "CommandNotFound".into(),
        desc: "The command guest-nope has not been found".into(),
    };
    vec![AgentSays::Synced, AgentSays::Reply(Ok("thawed".into())), AgentSays::Reply(Err(error))]
}

fn synced() -> AgentSession {
    let mut session = AgentSession::new();
    session.sync(42);
    session.receive(b"\xFF{\"return\": 42}\n");
    assert_eq!(all(&mut session), [AgentSays::Synced]);
    session
}

#[test]
fn a_sync_is_delimited_in_both_directions() {
    let bytes = AgentSession::new().sync(42);
    assert_eq!(bytes, b"\xFF{\"execute\":\"guest-sync-delimited\",\"arguments\":{\"id\":42}}\n");
}

#[test]
fn a_stream_reads_the_same_wherever_it_is_cut() {
    for size in 1..STREAM.len() {
        let mut session = AgentSession::new();
        session.sync(42);
        let mut said = Vec::new();
        for piece in STREAM.chunks(size) {
            session.receive(piece);
            said.extend(all(&mut session));
        }
        assert_eq!(said, of_the_stream(), "in pieces of {size}");
    }
}

#[test]
fn whatever_an_earlier_client_left_is_passed_over() {
    let left: [&[u8]; 7] = [
        b"",
        b"\n\n\n",
        b"\xFF",
        b"\xFF\xFF\xFF{\"return\": 42",
        b"{\"return\": {\"half\": ",
        b"\x00\x80\xC3\x28 no JSON at all\n",
        b"{\"return\": 42}\n",
    ];
    for before in left {
        let mut session = AgentSession::new();
        session.sync(42);
        session.receive(before);
        session.receive(STREAM);
        assert_eq!(all(&mut session), of_the_stream(), "behind {}", before.escape_ascii());
    }
}

#[test]
fn garbage_of_every_byte_before_the_answer_is_passed_over() {
    for byte in 0..=u8::MAX {
        let mut session = AgentSession::new();
        session.sync(42);
        session.receive(&[byte; 3]);
        session.receive(b"\xFF{\"return\": 42}\n");
        assert_eq!(all(&mut session), [AgentSays::Synced], "behind {byte:#x}");
    }
}

#[test]
fn garbage_without_end_is_not_kept() {
    let mut session = AgentSession::new();
    session.sync(42);
    for _ in 0..64 {
        session.receive(&vec![b'x'; REPLY_MAX]);
        assert_eq!(session.poll(), Ok(None));
        assert!(session.buffer.len() <= 2 * REPLY_MAX);
    }
    session.receive(b"\xFF{\"return\": 42}\n");
    assert_eq!(all(&mut session), [AgentSays::Synced]);
}

#[test]
fn a_delimiter_at_the_end_of_endless_garbage_still_counts() {
    let mut session = AgentSession::new();
    session.sync(42);
    session.receive(&vec![b'x'; REPLY_MAX]);
    session.receive(b"x\xFF{\"ret");
    assert_eq!(session.poll(), Ok(None));
    session.receive(b"urn\": 42}\n");
    assert_eq!(all(&mut session), [AgentSays::Synced]);
}

#[test]
fn the_answer_to_another_sync_is_no_answer() {
    let mut session = AgentSession::new();
    session.sync(42);
    session.receive(b"\xFF{\"return\": 43}\n\xFF{\"return\": \"42\"}\n{\"return\": 42}\n");
    assert_eq!(session.poll(), Ok(None));
    assert!(!session.is_synced());
}

#[test]
fn a_reply_that_was_given_up_is_not_taken_for_the_next() {
    let mut session = synced();
    session.lose_sync();
    session.receive(b"{\"return\": 2}\n");
    assert_eq!(session.poll(), Ok(None));
    session.sync(43);
    session.receive(b"\xFF{\"return\": 43}\n{\"return\": 0}\n");
    assert_eq!(all(&mut session), [AgentSays::Synced, AgentSays::Reply(Ok(0.into()))]);
}

#[test]
fn an_error_in_another_encoding_is_still_an_error() {
    let mut session = synced();
    // "Zugriff verweigert, 拒绝访问" as a Chinese Windows has it.
    session.receive(
        b"{\"error\": {\"class\": \"GenericError\", \"desc\": \"\xBE\xDC\xBE\xF8\xB7\xC3\xCE\xCA\"}}\n",
    );
    let Ok(Some(AgentSays::Reply(Err(error)))) = session.poll() else { panic!("it is an error") };
    assert_eq!(error.class, "GenericError");
    assert!(error.desc.contains('\u{FFFD}'), "{}", error.desc);
}

#[test]
fn what_is_no_reply_ends_the_sync() {
    for line in ["nonsense", "[]", "{}", "{\"return\": }", "\u{FF}", "{\"error\": 5}"] {
        let mut session = synced();
        session.receive(line.as_bytes());
        session.receive(b"\n{\"return\": 2}\n");
        assert!(matches!(session.poll(), Err(AgentWireError::NotAReply(_))), "{line}");
        assert!(!session.is_synced(), "{line}");
        assert_eq!(session.poll(), Ok(None), "nothing after {line} is taken for an answer");
    }
}

#[test]
fn a_reply_too_long_or_too_deep_is_refused() {
    let mut session = synced();
    session.receive(&vec![b' '; REPLY_MAX + 1]);
    assert_eq!(session.poll(), Err(AgentWireError::TooLong));
    assert!(session.buffer.len() <= REPLY_MAX, "it is not kept");

    let mut session = synced();
    session
        .receive(format!("{{\"return\": {}{}}}\n", "[".repeat(DEPTH_MAX), "]".repeat(DEPTH_MAX)).as_bytes());
    assert!(matches!(session.poll(), Err(AgentWireError::NotAReply(_))));

    let mut session = synced();
    let deep = format!("{}{}", "[".repeat(DEPTH_MAX - 1), "]".repeat(DEPTH_MAX - 1));
    session.receive(format!("{{\"return\": {deep}}}\n").as_bytes());
    assert!(matches!(session.poll(), Ok(Some(AgentSays::Reply(Ok(Value::Array(_)))))));
}
