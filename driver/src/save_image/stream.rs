//! How QEMU's migration stream begins and ends: whether a file that holds one has lost its end.
//!
//! ```text
//! | "QEVM" | version | configuration | sections, each with a footer ... | end | description |
//!                      0x07 ...          0x7e and the section's number    0x00  0x06, length, JSON
//! ```
//! Numbers have 32 bits, the highest byte first. QEMU writes configuration and footers for machine types since 2.4, and the
//! description since 2.3 unless the machine is told to suppress it; it reads no further than the end, and a file whose description
//! alone is short is one that has lost bytes all the same. With `mapped-ram` the pages lie between two sections: the file ends alike.
//!
//! What lies between is not looked at: a stream that is damaged there is found by QEMU alone. The guest has a say in its pages, and so
//! in the bytes where a file was cut: it can hide a cut, which QEMU finds then, but no page comes behind the description of a stream
//! that is whole.
//!
//! Source: `qemu_savevm_state_*` and `qemu_loadvm_state` of QEMU's `migration/savevm.c`; files of the four releases, with the machine
//! types q35, pc, microvm, isapc and pc-i440fx-2.2.

/// As much of a stream's beginning is looked at, in bytes.
pub const HEAD: usize = 9;

/// As much of a stream's end is looked at, in bytes: some tens of thousands are usual for the description.
pub const TAIL: usize = 4 << 20;

const MAGIC: &[u8] = b"QEVM";
const CONFIGURATION: u8 = 7;
const FOOTER: u8 = 0x7e;
const END: u8 = 0;
const DESCRIPTION: u8 = 6;

/// The end, the description's mark and its length.
const BEFORE_DESCRIPTION: usize = 6;

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// As it was written.
    Whole,
    /// Bytes are missing; how many, if that is known.
    Cut(Option<u64>),
    /// That cannot be told.
    Untold,
    /// It is no migration stream.
    NoStream,
}

impl Ending {
    /// Of a stream that begins with `head`, [`HEAD`] bytes or all there are, and ends with `tail`: [`TAIL`] bytes or all there are.
    pub fn of(head: &[u8], tail: &[u8]) -> Self {
        let magic = head.len().min(MAGIC.len());
        if head[..magic] != MAGIC[..magic] {
            return Ending::NoStream;
        }
        if let Some(ending) = by_description(tail) {
            return ending;
        }
        let in_description = tail.len() >= TAIL && is_text(&tail[BEFORE_DESCRIPTION..]);
        match (ends_without_description(tail), head.get(HEAD - 1)) {
            (true, _) => Ending::Whole,
            (false, _) if in_description => Ending::Untold,
            // As for older machine types: nobody knows what it would end with.
            (false, Some(first)) if *first != CONFIGURATION => Ending::Untold,
            (false, _) => Ending::Cut(None),
        }
    }
}

/// What the description says, if there is one: the last bytes that look like the beginning of one are, for it holds text alone.
fn by_description(tail: &[u8]) -> Option<Ending> {
    memchr::memrchr_iter(b'{', tail).find_map(|begin| {
        let (before, text) = tail.split_at(begin);
        let [END, DESCRIPTION, length @ ..] = before.last_chunk::<BEFORE_DESCRIPTION>()? else { return None };
        let length = u32::from_be_bytes(*length);
        let there = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let described = &text[..length.min(there) as usize];
        match is_text(described) {
            true if length > there => Some(Ending::Cut(Some(u64::from(length - there)))),
            true if described.ends_with(b"}") => Some(Ending::Whole),
            _ => None,
        }
    })
}

/// Whether the last section is followed by the end, and that by nothing.
fn ends_without_description(tail: &[u8]) -> bool {
    matches!(tail.last_chunk(), Some([FOOTER, 0, 0, _, _, END]))
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b' '..=b'~'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = br#"{"page_size": 4096, "devices": [{"name": "timer", "instance_id": 0}]}"#;

    /// A stream whose last section is number 38, with this behind it.
    fn stream(pages: &[u8], behind: &[u8]) -> Vec<u8> {
        [b"QEVM\0\0\0\x03\x07\0\0\0\x03q35".as_slice(), pages, &[FOOTER, 0, 0, 0, 38], behind].concat()
    }

    fn described(text: &[u8], length: u32) -> Vec<u8> {
        [&[END, DESCRIPTION], length.to_be_bytes().as_slice(), text].concat()
    }

    fn whole(pages: &[u8]) -> Vec<u8> {
        stream(pages, &described(TEXT, TEXT.len() as u32))
    }

    fn ending(stream: &[u8]) -> Ending {
        let head = &stream[..stream.len().min(HEAD)];
        Ending::of(head, &stream[stream.len().saturating_sub(TAIL)..])
    }

    #[test]
    fn a_stream_that_ends_with_its_description_is_whole_whatever_stands_behind() {
        assert_eq!(ending(&whole(&[0; 4096])), Ending::Whole);
        for padding in [[0; 512], [b'}'; 512], [0xff; 512]] {
            assert_eq!(ending(&[whole(&[0; 4096]).as_slice(), &padding].concat()), Ending::Whole);
        }
    }

    #[test]
    fn wherever_it_is_cut_that_is_found() {
        let whole = whole(b"pages");
        let end = whole.len() - TEXT.len() - BEFORE_DESCRIPTION + 1;
        for length in 0..whole.len() {
            let missing = whole.len() - length;
            let wanted = match length {
                _ if missing < TEXT.len() => Ending::Cut(Some(missing as u64)),
                // No byte of the description's is left: QEMU asks for no more.
                _ if length == end => Ending::Whole,
                _ => Ending::Cut(None),
            };
            assert_eq!(ending(&whole[..length]), wanted, "{length} of {}", whole.len());
        }
    }

    #[test]
    fn a_stream_without_description_is_whole_if_it_has_its_end() {
        assert_eq!(ending(&stream(b"pages", &[END])), Ending::Whole);
        assert_eq!(ending(&stream(b"pages", b"")), Ending::Cut(None));
    }

    #[test]
    fn what_a_guest_writes_into_its_pages_does_not_make_a_whole_stream_a_cut_one() {
        for forged in [described(TEXT, u32::MAX), described(b"{", 2), described(b"", 7)] {
            assert_eq!(ending(&whole(&forged)), Ending::Whole);
        }
    }

    #[test]
    fn of_an_old_machine_type_nobody_knows_how_it_ends() {
        let mut old = stream(b"pages", b"");
        old[HEAD - 1] = 1;
        assert_eq!(ending(&old), Ending::Untold);
    }

    #[test]
    fn a_description_that_is_longer_than_what_is_looked_at_tells_nothing() {
        for before in 0..8 {
            let mut text = vec![b' '; TAIL + 1 - before];
            text[0] = b'{';
            *text.last_mut().unwrap() = b'}';
            let length = u32::try_from(text.len()).unwrap();
            let found = ending(&stream(b"", &described(&text, length)));
            let wanted = if before > BEFORE_DESCRIPTION { Ending::Whole } else { Ending::Untold };
            assert_eq!(found, wanted, "{before}");
        }
    }

    #[test]
    fn what_begins_otherwise_is_no_stream() {
        assert_eq!(ending(b"qcow"), Ending::NoStream);
        assert_eq!(ending(&[0; 64]), Ending::NoStream);
    }
}
