//! The TPM of a machine that is off.

use super::*;

#[test]
fn a_tpm_whose_state_is_left_out_is_told_of() {
    off(Release::V10_0, async |bench: &Bench| {
        let text = document().with_disks(|target| target == "vda").element().document();
        let tpm = "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm></devices>";
        bench.describe(&DomainXml::read(text.replace("</devices>", tpm).as_bytes()).unwrap()).await;
        let machine = bench.off().await;
        let words = "the TPM's state is not part of it";
        for (name, disk_only) in [("e1", true), ("s1", false)] {
            let plan = machine.plan(&create(name, disk_only)).await.unwrap();
            assert!(plan.to_string().contains(words), "{plan}");
            let report = machine.perform(&create(name, disk_only)).await.unwrap();
            assert!(report.tpm_left_out && report.to_string().contains(words), "{report}");
            let report = machine.perform(&delete(name)).await.unwrap();
            assert!(!report.tpm_left_out && !report.to_string().contains(words), "{report}");
        }
    });
}
