//! What is read comes back, and what is hostile is refused at once.

use super::*;

fn tree(text: &str) -> Element {
    read(text.as_bytes(), Limits::default()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn why(text: &str) -> Why {
    read(text.as_bytes(), Limits::default()).expect_err(text).why
}

#[test]
fn what_is_not_understood_is_written_as_it_came() {
    let text = "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <!-- kept -->
  <metadata>
    <mine:note xmlns:mine='urn:mine'>two words, <b>mixed</b> &amp; kept </mine:note>
  </metadata>
  <description>a &lt;b&gt; &amp;amp; &apos;c&apos;
  second line</description>
  <source file='/a&apos;b &amp; &lt;c&gt;&#10;&#9;'/>
  <?mine instruction?>
  <qemu:commandline>
    <qemu:arg value='-S'/>
  </qemu:commandline>
</domain>
";
    assert_eq!(tree(text).document(), text);
}

#[test]
fn white_space_is_layout_between_elements_and_text_where_it_is_alone() {
    assert_eq!(tree("<a>\n\n   <b/>  <c> </c>\n</a>").document(), "<a>\n  <b/>\n  <c> </c>\n</a>\n");
}

#[test]
fn text_in_pieces_is_one_text() {
    assert_eq!(tree("<a>x&amp;<![CDATA[<&]]>&#65;</a>").text(), "x&<&A");
    assert_eq!(tree("<a>1\r\n2\r3</a>").text(), "1\n2\n3");
    let returns = Element::of_text("a", "1\r2");
    assert_eq!(tree(&returns.document()), returns);
}

#[test]
fn entities_document_types_and_other_encodings_are_refused() {
    let laughs = "<!DOCTYPE a [<!ENTITY l 'lol'><!ENTITY m '&l;&l;&l;'>]><a>&m;</a>";
    assert_eq!(why(laughs), Why::DocType);
    assert_eq!(why("<!DOCTYPE a SYSTEM 'file:///etc/passwd'><a/>"), Why::DocType);
    assert_eq!(why("<a>&xxe;</a>"), Why::Entity("xxe".into()));
    assert!(matches!(why("<a b='&xxe;'/>"), Why::Malformed(_)));
    assert_eq!(why("<?xml version='1.0' encoding='latin1'?><a/>"), Why::Encoding("latin1".into()));
}

#[test]
fn characters_that_xml_does_not_have_are_refused_written_or_as_a_reference() {
    for text in ["<a>\0</a>", "<a b='\u{1}'/>", "<a>\u{ffff}</a>"] {
        assert!(matches!(why(text), Why::Character(_)), "{text:?}");
    }
    for text in [
        "<a>&#0;</a>",
        "<a>&#1;</a>",
        "<a>&#xFFFF;</a>",
        "<a>&#xD800;</a>",
        "<a b='&#1;'/>",
        "<a>&#99999999;</a>",
    ] {
        assert!(matches!(why(text), Why::Character(_) | Why::Malformed(_)), "{text:?}: {:?}", why(text));
    }
    let error = read(b"<a>\n\xc3(</a>", Limits::default()).unwrap_err();
    assert_eq!((error.at, error.why), (Position { line: 2, column: 1 }, Why::NotUtf8));
}

#[test]
fn every_dimension_has_its_bound() {
    let limits = Limits { bytes: 1000, depth: 4, nodes: 20, attributes: 3 };
    let refused = |text: String| read(text.as_bytes(), limits).expect_err(&text).why;
    assert_eq!(refused("x".repeat(1001)), Why::TooLong(1000));
    assert_eq!(refused("<a>".repeat(5)), Why::TooDeep(4));
    assert_eq!(refused(format!("<a>{}</a>", "<b/>".repeat(20))), Why::TooMany(20));
    assert_eq!(refused("<a b='' c='' d='' e=''/>".into()), Why::TooManyAttributes(3));
    assert!(read(b"<a><a><a><a b='' c='' d=''/></a></a></a>", limits).is_ok());
}

#[test]
fn a_document_is_one_root_and_nothing_else() {
    assert_eq!(why(""), Why::Empty);
    assert_eq!(why(" <!-- a --> "), Why::Empty);
    assert_eq!(why("<a/><b/>"), Why::SecondRoot("b".into()));
    assert_eq!(why("<a/>text"), Why::Outside);
    assert_eq!(tree("\u{feff}<a/>").name, "a", "one mark of the encoding is none of it");
    assert_eq!(why("\u{feff}\u{feff}<a/>"), Why::Outside);
    assert_eq!(why("<a><b>"), Why::Unfinished("b".into()));
    for text in ["<a></b>", "<a", "<a b='1' b='2'/>", "<a b/>", "</a>", "<a>&", "<a b=\"'", "<!-- -- --><a/>"]
    {
        assert!(matches!(why(text), Why::Malformed(_) | Why::Unfinished(_)), "{text}: {:?}", why(text));
    }
}

#[test]
fn an_error_names_its_line_and_column() {
    let at = |text: &str| read(text.as_bytes(), Limits::default()).unwrap_err().at.to_string();
    assert_eq!(at("<a>\n  <ö/> <b></c>\n</a>"), "2:11");
    assert_eq!(at("<a>\n  &no;</a>"), "2:3");
    assert_eq!(tree("<a>\n  <b/>\n <c/></a>").child("c").unwrap().at.to_string(), "3:2");
}
