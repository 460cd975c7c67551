//! Throttling: groups that share limits, and the devices and nodes in them.
//!
//! A group is an object of its own (`object-add`), or comes and goes with the devices that `block_set_io_throttle` puts
//! into it. Nothing is slowed down here: limits are kept, checked and shown. Source: probes of the four releases.

use serde_json::Value;

use super::{Driver, Graph, Node, filter::Filter, medium};
use crate::{
    qemu::{QmpError, arguments::Arguments, qdev::Devices},
    qobject::{Key, QDict, QObject, key},
};

/// The largest limit.
const MOST: u64 = 1_000_000_000_000_000;

/// Which limit: of bytes or requests, of all or of one kind.
const BUCKETS: usize = 6;

/// The names of the limits in `block_set_io_throttle`: for long, for bursts, and how long a burst is.
const NAMES: [[&str; 3]; BUCKETS] = [
    ["bps", "bps_max", "bps_max_length"],
    ["bps_rd", "bps_rd_max", "bps_rd_max_length"],
    ["bps_wr", "bps_wr_max", "bps_wr_max_length"],
    ["iops", "iops_max", "iops_max_length"],
    ["iops_rd", "iops_rd_max", "iops_rd_max_length"],
    ["iops_wr", "iops_wr_max", "iops_wr_max_length"],
];

/// The same in the object's `limits`.
const NAMES_OF_OBJECT: [[&str; 3]; BUCKETS] = [
    ["bps-total", "bps-total-max", "bps-total-max-length"],
    ["bps-read", "bps-read-max", "bps-read-max-length"],
    ["bps-write", "bps-write-max", "bps-write-max-length"],
    ["iops-total", "iops-total-max", "iops-total-max-length"],
    ["iops-read", "iops-read-max", "iops-read-max-length"],
    ["iops-write", "iops-write-max", "iops-write-max-length"],
];

/// The same as members of a reply.
const KEYS: [[Key; 3]; BUCKETS] = [
    [key!("bps"), key!("bps_max"), key!("bps_max_length")],
    [key!("bps_rd"), key!("bps_rd_max"), key!("bps_rd_max_length")],
    [key!("bps_wr"), key!("bps_wr_max"), key!("bps_wr_max_length")],
    [key!("iops"), key!("iops_max"), key!("iops_max_length")],
    [key!("iops_rd"), key!("iops_rd_max"), key!("iops_rd_max_length")],
    [key!("iops_wr"), key!("iops_wr_max"), key!("iops_wr_max_length")],
];

/// One limit. What a client gives below zero is far beyond [`MOST`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Bucket {
    /// A second, for long.
    average: u64,
    /// A second, in a burst; 0 for none.
    burst: u64,
    /// Seconds.
    burst_length: u64,
}

/// All limits of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limits {
    buckets: [Bucket; BUCKETS],
    /// Bytes that count as one request; 0 for any.
    request_size: u64,
}

/// A group of devices and nodes that share limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Group {
    name: String,
    limits: Limits,
    /// Paths of the devices in it.
    devices: Vec<String>,
    /// It is an object, and stays without devices.
    is_object: bool,
}

impl Limits {
    /// The limits of the object `throttle-group`.
    pub(crate) fn of_object(limits: Arguments<'_>) -> Self {
        Self::read(limits, NAMES_OF_OBJECT, "iops-size")
    }

    fn read(arguments: Arguments<'_>, names: [[&str; 3]; BUCKETS], request_size: &str) -> Self {
        let number = |name: &str| arguments.0.get(name).and_then(Value::as_i64).map(i64::cast_unsigned);
        let bucket = |[average, burst, length]: [&str; 3]| Bucket {
            average: number(average).unwrap_or(0),
            burst: number(burst).unwrap_or(0),
            burst_length: number(length).unwrap_or(1),
        };
        Self { buckets: names.map(bucket), request_size: number(request_size).unwrap_or(0) }
    }

    /// Refuses what cannot be: in QEMU's order.
    ///
    /// # Errors
    /// QEMU's text.
    pub(crate) fn check(&self) -> Result<(), QmpError> {
        let kinds = [&self.buckets[..BUCKETS / 2], &self.buckets[BUCKETS / 2..]];
        let mixed = |value: fn(&Bucket) -> u64| {
            kinds.iter().any(|kind| value(&kind[0]) > 0 && kind[1..].iter().any(|each| value(each) > 0))
        };
        if mixed(|bucket| bucket.average) || mixed(|bucket| bucket.burst) {
            let text = "bps/iops/max total values and read/write values cannot be used at the same time";
            return Err(QmpError::generic(text));
        }
        if self.request_size > 0 && kinds[1].iter().all(|bucket| bucket.average == 0) {
            return Err(QmpError::generic("iops size requires an iops value to be set"));
        }
        self.buckets.iter().try_for_each(Bucket::check)
    }

    fn limits_anything(&self) -> bool {
        self.buckets.iter().any(|bucket| bucket.average > 0)
    }
}

impl Bucket {
    fn check(&self) -> Result<(), QmpError> {
        let refused = if self.average > MOST || self.burst > MOST {
            "bps/iops/max values must be within [0, 1000000000000000]"
        } else if self.burst_length == 0 {
            "the burst length cannot be 0"
        } else if self.burst_length > 1 && self.burst == 0 {
            "burst length set without burst rate"
        } else if self.burst > 0 && self.burst_length > MOST / self.burst {
            "burst length too high for this burst rate"
        } else if self.burst > 0 && self.average == 0 {
            "bps_max/iops_max require corresponding bps/iops values"
        } else if self.burst > 0 && self.burst < self.average {
            "bps_max/iops_max cannot be lower than bps/iops"
        } else {
            return Ok(());
        };
        Err(QmpError::generic(refused))
    }
}

impl Graph {
    /// Makes an object of a group.
    pub(crate) fn add_throttle_group(&mut self, name: &str, limits: Limits) {
        self.groups.push(Group { name: name.into(), limits, devices: Vec::new(), is_object: true });
    }

    /// Removes the object of a group, unless something is in the group; tells whether it did.
    pub(crate) fn remove_throttle_group(&mut self, name: &str) -> bool {
        let throttles = |node: &Node| matches!(&node.driver, Driver::Filter { filter: Filter::Throttle { group }, .. } if group == name);
        let used = self.nodes.iter().any(throttles)
            || self.groups.iter().any(|group| group.name == name && !group.devices.is_empty());
        if !used {
            self.groups.retain(|group| group.name != name);
        }
        !used
    }

    /// Whether there is a group of that name.
    pub(crate) fn has_throttle_group(&self, name: &str) -> bool {
        self.groups.iter().any(|group| group.name == name)
    }

    /// Adds the limits of a device to what is shown of it: zeroes if it has none.
    pub(crate) fn show_limits(&self, device: Option<&str>, info: &mut QDict) {
        let is_in = |group: &&Group| group.devices.iter().any(|member| Some(member.as_str()) == device);
        let group = self.groups.iter().find(is_in);
        for (at, [average, burst, length]) in KEYS.into_iter().enumerate() {
            let Some(bucket) = group.map(|group| group.limits.buckets[at]) else {
                info.put(average, 0);
                continue;
            };
            info.put(average, bucket.average);
            if bucket.burst > 0 {
                info.put(burst, bucket.burst);
                info.put(length, bucket.burst_length);
            }
        }
        let Some(group) = group else { return };
        if group.limits.request_size > 0 {
            info.put(key!("iops_size"), group.limits.request_size);
        }
        info.put(key!("group"), group.name.clone());
    }

    /// Takes a device out of its group, which goes with its last one.
    fn leave_group(&mut self, device: &str) {
        for group in &mut self.groups {
            group.devices.retain(|member| member != device);
        }
        self.groups.retain(|group| group.is_object || !group.devices.is_empty());
    }
}

/// `block_set_io_throttle`: limits of zero take the device out of its group.
pub(crate) fn block_set_io_throttle(
    graph: &mut Graph,
    devices: &Devices,
    arguments: Arguments<'_>,
) -> Result<QObject, QmpError> {
    let drive = medium::find(graph, devices, arguments)?;
    let path = drive.path();
    let limits = Limits::read(arguments, NAMES, "iops_size");
    limits.check()?;
    let group = arguments.optional_text("group");
    let stays = graph.groups.iter().find(|group| group.devices.iter().any(|member| member == path));
    let name = group.or(stays.map(|group| group.name.as_str())).unwrap_or(path).to_owned();
    if !limits.limits_anything() {
        graph.leave_group(path);
        return Ok(QObject::empty());
    }
    if stays.is_none_or(|stays| stays.name != name) {
        graph.leave_group(path);
    }
    match graph.groups.iter_mut().find(|group| group.name == name) {
        Some(group) => {
            group.limits = limits;
            if !group.devices.iter().any(|member| member == path) {
                group.devices.push(path.into());
            }
        }
        None => {
            graph.groups.push(Group { name, limits, devices: vec![path.into()], is_object: false });
        }
    }
    Ok(QObject::empty())
}
