//! LVM: as much as the host's kernel has of it, and all of it in a guest.

use std::{env, process::Command};

use camino::Utf8Path;
use freezeframe_driver::{
    env::HostCommand,
    storage::{Lvm, StorageError, lvm::Room},
};
use freezeframe_tests::{
    fails,
    storage::{
        VolumeGroup,
        appliance::{Appliance, run_at},
        walk::{holds, listed, name, walk},
    },
};

use super::{Not, storage};

/// The group in the guest.
const GROUP: &str = "test";

/// The tools that the driver calls.
const TOOLS: [&str; 4] = ["lvs", "lvcreate", "lvremove", "lvconvert"];

pub(super) async fn on_the_host() -> Result<(), Not> {
    let _group = VolumeGroup::new().map_err(Not::Here)?;
    let of = |name: &str| Lvm::new(&format!("{}/{name}", VolumeGroup::NAME), Room::percent(20));
    let vm1 = storage(of("vm1")?);
    holds(vm1.list().await?.is_empty(), "there is nothing at first")?;
    fails!(storage(of("nope")?).snapshot(&name("s1")), StorageError::Gone { .. }, "nope")?;
    let elsewhere = Lvm::new("freezeframe-no-such-group/vm1", None)?;
    fails!(storage(elsewhere).list(), StorageError::Gone { .. }, "not found")?;
    match vm1.snapshot(&name("s1")).await {
        Err(StorageError::NotSupported { words }) => {
            holds(words.contains("device-mapper"), "it says why")?;
            let why =
                "volumes are listed, and what is missing is told; snapshots need a kernel with device-mapper";
            return Err(Not::Here(why.to_owned()));
        }
        told => told?,
    }
    holds(listed(&vm1).await? == ["s1"], "it is listed")?;
    fails!(vm1.snapshot(&name("s1")), StorageError::Exists { .. }, "s1")?;
    vm1.revert(&name("s1")).await?;
    fails!(vm1.delete(&name("s1")), StorageError::Gone { .. }, "no snapshot `s1`")?;
    vm1.snapshot(&name("s2")).await?;
    vm1.delete(&name("s2")).await?;
    holds(vm1.list().await?.is_empty(), "there is nothing at last")?;
    Ok(())
}

/// A thick and a thin volume, by tools that run where the kernel has device-mapper: this test once more, with those on its path.
pub(super) fn in_a_guest() -> Result<(), Not> {
    let guest = Appliance::start(200).map_err(Not::Here)?;
    guest.run(&format!(
        "lvm pvcreate /dev/vda && lvm vgcreate {GROUP} /dev/vda && lvm lvcreate --yes -L 32M -n thick {GROUP} && \
         lvm lvcreate --yes --type thin-pool -L 16M -n pool {GROUP} && lvm lvcreate --yes -V 32M --thinpool pool -n thin {GROUP}"
    ))?;
    let this = env::current_exe()?;
    let this = Utf8Path::from_path(&this).ok_or("this test's path is no text")?;
    let mut again: Command = guest.with_tools(this, env!("CARGO_BIN_EXE_in-guest"), &TOOLS)?;
    holds(again.status()?.success(), "it passes in the guest")?;
    Ok(())
}

/// What is done with the guest's tools on the path.
pub(super) async fn in_the_guest(shell: &Utf8Path) -> Result<(), Not> {
    for (volume, room) in [("thick", Room::percent(25)), ("thin", None)] {
        let device = format!("/dev/{GROUP}/{volume}");
        let write =
            |words: &str| run_at(shell, &format!("printf {words} | dd of={device} conv=fsync")).map(drop);
        let read = || run_at(shell, &format!("head -c 3 {device}"));
        let volume = storage(Lvm::new(&format!("{GROUP}/{volume}"), room)?);
        walk(&volume, write, read).await?;

        // One whose snapshot somebody reads does not go back, nor one that has others: they would be lost.
        volume.snapshot(&name("s3")).await?;
        volume.snapshot(&name("s4")).await?;
        fails!(volume.revert(&name("s3")), StorageError::Busy { .. }, "delete them first")?;
        holds(listed(&volume).await? == ["s3", "s4"], "both are there")?;
        volume.delete(&name("s4")).await?;
        open(shell, &format!("{device}.s3"))?;
        fails!(volume.revert(&name("s3")), StorageError::Busy { .. }, "s3 is open")?;
        close(shell)?;
        volume.delete(&name("s3")).await?;

        // Nor does one that is open itself, and has lost nothing by that.
        volume.snapshot(&name("s3")).await?;
        write("new")?;
        open(shell, &device)?;
        fails!(volume.revert(&name("s3")), StorageError::Busy { .. }, "open")?;
        close(shell)?;
        holds(read()? == "new" && listed(&volume).await? == ["s3"], "all is as it was")?;
        volume.revert(&name("s3")).await?;
        holds(read()? == "old", "it goes back once it is closed")?;
    }
    thick_overflows(shell).await?;
    group_is_full(shell).await?;
    ended_while_it_stands_still(shell).await?;
    Ok(())
}

/// Lets somebody in the guest have a volume open.
fn open(shell: &Utf8Path, device: &str) -> Result<(), String> {
    run_at(shell, &format!("{{ sleep 300 <{device} & }}; echo $! >/run/open")).map(drop)
}

/// Ends whoever has it open, and waits until nobody has.
fn close(shell: &Utf8Path) -> Result<(), String> {
    run_at(shell, "kill $(cat /run/open); while [ -d /proc/$(cat /run/open) ]; do usleep 5000; done")
        .map(drop)
}

/// A thick snapshot holds nothing any more when more was written than it has room for.
async fn thick_overflows(shell: &Utf8Path) -> Result<(), Not> {
    let thick = storage(Lvm::new(&format!("{GROUP}/thick"), Room::percent(25))?);
    thick.snapshot(&name("s4")).await?;
    run_at(shell, &format!("dd if=/dev/urandom of=/dev/{GROUP}/thick bs=1M count=16 conv=fsync"))?;
    let found = thick.list().await?;
    holds(found.len() == 1 && !found[0].fit, "it is listed as unfit")?;
    fails!(thick.revert(&name("s4")), StorageError::Gone { .. }, "s4")?;
    thick.delete(&name("s4")).await?;
    holds(thick.list().await?.is_empty(), "and can be deleted")?;
    Ok(())
}

/// What finds no room leaves nothing.
async fn group_is_full(shell: &Utf8Path) -> Result<(), Not> {
    let thick = storage(Lvm::new(&format!("{GROUP}/thick"), Room::percent(100))?);
    let mut taken = Vec::new();
    let full = loop {
        let next = name(&format!("n{}", taken.len()));
        match thick.snapshot(&next).await {
            Ok(()) if taken.len() < 9 => taken.push(next),
            told => break told,
        }
    };
    holds(
        matches!(full, Err(StorageError::NoSpace { .. })),
        &format!("the group is full at last, and {full:?} says so"),
    )?;
    holds(listed(&thick).await?.len() == taken.len(), "the one that found no room is not there")?;
    let sizes = run_at(
        shell,
        &format!("lvm lvs --noheadings --units m --nosuffix -o lv_size --select origin=thick {GROUP}"),
    )?;
    let has_room = |size: &str| size.parse().is_ok_and(|size: f64| size >= 36.0);
    holds(
        sizes.split_whitespace().all(has_room),
        &format!("each has the room that it was to have: {sizes}"),
    )?;
    for name in taken {
        thick.delete(&name).await?;
    }
    holds(thick.list().await?.is_empty(), "there is nothing at last")?;
    Ok(())
}

/// `lvcreate` lets a volume stand still for a moment. Asked to end there, it lets it go first, and well before it would be killed; killed
/// there, it leaves it so.
async fn ended_while_it_stands_still(shell: &Utf8Path) -> Result<(), Not> {
    let still = run_at(shell, &format!("dirname $(grep -lx {GROUP}-thick /sys/block/dm-*/dm/name)"))?;
    let still = format!("{}/suspended", still.trim());
    // It is caught in that moment, sooner or later, and stopped until it has got its signal.
    let catch = format!(
        "tries=0; still=0; while [ $still = 0 ] && [ $tries -lt 50 ]; do tries=$((tries + 1)); lvm lvremove --yes {GROUP}/thick.s5; \
         lvm lvcreate --yes -s -L 8M -n thick.s5 {GROUP}/thick & tool=$!; \
         while [ $still = 0 ] && [ -d /proc/$tool ]; do read still <{still}; done; kill -STOP $tool; usleep 50000; \
         read still <{still}; [ $still = 1 ] || {{ kill -CONT $tool; wait $tool; }}; done; {{ echo caught $still; }} >/run/caught"
    );
    let tenths = HostCommand::ENDS_WITHIN.as_secs() * 10;
    for (signal, left) in [("TERM", "0"), ("KILL", "1")] {
        let end = format!(
            "kill -{signal} $tool; kill -CONT $tool; looks=0; while grep -q '^State:.[^Z]' /proc/$tool/status && [ $looks -lt {tenths} ]; \
             do looks=$((looks + 1)); usleep 100000; done; [ $looks -lt {tenths} ] && echo ended $(cat {still}) >>/run/caught"
        );
        run_at(shell, &format!("( {catch}; {end} ) >/dev/null 2>&1"))?;
        let told = run_at(shell, "cat /run/caught")?;
        holds(told == format!("caught 1\nended {left}\n"), &format!("by SIG{signal}: {told}"))?;
    }
    let told = run_at(shell, &format!("lvm lvchange --refresh {GROUP}/thick >/dev/null; cat {still}"))?;
    holds(told == "0\n", "LVM lets it go when it is told to")?;
    Ok(())
}
