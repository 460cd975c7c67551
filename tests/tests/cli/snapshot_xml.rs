//! `snapshot xml`: documents read, checked and printed.

use super::*;

const WISH: &str = "<domainsnapshot>\n<name>s1</name>\n<disks><disk name='vda'>\n\
                    <source file='/images/vda.s1'/></disk></disks></domainsnapshot>";

#[test]
fn a_wish_is_printed_in_its_canonical_form_which_reads_as_itself() {
    let desk = Desk::new().with("wish.xml", WISH);
    let said = desk.run(&["snapshot", "xml", "wish.xml"]);
    insta::assert_snapshot!("snapshot xml", said.whole());
    let desk = desk.with("again.xml", &said.stdout);
    assert_eq!(desk.run(&["snapshot", "xml", "again.xml"]).stdout, said.stdout);
}

#[test]
fn a_document_that_is_refused_is_shown_where_and_with_libvirts_code() {
    let desk = Desk::new()
        .with("twice.xml", &WISH.replace("<disks>", "<name>s2</name>\n<disks>"))
        .with("relative.xml", &WISH.replace("/images", "images"))
        .with(
            "laughs.xml",
            "<!DOCTYPE a [<!ENTITY a 'ha'>]>\n<domainsnapshot><name>&a;</name></domainsnapshot>",
        )
        .with("long.xml", &format!("<domainsnapshot>{}", " ".repeat(5 << 20)));
    insta::assert_snapshot!("snapshot xml relative", desk.run(&["snapshot", "xml", "relative.xml"]).whole());
    for (arguments, words) in [
        (&["laughs.xml"][..], "laughs.xml:1:1"),
        (&["twice.xml"], "twice.xml:3:1"),
        (&["twice.xml"], "error: XML_ERROR: a second `<name>` in `<domainsnapshot>`"),
        (&["long.xml"], "the document is larger than 4194304 bytes"),
        (&["relative.xml", "--redefine"], "relative.xml:1:1"),
        (&["relative.xml", "--json"], "\"code\": \"XML_ERROR\""),
        (&["gone.xml"], "error: cannot read gone.xml: No such file or directory"),
        (&["relative.xml", "--redefine", "--disk-only"], "cannot be used with"),
    ] {
        desk.run(&[&["snapshot", "xml"], arguments].concat()).assert(2, words);
    }
}

/// Of what is larger than any document is no more read than a document may have.
#[test]
fn a_document_of_a_gibibyte_is_refused_in_little_space() {
    let desk = Desk::new().with("huge.xml", "<domainsnapshot><description>");
    fs::File::options().write(true).open(desk.path.join("huge.xml")).unwrap().set_len(1 << 30).unwrap();
    let ran = std::process::Command::new("sh")
        .args(["-c", "ulimit -v 786432; exec \"$0\" snapshot xml huge.xml"])
        .arg(env!("CARGO_BIN_EXE_freezeframe-command"))
        .current_dir(&desk.path)
        .output()
        .unwrap();
    let words = String::from_utf8(ran.stderr).unwrap();
    assert_eq!(ran.status.code(), Some(2), "{words}");
    assert!(words.contains("the document is larger than 4194304 bytes"), "{words}");
}
