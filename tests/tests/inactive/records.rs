//! A description that is older than the records, and records that cannot be read: what nobody knows is not worked on.

use freezeframe_driver::domain_snapshot::SnapshotDisk;

use super::*;

#[test]
fn a_description_that_is_older_than_the_records_is_not_believed() {
    off(Release::V10_0, async |bench: &Bench| {
        let old = bench.described().await;
        let machine = bench.off().await;
        machine.perform(&create("s1", true)).await.unwrap();
        bench.describe(&old).await;
        let words =
            "the machine's description has disk `vda` in `/images/vda.qcow2`, and by its records it went on";
        assert_refused(machine.perform(&create("s2", true)).await, Code::OperationInvalid, words);
        assert_refused(machine.perform(&revert("s1", &[])).await, Code::OperationInvalid, words);
    });
}

/// Its guest writes to the image that the snapshot holds: what is done by the records would be done to other data.
#[rstest]
fn a_machine_that_was_started_from_an_old_description_is_left_alone(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(true, false)] disk_only: bool,
) {
    off(release, async |bench: &Bench| {
        let domain = document().with_disks(|target| target == "vda");
        bench.describe(&domain).await;
        let machine = bench.off().await;
        machine.perform(&create("s1", true)).await.unwrap();
        machine.perform(&create("s2", disk_only)).await.unwrap();
        let new = bench.described().await;
        drop(machine);
        bench.start(&domain).await;
        bench.describe(&new).await;
        let machine = bench.running_as(&domain).await;
        let gone_on = if disk_only { "/images/vda.s2" } else { "/images/vda.s1" };
        let words = format!(
            "QEMU has disk `vda` in `/images/vda.qcow2`, and by its records it went on in `{gone_on}`: if it was started \
             from an old description, end it and start it from one that names `{gone_on}`"
        );
        let files = bench.files().await;
        for request in [create("s3", true), create("s3", false)] {
            assert_refused(machine.perform(&request).await, Code::OperationInvalid, &words);
        }
        for request in [revert("s1", &[RevertFlag::Force]), revert("s2", &[]), delete("s1"), delete("s2")] {
            let refused = machine.perform(&request).await.unwrap_err();
            assert!(matches!(refused, OperationError::Refused(_)), "{refused}");
        }
        assert_eq!(bench.files().await, files);

        // Who forgets the records has no other images by them.
        for name in ["s2", "s1"] {
            machine.perform(&forget(name)).await.unwrap();
        }
        machine.perform(&create("s3", true)).await.unwrap();
    });
}

/// An image that another snapshot holds, or that is not there, is never advised.
#[test]
fn where_a_disk_went_on_is_not_known_if_what_the_records_say_cannot_be() {
    off(Release::V10_0, async |bench: &Bench| {
        let old = bench.described().await;
        let machine = bench.off().await;
        machine.perform(&create("a", true)).await.unwrap();
        bench.world.env().remove_file("/images/vda.a".into()).await.unwrap();
        bench.describe(&old).await;
        let words = "went on in `/images/vda.a`, which is not there: in which image it went on is not known";
        assert_refused(machine.perform(&create("n", true)).await, Code::OperationInvalid, words);
    });
    off(Release::V10_0, async |bench: &Bench| {
        let machine = bench.off().await;
        machine.perform(&create("a", true)).await.unwrap();
        machine.perform(&create("b", true)).await.unwrap();
        machine.perform(&revert("a", &[])).await.unwrap();
        drop(machine);
        // As somebody has it who has lost where the branch began.
        let (mut store, _) = Store::open(bench.world.env().clone(), STATE.into(), "vm").await.unwrap();
        let mut tree = store.tree().clone();
        let a = tree.get("a").unwrap().clone();
        tree.insert(DomainSnapshot { revert_disks: Vec::new(), ..a });
        store.save(tree).await.unwrap();
        drop(store);
        let machine = bench.off().await;
        let words = "went on in `/images/vda.a`, which snapshot `b` holds";
        for request in [create("n", true), delete("b"), revert("b", &[])] {
            assert_refused(machine.perform(&request).await, Code::OperationInvalid, words);
            let unknown = ": in which image it went on is not known. Look at what the images hold";
            assert_refused(machine.perform(&request).await, Code::OperationInvalid, unknown);
        }
    });
}

/// A snapshot of one disk alone.
fn create_of(name: &str, target: &str) -> Request {
    create_beside(name, if target == "vda" { "vdb" } else { "vda" }, Location::No)
}

/// A snapshot of which this disk's part is there.
fn create_beside(name: &str, target: &str, location: Location) -> Request {
    let disks = vec![SnapshotDisk { location: Some(location), ..SnapshotDisk::new(target) }];
    let wish = DomainSnapshot { name: Some(name.into()), disks, ..DomainSnapshot::default() };
    Request::Create(Box::new(Create::new(wish, [CreateFlag::DiskOnly])))
}

/// The newest snapshot says nothing of that disk: which image it went on in an older one says, or one of another branch.
#[test]
fn a_description_is_held_against_the_records_of_a_disk_that_the_newest_left_out() {
    off(Release::V10_0, async |bench: &Bench| {
        let old = bench.described().await;
        let machine = bench.off().await;
        machine.perform(&create("s1", true)).await.unwrap();
        machine.perform(&create_of("s2", "vda")).await.unwrap();
        let new = bench.described().await;
        let older = |target: &str| {
            let disk = old.disk(target).unwrap();
            new.with_sources([(target, disk.path().unwrap(), disk.format())])
        };
        bench.describe(&older("vdb")).await;
        let words = "the machine's description has disk `vdb` in `/images/vdb.raw`, and by its records it went on in `/images/vdb.s1`: write";
        assert_refused(machine.perform(&create("s3", true)).await, Code::OperationInvalid, words);
        assert_refused(machine.perform(&delete("s2")).await, Code::OperationInvalid, words);
        assert_refused(machine.perform(&revert("s2", &[])).await, Code::OperationInvalid, words);

        // Every one is told.
        bench.describe(&old).await;
        let all = "has disk `vda` in `/images/vda.qcow2`, and by its records it went on in `/images/vda.s2`; it has disk \
                   `vdb` in `/images/vdb.raw`, and by its records it went on in `/images/vdb.s1`: write";
        assert_refused(machine.perform(&create("s3", true)).await, Code::OperationInvalid, all);

        // A disk that stays as it is where it goes back to a snapshot that left it out.
        bench.describe(&new).await;
        machine.perform(&create("s3", true)).await.unwrap();
        machine.perform(&revert("s2", &[])).await.unwrap();
        assert_eq!(bench.chain("vdb").await[0], "/images/vdb.s3");
        machine.perform(&create_of("s4", "vda")).await.unwrap();
        let now = bench.described().await;
        bench.describe(&now.with_sources([("vdb", "/images/vdb.s1".into(), "qcow2")])).await;
        let words =
            "has disk `vdb` in `/images/vdb.s1`, and by its records it went on in `/images/vdb.s3`: write";
        assert_refused(machine.perform(&create("s5", true)).await, Code::OperationInvalid, words);
        bench.describe(&now).await;
        machine.perform(&create("s5", true)).await.unwrap();
    });
}

/// Nobody writes to it by now, so that what stands on it is worth something.
#[test]
fn an_overlay_of_a_machine_that_is_off_is_not_removed_below_one_that_nobody_knows() {
    off(Release::V10_0, async |bench: &Bench| {
        bench.describe(&document().with_disks(|target| target == "vda")).await;
        let machine = bench.off().await;
        machine.perform(&create("s1", true)).await.unwrap();
        let before = bench.described().await;
        let wish = DomainSnapshot { name: Some("theirs".into()), ..DomainSnapshot::default() };
        let theirs = Create::new(wish, [CreateFlag::DiskOnly, CreateFlag::NoMetadata]);
        machine.perform(&Request::Create(Box::new(theirs))).await.unwrap();
        bench.describe(&before).await;
        let words = "`/images/vda.theirs` stands on `/images/vda.s1` of disk `vda`";
        assert_refused(machine.perform(&revert("s1", &[])).await, Code::OperationUnsupported, words);
        bench.world.env().remove_file("/images/vda.theirs".into()).await.unwrap();
        machine.perform(&revert("s1", &[])).await.unwrap();
    });
}

/// What is on the other disk would go with the way back; whoever has put it there on purpose forgets the records.
#[rstest]
fn a_disk_in_whose_place_another_one_was_put_is_missed_before_it_gets_an_overlay(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(true, false)] disk_only: bool,
) {
    off(release, async |bench: &Bench| {
        bench.describe(&document().with_disks(|target| target == "vda")).await;
        let machine = bench.off().await;
        machine.perform(&create("s1", true)).await.unwrap();
        if !disk_only {
            machine.perform(&create("s2", false)).await.unwrap();
        }
        drop(machine);
        bench.world.add_image("/images/other".into(), Image::qcow2(16 << 20));
        let other = bench.described().await.with_sources([("vda", "/images/other".into(), "qcow2")]);
        bench.describe(&other).await;
        bench.start(&other).await;
        let machine = bench.running_as(&other).await;
        let words =
            "QEMU has disk `vda` in `/images/other`, and by its records it went on in `/images/vda.s1`";
        for request in [create("s3", true), revert("s1", &[RevertFlag::Force])] {
            assert_refused(machine.perform(&request).await, Code::OperationInvalid, words);
        }
        let name = if disk_only { "s1" } else { "s2" };
        machine.perform(&forget(name)).await.unwrap();
        if !disk_only {
            machine.perform(&forget("s1")).await.unwrap();
        }
        machine.perform(&create("s3", true)).await.unwrap();
    });
}

/// Whoever is told that the record may be edited may do so for the wrong reason.
#[test]
fn what_a_record_was_made_to_name_and_may_be_another_disk_is_kept_by_a_revert() {
    off(Release::V10_0, async |bench: &Bench| {
        bench.describe(&document().with_disks(|target| target == "vda")).await;
        let machine = bench.off().await;
        machine.perform(&create("s1", true)).await.unwrap();
        bench.world.add_image("/images/other".into(), Image::qcow2(16 << 20));
        bench
            .describe(&bench.described().await.with_sources([("vda", "/images/other".into(), "qcow2")]))
            .await;
        let record = Utf8Path::new("/images/state/vm/s1.xml");
        let text = String::from_utf8(bench.world.env().read_file(record, 1 << 20).await.unwrap()).unwrap();
        let edited = text.replace("/images/vda.s1", "/images/other");
        bench.world.env().replace_file(record, edited.as_bytes()).await.unwrap();
        drop(machine);
        let machine = bench.off().await;
        let told = machine.perform(&revert("s1", &[])).await.unwrap().to_string();
        assert!(told.contains("`/images/other`, which disk vda was in, is kept"), "{told}");
        assert!(bench.files().await.contains(&"other".to_owned()));
    });
}

/// Another folder may hold another file of that name.
#[test]
fn a_description_whose_images_lie_somewhere_from_here_is_not_followed() {
    off(Release::V10_0, async |bench: &Bench| {
        let text = document().element().document().replace("/images/vda.qcow2", "vda.qcow2");
        bench.describe(&DomainXml::read(text.as_bytes()).unwrap()).await;
        let machine = bench.off().await;
        let words = "the image `vda.qcow2` of disk `vda` is named by a path that does not begin at the root";
        for disk_only in [true, false] {
            assert_refused(machine.perform(&create("s1", disk_only)).await, Code::ConfigUnsupported, words);
        }
    });
}

/// What the guest wrote to the overlay would be lost with the image that it stands on, whoever knows of it.
#[rstest]
fn a_description_that_is_older_than_an_overlay_goes_back_to_nothing_inside_the_image_below(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    off(release, async |bench: &Bench| {
        let domain = document().with_disks(|target| target == "vda");
        bench.describe(&domain).await;
        let machine = bench.off().await;
        machine.perform(&create("i1", false)).await.unwrap();
        machine.perform(&create("e1", true)).await.unwrap();
        bench.describe(&domain).await;
        let words = "went on in `/images/vda.e1`";
        assert_refused(machine.perform(&revert("i1", &[])).await, Code::OperationInvalid, words);

        // Nor when another one is said to be current.
        drop(machine);
        let (mut store, _) = Store::open(bench.world.env().clone(), STATE.into(), "vm").await.unwrap();
        let mut tree = store.tree().clone();
        tree.set_current(Some("i1"));
        store.save(tree).await.unwrap();
        drop(store);
        let machine = bench.off().await;
        let words = "`/images/vda.e1`, the overlay of snapshot `e1`, stands on that";
        assert_refused(machine.perform(&revert("i1", &[])).await, Code::OperationUnsupported, words);

        // Nor when no record tells of the overlay.
        machine.perform(&forget("e1")).await.unwrap();
        let words = "`/images/vda.e1` stands on `/images/vda.qcow2` of disk `vda`, and no snapshot is known";
        assert_refused(machine.perform(&revert("i1", &[])).await, Code::OperationUnsupported, words);
        bench.world.env().remove_file("/images/vda.e1".into()).await.unwrap();
        machine.perform(&revert("i1", &[])).await.unwrap();
    });
}

/// What a snapshot stands on whose record cannot be read may be any image.
#[rstest]
fn no_image_is_merged_removed_or_put_back_while_a_record_cannot_be_read(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    off(release, async |bench: &Bench| {
        let machine = bench.off().await;
        for name in ["s1", "s2", "s3"] {
            machine.perform(&create(name, true)).await.unwrap();
        }
        machine.perform(&revert("s1", &[])).await.unwrap();
        drop(machine);
        let env = bench.world.env();
        let record = env.read_file("/images/state/vm/s3.xml".into(), 1 << 20).await.unwrap();
        env.replace_file("/images/state/vm/s3.xml".into(), b"<domainsnap").await.unwrap();
        let anew = async || {
            let off =
                Off { domain: document(), monitor: None, capabilities: None, tool: None, managed_save: None };
            let (store, _) = Store::open(env.clone(), STATE.into(), "vm").await.unwrap();
            let machine = Machine::off(env.clone(), off, Patience::default());
            machine.with_records(store).with_document(FILE.into())
        };
        let machine = anew().await;
        let files = bench.files().await;
        let words = "the record `/images/state/vm/s3.xml` cannot be read";
        for request in [delete("s1"), delete("s2"), delete("s3"), revert("s2", &[]), revert("s3", &[])] {
            assert_refused(machine.perform(&request).await, Code::OperationInvalid, words);
        }
        assert_eq!(bench.files().await, files);

        // What changes no image that was there goes on, but for the name.
        assert_refused(
            machine.perform(&create("s3", true)).await,
            Code::OperationFailed,
            "is recorded already",
        );
        machine.perform(&create("s4", true)).await.unwrap();
        machine.perform(&forget("s2")).await.unwrap();
        drop(machine);

        // It is mended.
        env.replace_file("/images/state/vm/s3.xml".into(), &record).await.unwrap();
        let machine = anew().await;
        for name in ["s3", "s4"] {
            machine.perform(&delete(name)).await.unwrap();
        }
    });
}

#[test]
fn a_description_that_is_older_than_an_internal_snapshot_deletes_no_record_of_it() {
    off(Release::V10_0, async |bench: &Bench| {
        let domain = document().with_disks(|target| target == "vda");
        bench.describe(&domain).await;
        let machine = bench.off().await;
        machine.perform(&create("e1", true)).await.unwrap();
        machine.perform(&create("i1", false)).await.unwrap();
        bench.describe(&domain).await;
        assert_refused(
            machine.perform(&delete("i1")).await,
            Code::OperationInvalid,
            "went on in `/images/vda.e1`",
        );
        assert_eq!(machine.tree().unwrap().topological(), ["e1", "i1"]);
    });
}

/// The branch that the machine is in began in an overlay that only the forgotten one knew.
#[rstest]
fn a_machine_whose_newest_snapshot_is_forgotten_goes_on_in_the_branch_that_it_is_in(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(&["s3"], &["s2", "s3"], &["s3", "s2"])] forgotten: &[&str],
) {
    off(release, async |bench: &Bench| {
        bench.describe(&document().with_disks(|target| target == "vda")).await;
        let machine = bench.off().await;
        machine.perform(&create("s1", true)).await.unwrap();
        let other = bench.described().await;
        machine.perform(&create("s2", true)).await.unwrap();
        machine.perform(&revert("s1", &[])).await.unwrap();
        let branch = bench.chain("vda").await[0].clone();
        machine.perform(&create("s3", true)).await.unwrap();
        for name in forgotten {
            machine.perform(&forget(name)).await.unwrap();
        }
        assert_eq!(machine.tree().unwrap().current(), Some("s1"));

        // It is known where it went on: no other branch is taken for it.
        let described = bench.described().await;
        bench.describe(&other).await;
        let words = format!("went on in `{branch}`");
        assert_refused(machine.perform(&create("s4", true)).await, Code::OperationInvalid, &words);
        bench.describe(&described).await;

        machine.perform(&create("s4", true)).await.unwrap();
        let chain = ["/images/vda.s4", "/images/vda.s3", branch.as_str(), "/images/vda.qcow2"];
        assert_eq!(bench.chain("vda").await, chain);
        machine.perform(&delete("s4")).await.unwrap();
        assert_eq!(bench.chain("vda").await, chain[1..]);
    });
}

/// Down to the last of them, and the caller's too: who goes back to what is not there has no machine afterwards.
#[rstest]
fn images_that_a_snapshot_goes_back_to_and_that_are_gone_are_missed_before_anything_is_touched(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
    #[values(true, false)] manual: bool,
) {
    off(release, async |bench: &Bench| {
        let machine = bench.off().await;
        machine.perform(&create("s1", true)).await.unwrap();
        let newest = if manual { create_beside("s2", "vdb", Location::Manual) } else { create("s2", true) };
        machine.perform(&newest).await.unwrap();
        let (described, missing) = (bench.described().await, if manual { "vdb.s1" } else { "vdb.raw" });
        let gone = Utf8Path::new("/images").join(missing);
        bench.world.env().remove_file(&gone).await.unwrap();
        let files = bench.files().await;
        let Request::Revert(revert) = revert("s2", &[]) else { unreachable!("it is one") };
        let revert = Request::Revert(Revert { storage_is_back: manual, ..revert });
        let words = format!("the image `/images/{missing}` of disk `vdb` is not there");
        assert_refused(machine.perform(&revert).await, Code::ConfigUnsupported, &words);
        assert_eq!((bench.files().await, bench.described().await), (files, described));
        // Nothing is to stand on what is not there.
        for above in ["/images/vdb.s1", "/images/vdb.s2"] {
            bench.world.env().remove_file(above.into()).await.ok();
        }
    });
}
