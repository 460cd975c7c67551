//! The storage providers on the simulated storages: what the real ones do in `storage.rs`, and the faults that cannot be had there.

use std::{error::Error, time::Duration};

use camino::Utf8Path;
use freezeframe::world::{
    World as _,
    sim::{SimEnv, SimWorld},
};
use freezeframe_driver::{
    step::Happened,
    storage::{Btrfs, Exec, Lvm, Provider, Rbd, Reflink, Storage, StorageError, Zfs, lvm::Room},
};
use freezeframe_sim::{
    Machine, Oracle, Release, Simulation,
    exec::Spawner,
    host::Host,
    storage::{Kind, Storage as Simulated},
};
use freezeframe_tests::{
    fails,
    storage::walk::{holds, listed, name, walk},
};
use rstest::rstest;

type Tested = Result<(), Box<dyn Error>>;

/// A world with these storages, in which something is to be done.
fn world<T>(simulated: Simulated, test: impl AsyncFnOnce(Inside) -> T) -> T {
    let machine = Machine { storage: simulated, ..Machine::new().disk("vda") };
    let simulation = Simulation::new(&machine, Release::V10_0, Oracle::default_order());
    let handle = simulation.handle();
    let world = SimWorld::new(&machine, handle.sockets(), handle.spawner());
    simulation.run(test(Inside { handle, world })).expect("it ends")
}

struct Inside {
    handle: freezeframe_sim::Handle,
    world: SimWorld<Spawner>,
}

impl Inside {
    fn storage(&self, provider: impl Provider + 'static) -> Storage<SimEnv<Spawner>> {
        Storage::new(self.world.env().clone(), provider)
    }

    fn host<T>(&self, with: impl FnOnce(&mut Host) -> T) -> T {
        with(self.handle.sockets().world_mut().host_mut())
    }

    fn simulated(&self, change: impl FnOnce(&mut Simulated)) {
        change(self.handle.sockets().world_mut().storage_mut());
    }

    fn write(&self, file: &str, words: &str) -> Result<(), String> {
        self.host(|host| host.replace_document(file.into(), words.as_bytes()))
            .map_err(|error| error.to_string())
    }

    fn read(&self, file: &str) -> Result<String, String> {
        let bytes = self.host(|host| host.document(file.into()).map(<[u8]>::to_owned));
        String::from_utf8(bytes.ok_or("it is not there")?).map_err(|error| error.to_string())
    }

    fn names(&self, folder: &str) -> Vec<String> {
        self.host(|host| host.names(Utf8Path::new(folder))).unwrap_or_default()
    }
}

/// All storages, each with one volume, and what lies in it.
fn all() -> Simulated {
    Simulated::new()
        .with_btrfs("/pool")
        .with_subvolume("/pool/vm1")
        .with_shared_blocks("/xfs")
        .with_logical_volume("vg/thin", Kind::Thin)
        .with_logical_volume("vg/thick", Kind::Thick)
        .with_data_set("tank/vm1")
        .with_data_set("tank/vm2")
        .with_image("rbd/vda")
        .with_image("rbd/vdb")
        .with_group("rbd/g", &["rbd/vda", "rbd/vdb"])
        .with_program("/usr/bin/array")
}

fn provider(volume: &str) -> Result<Box<dyn Provider>, StorageError> {
    Ok(match volume {
        "btrfs" => Box::new(Btrfs::new("/pool/vm1")?),
        "reflink" => Box::new(Reflink::new("/xfs/vda.raw")?),
        "thin" => Box::new(Lvm::new("vg/thin", None)?),
        "thick" => Box::new(Lvm::new("vg/thick", Room::percent(20))?),
        "zfs" => Box::new(Zfs::new(&["tank/vm1"])?),
        "zfs-group" => Box::new(Zfs::new(&["tank/vm1", "tank/vm2"])?),
        "rbd" => Box::new(Rbd::image("rbd/vda")?),
        "rbd-group" => Box::new(Rbd::group("rbd/g", &["rbd/vdb", "rbd/vda"])?),
        _ => Box::new(Exec::new("/usr/bin/array", &["/xfs/vda.raw"])?),
    })
}

#[rstest]
#[case("btrfs", "/pool/vm1/vda.raw")]
#[case("reflink", "/xfs/vda.raw")]
#[case("thin", "/dev/vg/thin")]
#[case("thick", "/dev/vg/thick")]
#[case("zfs", "/tank/vm1/vda.raw")]
#[case("zfs-group", "/tank/vm2/vda.raw")]
#[case("rbd", "/rbd/rbd/vda")]
#[case("rbd-group", "/rbd/rbd/vdb")]
#[case("exec", "/xfs/vda.raw")]
fn every_storage_is_walked_through_as_the_real_ones_are(#[case] volume: &str, #[case] file: &str) -> Tested {
    world(all(), async |inside| {
        let storage = Storage::boxed(inside.world.env().clone(), provider(volume)?);
        walk(&storage, |words| inside.write(file, words), || inside.read(file)).await?;
        for folder in ["/pool", "/xfs", "/dev/vg"] {
            let left = inside.names(folder);
            holds(
                !left.iter().any(|name| name.contains("freezeframe") || name.contains('@')),
                "nothing is left",
            )?;
        }
        Ok(())
    })
}

#[rstest]
#[case("reflink", "/xfs/vda.raw", "No space left on device")]
#[case("thin", "/dev/vg/thin", "reached threshold")]
#[case("thick", "/dev/vg/thick", "insufficient free space")]
#[case("zfs", "/tank/vm1/vda.raw", "out of space")]
#[case("exec", "/xfs/vda.raw", "the storage is full")]
fn a_full_storage_is_told_and_nothing_is_left(
    #[case] volume: &str,
    #[case] file: &str,
    #[case] words: &str,
) -> Tested {
    world(all(), async |inside| {
        inside.write(file, "old")?;
        inside.simulated(|storage| storage.set_full(true));
        let storage = Storage::boxed(inside.world.env().clone(), provider(volume)?);
        fails!(storage.snapshot(&name("s1")), StorageError::NoSpace { .. }, words)?;
        holds(listed(&storage).await?.is_empty(), "there is no snapshot")?;
        holds(inside.names("/xfs").len() <= 1, "no file is left")?;
        Ok(())
    })
}

#[test]
fn a_full_pool_of_ceph_never_answers_and_the_list_tells_what_is() -> Tested {
    world(all(), async |inside| {
        inside.simulated(|storage| storage.set_full(true));
        let storage = inside.storage(Rbd::image("rbd/vda")?).within(Duration::from_secs(5));
        let told = storage.snapshot(&name("s1")).await;
        let is = matches!(told, Err(StorageError::TimedOut { happened: Happened::No, .. }));
        Ok(holds(is, &format!("it timed out and has not happened: {told:?}"))?)
    })
}

#[test]
fn a_frozen_file_system_lets_the_copy_wait_and_what_is_left_is_named() -> Tested {
    world(all(), async |inside| {
        inside.write("/xfs/vda.raw", "old")?;
        inside.simulated(|storage| storage.set_frozen(true));
        let storage = inside.storage(Reflink::new("/xfs/vda.raw")?).within(Duration::from_secs(5));
        let Err(StorageError::Left { error, left }) = storage.snapshot(&name("s1")).await else {
            return Err("something is left".into());
        };
        holds(
            matches!(*error, StorageError::TimedOut { happened: Happened::No, .. }),
            "it has not happened",
        )?;
        holds(left.len() == 1 && left[0].contains("vda.raw.freezeframe-"), "what is left is named")?;
        Ok(())
    })
}

#[test]
fn a_thick_snapshot_that_ran_out_of_room_is_not_gone_back_to() -> Tested {
    world(all(), async |inside| {
        inside.write("/dev/vg/thick", "old")?;
        let storage = inside.storage(Lvm::new("vg/thick", Room::percent(1))?);
        storage.snapshot(&name("s1")).await?;
        inside.write("/dev/vg/thick", "new")?;
        inside.simulated(|storage| storage.overflow("vg/thick.s1"));
        fails!(storage.revert(&name("s1")), StorageError::Gone { .. }, "lost what it held")?;
        holds(inside.read("/dev/vg/thick")? == "new", "the volume stays")?;
        storage.delete(&name("s1")).await?;
        Ok(())
    })
}

#[test]
fn a_thick_volume_needs_room_for_its_snapshot() -> Tested {
    world(all(), async |inside| {
        let storage = inside.storage(Lvm::new("vg/thick", None)?);
        Ok(fails!(storage.snapshot(&name("s1")), StorageError::NotSupported { .. }, "size or extents")?)
    })
}

#[test]
fn btrfs_puts_nothing_inside_what_has_the_name() -> Tested {
    world(all(), async |inside| {
        inside.host(|host| host.add_folder("/pool/vm1@s1".into()));
        inside.write("/pool/vm1@s1/something", "of somebody's")?;
        let storage = inside.storage(Btrfs::new("/pool/vm1")?);
        fails!(storage.snapshot(&name("s1")), StorageError::Exists { .. }, "Directory not empty")?;
        holds(inside.names("/pool/vm1@s1") == ["something"], "nothing is put inside")?;
        holds(inside.names("/pool") == ["vm1", "vm1@s1"], "nothing is left beside it")?;
        Ok(())
    })
}

#[test]
fn a_group_that_holds_another_image_is_not_snapshotted() -> Tested {
    world(all(), async |inside| {
        for (group, images, words) in [
            ("rbd/g", &["rbd/vda"][..], "was asked for"),
            ("rbd/nope", &["rbd/vda", "rbd/vdb"], "there is no group"),
        ] {
            let storage = inside.storage(Rbd::group(group, images)?);
            fails!(storage.snapshot(&name("s1")), StorageError::Gone { .. }, words)?;
        }
        Ok(())
    })
}

#[test]
fn a_tool_that_is_not_installed_is_told() -> Tested {
    world(all(), async |inside| {
        let storage = inside.storage(Exec::new("/usr/bin/nothing", &["a"])?);
        Ok(fails!(storage.list(), StorageError::ToolMissing { .. }, "/usr/bin/nothing")?)
    })
}

#[test]
fn a_tool_that_lies_is_not_believed() -> Tested {
    world(all().with_lying_program("/usr/bin/liar"), async |inside| {
        inside.write("/xfs/vda.raw", "old")?;
        let storage = inside.storage(Exec::new("/usr/bin/liar", &["/xfs/vda.raw"])?);
        Ok(fails!(storage.snapshot(&name("s1")), StorageError::Stale { .. }, "has no `s1`")?)
    })
}
