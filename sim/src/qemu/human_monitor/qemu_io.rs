//! `qemu-io DEVICE "COMMAND"`: reads and writes a disk past its guest. What it prints goes to QEMU's standard error: the
//! reply is empty.
//!
//! `write` and `read` with an offset and a length, and `-P` for what is written: it stands for the guest's write in every
//! block that it touches. A write to a node, not through its device, needs that nobody else minds. `flush`: what a stream has copied
//! outlives the process then. Other commands of it are not simulated.

use crate::{
    host::Qcow2,
    qemu::{
        Context, Qemu, QmpError,
        block::permissions::{Permissions, Use},
        not_simulated,
    },
};

/// Carries out the words behind `qemu-io`.
pub(super) fn command(qemu: &mut Qemu, words: &[String], cx: &mut Context<'_>) -> Result<String, QmpError> {
    let by_device = words.first().is_some_and(|word| word == "-d");
    let [disk, command] = &words[usize::from(by_device)..] else {
        return Err(not_simulated("`qemu-io` with other arguments"));
    };
    let graph = &qemu.graph;
    let node = if by_device {
        let at = |id: &str| format!("/machine/peripheral/{id}/virtio-backend") == *disk;
        let device = graph.devices().iter().find(|device| at(&device.id));
        device.map(|device| device.node.clone()).ok_or_else(|| format!("Device '{disk}' not found"))
    } else {
        let found = graph.lookup(disk, cx.release());
        found.map(|node| node.name.clone()).map_err(|error| error.desc)
    };
    let node = match node {
        Ok(node) => node,
        Err(error) => return Ok(format!("Error: {error}\r\n")),
    };
    if command == "flush" {
        qemu.flush(&node);
        return Ok(String::new());
    }
    let unknown = || not_simulated(&format!("`qemu-io` with `{command}`"));
    let request = Request::parse(command).ok_or_else(unknown)?;
    if request.writes {
        let writer = Use::root(Permissions::WRITE, Permissions::ALL);
        if let Some(refused) = graph.check_use(&node, writer, cx).err().filter(|_| !by_device) {
            return Ok(format!("{}\r\n", refused.desc));
        }
        let blocks = request.offset / Qcow2::CLUSTER..(request.offset + request.len).div_ceil(Qcow2::CLUSTER);
        graph.write(&node, blocks.map(|block| (block, request.pattern)).collect(), cx.host());
    }
    Ok(String::new())
}

/// What is asked for: lengths are in bytes.
#[derive(Debug, PartialEq)]
struct Request {
    writes: bool,
    pattern: u64,
    offset: u64,
    len: u64,
}

impl Request {
    /// Reads `write [-P PATTERN] OFFSET LENGTH`; none for anything else.
    fn parse(command: &str) -> Option<Self> {
        let mut words = command.split_ascii_whitespace();
        let writes = match words.next()? {
            "write" => true,
            "read" => false,
            _ => return None,
        };
        let mut pattern = 0xcd;
        let mut numbers = Vec::new();
        while let Some(word) = words.next() {
            match word {
                "-P" => pattern = number(words.next()?)?,
                "-q" => {}
                other => numbers.push(number(other)?),
            }
        }
        let &[offset, len] = numbers.as_slice() else { return None };
        Some(Self { writes, pattern, offset, len })
    }
}

/// A number, with `k`, `M` or `G` for powers of 1024.
fn number(text: &str) -> Option<u64> {
    let shift = match text.chars().last()?.to_ascii_lowercase() {
        'k' => 10,
        'm' => 20,
        'g' => 30,
        _ => 0,
    };
    let digits = if shift == 0 { text } else { &text[..text.len() - 1] };
    let number: u64 = match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_read_with_its_pattern_and_units() {
        let request = Request { writes: true, pattern: 49, offset: 65536, len: 4 << 20 };
        assert_eq!(Request::parse("write -P 49 64k 4M"), Some(request));
        assert_eq!(Request::parse("write -P 0x31 0x10000 4M").map(|request| request.pattern), Some(49));
    }

    #[test]
    fn what_is_not_simulated_is_no_request() {
        assert_eq!(Request::parse("discard 0 4M"), None);
        assert_eq!(Request::parse("write 0"), None);
    }
}
