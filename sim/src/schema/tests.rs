use super::*;

#[test]
fn a_command_is_known_from_the_release_on_that_brought_it() {
    let knows = |release, name| Schema::of(release).command(name).is_some();
    assert!(!knows(Release::V5_2, "snapshot-save"));
    assert!(knows(Release::V7_2, "snapshot-save"));
    assert!(!knows(Release::V7_2, "block-job-change"));
    assert!(knows(Release::V10_0, "block-job-change"));
}

#[test]
fn commands_are_listed_as_recorded() {
    let first = |release| Schema::of(release).commands().take(3).collect::<Vec<_>>();
    assert_eq!(first(Release::V5_2), ["object-add", "device_add", "query-qmp-schema"]);
    assert_eq!(
        first(Release::V7_2),
        ["device_add", "x-query-virtio-queue-element", "x-query-virtio-vhost-queue-status"]
    );
    let count = |release| Schema::of(release).commands().count();
    assert_eq!(Release::ALL.map(count), [192, 216, 233, 242]);
}

#[test]
fn every_alternate_has_a_name() {
    for release in Release::ALL {
        let types = &Schema::of(release).types;
        let nameless =
            types.iter().any(|a_type| matches!(a_type, types::Type::Alternate { name: "alternate", .. }));
        assert!(!nameless, "{release}");
    }
}

#[test]
fn only_some_commands_may_overtake() {
    let schema = Schema::of(Release::V10_0);
    assert!(schema.command("yank").unwrap().allow_oob);
    assert!(!schema.command("query-status").unwrap().allow_oob);
}
