//! JSON as `qemu-img` lays it out: four spaces a level, and a line for each end even of what is empty.

use crate::{
    qobject::{QDict, QObject},
    wire::qdict,
};

/// A value with its line end.
pub(super) fn pretty(object: &QObject) -> String {
    let mut out = Vec::new();
    write(&mut out, object, 0);
    out.push(b'\n');
    String::from_utf8_lossy(&out).into_owned()
}

fn write(out: &mut Vec<u8>, object: &QObject, level: usize) {
    match object {
        QObject::Dict(dict) => write_dict(out, dict, level),
        QObject::List(items) => {
            out.push(b'[');
            for (place, item) in items.iter().enumerate() {
                next_line(out, level + 1, place > 0);
                write(out, item, level + 1);
            }
            next_line(out, level, false);
            out.push(b']');
        }
        plain => qdict::write_qobject(out, plain),
    }
}

fn write_dict(out: &mut Vec<u8>, dict: &QDict, level: usize) {
    out.push(b'{');
    for (place, (name, value)) in dict.in_written_order().into_iter().enumerate() {
        next_line(out, level + 1, place > 0);
        qdict::write_text(out, name);
        out.extend_from_slice(b": ");
        write(out, value, level + 1);
    }
    next_line(out, level, false);
    out.push(b'}');
}

fn next_line(out: &mut Vec<u8>, level: usize, comma: bool) {
    if comma {
        out.push(b',');
    }
    out.push(b'\n');
    out.resize(out.len() + 4 * level, b' ');
}
