//! `snapshot edit`: the user's editor, and what becomes of what was written in it.

use super::*;

const DOMAIN: &str = "<domain><name>vm</name></domain>";
const RECORD: &str = "<domainsnapshot><name>s1</name><state>shutoff</state><creationTime>1795212236</creationTime>\
                      <domain><name>vm</name><devices><graphics passwd='open sesame'/></devices></domain></domainsnapshot>";

fn desk() -> Desk {
    let desk = Desk::new().with("vm.xml", DOMAIN).with("record.xml", RECORD);
    snapshot(&desk, &["redefine", "record.xml"]).assert(0, "recorded");
    desk
}

fn snapshot(desk: &Desk, arguments: &[&str]) -> Said {
    desk.run(&[&["snapshot"], arguments, &["--domain", "vm.xml", "--state", "state"]].concat())
}

/// Edits with this command as the editor; what it leaves among the temporary files is the caller's.
fn edit(desk: &Desk, variable: &str, editor: &str) -> Said {
    edit_with(desk, &["s1"], variable, editor)
}

fn edit_with(desk: &Desk, more: &[&str], variable: &str, editor: &str) -> Said {
    let arguments = ["snapshot", "edit", "--domain", "vm.xml", "--state", "state"];
    let mut command = desk.command(&[&arguments, more].concat());
    said(command.env_remove("VISUAL").env_remove("EDITOR").env(variable, editor).output().unwrap())
}

fn dumped(desk: &Desk) -> String {
    snapshot(desk, &["dumpxml", "s1", "--security-info"]).stdout
}

#[test]
fn what_was_written_takes_the_records_place() {
    let desk = desk();
    for variable in ["EDITOR", "VISUAL"] {
        let editor = format!(
            "sed -i -e '/<description>/d' -e 's|<state>|<description>by {variable}</description>\\n<state>|'"
        );
        edit(&desk, variable, &editor).assert(0, "snapshot s1 edited\n");
        desk.assert_nothing_left();
    }
    let record = dumped(&desk);
    assert!(record.contains("<description>by VISUAL</description>"), "{record}");
    assert!(record.contains("open sesame"), "what is not shown to all is kept: {record}");
}

#[test]
fn an_editor_that_changes_nothing_or_fails_changes_nothing() {
    let desk = desk();
    let before = dumped(&desk);
    edit(&desk, "EDITOR", "true").assert(0, "snapshot s1 not changed\n");
    edit(&desk, "EDITOR", "false")
        .assert(1, "error: OPERATION_FAILED: the editor `false` ended with exit code 1");
    edit(&desk, "EDITOR", "no-such-editor").assert(1, "the editor `no-such-editor` ended with exit code 127");
    desk.assert_nothing_left();
    assert_eq!(dumped(&desk), before);
}

#[test]
fn a_text_that_is_refused_leaves_the_record_and_is_kept() {
    for (editor, code, words) in [
        ("sed -i 's|<state>shutoff|<state>running|'", 1, "INVALID_ARG: snapshot `s1` cannot change between"),
        ("sed -i 's|<name>s1|<name>s2|'", 1, "INVALID_ARG: the name was changed from `s1` to `s2`"),
        ("sed -i 's|</name>|</nam>|'", 2, ".xml:2:"),
        ("sed -i 's|<creationTime>.*||'", 2, "INTERNAL_ERROR"),
        ("sh -c 'echo oops >> \"$0\"; exit 3'", 1, "ended with exit code 3"),
    ] {
        let desk = desk();
        let before = dumped_without_check(&desk);
        let said = edit(&desk, "EDITOR", editor);
        said.assert(code, words);
        let kept = names(&desk.temporary);
        assert_eq!(kept.len(), 1, "{}", said.whole());
        said.assert(code, &format!("your text is in {}", desk.temporary.join(&kept[0])));
        assert_ne!(desk.read(&format!("tmp/{}", kept[0])), before);
        assert_eq!(dumped_without_check(&desk), before);
    }
}

/// As [`dumped`], while a text is kept among the temporary files.
fn dumped_without_check(desk: &Desk) -> String {
    let arguments =
        ["snapshot", "dumpxml", "s1", "--security-info", "--domain", "vm.xml", "--state", "state"];
    said(desk.command(&arguments).output().unwrap()).stdout
}

#[test]
fn a_record_that_somebody_else_has_changed_meanwhile_is_left_to_them() {
    let desk = desk();
    let theirs = RECORD.replace("<state>", "<description>theirs</description><state>");
    let desk = desk.with("theirs.xml", &theirs);
    let command = env!("CARGO_BIN_EXE_freezeframe-command");
    let meanwhile = format!("{command} snapshot redefine theirs.xml --domain vm.xml --state state >&2");
    let editor = format!("sh -c '{meanwhile} && sed -i s/1795212236/1795212237/ \"$0\"'");
    edit(&desk, "EDITOR", &editor).assert(1, "the record of `s1` was changed by somebody else meanwhile");
    assert!(dumped_without_check(&desk).contains("theirs"));
}

/// A child of `s1`, and an internal snapshot beside them.
fn with_relatives(desk: Desk) -> Desk {
    let record = |name: &str, more: &str| {
        format!(
            "<domainsnapshot><name>{name}</name><state>shutoff</state><creationTime>1</creationTime>{more}</domainsnapshot>"
        )
    };
    let desk = desk
        .with("child.xml", &record("child", "<parent><name>s1</name></parent>"))
        .with("inside.xml", &record("inside", "<disks><disk name='vda' snapshot='internal'/></disks>"));
    for name in ["child.xml", "inside.xml"] {
        snapshot(&desk, &["redefine", name]).assert(0, "recorded");
    }
    desk
}

#[test]
fn a_renamed_one_keeps_its_children_and_stays_current() {
    let desk = with_relatives(desk());
    snapshot(&desk, &["current", "--set", "s1"]).assert(0, "s1");
    edit_with(&desk, &["s1", "--rename"], "EDITOR", "sed -i 's|<name>s1|<name>s2|'")
        .assert(0, "snapshot s1 renamed to s2\n");
    assert_eq!(snapshot(&desk, &["list", "--name"]).stdout, "child\ninside\ns2\n");
    assert_eq!(snapshot(&desk, &["parent", "child"]).stdout, "s2\n");
    assert_eq!(snapshot(&desk, &["current", "--name"]).stdout, "s2\n");
    edit_with(&desk, &["s2", "--rename"], "EDITOR", "sed -i 's|<creationTime>.*<|<creationTime>2<|'")
        .assert(0, "snapshot s2 edited\n");
}

#[test]
fn a_clone_stands_beside_the_first() {
    let desk = with_relatives(desk());
    edit_with(&desk, &["child", "--clone"], "EDITOR", "sed -i 's|<name>child|<name>twin|'")
        .assert(0, "snapshot child cloned to twin\n");
    assert_eq!(snapshot(&desk, &["list", "--name"]).stdout, "child\ninside\ns1\ntwin\n");
    assert_eq!(snapshot(&desk, &["parent", "twin"]).stdout, "s1\n");
}

#[test]
fn a_name_that_cannot_be_given_is_refused_and_changes_nothing() {
    for (which, way, name, words) in [
        ("inside", "--rename", "other", "OPERATION_UNSUPPORTED: snapshot `inside` is inside its images"),
        ("inside", "--clone", "other", "OPERATION_UNSUPPORTED: snapshot `inside` is inside its images"),
        ("s1", "--rename", "child", "OPERATION_FAILED: there is a snapshot `child` already"),
        ("s1", "--clone", "child", "OPERATION_FAILED: there is a snapshot `child` already"),
        ("s1", "--rename", ".hidden", "XML_DETAIL"),
    ] {
        let desk = with_relatives(desk());
        let editor = format!("sed -i '0,/<name>{which}</s||<name>{name}<|'");
        edit_with(&desk, &[which, way], "EDITOR", &editor).assert(1, words);
        for kept in names(&desk.temporary) {
            fs::remove_file(desk.temporary.join(kept)).unwrap();
        }
        assert_eq!(snapshot(&desk, &["list", "--name"]).stdout, "child\ninside\ns1\n");
        assert_eq!(snapshot(&desk, &["parent", "child"]).stdout, "s1\n");
    }
}
