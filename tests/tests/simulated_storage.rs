//! The storage providers on the simulated storages: what the real ones do in `storage.rs`, and the faults that cannot be had there.

use std::{error::Error, time::Duration};

use camino::Utf8Path;
use freezeframe::world::{
    World as _,
    sim::{SimEnv, SimWorld},
};
use freezeframe_driver::{
    disk::{Ask, DiskError, Disks, Taker as _},
    domain_xml::DomainXml,
    env::{Ended, Env as _, HostCommand},
    qemu_img::{Backing, Clusters, NewImage, QemuImg},
    request::Quiesce,
    step::Happened,
    storage::{Btrfs, Exec, Lvm, Provider, Rbd, Reflink, Storage, StorageError, Zfs, lvm::Room},
};
use freezeframe_sim::{
    Machine, Oracle, Release, Simulation,
    exec::Spawner,
    host::Host,
    machine::Disk,
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
    beside(Machine::new().disk("vda"), simulated, test)
}

/// The same, in which this machine runs.
fn beside<T>(machine: Machine, simulated: Simulated, test: impl AsyncFnOnce(Inside) -> T) -> T {
    let machine = Machine { storage: simulated, ..machine };
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

    /// Disks of a machine that is off, of raw images in `/pool/vm1` that hold these words.
    fn disks(&self, targets: &[&str]) -> Result<Disks<SimEnv<Spawner>>, Box<dyn Error>> {
        let mut devices = String::new();
        for target in targets {
            self.write(&format!("/pool/vm1/{target}.raw"), "old")?;
            devices += &format!(
                "<disk type='file' device='disk'><driver name='qemu' type='raw'/>\
                 <source file='/pool/vm1/{target}.raw'/><target dev='{target}'/><diskSnapshot method='btrfs'/></disk>"
            );
        }
        let domain = format!("<domain><name>vm</name><devices>{devices}</devices></domain>");
        let targets: Vec<String> = targets.iter().map(|target| (*target).to_owned()).collect();
        Ok(Disks::of(self.world.env().clone(), &DomainXml::read(domain.as_bytes())?, &targets, None)?)
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
#[case("thick", "/dev/vg/thick", "0 is left in the group vg")]
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

#[rstest]
#[case("thin", None, &[])]
#[case("thick", Room::percent(20), &["s2"])]
fn a_merge_past_the_driver_lets_the_other_thin_snapshots_be_of_nothing(
    #[case] volume: &str,
    #[case] room: Option<Room>,
    #[case] listed_then: &[&str],
) -> Tested {
    world(all(), async |inside| {
        inside.write(&format!("/dev/vg/{volume}"), "old")?;
        let storage = inside.storage(Lvm::new(&format!("vg/{volume}"), room)?);
        for snapshot in ["s1", "s2"] {
            storage.snapshot(&name(snapshot)).await?;
        }
        let first = format!("vg/{volume}.s1");
        let merge = HostCommand::new("lvconvert", ["--yes", "--merge", &first], Duration::from_secs(5));
        let ran = inside.world.env().run(&merge).await?;
        holds(ran.ended == Ended::Exited(0), &format!("it is merged: {ran:?}"))?;
        holds(listed(&storage).await? == listed_then, "what is still a snapshot of the volume")?;
        Ok(holds(inside.names("/dev/vg").contains(&format!("{volume}.s2")), "the other one is there")?)
    })
}

#[test]
fn of_two_thick_snapshots_at_once_the_one_that_lvm_makes_smaller_is_let_go_of() -> Tested {
    let simulated = all().with_logical_volume("vg/other", Kind::Thick);
    world(simulated, async |inside| {
        // Each alone is to have 208 MiB.
        inside.simulated(|storage| storage.leave_room(300 << 20));
        let room = Room::percent(20);
        let first = inside.storage(Lvm::new("vg/thick", room)?);
        let second = inside.storage(Lvm::new("vg/other", room)?);
        let snapshot = name("s1");
        let told = <[_; 2]>::from(tokio::join!(first.snapshot(&snapshot), second.snapshot(&snapshot)));
        holds(told.iter().filter(|told| told.is_ok()).count() == 1, &format!("one is taken: {told:?}"))?;
        let refused = told.iter().any(|told| matches!(told, Err(StorageError::NoSpace { .. })));
        holds(refused, &format!("the other finds no room: {told:?}"))?;
        let left = listed(&first).await?.len() + listed(&second).await?.len();
        Ok(holds(left == 1, "and is not left")?)
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

#[test]
fn a_subvolume_goes_back_for_all_of_its_disks() -> Tested {
    world(all(), async |inside| {
        let disks = inside.disks(&["vda", "vdb"])?;
        disks.snapshot(&name("s1"), Quiesce::Off).await?;
        for file in ["/pool/vm1/vda.raw", "/pool/vm1/vdb.raw"] {
            inside.write(file, "new")?;
        }
        disks.perform(&Ask::Revert(name("s1"))).await?;
        holds(inside.read("/pool/vm1/vda.raw")? == "old", "vda is put back")?;
        Ok(holds(inside.read("/pool/vm1/vdb.raw")? == "old", "vdb is put back")?)
    })
}

#[test]
fn a_subvolume_is_not_put_back_under_another_machine_that_runs() -> Tested {
    let other = Disk::new("vdx", "/pool/vm1/folder/other.qcow2".into());
    let simulated = all().with_subvolume("/pool/vm1/folder");
    beside(Machine::new().with_disk(other), simulated, async |inside| {
        let disks = inside.disks(&["vda"])?;
        disks.snapshot(&name("s1"), Quiesce::Off).await?;
        inside.write("/pool/vm1/vda.raw", "new")?;
        let ask = Ask::Revert(name("s1"));
        fails!(
            disks.perform(&ask),
            DiskError::LiesThereToo { .. },
            "/pool/vm1/folder/other.qcow2, which somebody has open"
        )?;
        Ok(holds(inside.read("/pool/vm1/vda.raw")? == "new", "nothing is touched")?)
    })
}

#[rstest]
#[case(all().with_subvolume("/pool/vm1/a b/inner").with_subvolume("/pool/vm1/a b/inner/deep"), "the subvolume vm1/a b/inner lies within")]
#[case(all().with_mount("/pool/vm1/a b/inner"), "what is mounted at /pool/vm1/a b/inner lies within")]
fn a_subvolume_takes_nothing_out_of_its_place_when_it_goes_back(
    #[case] simulated: Simulated,
    #[case] what: &str,
) -> Tested {
    world(simulated, async |inside| {
        let disks = inside.disks(&["vda"])?;
        disks.snapshot(&name("s1"), Quiesce::Off).await?;
        for file in ["/pool/vm1/vda.raw", "/pool/vm1/a b/inner/data"] {
            inside.write(file, "new")?;
        }
        let ask = Ask::Revert(name("s1"));
        let stays = |told: &Result<(), DiskError>| match told {
            Err(DiskError::Storage(error @ StorageError::StaysBehind { .. })) => {
                error.to_string().contains(what)
            }
            _ => false,
        };
        for told in [disks.plan(&ask).await.map(drop), disks.perform(&ask).await.map(drop)] {
            holds(stays(&told), &format!("{told:?}"))?;
        }
        // Somebody may have come in behind the plan.
        let storage = inside.storage(Btrfs::new("/pool/vm1")?);
        fails!(storage.revert(&name("s1")), StorageError::StaysBehind { .. }, what)?;
        holds(inside.read("/pool/vm1/vda.raw")? == "new", "nothing is touched")?;
        holds(inside.read("/pool/vm1/a b/inner/data")? == "new", "it is where it was")?;
        Ok(holds(inside.names("/pool") == ["vm1", "vm1@s1"], "nothing was made")?)
    })
}

/// A disk in an overlay, which stands on an image somewhere.
async fn overlay_on(inside: &Inside, base: &str) -> Result<Disks<SimEnv<Spawner>>, Box<dyn Error>> {
    let tool = QemuImg::new(inside.world.env().clone());
    let image = |file: &str, backing: Option<&str>| NewImage {
        file: file.into(),
        backing: backing.map(|file| Backing { file: file.into(), format: "qcow2".to_owned() }),
        size: backing.is_none().then_some(1 << 20),
        clusters: Clusters::default(),
    };
    tool.create(&image(base, None)).await?;
    tool.create(&image("/pool/vm1/vda.s0", Some(base))).await?;
    let disk = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/pool/vm1/vda.s0'/>\
                <target dev='vda'/><diskSnapshot method='btrfs'/></disk>";
    let domain = format!("<domain><name>vm</name><devices>{disk}</devices></domain>");
    let domain = DomainXml::read(domain.as_bytes())?;
    Ok(Disks::of(inside.world.env().clone(), &domain, &["vda".to_owned()], None)?)
}

#[test]
fn a_backup_reads_all_of_a_chain_from_the_snapshot() -> Tested {
    world(all(), async |inside| {
        let disks = overlay_on(&inside, "/pool/vm1/vda.qcow2").await?;
        let taken = disks.snapshot(&name("s1"), Quiesce::Off).await?;
        let backup = taken.backups[0].1.clone()?.document();
        let behind = "<source file='/pool/vm1@s1/vda.qcow2'/>";
        holds(backup.contains("/pool/vm1@s1/vda.s0") && backup.contains(behind), &backup)?;
        let readable = disks.readable(&name("s1")).await?;
        let behind = readable[0].behind.as_ref().map(|behind| behind[0].file.as_str());
        Ok(holds(behind == Some("/pool/vm1@s1/vda.qcow2"), "it is served from there")?)
    })
}

#[test]
fn no_backup_reads_what_stands_on_an_image_that_was_not_caught() -> Tested {
    world(all(), async |inside| {
        let disks = overlay_on(&inside, "/xfs/vda.qcow2").await?;
        let taken = disks.snapshot(&name("s1"), Quiesce::Off).await?;
        let why = taken.backups[0].1.as_ref().err().ok_or("a backup is told")?;
        holds(why.contains("it stands on /xfs/vda.qcow2, which was not caught with it"), why)?;
        Ok(fails!(disks.readable(&name("s1")), DiskError::NotRead { .. }, "/xfs/vda.qcow2")?)
    })
}

#[test]
fn a_list_knows_the_snapshots_of_the_images_that_a_disk_was_in_before() -> Tested {
    world(all(), async |inside| {
        overlay_on(&inside, "/xfs/vda.qcow2").await?;
        inside.storage(Reflink::new("/xfs/vda.qcow2")?).snapshot(&name("s1")).await?;
        let disk = "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='/pool/vm1/vda.s0'/>\
                    <target dev='vda'/><diskSnapshot method='reflink'/></disk>";
        let domain = format!("<domain><name>vm</name><devices>{disk}</devices></domain>");
        let domain = DomainXml::read(domain.as_bytes())?;
        let disks = Disks::of(inside.world.env().clone(), &domain, &["vda".to_owned()], None)?;
        disks.snapshot(&name("s2"), Quiesce::Off).await?;
        let found = disks.list().await?;
        let found: Vec<_> = found.iter().map(|found| (found.name.as_str(), found.of.as_deref())).collect();
        Ok(holds(found == [("s2", None), ("s1", Some("/xfs/vda.qcow2"))], &format!("{found:?}"))?)
    })
}

/// A disk of a machine that is off, of a raw image that holds `old`, said to lie in a subvolume.
fn in_subvolume(inside: &Inside, file: &str, volume: &str) -> Result<Disks<SimEnv<Spawner>>, Box<dyn Error>> {
    inside.write(file, "old")?;
    let disk = format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{file}'/><target dev='vda'/>\
         <diskSnapshot method='btrfs' volume='{volume}'/></disk>"
    );
    let domain = format!("<domain><name>vm</name><devices>{disk}</devices></domain>");
    let domain = DomainXml::read(domain.as_bytes())?;
    Ok(Disks::of(inside.world.env().clone(), &domain, &["vda".to_owned()], None)?)
}

#[rstest]
#[case("/pool/vm1/db/vda.raw", "in a subvolume or a file system of its own")]
#[case("/pool/vm2/vda.raw", "it is /pool/vm2/vda.raw")]
fn what_a_subvolume_does_not_hold_is_not_called_caught(#[case] file: &str, #[case] why: &str) -> Tested {
    let simulated = all().with_subvolume("/pool/vm1/db").with_subvolume("/pool/vm2");
    world(simulated, async |inside| {
        let disks = in_subvolume(&inside, file, "/pool/vm1")?;
        let taken = disks.snapshot(&name("s1"), Quiesce::Off).await;
        holds(
            matches!(&taken, Err(DiskError::Storage(StorageError::NotCaught { .. }))),
            &format!("{taken:?}"),
        )?;
        let told = taken.map(drop).unwrap_err().to_string();
        holds(told.contains(file) && told.contains(why), &told)?;
        holds(inside.names("/pool") == ["vm1", "vm2"], "nothing was made")?;
        // Somebody has taken one all the same: it holds another disk, and this one neither goes back to it nor is read from it.
        inside.storage(Btrfs::new("/pool/vm1")?).snapshot(&name("s1")).await?;
        let ask = Ask::Revert(name("s1"));
        fails!(disks.perform(&ask), DiskError::Storage(StorageError::NotCaught { .. }), why)?;
        let unread = disks.readable(&name("s1")).await;
        holds(matches!(unread, Err(DiskError::NotRead { .. })), &format!("{unread:?}"))?;
        Ok(holds(inside.read(file)? == "old", "the disk is untouched")?)
    })
}

#[test]
fn a_disk_that_has_come_since_is_not_in_a_snapshot() -> Tested {
    world(all(), async |inside| {
        inside.storage(Btrfs::new("/pool/vm1")?).snapshot(&name("s1")).await?;
        let disks = inside.disks(&["vda"])?;
        fails!(disks.readable(&name("s1")), DiskError::NotRead { .. }, "holds no /pool/vm1@s1/vda.raw")?;
        fails!(
            disks.perform(&Ask::Revert(name("s1"))),
            DiskError::NotHeld { .. },
            "holds no /pool/vm1@s1/vda.raw"
        )?;
        Ok(holds(inside.read("/pool/vm1/vda.raw")? == "old", "it is there still")?)
    })
}

#[test]
fn a_data_set_holds_no_file_that_lies_in_another() -> Tested {
    world(all(), async |inside| {
        inside.write("/tank/vm2/vda.raw", "old")?;
        let disk = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='/tank/vm2/vda.raw'/>\
                    <target dev='vda'/><diskSnapshot method='zfs' volume='tank/vm1'/></disk>";
        let domain =
            DomainXml::read(format!("<domain><name>vm</name><devices>{disk}</devices></domain>").as_bytes())?;
        let disks = Disks::of(inside.world.env().clone(), &domain, &["vda".to_owned()], None)?;
        Ok(fails!(
            disks.snapshot(&name("s1"), Quiesce::Off),
            DiskError::Storage(StorageError::NotCaught { .. }),
            "does not hold /tank/vm2/vda.raw"
        )?)
    })
}
