use super::*;

fn image() -> SaveImage {
    SaveImage {
        complete: false,
        was_running: true,
        format: Format::Raw,
        document: "<domain type='kvm'/>".into(),
        cookie: Some("<cookie/>".into()),
    }
}

/// Puts a number into the fixed part: 0 is the version.
fn with_number(place: usize, number: u32) -> Vec<u8> {
    let mut bytes = image().begin().unwrap();
    bytes[MAGIC + 4 * place..][..4].copy_from_slice(&number.to_le_bytes());
    bytes
}

#[test]
fn what_is_written_is_read_and_the_stream_begins_at_a_whole_block() {
    for cookie in [None, Some("<cookie/>".to_owned())] {
        for format in [Format::Raw, Format::Sparse] {
            let image = SaveImage { cookie: cookie.clone(), format, ..image() };
            let bytes = image.begin().unwrap();
            assert_eq!(bytes.len() % BLOCK, 0);
            assert_eq!(SaveImage::length(&bytes[..HEADER]), Ok(bytes.len()));
            assert_eq!(SaveImage::read(&bytes), Ok(image));
        }
    }
}

#[test]
fn each_number_stands_where_libvirt_looks_for_it() {
    let bytes = image().begin().unwrap();
    let number = |place: usize| u32::from_le_bytes(bytes[16 + 4 * place..][..4].try_into().unwrap());
    let data = u32::try_from(bytes.len() - 92).unwrap();
    assert_eq!(&bytes[..16], b"LibvirtQemudPart");
    assert_eq!([0, 1, 2, 3, 4, 5].map(number), [2, data, 1, 0, 21, 0]);
    assert_eq!(&bytes[92..125], b"<domain type='kvm'/>\0<cookie/>\0\0\0");
}

#[test]
fn the_seal_alone_makes_it_complete() {
    let mut bytes = SaveImage { complete: true, ..image() }.begin().unwrap();
    assert!(SaveImage::is_begun(&bytes) && !SaveImage::read(&bytes).unwrap().complete);
    bytes[..16].copy_from_slice(SaveImage::seal());
    assert!(!SaveImage::is_begun(&bytes) && SaveImage::read(&bytes).unwrap().complete);
    assert!(SaveImage::begins(&bytes) && SaveImage::begins(b"LibvirtQemudPart"));
    assert!(!SaveImage::begins(b"LibvirtQemudSav") && !SaveImage::begins(b"") && !SaveImage::begins(b"QFI"));
}

#[test]
fn numbers_of_a_host_with_the_other_order_of_bytes_are_read() {
    let mut bytes = image().begin().unwrap();
    for number in bytes[MAGIC..HEADER].chunks_exact_mut(4) {
        number.reverse();
    }
    assert_eq!(SaveImage::read(&bytes), Ok(image()));
}

#[test]
fn what_is_wrong_is_named() {
    assert_eq!(SaveImage::read(b"LibvirtQemud"), Err(BadSaveImage::Short(12)));
    assert_eq!(SaveImage::read(&[b'x'; 200]), Err(BadSaveImage::Magic));
    assert_eq!(SaveImage::read(&image().begin().unwrap()[..91]), Err(BadSaveImage::Short(91)));
    assert_eq!(SaveImage::read(&image().begin().unwrap()[..1000]), Err(BadSaveImage::Short(1000)));
    assert_eq!(SaveImage::read(&with_number(0, 1)), Err(BadSaveImage::Version(1)));
    assert_eq!(SaveImage::read(&with_number(0, 0x0300_0000)), Err(BadSaveImage::Version(3)));
    assert_eq!(SaveImage::read(&with_number(1, 0)), Err(BadSaveImage::Length(0)));
    assert_eq!(SaveImage::read(&with_number(1, u32::MAX)), Err(BadSaveImage::Length(u32::MAX)));
    assert_eq!(SaveImage::read(&with_number(3, 5)), Err(BadSaveImage::Compressed("zstd")));
    assert_eq!(SaveImage::read(&with_number(3, 7)), Err(BadSaveImage::Format(7)));
    assert_eq!(SaveImage::read(&with_number(4, u32::MAX)), Err(BadSaveImage::Cookie(u32::MAX)));
    assert_eq!(SaveImage::read(&with_number(4, 3)), Err(BadSaveImage::Text("document")));
    let mut bytes = image().begin().unwrap();
    bytes[HEADER] = 0xff;
    assert_eq!(SaveImage::read(&bytes), Err(BadSaveImage::Text("document")));
}

#[test]
fn what_could_not_be_read_is_not_written() {
    let begin = |document: &str, cookie: Option<&str>| {
        let cookie = cookie.map(str::to_owned);
        SaveImage { document: document.into(), cookie, ..image() }.begin().unwrap_err()
    };
    assert_eq!(begin("a\0b", None), BadSaveImage::Nul("document"));
    assert_eq!(begin("a", Some("\0")), BadSaveImage::Nul("cookie"));
    let long = "x".repeat(LONGEST);
    assert_eq!(begin(&long, None), BadSaveImage::Long(LONGEST + 1));
}
