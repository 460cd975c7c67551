//! What the generator of commands believes of the machine.
//!
//! It takes every command for one that succeeds, so it is often wrong, and may be: it only sees to it that names are
//! mostly those of something. Whether a command was right is decided by the two that are compared.

use freezeframe_sim::{Machine, Release, machine::Power};
use serde_json::Value;

use super::{command::Command, server::Program};

/// The size of every disk of the machine, in bytes.
pub const DISK_SIZE: u64 = 1 << 20;

/// What is believed.
#[derive(Debug, Clone)]
pub struct Model {
    /// Which program is spoken to: it decides which commands there are.
    pub program: Program,
    /// Of which release.
    pub release: Release,
    /// The disks at the start.
    pub disks: Vec<String>,
    /// Files in the machine's folder.
    pub files: Vec<String>,
    /// Block nodes.
    pub nodes: Vec<Node>,
    /// Ids of jobs that may still be there.
    pub jobs: Vec<String>,
    /// Names of dirty bitmaps.
    pub bitmaps: Vec<String>,
    /// Ids of exports, or their names.
    pub exports: Vec<String>,
    /// Tags of snapshots.
    pub tags: Vec<String>,
    /// How many names were made up.
    pub named: usize,
}

/// A block node, as it is believed to be.
#[derive(Debug, Clone)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// `file`, `raw` or `qcow2`.
    pub driver: String,
    /// The name of the node that holds its bytes; none if it is a file itself.
    pub file: Option<String>,
    /// Whether something stands on it.
    pub used: bool,
    /// Whether a file node holds a qcow2 image.
    pub formatted: bool,
}

impl Model {
    /// The machine that a campaign starts with: two disks in qcow2, one as it is; a storage daemon has none.
    pub fn new(program: Program, release: Release) -> Self {
        let mut model = Self {
            program,
            release,
            disks: Vec::new(),
            files: Vec::new(),
            nodes: Vec::new(),
            jobs: Vec::new(),
            bitmaps: Vec::new(),
            exports: Vec::new(),
            tags: Vec::new(),
            named: 0,
        };
        for disk in machine(program).disks {
            let (file, format) = (&disk.file_node, disk.format.driver());
            for node in [Node::new(file, "file", None), Node::new(&disk.target, format, Some(file))] {
                model.nodes.push(Node { used: true, ..node });
            }
            model.disks.push(disk.target);
        }
        model
    }

    /// What is believed once a command was given.
    #[must_use]
    pub fn after(mut self, command: &Command) -> Self {
        self.named += 1;
        if command.execute == "transaction" {
            for action in command.arguments["actions"].as_array().into_iter().flatten() {
                self.obey(action["type"].as_str().unwrap_or_default(), &action["data"]);
            }
        } else {
            self.obey(command.execute, &command.arguments);
        }
        self
    }

    fn obey(&mut self, execute: &str, arguments: &Value) {
        let text = |name: &str| arguments[name].as_str().unwrap_or_default().to_owned();
        match execute {
            "blockdev-create" => self.created(&arguments["options"]),
            "blockdev-add" => self.added(arguments),
            "blockdev-del" => self.nodes.retain(|node| node.name != text("node-name")),
            "blockdev-snapshot" => self.stacked(&text("node"), &text("overlay")),
            "blockdev-snapshot-sync" => {
                let overlay = text("snapshot-node-name");
                self.files.push(text("snapshot-file"));
                self.nodes.push(Node::new(&overlay, "qcow2", None));
                self.stacked(&text("node-name"), &overlay);
            }
            "block-dirty-bitmap-add" => self.bitmaps.push(text("name")),
            "nbd-server-add" => self.exports.push(text("device")),
            "block-export-add" => self.exports.push(text("id")),
            "snapshot-save" => self.tags.push(text("tag")),
            "blockdev-snapshot-internal-sync" => self.tags.push(text("name")),
            "human-monitor-command" => {
                let line = text("command-line");
                self.tags.extend(line.strip_prefix("savevm ").map(str::to_owned));
            }
            "job-dismiss" => self.jobs.retain(|job| *job != text("id")),
            _ => {}
        }
        if let Some(id) = arguments["job-id"].as_str() {
            self.jobs.push(id.to_owned());
        }
    }

    fn created(&mut self, options: &Value) {
        if let Some(name) = options["filename"].as_str() {
            self.files.push(name.to_owned());
        }
        for node in self.nodes.iter_mut().filter(|node| options["file"] == *node.name) {
            node.formatted = true;
        }
    }

    fn added(&mut self, arguments: &Value) {
        let (Some(name), Some(driver)) = (arguments["node-name"].as_str(), arguments["driver"].as_str())
        else {
            return;
        };
        for node in &mut self.nodes {
            node.used |= arguments["file"] == *node.name || arguments["backing"] == *node.name;
        }
        self.nodes.push(Node::new(name, driver, arguments["file"].as_str()));
    }

    fn stacked(&mut self, below: &str, overlay: &str) {
        for node in self.nodes.iter_mut().filter(|node| [below, overlay].contains(&&*node.name)) {
            node.used = true;
        }
        for disk in self.disks.iter_mut().filter(|disk| *disk == below) {
            overlay.clone_into(disk);
        }
    }

    /// The names of the nodes of which this is true.
    pub fn nodes_that(&self, is: impl Fn(&Node) -> bool) -> Vec<String> {
        self.nodes.iter().filter(|node| is(node)).map(|node| node.name.clone()).collect()
    }

    /// A name that nothing has yet.
    pub fn fresh(&self, kind: &str) -> String {
        format!("{kind}{}", self.named)
    }
}

impl Node {
    fn new(name: &str, driver: &str, file: Option<&str>) -> Self {
        let file = file.map(str::to_owned);
        Self { name: name.to_owned(), driver: driver.to_owned(), file, used: false, formatted: false }
    }
}

/// The machine that both are. The guest does not run until it is told to, so that its firmware disturbs nothing.
pub fn machine(program: Program) -> Machine {
    use freezeframe_sim::machine::{Disk, Format};
    let machine = Machine::new().power(Power::Prelaunch);
    if program == Program::StorageDaemon {
        return machine;
    }
    ["vda", "vdb", "vdc"].into_iter().fold(machine, |machine, target| {
        let format = if target == "vdc" { Format::Raw } else { Format::Qcow2 };
        let path = machine.folder.join(format!("{target}.img"));
        machine.with_disk(Disk { size: DISK_SIZE, format, ..Disk::new(target, path) })
    })
}
