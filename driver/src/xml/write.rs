//! Writes a tree as libvirt does: two spaces a level, attributes in single quotes.

use super::{Element, Node};

impl Element {
    /// The document, with a line feed at its end.
    pub fn document(&self) -> String {
        let mut text = String::new();
        self.write(&mut text, 0);
        text.push('\n');
        text
    }

    fn write(&self, to: &mut String, level: usize) {
        to.push('<');
        to.push_str(&self.name);
        for (name, value) in &self.attributes {
            to.push(' ');
            to.push_str(name);
            to.push_str("='");
            escape(value, to, true);
            to.push('\'');
        }
        if self.children.is_empty() {
            to.push_str("/>");
            return;
        }
        to.push('>');
        // Where there is text, every space would be part of it.
        let laid_out = !self.children.iter().any(|node| matches!(node, Node::Text(_)));
        for node in &self.children {
            if laid_out {
                new_line(to, level + 1);
            }
            match node {
                Node::Element(element) => element.write(to, level + 1),
                Node::Text(text) => escape(text, to, false),
                Node::Comment(text) => to.extend(["<!--", text.as_str(), "-->"]),
                Node::Instruction(text) => to.extend(["<?", text.as_str(), "?>"]),
            }
        }
        if laid_out {
            new_line(to, level);
        }
        to.push_str("</");
        to.push_str(&self.name);
        to.push('>');
    }
}

fn new_line(to: &mut String, level: usize) {
    to.push('\n');
    to.extend(std::iter::repeat_n("  ", level));
}

/// What would be read back as something else is written as a reference: markup, quotes (in texts too, as libvirt has
/// them), and in attributes the white space that a reader turns into blanks.
fn escape(text: &str, to: &mut String, attribute: bool) {
    for c in text.chars() {
        match c {
            '&' => to.push_str("&amp;"),
            '<' => to.push_str("&lt;"),
            '>' => to.push_str("&gt;"),
            '\'' => to.push_str("&apos;"),
            '"' => to.push_str("&quot;"),
            '\n' if attribute => to.push_str("&#10;"),
            '\t' if attribute => to.push_str("&#9;"),
            '\r' => to.push_str("&#13;"),
            _ => to.push(c),
        }
    }
}
