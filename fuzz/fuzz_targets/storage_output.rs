//! Any bytes from the tools of the storages: reading them never panics, and what is read is a name that was asked for.
//!
//! A zero byte ends what one command has said; the last piece is also taken for the words of one that failed.

#![no_main]

use camino::Utf8Path;
use freezeframe_driver::{
    name::SnapshotName,
    storage::{Btrfs, Exec, Lvm, Provider, Rbd, Reflink, Zfs, lvm::Room},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let said: Vec<Vec<u8>> = bytes.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
    let whole = [bytes.to_vec()];
    let name = SnapshotName::new("s1").expect("a good name");
    for provider in providers() {
        for said in [&said[..], &whole] {
            let asked = provider.list().len();
            if let Ok(snapshots) = provider.listed(&said[..asked.min(said.len())]) {
                for snapshot in snapshots {
                    assert!(!snapshot.name.as_str().contains('/'), "{provider:?} read {snapshot:?}");
                }
            }
            let _ = provider.used(&name, said);
            let _ = provider.check_room(said);
            let _ = provider.check_given(said);
            let _ = provider.stays_behind(Utf8Path::new("/pool/vm1"), said);
            let _ = provider.folders(said);
            let _ = provider.files(said);
        }
        let _ = provider.understood(bytes);
        let _ = provider.refusal(1, &String::from_utf8_lossy(bytes));
    }
});

fn providers() -> [Box<dyn Provider>; 8] {
    [
        Box::new(Btrfs::new("/pool/vm1").expect("a plain path")),
        Box::new(Reflink::new("/images/vda.raw").expect("a plain path")),
        Box::new(Lvm::new("vg/t0", None).expect("a volume")),
        Box::new(Lvm::new("vg/t0", Room::percent(25)).expect("a volume")),
        Box::new(Zfs::new(&["tank/vm1", "tank/vm2"]).expect("two sets")),
        Box::new(Rbd::image("rbd/vda").expect("an image")),
        Box::new(Rbd::group("rbd/g", &["rbd/vda", "rbd/vdb"]).expect("a group")),
        Box::new(Exec::new("/bin/array", &["volume-1"]).expect("a program")),
    ]
}
