use super::*;

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn world(trace: &str) -> World {
    World::new(&Machine::new(), Release::V10_0, Oracle::replay(trace.parse().unwrap()))
}

/// Takes all that QEMU has said, as lines.
fn read(world: &mut World, connection: Connection) -> Vec<String> {
    let said = String::from_utf8(world.output(connection).to_vec()).unwrap();
    world.consume(connection, said.len());
    said.split_terminator("\r\n").map(str::to_owned).collect()
}

fn connect(world: &mut World, now: Duration, monitor: usize) -> Connection {
    let connection = world.connect(now, Port::Monitor(monitor)).unwrap();
    world.advance(now);
    connection
}

/// A client that has negotiated, at 1 ms.
fn negotiated(world: &mut World) -> Connection {
    let connection = connect(world, Duration::ZERO, 0);
    world.receive(Duration::ZERO, connection, b"{\"execute\":\"qmp_capabilities\"}").unwrap();
    world.advance(ms(1));
    assert_eq!(read(world, connection).len(), 2);
    connection
}

fn version(id: u8) -> Vec<u8> {
    format!("{{\"execute\":\"query-version\",\"id\":{id}}}").into_bytes()
}

fn ids(lines: &[String]) -> Vec<&str> {
    lines
        .iter()
        .map(|line| line.rsplit_once("\"id\": ").map_or("", |(_, id)| id.trim_end_matches('}')))
        .collect()
}

#[test]
fn a_client_is_greeted_when_it_connects() {
    let mut world = world("");
    let connection = connect(&mut world, ms(3), 0);
    let greeting = read(&mut world, connection);
    assert!(
        greeting[0]
            .starts_with("{\"QMP\": {\"version\": {\"qemu\": {\"micro\": 13, \"minor\": 0, \"major\": 10}")
    );
    assert_eq!(world.next_event(), None);
}

#[test]
fn a_second_client_is_greeted_and_answered_when_the_first_has_left() {
    let mut world = world("");
    let first = connect(&mut world, ms(0), 0);
    let second = connect(&mut world, ms(0), 0);
    world.receive(ms(0), second, &version(1)).unwrap();
    world.advance(ms(100));
    assert!(read(&mut world, second).is_empty());
    world.close(ms(100), first);
    assert_eq!(world.next_event(), Some(ms(100)));
    world.advance(ms(101));
    let heard = read(&mut world, second);
    assert!(heard[0].starts_with("{\"QMP\""));
    assert!(heard[1].contains("Expecting capabilities negotiation"));
}

#[test]
fn monitors_do_not_wait_for_each_other() {
    let mut world = world("");
    let connections = [0, 1].map(|monitor| connect(&mut world, ms(0), monitor));
    for connection in connections {
        assert_eq!(read(&mut world, connection).len(), 1);
    }
}

#[test]
fn a_request_is_answered_a_millisecond_later_or_by_choice_more() {
    for (trace, due) in [("", 2), ("latency#1=1", 3), ("latency#1=2", 6)] {
        let mut world = world(trace);
        let connection = negotiated(&mut world);
        world.receive(ms(1), connection, &version(7)).unwrap();
        assert_eq!(world.next_event(), Some(ms(due)));
        world.advance(ms(due - 1));
        assert!(world.output(connection).is_empty());
        world.advance(ms(due));
        assert_eq!(ids(&read(&mut world, connection)), ["7"]);
    }
}

#[test]
fn pipelined_requests_are_answered_in_order_whatever_the_latency_of_each() {
    let mut world = world("latency#1=2");
    let connection = negotiated(&mut world);
    world.receive(ms(1), connection, &[version(1), version(2), version(3)].concat()).unwrap();
    world.advance(ms(100));
    assert_eq!(ids(&read(&mut world, connection)), ["1", "2", "3"]);
}

#[test]
fn a_request_may_come_in_pieces() {
    let mut world = world("");
    let connection = negotiated(&mut world);
    for byte in version(9) {
        world.receive(ms(1), connection, &[byte]).unwrap();
    }
    world.advance(ms(2));
    assert_eq!(ids(&read(&mut world, connection)), ["9"]);
}

#[test]
fn of_requests_due_at_the_same_instant_the_oracle_picks_one() {
    let answered_first = |trace: &str| {
        let mut world = world(trace);
        let connections = [0, 1].map(|monitor| connect(&mut world, ms(0), monitor));
        for connection in connections {
            read(&mut world, connection);
            world.receive(ms(0), connection, b"{}").unwrap();
        }
        world.take_turn(ms(1));
        connections.map(|connection| world.output(connection).len()).into_iter().position(|said| said > 0)
    };
    assert_eq!(answered_first(""), Some(0));
    assert_eq!(answered_first("main-loop#0=1"), Some(1));
}

#[test]
fn of_a_client_that_leaves_the_requests_are_dropped_or_by_choice_carried_out() {
    let left = |trace: &str| {
        let mut world = world(trace);
        let connection = negotiated(&mut world);
        world.receive(ms(1), connection, &[version(1), version(2)].concat()).unwrap();
        world.close(ms(1), connection);
        let left = world.monitors[0].client.as_ref().map(|client| client.pending());
        world.advance(ms(50));
        assert!(world.monitors[0].client.is_none(), "the monitor is free again");
        left
    };
    assert_eq!(left(""), None);
    assert_eq!(left("requests-after-close#0=1"), Some(1));
    assert_eq!(left("requests-after-close#0=2"), Some(2));
}

#[test]
fn a_killed_qemu_says_nothing_more_and_refuses_clients() {
    let mut world = world("");
    let connection = negotiated(&mut world);
    world.receive(ms(1), connection, &version(1)).unwrap();
    world.kill_qemu();
    assert!(world.at_end(connection));
    assert_eq!(world.next_event(), None);
    assert_eq!(world.receive(ms(1), connection, b"{}"), Err(BrokenPipe));
    assert_eq!(world.connect(ms(1), Port::Monitor(0)), Err(Refused::Gone));
}

#[test]
fn what_had_been_said_before_the_kill_can_still_be_read() {
    let mut world = world("");
    let connection = connect(&mut world, ms(0), 0);
    world.kill_qemu();
    assert!(!world.at_end(connection));
    assert_eq!(read(&mut world, connection).len(), 1);
    assert!(world.at_end(connection));
}

#[test]
fn a_port_that_the_machine_lacks_is_refused() {
    let mut world = world("");
    assert_eq!(world.connect(ms(0), Port::Monitor(2)), Err(Refused::NoSuchPort(Port::Monitor(2))));
}

fn port_change(at: u64) -> Event {
    let data = crate::qobject::qdict! { "open": false, "id": "port0" };
    Event { at: ms(at), name: "VSERPORT_CHANGE", data: Some(data) }
}

#[test]
fn what_a_turn_says_before_a_stall_goes_out_at_once_and_nothing_in_band_is_handled_meanwhile() {
    let mut world = world("");
    let connection = negotiated(&mut world);
    world.receive(ms(1), connection, &version(1)).unwrap();
    let event = |at, name| Event { at: ms(at), name, data: None };
    world.say_turn(ms(1), ms(11), vec![event(1, "STOP"), event(11, "RESUME")]);
    world.end_turn(ms(1), ms(11), Vec::new());
    let heard = read(&mut world, connection);
    assert_eq!(heard.len(), 1);
    assert!(heard[0].contains("\"microseconds\": 1000}, \"event\": \"STOP\""));
    assert_eq!(world.next_event(), Some(ms(11)), "not 2 ms, when the request would be due");
    world.advance(ms(10));
    assert!(world.output(connection).is_empty());
    world.advance(ms(11));
    let heard = read(&mut world, connection);
    assert!(heard[0].contains("RESUME"));
    assert_eq!(ids(&heard[1..]), ["1"]);
}

#[test]
fn what_is_sent_out_of_band_is_answered_while_the_main_loop_stands_still() {
    let mut world = world("");
    let connection = connect(&mut world, ms(0), 0);
    let agree = br#"{"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}"#;
    world.receive(ms(0), connection, agree).unwrap();
    world.advance(ms(1));
    read(&mut world, connection);
    world.say_turn(ms(1), ms(50), vec![Event { at: ms(50), name: "RESUME", data: None }]);
    world.end_turn(ms(1), ms(50), Vec::new());
    world.receive(ms(2), connection, &version(1)).unwrap();
    let out_of_band =
        br#"{"exec-oob":"migrate-recover","arguments":{"uri":"x"},"id":2}{"exec-oob":"stop","id":3}"#;
    world.receive(ms(3), connection, out_of_band).unwrap();
    world.advance(ms(49));
    let heard = read(&mut world, connection);
    assert_eq!(heard.len(), 2, "{heard:?}");
    assert!(heard[0].contains("Migrate recover can only be run when postcopy is paused."));
    assert!(heard[1].contains("The command stop does not support OOB"));
    world.advance(ms(60));
    let heard = read(&mut world, connection);
    assert!(heard[0].contains("RESUME"));
    assert_eq!(ids(&heard[1..]), ["1"]);
}

#[test]
fn a_held_event_is_sent_when_its_second_is_over_with_its_old_timestamp() {
    let mut world = world("");
    let connection = negotiated(&mut world);
    world.say(vec![port_change(10), port_change(20), port_change(30)]);
    world.end_turn(ms(30), ms(30), Vec::new());
    assert_eq!(read(&mut world, connection).len(), 1);
    assert_eq!(world.next_event(), Some(ms(1010)));
    world.advance(ms(1010));
    let late = read(&mut world, connection);
    assert!(late[0].contains("\"microseconds\": 30000}"), "{late:?}");
    assert_eq!(world.next_event(), None);
}

#[test]
fn every_negotiated_monitor_hears_an_event_and_no_other() {
    let mut world = world("");
    let negotiated = negotiated(&mut world);
    let other = connect(&mut world, ms(1), 1);
    read(&mut world, other);
    world.say(vec![Event { at: ms(1), name: "STOP", data: None }]);
    world.end_turn(ms(1), ms(1), Vec::new());
    assert_eq!(read(&mut world, negotiated).len(), 1);
    assert!(read(&mut world, other).is_empty());
}

#[test]
fn the_reply_of_a_stalled_command_does_not_reach_the_next_client() {
    let mut world = world("");
    let first = negotiated(&mut world);
    world.say(vec![Event { at: ms(1), name: "STOP", data: None }]);
    world.end_turn(ms(1), ms(50), Vec::new());
    world.close(ms(2), first);
    let second = world.connect(ms(3), Port::Monitor(0)).unwrap();
    world.advance(ms(60));
    let heard = read(&mut world, second);
    assert_eq!(heard.len(), 1, "its greeting alone: {heard:?}");
}

#[test]
fn qemu_that_hangs_answers_nothing_and_cannot_be_terminated() {
    let mut world = World::new(&Machine::new().disk("vda").disk("vdb"), Release::V10_0, Oracle::default());
    let client = negotiated(&mut world);
    let backup = |id: &str, device: &str| {
        let data = format!(r#"{{"job-id":"{id}","device":"{device}","target":"{id}","sync":"full"}}"#);
        format!(r#"{{"type":"drive-backup","data":{data}}}"#)
    };
    let actions = [backup("A", "vda"), backup("B", "vdb"), backup("C", "nowhere")].join(",");
    let arguments = format!(r#"{{"actions":[{actions}],"properties":{{"completion-mode":"grouped"}}}}"#);
    let request = format!(r#"{{"execute":"transaction","arguments":{arguments},"id":1}}"#);
    world.receive(ms(1), client, request.as_bytes()).unwrap();
    world.receive(ms(1), client, &version(2)).unwrap();
    world.advance(ms(100));
    let heard = read(&mut world, client);
    assert_eq!(heard.len(), 5);
    assert!(heard.iter().all(|line| line.contains("JOB_STATUS_CHANGE")));
    world.terminate_qemu(ms(100));
    assert_eq!(world.next_event(), None);
    assert!(world.qemu_is_running());
    world.kill_qemu();
    assert!(world.at_end(client));
}

#[test]
fn a_private_monitor_shows_nowhere_in_the_machine() {
    let machine = Machine { monitors: 1, private_monitors: 1, ..Machine::new() };
    let mut world = World::new(&machine, Release::V11_1, Oracle::default());
    let client = negotiated(&mut world);
    connect(&mut world, ms(1), 1);
    let objects = b"{\"execute\":\"qom-list\",\"arguments\":{\"path\":\"/objects\"}}";
    world.receive(ms(1), client, objects).unwrap();
    world.advance(ms(2));
    let told = read(&mut world, client).concat();
    assert!(told.contains("compat_monitor0") && !told.contains("compat_monitor1"), "{told}");
}

/// Asks for the schema so often, without reading.
fn ask_for_schemas(world: &mut World, connection: Connection, times: usize) {
    for _ in 0..times {
        world.receive(ms(1), connection, b"{\"execute\":\"query-qmp-schema\"}").unwrap();
    }
}

#[test]
fn a_client_that_does_not_read_is_not_answered_until_it_does() {
    let mut world = world("");
    let connection = negotiated(&mut world);
    ask_for_schemas(&mut world, connection, 100);
    world.advance(ms(10));
    let one = world.output(connection).iter().position(|byte| *byte == b'\n').unwrap() + 1;
    let (unread, bound) = (world.output(connection).len(), link::BACKLOG + one);
    assert!((link::BACKLOG..=bound).contains(&unread), "{unread}");
    assert_eq!(world.next_event(), None, "nobody waits for anything but the client");

    let mut answers = 0;
    while !world.output(connection).is_empty() {
        answers += read(&mut world, connection).len();
        world.advance(ms(20));
    }
    assert_eq!(answers, 100);
}

#[test]
fn a_client_waits_while_what_it_sent_is_not_taken_up() {
    let mut world = world("");
    let connection = negotiated(&mut world);
    assert!(world.takes_input(connection));
    ask_for_schemas(&mut world, connection, 1000);
    assert!(!world.takes_input(connection));
    let other = world.connect(ms(1), Port::Monitor(0)).unwrap();
    world.receive(ms(1), other, &[b' '; link::INPUT]).unwrap();
    assert!(!world.takes_input(other), "nobody has accepted it");
}

#[test]
fn a_client_that_never_reads_is_let_go_after_many_events_and_others_are_not() {
    let mut world = world("");
    let idle = negotiated(&mut world);
    let busy = connect(&mut world, ms(1), 1);
    world.receive(ms(1), busy, b"{\"execute\":\"qmp_capabilities\"}").unwrap();
    let id = "j".repeat(256 << 10);
    for round in 1..30 {
        let now = ms(10 * round);
        let job = format!(
            "{{\"execute\":\"blockdev-create\",\"arguments\":{{\"job-id\":\"{id}\",\"options\":\
             {{\"driver\":\"file\",\"filename\":\"/images/new\",\"size\":0}}}}}}\
             {{\"execute\":\"job-dismiss\",\"arguments\":{{\"id\":\"{id}\"}}}}"
        );
        world.receive(now, busy, job.as_bytes()).unwrap();
        world.advance(now + ms(9));
        read(&mut world, busy);
    }
    assert!(world.at_end(idle));
    assert!(!world.at_end(busy));
}
