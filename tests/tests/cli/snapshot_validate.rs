//! `--validate`: what is done with what `xmllint` says. The real one, with libvirt's schema, is in the test `libvirt`.

use super::*;

const WISH: &str = "<domainsnapshot><name>s1</name><bogus/></domainsnapshot>";

/// Validates with a program for xmllint.
fn validate(script: &str) -> (Desk, Said) {
    let desk = Desk::new().with("wish.xml", WISH).with_program("bin/xmllint", script);
    let path = format!("{}:/usr/bin:/bin", desk.path.join("bin"));
    let mut command = desk.command(&["snapshot", "xml", "wish.xml", "--validate"]);
    let said = said(command.env("PATH", path).env("FREEZEFRAME_SNAPSHOT_SCHEMA", "a.rng").output().unwrap());
    desk.assert_nothing_left();
    (desk, said)
}

#[test]
fn xmllint_gets_the_document_as_it_is_and_the_schema() {
    let (desk, said) = validate("echo \"$@\" > arguments; cat > document");
    said.assert(0, "<name>s1</name>");
    assert_eq!(desk.read("arguments"), "--noout --nonet --relaxng a.rng -\n");
    assert_eq!(desk.read("document"), WISH);
}

#[test]
fn what_does_not_pass_is_refused_in_xmllints_words() {
    let (_, said) = validate("echo '-:1: element bogus: extra content' >&2; exit 3");
    said.assert(
        1,
        "error: XML_INVALID_SCHEMA: wish.xml is not as libvirt's schema a.rng has it:\n-:1: element bogus",
    );
    assert_eq!(said.stdout, "");
}

#[test]
fn what_cannot_be_checked_is_refused_and_not_passed_over() {
    let (_, said) = validate("echo 'failed to compile' >&2; exit 5");
    said.assert(1, "error: OPERATION_UNSUPPORTED: `--validate` needs xmllint and libvirt's schema (a.rng");
    let desk = Desk::new().with("wish.xml", WISH);
    let arguments = ["snapshot", "xml", "wish.xml", "--validate", "--schema", "b.rng"];
    let said = self::said(desk.command(&arguments).env("PATH", &desk.path).output().unwrap());
    said.assert(1, "(b.rng; `--schema` says another): xmllint is not installed");
}
