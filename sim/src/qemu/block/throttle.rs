//! Throttling: groups that share limits, and the devices and nodes in them.
//!
//! A group is an object of its own (`object-add`), or comes and goes with the devices that `block_set_io_throttle` puts
//! into it. Nothing is slowed down here: limits are kept, checked and shown. Source: probes of the four releases.

use serde_json::Value;

use super::{Driver, Graph, Node, filter::Filter, medium};
use crate::{
    qemu::{QmpError, arguments::Arguments, qdev::Devices},
    qobject::{Key, QDict, QObject, key, qdict},
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
const KEYS_OF_OBJECT: [[Key; 3]; BUCKETS] = [
    [key!("bps-total"), key!("bps-total-max"), key!("bps-total-max-length")],
    [key!("bps-read"), key!("bps-read-max"), key!("bps-read-max-length")],
    [key!("bps-write"), key!("bps-write-max"), key!("bps-write-max-length")],
    [key!("iops-total"), key!("iops-total-max"), key!("iops-total-max-length")],
    [key!("iops-read"), key!("iops-read-max"), key!("iops-read-max-length")],
    [key!("iops-write"), key!("iops-write-max"), key!("iops-write-max-length")],
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
    /// No limit at all.
    const NONE: Self =
        Self { buckets: [Bucket { average: 0, burst: 0, burst_length: 1 }; BUCKETS], request_size: 0 };

    /// The limits of the object `throttle-group`.
    pub(crate) fn of_object(limits: Arguments<'_>) -> Self {
        Self::NONE.changed_by(limits)
    }

    /// Those that an object has already, with others in the place of those that are named.
    fn changed_by(&self, limits: Arguments<'_>) -> Self {
        Self::read(self, limits, KEYS_OF_OBJECT.map(|keys| keys.map(|key| key.name)), "iops-size")
    }

    fn read(
        before: &Self,
        arguments: Arguments<'_>,
        names: [[&str; 3]; BUCKETS],
        request_size: &str,
    ) -> Self {
        let number = |name: &str| arguments.0.get(name).and_then(Value::as_i64).map(i64::cast_unsigned);
        let bucket = |at: usize| {
            let ([average, burst, length], before) = (names[at], before.buckets[at]);
            Bucket {
                average: number(average).unwrap_or(before.average),
                burst: number(burst).unwrap_or(before.burst),
                burst_length: number(length).unwrap_or(before.burst_length),
            }
        };
        Self {
            buckets: std::array::from_fn(bucket),
            request_size: number(request_size).unwrap_or(before.request_size),
        }
    }

    /// All of an object's `limits`.
    fn describe(&self) -> QObject {
        let mut all = qdict! { "iops-size": self.request_size };
        for ([average, burst, length], bucket) in KEYS_OF_OBJECT.into_iter().zip(self.buckets) {
            all.put(average, bucket.average);
            all.put(burst, bucket.burst);
            all.put(length, bucket.burst_length);
        }
        all.into()
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

    /// The limits of the object of a group.
    pub(crate) fn throttle_limits(&self, name: &str) -> Option<QObject> {
        self.groups.iter().find(|group| group.name == name).map(|group| group.limits.describe())
    }

    /// Changes those limits of a group's object that are named.
    ///
    /// # Errors
    /// QEMU's, for limits that cannot be.
    pub(crate) fn change_throttle_limits(
        &mut self,
        name: &str,
        limits: Arguments<'_>,
    ) -> Result<(), QmpError> {
        let Some(group) = self.groups.iter_mut().find(|group| group.name == name) else { return Ok(()) };
        let changed = group.limits.changed_by(limits);
        changed.check()?;
        group.limits = changed;
        Ok(())
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

    /// What the human monitor says of the limits of a device: nothing if it has none.
    pub(crate) fn throttling_line(&self, device: &str) -> String {
        let Some(group) =
            self.groups.iter().find(|group| group.devices.iter().any(|member| member == device))
        else {
            return String::new();
        };
        let mut line = "    I/O throttling:  ".to_owned();
        for kind in 0..2 {
            let buckets =
                KEYS.into_iter().zip(group.limits.buckets).skip(kind * BUCKETS / 2).take(BUCKETS / 2);
            for ([average, ..], bucket) in buckets.clone() {
                line += &format!(" {}={}", average.name, bucket.average);
            }
            for ([_, burst, _], bucket) in buckets {
                line += &format!(" {}={}", burst.name, bucket.burst);
            }
        }
        line + &format!(" iops_size={} group={}\r\n", group.limits.request_size, group.name)
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
    let path = drive.path(graph);
    let limits = Limits::read(&Limits::NONE, arguments, NAMES, "iops_size");
    limits.check()?;
    let group = arguments.optional_text("group");
    let stays = graph.groups.iter().find(|group| group.devices.contains(&path));
    let name = group.or(stays.map(|group| group.name.as_str())).unwrap_or(drive.named()).to_owned();
    if !limits.limits_anything() {
        graph.leave_group(&path);
        return Ok(QObject::empty());
    }
    if stays.is_none_or(|stays| stays.name != name) {
        graph.leave_group(&path);
    }
    match graph.groups.iter_mut().find(|group| group.name == name) {
        Some(group) => {
            group.limits = limits;
            if !group.devices.contains(&path) {
                group.devices.push(path);
            }
        }
        None => {
            graph.groups.push(Group { name, limits, devices: vec![path], is_object: false });
        }
    }
    Ok(QObject::empty())
}
