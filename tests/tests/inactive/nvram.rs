//! The firmware's variables of a machine that is off.

use super::*;

#[rstest]
fn the_variables_of_the_firmware_go_with_an_internal_snapshot(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    off(release, async |bench: &Bench| {
        let text = document().with_disks(|target| target == "vda").element().document();
        let nvram = "<nvram format='qcow2'>/images/vars.qcow2</nvram></os>";
        let domain = DomainXml::read(text.replace("</os>", nvram).as_bytes()).unwrap();
        bench.describe(&domain).await;
        let machine = bench.off().await;
        // One that was never started has none yet.
        let words = "the firmware's variables belong to an internal snapshot";
        assert_refused(machine.perform(&create("s1", false)).await, Code::OperationUnsupported, words);
        machine.perform(&create("e1", true)).await.unwrap();
        machine.perform(&delete("e1")).await.unwrap();

        bench.world.add_image(Utf8Path::new("/images/vars.qcow2"), Image::qcow2(256 << 10));
        let tool = QemuImg::new(bench.world.env().clone());
        let held = async || {
            let held = tool.snapshot_list(Utf8Path::new("/images/vars.qcow2")).await.unwrap();
            held.into_iter().map(|held| held.name).collect::<Vec<_>>()
        };
        let report = machine.perform(&create("s1", false)).await.unwrap();
        assert_eq!((report.disks.join(" "), held().await), ("vda nvram".into(), vec!["s1".into()]));
        let report = machine.perform(&revert("s1", &[])).await.unwrap();
        assert_eq!(report.disks, ["vda", "nvram"]);
        // Without those of then it would not be the machine of then.
        tool.snapshot_delete(Utf8Path::new("/images/vars.qcow2"), "s1").await.unwrap();
        let words = "is not on disk `nvram`";
        assert_refused(machine.perform(&revert("s1", &[])).await, Code::OperationInvalid, words);
        tool.snapshot_create(Utf8Path::new("/images/vars.qcow2"), "s1").await.unwrap();
        machine.perform(&delete("s1")).await.unwrap();
        assert_eq!(held().await, Vec::<String>::new());
    });
}

#[test]
fn the_variables_of_the_firmware_are_made_anew_from_their_template() {
    off(Release::V10_0, async |bench: &Bench| {
        let text = document().with_disks(|target| target == "vda").element().document();
        let nvram = "<nvram template='/images/template.fd'>/images/vars.fd</nvram></os>";
        let domain = DomainXml::read(text.replace("</os>", nvram).as_bytes()).unwrap();
        bench.describe(&domain).await;
        let machine = bench.off().await;
        machine.perform(&create("e1", true)).await.unwrap();
        let back = revert("e1", &[RevertFlag::ResetNvram]);
        let words = "their template `/images/template.fd` is not there";
        assert_refused(machine.perform(&back).await, Code::OperationUnsupported, words);

        let [vars, template] = ["/images/vars.fd", "/images/template.fd"].map(Utf8Path::new);
        let env = bench.world.env();
        env.replace_file(vars, b"of today").await.unwrap();
        env.replace_file(template, b"new").await.unwrap();
        let mut plan = machine.plan(&back).await.unwrap();
        assert!(plan.to_string().contains("make vars.fd anew from template.fd"), "{plan}");
        // What comes next fails, and all is put back.
        let in_the_way = ReserveFile { path: "/images/vda.qcow2".into(), ownership: Ownership::Own };
        plan.no_return += 1;
        plan.stages.insert(plan.no_return, Stage { steps: vec![in_the_way.into()] });
        let failed = machine.carry_out(&plan, WITHIN).await.unwrap_err();
        assert!(matches!(failed, OperationError::RolledBack { .. }), "{failed}");
        assert_eq!(env.read_file(vars, 1 << 10).await.unwrap(), b"of today");

        machine.perform(&back).await.unwrap();
        assert_eq!(env.read_file(vars, 1 << 10).await.unwrap(), b"new");
        for file in [vars, template] {
            env.remove_file(file).await.unwrap();
        }
        let left = bench.files().await.into_iter().filter(|file| file.starts_with("vars.fd"));
        assert_eq!(left.collect::<Vec<_>>(), Vec::<String>::new());
    });
}
