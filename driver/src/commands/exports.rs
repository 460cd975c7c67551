//! What QEMU serves to others: its NBD server, and the nodes that are read through it.

use serde::{Deserialize, Serialize};

/// Asks what is exported.
#[derive(Debug, Serialize)]
pub struct QueryBlockExports {}

/// A node that is offered to others.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BlockExport {
    /// Its id.
    pub id: String,
    /// `nbd`, `vhost-user-blk`, `fuse` ...
    #[serde(rename = "type")]
    pub kind: String,
}

/// Starts the NBD server: a QEMU has one.
#[derive(Debug, Serialize)]
pub struct NbdServerStart<'a> {
    /// Where it listens.
    pub addr: ServerAddress<'a>,
}

/// Where a server listens.
#[derive(Debug, Serialize)]
#[serde(tag = "type", content = "data", rename_all = "kebab-case")]
pub enum ServerAddress<'a> {
    /// A socket in the file system.
    Unix {
        /// Its path.
        path: &'a str,
    },
}

/// Stops the NBD server, and with it all that it exports.
#[derive(Debug, Serialize)]
pub struct NbdServerStop {}

/// Offers a node to others.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case", rename_all_fields = "kebab-case")]
pub enum BlockExportAdd<'a> {
    /// Through the NBD server.
    Nbd {
        /// The new export's id.
        id: &'a str,
        /// The node.
        node_name: &'a str,
        /// What a client asks for.
        name: &'a str,
        /// Whether a client may write.
        writable: bool,
    },
}

/// Ends an export.
#[derive(Debug, Serialize)]
pub struct BlockExportDel<'a> {
    /// Which.
    pub id: &'a str,
    /// `safe`: not while a client is connected; `hard`: with its connections.
    pub mode: &'a str,
}

/// The data of `BLOCK_EXPORT_DELETED`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ExportDeleted {
    /// Which.
    pub id: String,
}
