//! A client of the simulated monitor hears what a client of the real one was recorded to hear.

use rstest::rstest;
use serde_json::Value;

use super::*;

/// One thing sent to a real monitor, and what came back.
struct Case {
    send: Vec<u8>,
    replies: Vec<String>,
}

fn cases(recording: &str) -> Vec<Case> {
    let case = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        // Bytes are stored as the characters of the same number.
        let send = line["send"].as_str().unwrap().chars().map(|byte| byte as u8).collect();
        let replies = line["replies"].as_array().unwrap().iter();
        Case { send, replies: replies.map(|reply| reply.as_str().unwrap().to_owned()).collect() }
    };
    recording.lines().map(case).collect()
}

fn recordings(release: Release) -> (Vec<Case>, Vec<Case>) {
    let (json, arguments) = match release {
        Release::V5_2 => (
            include_str!("../../data/recordings/5.2/json.jsonl"),
            include_str!("../../data/recordings/5.2/arguments.jsonl"),
        ),
        Release::V7_2 => (
            include_str!("../../data/recordings/7.2/json.jsonl"),
            include_str!("../../data/recordings/7.2/arguments.jsonl"),
        ),
        Release::V10_0 => (
            include_str!("../../data/recordings/10.0/json.jsonl"),
            include_str!("../../data/recordings/10.0/arguments.jsonl"),
        ),
        Release::V11_1 => (
            include_str!("../../data/recordings/11.1/json.jsonl"),
            include_str!("../../data/recordings/11.1/arguments.jsonl"),
        ),
    };
    (cases(json), cases(arguments))
}

/// A client that has sent `qmp_capabilities` and a newline, and read the reply: as all recordings begin.
fn negotiated(release: Release, arguments: &str) -> Client {
    let mut client = Client::accept(Connection::new(0), release);
    let capabilities = format!("{{\"execute\":\"qmp_capabilities\"{arguments}}}\n");
    let (said, _) = send(&mut client, capabilities.as_bytes());
    assert_eq!(said.last().map(String::as_str), Some("{\"return\": {}}"));
    client
}

/// Sends bytes; gives the lines that come back, and the commands that QEMU would have to execute.
fn send(client: &mut Client, bytes: &[u8]) -> (Vec<String>, Vec<String>) {
    let mut sequence = 0;
    client.receive(bytes, || {
        sequence += 1;
        (Duration::ZERO, sequence)
    });
    let mut executed = Vec::new();
    while let Some(queued) = client.out_of_band.pop_front().or_else(|| client.take_request()) {
        if let Step::Execute { command, .. } = client.take_up(queued) {
            executed.push(command);
        }
    }
    let said = String::from_utf8(std::mem::take(&mut client.said)).unwrap();
    (said.split_terminator("\r\n").map(str::to_owned).collect(), executed)
}

#[rstest]
fn json_is_read_and_written_as_recorded(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let mut client = negotiated(release, "");
    for case in recordings(release).0 {
        let (said, _) = send(&mut client, &case.send);
        assert_eq!(said, case.replies, "{release}: {}", String::from_utf8_lossy(&case.send));
    }
}

#[rstest]
fn arguments_are_refused_as_recorded(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    // Which of several unknown members is named.
    const NOT_MODELLED: [&str; 2] = ["'zzz' is unexpected", "evenmore' is unexpected"];
    let mut client = negotiated(release, "");
    for case in recordings(release).1 {
        let sent = String::from_utf8_lossy(&case.send).into_owned();
        if case.replies.iter().any(|reply| NOT_MODELLED.iter().any(|text| reply.contains(text))) {
            continue;
        }
        let (said, executed) = send(&mut client, &case.send);
        if executed.is_empty() {
            assert_eq!(said, case.replies, "{release}: {sent}");
        } else {
            let from_the_visitor = ["Parameter '", "Invalid parameter", "CommandNotFound", "QMP input"];
            let refused = |reply: &String| from_the_visitor.iter().any(|text| reply.contains(text));
            let reads_them_itself = ["device_add", "object-add"].contains(&executed[0].as_str());
            assert!(reads_them_itself || !case.replies.iter().any(refused), "{release} refuses {sent}");
        }
    }
}

#[rstest]
fn before_negotiation_no_command_is_known(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let mut client = Client::accept(Connection::new(0), release);
    let (said, _) =
        send(&mut client, b"{\"execute\":\"query-status\",\"id\":1}{\"execute\":\"nonsense\",\"id\":2}");
    let expecting = |id: u8| {
        format!(
            "{{\"id\": {id}, \"error\": {{\"class\": \"CommandNotFound\", \"desc\": \
             \"Expecting capabilities negotiation with 'qmp_capabilities'\"}}}}"
        )
    };
    assert!(said[0].starts_with("{\"QMP\": {\"version\": {\"qemu\": {\"micro\": "));
    assert_eq!(said[1..], [expecting(1), expecting(2)]);
}

#[test]
fn a_capability_that_is_not_offered_is_refused() {
    let refusal = |release| {
        let mut client = Client::accept(Connection::new(0), release);
        let bytes = b"{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"nope\"]}}";
        send(&mut client, bytes).0.remove(1)
    };
    assert!(refusal(Release::V5_2).contains("\"Invalid parameter 'nope'\""));
    assert!(refusal(Release::V7_2).contains("\"Parameter 'null' does not accept value 'nope'\""));
}

#[test]
fn out_of_band_is_a_matter_of_agreement_and_of_the_command() {
    let sent = b"{\"exec-oob\":\"migrate-pause\"}{\"exec-oob\":\"query-status\"}{\"exec-oob\":5}\
                 {\"execute\":\"query-version\",\"exec-oob\":\"x\"}{\"exec-oob\":\"nosuch\"}";
    let mut without = negotiated(Release::V10_0, "");
    let (said, executed) = send(&mut without, sent);
    assert!(executed.is_empty());
    assert!(said.iter().all(|line| line.contains("QMP input member 'exec-oob' is unexpected")));

    let mut with = negotiated(Release::V10_0, ",\"arguments\":{\"enable\":[\"oob\"]}");
    let (said, executed) = send(&mut with, sent);
    assert_eq!(executed, ["migrate-pause"]);
    let told = [
        "The command query-status does not support OOB",
        "The command nosuch has not been found",
        "QMP input member 'exec-oob' must be a string",
        "QMP input member 'execute' clashes with 'exec-oob'",
    ];
    assert_eq!(said.len(), told.len());
    assert!(said.iter().zip(told).all(|(line, text)| line.contains(text)), "{said:?}");
}

#[test]
fn what_is_sent_behind_too_many_requests_is_not_looked_at_before_they_are_fewer() {
    let mut client = negotiated(Release::V10_0, ",\"arguments\":{\"enable\":[\"oob\"]}");
    let place = || (Duration::ZERO, 0);
    client.receive(&b"{\"execute\":\"query-status\"}".repeat(8), place);
    client.receive(b"{\"exec-oob\":\"migrate-pause\"}", place);
    assert!(client.out_of_band.is_empty());
    let first = client.take_request().unwrap();
    client.take_up(first);
    assert_eq!(client.out_of_band.len(), 1);
}

#[test]
fn out_of_band_may_follow_its_agreement_in_one_breath() {
    let mut client = Client::accept(Connection::new(0), Release::V10_0);
    let sent = b"{\"execute\":\"qmp_capabilities\",\"arguments\":{\"enable\":[\"oob\"]}}\
                 {\"exec-oob\":\"migrate-pause\"}";
    assert_eq!(send(&mut client, sent).1, ["migrate-pause"]);
}

#[test]
fn a_client_hears_events_only_after_negotiation() {
    let mut client = Client::accept(Connection::new(0), Release::V10_0);
    client.said.clear();
    client.hear(b"event\r\n");
    assert!(client.said.is_empty());
    let mut client = negotiated(Release::V10_0, "");
    client.hear(b"event\r\n");
    assert_eq!(client.said, b"event\r\n");
}

#[test]
fn the_schema_is_answered_as_it_was_recorded() {
    for release in Release::ALL {
        let mut client = negotiated(release, "");
        let (said, _) = send(&mut client, b"{\"execute\":\"query-qmp-schema\",\"id\":1}");
        assert_eq!(said[0], format!("{{\"return\": {}, \"id\": 1}}", Schema::of(release).text()));
    }
}

#[test]
fn an_event_carries_the_time_at_which_it_was_queued() {
    let event = crate::qemu::Event { at: Duration::from_millis(1500), name: "STOP", data: None };
    let mut line = Vec::new();
    say::event(&mut line, &event);
    let expected =
        "{\"timestamp\": {\"seconds\": 1767225601, \"microseconds\": 500000}, \"event\": \"STOP\"}\r\n";
    assert_eq!(String::from_utf8(line).unwrap(), expected);
}
