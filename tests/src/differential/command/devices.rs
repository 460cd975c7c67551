//! Devices: their trays, their limits, and how they come and go.

use proptest::{prelude::Strategy, sample::select, strategy::BoxedStrategy};
use serde_json::{Value, json};

use super::{
    Kinds,
    members::{always, any_node, flag, fresh, maybe, maybe_not, object, one_of, texts},
};
use crate::differential::model::Model;

/// Commands on devices.
pub(super) fn kinds(model: &Model) -> Kinds {
    let id = || always(device());
    vec![
        (1, "eject", object(vec![("id", id()), ("force", maybe(flag()))])),
        (1, "blockdev-open-tray", object(vec![("id", id()), ("force", maybe(flag()))])),
        (1, "blockdev-close-tray", object(vec![("id", id())])),
        (1, "blockdev-remove-medium", object(vec![("id", id())])),
        (1, "blockdev-insert-medium", object(vec![("id", id()), ("node-name", always(any_node(model)))])),
        (2, "block_set_io_throttle", limits()),
        (1, "object-add", group(model)),
        (1, "object-del", object(vec![("id", always(group_id(model)))])),
        (1, "device_add", plug(model)),
        (1, "device_del", object(vec![("id", id())])),
    ]
}

/// The id of a device, mostly.
fn device() -> BoxedStrategy<Value> {
    one_of(vec![(8, texts(&["vda-device", "vdb-device", "vdc-device"])), (1, texts(&["nosuch", "vda"]))])
}

/// The limits of a disk, some of which make no sense together.
fn limits() -> BoxedStrategy<Value> {
    let amount = || select(vec![json!(0), json!(4096), json!(1_048_576), json!(-1)]);
    let mut members: Vec<_> = ["bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"]
        .map(|name| (name, always(quiet(amount()))))
        .into();
    members.extend(
        ["bps_max", "iops_max", "bps_max_length", "iops_size"].map(|name| (name, maybe_not(amount()))),
    );
    members.push(("id", always(device())));
    members.push(("group", maybe_not(one_of(vec![(1, texts(&["g1", "g2"]))]))));
    object(members)
}

/// Zero, mostly.
fn quiet(amount: impl Strategy<Value = Value> + 'static) -> BoxedStrategy<Value> {
    proptest::prop_oneof![3 => proptest::prelude::Just(json!(0)), 1 => amount].boxed()
}

/// A throttle group or an I/O thread, which need no properties.
fn group(model: &Model) -> BoxedStrategy<Value> {
    let kinds =
        one_of(vec![(4, texts(&["throttle-group"])), (2, texts(&["iothread"])), (1, texts(&["nosuch"]))]);
    object(vec![("qom-type", always(kinds)), ("id", always(group_id(model)))])
}

fn group_id(model: &Model) -> BoxedStrategy<Value> {
    fresh(model, "g", texts(&["g1", "g2"]))
}

fn plug(model: &Model) -> BoxedStrategy<Value> {
    let drivers = one_of(vec![(8, texts(&["virtio-blk-pci"])), (1, texts(&["nosuch"]))]);
    object(vec![
        ("driver", always(drivers)),
        ("id", always(fresh(model, "device", texts(&["vda-device"])))),
        ("drive", always(any_node(model))),
        ("bus", maybe_not(one_of(vec![(1, texts(&["pcie.0", "nosuch"]))]))),
    ])
}
