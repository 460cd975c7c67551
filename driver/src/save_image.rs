//! The file that holds a machine's memory: libvirt's save image, so that `virsh restore` and people who know it can read it.
//!
//! ```text
//! | header, 92 bytes                                    | document | NUL | cookie | NUL | NULs | stream ...
//! | magic | version | data length | was running | format |                                    ^
//! | where the cookie begins | 14 unused                  |<----------- data length --------->| a multiple of 64 KiB
//! ```
//! The magic says `LibvirtQemudPart` until all of the stream is written and outlives the host's death, and
//! `LibvirtQemudSave` from then on: [`SaveImage::complete`]. Numbers have 32 bits; libvirt writes them in the order of its
//! host's bytes, and both orders are read. The stream is QEMU's own: of it only the beginning and the end are looked at ([`stream`]).
//!
//! Here are bytes alone: no file is touched. Source: libvirt's save images, as 9.0 and 11.3 write and read them.

pub mod stream;

use serde::{Deserialize, Serialize};

/// Length of the fixed part, in bytes.
pub const HEADER: usize = 92;

/// What the stream's place is a multiple of, in bytes.
pub const BLOCK: usize = 64 << 10;

/// The longest data that is read, in bytes: a document of a machine has some ten thousand.
pub const LONGEST: usize = 16 << 20;

const MAGIC: usize = 16;
const PART: &[u8; MAGIC] = b"LibvirtQemudPart";
const SAVE: &[u8; MAGIC] = b"LibvirtQemudSave";

/// The newest version that is understood, and the one that is written.
const VERSION: u32 = 2;

/// What a save image says before the stream begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveImage {
    /// Whether all of it was written.
    pub complete: bool,
    /// Whether the guest ran, and is to run again when it is restored.
    pub was_running: bool,
    /// How the stream is laid out.
    pub format: Format,
    /// `<domain>`.
    pub document: String,
    /// What libvirt keeps beside it; for libvirt alone.
    pub cookie: Option<String>,
}

/// How the stream is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Format {
    /// As `migrate` writes it into a pipe.
    Raw,
    /// Each page of memory has its own place in the file (`mapped-ram`).
    Sparse,
}

/// What is wrong with a save image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadSaveImage {
    /// It begins with something else.
    #[error("it is no save image: it does not begin with `LibvirtQemudSave`")]
    Magic,
    /// It ends before the stream begins.
    #[error("it ends after {0} bytes, before its memory begins")]
    Short(usize),
    /// It is of a version that nobody knew when this was written.
    #[error("it has version {0}, and only {VERSION} is understood")]
    Version(u32),
    /// Its stream has to be unpacked first.
    #[error("its memory is compressed ({0}): unpack it first, `virsh restore` does")]
    Compressed(&'static str),
    /// Its format is unknown.
    #[error("its format has the number {0}, which is unknown")]
    Format(u32),
    /// What stands before the stream cannot be so long.
    #[error("it says that {0} bytes stand before its memory: at least 1 and at most {LONGEST} can be")]
    Length(u32),
    /// The cookie would begin where nothing is.
    #[error("its cookie would begin at byte {0}, where nothing is")]
    Cookie(u32),
    /// Its memory does not begin as QEMU's does.
    #[error("what stands where its memory is to begin is none: that begins with `QEVM`")]
    NoStream,
    /// The end of its memory is missing.
    #[error("its memory is cut off, {}; put a whole copy of the file in its place", missing(*.0))]
    Cut(Option<u64>),
    /// A text is none.
    #[error("its {0} is not UTF-8, or does not end with a NUL")]
    Text(&'static str),
    /// A text cannot be written: NUL ends it.
    #[error("a {0} that holds a NUL cannot be saved")]
    Nul(&'static str),
    /// A text cannot be written: it would not be read.
    #[error("a document and a cookie of {0} bytes are too long to be saved: {LONGEST} at most")]
    Long(usize),
}

fn missing(bytes: Option<u64>) -> String {
    match bytes {
        Some(1) => "the last byte is missing".to_owned(),
        Some(bytes) => format!("the last {bytes} bytes are missing"),
        None => "its end is missing".to_owned(),
    }
}

/// Formats whose stream another program has packed, by number.
const COMPRESSED: [(u32, &str); 5] = [(1, "gzip"), (2, "bzip2"), (3, "xz"), (4, "lzop"), (5, "zstd")];

impl Format {
    fn number(self) -> u32 {
        match self {
            Format::Raw => 0,
            Format::Sparse => 6,
        }
    }

    fn of(number: u32) -> Result<Self, BadSaveImage> {
        let packed = COMPRESSED.iter().find(|(known, _)| *known == number);
        match (number, packed) {
            (0, _) => Ok(Format::Raw),
            (6, _) => Ok(Format::Sparse),
            (_, Some((_, program))) => Err(BadSaveImage::Compressed(program)),
            _ => Err(BadSaveImage::Format(number)),
        }
    }
}

/// The fixed part.
struct Header {
    complete: bool,
    was_running: bool,
    format: Format,
    data: usize,
    /// 0: there is none.
    cookie: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Result<Self, BadSaveImage> {
        let magic = bytes.get(..MAGIC).ok_or(BadSaveImage::Short(bytes.len()))?;
        if magic != PART && magic != SAVE {
            return Err(BadSaveImage::Magic);
        }
        let fixed = bytes.get(..HEADER).ok_or(BadSaveImage::Short(bytes.len()))?;
        let mut numbers = [0; 5];
        for (number, bytes) in numbers.iter_mut().zip(fixed[MAGIC..].chunks_exact(4)) {
            *number = u32::from_le_bytes(bytes.try_into().expect("chunks of four"));
        }
        if numbers[0] > VERSION {
            numbers = numbers.map(u32::swap_bytes);
        }
        let [version, data, was_running, format, cookie] = numbers;
        // Version 1 is older than the formats: there the same number meant something else.
        if version != VERSION {
            return Err(BadSaveImage::Version(version));
        }
        let format = Format::of(format)?;
        let length = usize::try_from(data).ok().filter(|length| (1..=LONGEST).contains(length));
        let length = length.ok_or(BadSaveImage::Length(data))?;
        let begin = usize::try_from(cookie).ok().filter(|begin| *begin < length);
        let begin = begin.ok_or(BadSaveImage::Cookie(cookie))?;
        let complete = magic == SAVE;
        Ok(Self { complete, was_running: was_running != 0, format, data: length, cookie: begin })
    }
}

impl SaveImage {
    /// What stands before the stream, as it is written first: with the magic that says that the rest is missing, whatever
    /// [`SaveImage::complete`] says. Its length is where the stream begins.
    ///
    /// # Errors
    /// [`BadSaveImage::Nul`], [`BadSaveImage::Long`].
    pub fn begin(&self) -> Result<Vec<u8>, BadSaveImage> {
        let cookie = self.cookie.as_deref();
        for (text, what) in [(Some(self.document.as_str()), "document"), (cookie, "cookie")] {
            if text.is_some_and(|text| text.contains('\0')) {
                return Err(BadSaveImage::Nul(what));
            }
        }
        let document = self.document.len() + 1;
        let texts = document + cookie.map_or(0, |cookie| cookie.len() + 1);
        // As libvirt leaves it: room for a document that is edited later and gets longer.
        let begin = (HEADER + texts + BLOCK).next_multiple_of(BLOCK);
        if begin - HEADER > LONGEST {
            return Err(BadSaveImage::Long(texts));
        }
        let number = |length: usize| u32::try_from(length).expect("no longer than the longest");
        let cookie_at = cookie.map_or(0, |_| number(document));
        let numbers =
            [VERSION, number(begin - HEADER), u32::from(self.was_running), self.format.number(), cookie_at];
        let mut bytes = PART.to_vec();
        bytes.extend(numbers.into_iter().flat_map(u32::to_le_bytes));
        bytes.resize(HEADER, 0);
        bytes.extend_from_slice(self.document.as_bytes());
        if let Some(cookie) = cookie {
            bytes.push(0);
            bytes.extend_from_slice(cookie.as_bytes());
        }
        bytes.resize(begin, 0);
        Ok(bytes)
    }

    /// The first bytes of the file once all is written.
    pub fn seal() -> &'static [u8] {
        SAVE
    }

    /// Whether a file that begins with these bytes is one at all, of whatever version and whole or not.
    pub fn begins(bytes: &[u8]) -> bool {
        bytes.starts_with(SAVE) || bytes.starts_with(PART)
    }

    /// Whether a file that begins with these bytes is one of which not all is written.
    pub fn is_begun(bytes: &[u8]) -> bool {
        bytes.starts_with(PART)
    }

    /// How many bytes stand before the stream, by the first [`HEADER`] bytes of the file.
    ///
    /// # Errors
    /// [`BadSaveImage`].
    pub fn length(header: &[u8]) -> Result<usize, BadSaveImage> {
        Ok(HEADER + Header::read(header)?.data)
    }

    /// Reads what stands before the stream.
    ///
    /// # Errors
    /// [`BadSaveImage`].
    pub fn read(bytes: &[u8]) -> Result<Self, BadSaveImage> {
        let Header { complete, was_running, format, data, cookie } = Header::read(bytes)?;
        let texts = bytes.get(HEADER..HEADER + data).ok_or(BadSaveImage::Short(bytes.len()))?;
        let (document, rest) = texts.split_at(if cookie == 0 { data } else { cookie });
        let cookie = (cookie != 0).then(|| text(rest, "cookie")).transpose()?;
        Ok(Self { complete, was_running, format, document: text(document, "document")?, cookie })
    }
}

/// The text up to the first NUL.
fn text(bytes: &[u8], what: &'static str) -> Result<String, BadSaveImage> {
    let end = memchr::memchr(0, bytes).ok_or(BadSaveImage::Text(what))?;
    let text = std::str::from_utf8(&bytes[..end]).map_err(|_| BadSaveImage::Text(what))?;
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests;
