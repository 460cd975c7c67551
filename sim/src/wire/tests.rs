use super::*;

fn read_in_pieces(release: Release, bytes: &[u8], size: usize) -> Vec<Incoming> {
    let mut reader = Reader::new(release);
    let mut read = Vec::new();
    for piece in bytes.chunks(size) {
        reader.receive(piece, |incoming| read.push(incoming));
    }
    read
}

fn read(release: Release, bytes: &[u8]) -> Vec<Incoming> {
    read_in_pieces(release, bytes, usize::MAX)
}

fn error(text: &str) -> Incoming {
    Incoming::Error(text.into())
}

#[test]
fn where_a_message_is_cut_does_not_matter() {
    let bytes = b"{'execute': \"query-status\", 'id': -12.5e3}\r\n[1,]{\"a\": \"\\u00e9\xc3\xa9\"} nul -x\n";
    for release in [Release::V10_0, Release::V11_1] {
        let whole = read(release, bytes);
        assert_eq!(whole.len(), 5, "{whole:?}");
        for size in 1..bytes.len() {
            assert_eq!(read_in_pieces(release, bytes, size), whole, "{release} in pieces of {size}");
        }
    }
}

#[test]
fn messages_need_nothing_between_them() {
    let read = read(Release::V10_0, b"{\"a\":1}{\"b\":2}");
    assert_eq!(
        read,
        [Incoming::Message(serde_json::json!({"a": 1})), Incoming::Message(serde_json::json!({"b": 2}))]
    );
}

#[test]
fn nesting_beyond_the_limit_is_one_error_in_11_1_and_a_thousand_before() {
    let bytes = [vec![b'['; 1100], vec![b']'; 1100], b"{}".to_vec()].concat();
    let new = read(Release::V11_1, &bytes);
    assert_eq!(new, [error("JSON nesting depth limit exceeded"), Incoming::Message(serde_json::json!({}))]);

    let old = read(Release::V10_0, &bytes);
    assert_eq!(old[0], error("JSON nesting depth limit exceeded"));
    assert!(matches!(&old[1], Incoming::Message(Value::Array(_))));
    let expecting =
        old.iter().filter(|incoming| **incoming == error("JSON parse error, expecting value")).count();
    assert_eq!((expecting, old.len()), (1025, 1028));
}

#[test]
fn a_message_that_is_wrong_already_can_still_nest_too_deep_up_to_10_0() {
    let bytes = [b"{\"a\"{".to_vec(), vec![b'['; 1100]].concat();
    assert_eq!(read(Release::V10_0, &bytes), [error("JSON nesting depth limit exceeded")]);
    assert_eq!(read(Release::V11_1, &bytes), [error("1:5: JSON parse error, expecting ':'")]);
}

#[test]
fn what_is_told_about_a_long_mistake_is_cut() {
    let word = read(Release::V10_0, &[vec![b'x'; 1100], b"\n".to_vec()].concat());
    assert_eq!(word, [error(&format!("JSON parse error, invalid keyword '{}", "x".repeat(1006)))]);
    let stray = [vec![b'"'], vec![b'x'; 1100], b"\n".to_vec()].concat();
    let new = format!("1:1: JSON parse error, stray '\"{}", "x".repeat(1015));
    assert_eq!(read(Release::V11_1, &stray), [error(&new)]);
    let old = format!("JSON parse error, stray '\"{}\n'", "x".repeat(1100));
    assert_eq!(read(Release::V10_0, &stray), [error(&old)]);
}

#[test]
fn each_sequence_that_is_no_character_is_shown_as_one() {
    let shown = read(Release::V10_0, b"\"\xc0\x80\xed\xa0\x80\xf0\x9f-\xff");
    assert_eq!(shown, [error("JSON parse error, stray '\"\0\u{fffd}\u{fffd}-\u{fffd}'")]);
}

#[test]
fn a_thousand_and_twenty_four_levels_are_accepted() {
    let bytes = [vec![b'['; 1024], vec![b']'; 1024]].concat();
    for release in Release::ALL {
        assert!(matches!(read(release, &bytes)[..], [Incoming::Message(_)]));
    }
}

#[test]
fn too_many_tokens_are_refused() {
    let bytes = [b"[".to_vec(), b"1,".repeat(1 << 20), b"1,1,1]{}".to_vec()].concat();
    let new = read(Release::V11_1, &bytes);
    assert_eq!(new, [error("JSON token count limit exceeded"), Incoming::Message(serde_json::json!({}))]);
    let old = read(Release::V10_0, &bytes);
    assert_eq!(old[0], error("JSON token count limit exceeded"));
    assert_eq!(old.len(), 8);
}

#[test]
fn members_are_written_in_the_order_of_their_buckets() {
    let written = |value: Value| {
        let mut out = Vec::new();
        qdict::write(&mut out, &value, Release::V10_0);
        String::from_utf8(out).unwrap()
    };
    let value = serde_json::json!({
        "id": "j", "status": "created", "data": 1, "event": 2, "timestamp": 3, "return": {}, "error": null
    });
    assert_eq!(
        written(value),
        "{\"timestamp\": 3, \"status\": \"created\", \"event\": 2, \"return\": {}, \"id\": \"j\", \
         \"error\": null, \"data\": 1}"
    );
    // `micro` and `minor` share a bucket: the one put in last comes first.
    assert_eq!(
        written(serde_json::json!({"major": 1, "minor": 2, "micro": 3})),
        "{\"micro\": 3, \"minor\": 2, \"major\": 1}"
    );
    let many: serde_json::Map<_, _> = (0..40).map(|i| (format!("member-{i}"), i.into())).collect();
    let text = written(Value::Object(many.clone()));
    let order: Vec<_> = qdict::in_order(&many)
        .into_iter()
        .map(|(key, _)| text.find(&format!("\"{key}\"")).unwrap())
        .collect();
    assert!(order.is_sorted());
}

/// What is read after `front`, so many bytes of a string that does not end, and `behind`.
fn read_endless(release: Release, front: &[u8], length: usize, behind: &[u8]) -> Vec<Incoming> {
    read(release, &[front, &vec![b'x'; length], behind].concat())
}

#[test]
fn a_token_beyond_64_mib_ends_there_and_its_rest_is_read_as_a_new_one() {
    let behind = b"\"}}\n{\"a\": 1}";
    let limit = || error("JSON token size limit exceeded");
    let message = || Incoming::Message(serde_json::json!({"a": 1}));
    let old = read_endless(Release::V7_2, b"{\"execute\":\"", (64 << 20) + 20, behind);
    let word = format!("JSON parse error, invalid keyword '{}'", "x".repeat(20));
    let stray = "JSON parse error, stray '\"}}\n'";
    assert_eq!(old, [limit(), error(&word), error(stray), message()]);
    let new = read_endless(Release::V11_1, b"{\"execute\":\"", (64 << 20) + 20, behind);
    assert_eq!(new, [limit(), message()]);

    for release in [Release::V7_2, Release::V11_1] {
        let bare = read_endless(release, b"", (64 << 20) + 1, b"{\"a\": 1}");
        assert_eq!(bare, [limit(), message()], "{release}");
    }
}
