//! Cuts a byte stream into lines, and no line may grow without end.

use super::WireError;

/// The longest message taken, in bytes. A schema reply has 260 kB; libvirt, too, stops at 10 MiB.
pub const MAX_LINE: usize = 10 << 20;

/// Collects bytes and gives them back line by line. QEMU ends its lines with CR LF; LF alone is taken too.
#[derive(Debug, Default)]
pub struct Framer {
    buffer: Vec<u8>,
    /// Where the line that is handed out next begins.
    start: usize,
    /// Up to where no newline was found, so that a long line is searched once.
    searched: usize,
}

impl Framer {
    /// Takes bytes as they came.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            (self.start, self.searched) = (0, 0);
        } else if self.start > self.buffer.len() / 2 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole line without its end; empty lines are passed over.
    ///
    /// # Errors
    /// [`WireError::TooLong`] when more than [`MAX_LINE`] bytes hold no newline.
    pub fn next_line(&mut self) -> Result<Option<&[u8]>, WireError> {
        loop {
            let Some(found) = memchr::memchr(b'\n', &self.buffer[self.searched..]) else {
                self.searched = self.buffer.len();
                return if self.searched - self.start > MAX_LINE {
                    Err(WireError::TooLong)
                } else {
                    Ok(None)
                };
            };
            let (begin, end) = (self.start, self.searched + found);
            (self.start, self.searched) = (end + 1, end + 1);
            if end - begin > MAX_LINE {
                return Err(WireError::TooLong);
            }
            if !self.buffer[begin..end].trim_ascii().is_empty() {
                return Ok(Some(self.buffer[begin..end].trim_ascii()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schema_reply_passes_and_an_endless_line_does_not() {
        let mut framer = Framer::default();
        framer.push(&vec![b'x'; 260_000]);
        assert_eq!(framer.next_line(), Ok(None));
        framer.push(b"\n");
        assert_eq!(framer.next_line().unwrap().map(<[u8]>::len), Some(260_000));

        framer.push(&vec![b'x'; MAX_LINE + 1]);
        assert_eq!(framer.next_line(), Err(WireError::TooLong));
    }

    #[test]
    fn blank_lines_are_passed_over() {
        let mut framer = Framer::default();
        framer.push(b"\r\n\r\n{}\r\n\n");
        assert_eq!(framer.next_line(), Ok(Some(&b"{}"[..])));
        assert_eq!(framer.next_line(), Ok(None));
    }
}
