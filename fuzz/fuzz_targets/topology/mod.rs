//! Scenarios as a fuzzer has them: a machine with disks of some formats, and operations on its snapshots.

use std::fmt::Write as _;

use arbitrary::Arbitrary;

/// A machine, and what is done to it.
#[derive(Debug, Arbitrary)]
pub struct Topology {
    disks: (Disk, Option<Disk>, Option<Disk>),
    has_agent: bool,
    launches: bool,
    steps: (Do, Option<Do>, Option<Do>, Option<Do>, Option<Do>),
}

#[derive(Debug, Arbitrary)]
struct Disk {
    is_raw: bool,
    is_read_only: bool,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum Name {
    A,
    B,
    C,
}

#[derive(Debug, Arbitrary)]
enum Do {
    Disks { name: Name, quiesced: bool, halts: bool, only_first: bool },
    Memory { name: Name, live: bool, file: bool },
    Inside { name: Name },
    Mixed { name: Name },
    Revert { name: Name, paused: bool, forced: bool, discards: bool },
    Delete { name: Name, how: How },
    Recover,
}

#[derive(Debug, Clone, Copy, Arbitrary)]
enum How {
    Itself,
    Children,
    ChildrenOnly,
    Metadata,
}

impl Name {
    fn text(self) -> &'static str {
        match self {
            Name::A => "a",
            Name::B => "b",
            Name::C => "c",
        }
    }
}

impl Topology {
    /// As a scenario file.
    pub fn text(&self) -> String {
        let disks = [Some(&self.disks.0), self.disks.1.as_ref(), self.disks.2.as_ref()];
        let disks: Vec<_> =
            disks.into_iter().flatten().enumerate().map(|(place, disk)| disk.text(place)).collect();
        let mut text = format!(
            "id = \"fuzzed\"\ntitle = \"Fuzzed\"\nwhy = \"Fuzzed.\"\n\n[machine]\ndisks = [{}]\nrecords = true\n",
            disks.join(", ")
        );
        if self.has_agent {
            text += "agent = \"linux\"\n";
        }
        if self.launches {
            text += "launcher = true\n";
        }
        let (first, more) = (&self.steps.0, [&self.steps.1, &self.steps.2, &self.steps.3, &self.steps.4]);
        for step in [first].into_iter().chain(more.into_iter().flatten()) {
            writeln!(text, "\n[[step]]\n{}", step.text(self.has_agent)).expect("a text takes all");
        }
        text
    }
}

impl Disk {
    fn text(&self, place: usize) -> String {
        let target = ["vda", "vdb", "vdc"][place];
        let format = if self.is_raw { ", format = \"raw\"" } else { "" };
        let readonly = if self.is_read_only && place > 0 { ", readonly = true" } else { "" };
        format!("{{ target = \"{target}\"{format}{readonly} }}")
    }
}

impl Do {
    fn text(&self, has_agent: bool) -> String {
        match self {
            Do::Disks { name, quiesced, halts, only_first } => {
                let quiesce = if *quiesced && has_agent { ", quiesce = \"required\"" } else { "" };
                let halt = if *halts { ", flags = [\"halt\"]" } else { "" };
                let disks = if *only_first { ", disks = [\"vda\"]" } else { "" };
                format!("snapshot = {{ name = \"{}\", disk-only = true{quiesce}{halt}{disks} }}", name.text())
            }
            Do::Memory { name, live, file } => {
                let name = name.text();
                let live = if *live { ", flags = [\"live\"]" } else { "" };
                let place =
                    if *file { format!("{{ file = \"{name}.mem\" }}") } else { "\"internal\"".into() };
                format!("snapshot = {{ name = \"{name}\", memory = {place}{live} }}")
            }
            Do::Inside { name } => format!("snapshot = {{ name = \"{}\" }}", name.text()),
            Do::Mixed { name } => format!(
                "snapshot = {{ name = \"{0}\", memory = {{ file = \"{0}.mem\" }}, places = {{ vda = \"internal\" }} }}",
                name.text()
            ),
            Do::Revert { name, paused, forced, discards } => {
                let flags = [(*paused, "paused"), (*forced, "force"), (*discards, "discard")];
                let flags: Vec<_> =
                    flags.iter().filter(|(is, _)| *is).map(|(_, flag)| format!("\"{flag}\"")).collect();
                format!("revert = {{ name = \"{}\", flags = [{}] }}", name.text(), flags.join(", "))
            }
            Do::Delete { name, how } => {
                let flags = match how {
                    How::Itself => "",
                    How::Children => "\"children\"",
                    How::ChildrenOnly => "\"children-only\"",
                    How::Metadata => "\"metadata\"",
                };
                format!("delete = {{ name = \"{}\", flags = [{flags}] }}", name.text())
            }
            Do::Recover => "recover = {}".into(),
        }
    }
}
