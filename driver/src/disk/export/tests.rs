use super::*;
use crate::domain_xml::DomainXml;

#[test]
fn each_image_of_a_chain_is_opened_read_only_with_its_stated_format() {
    let image = |file: &str, format: &str| Backing { file: file.into(), format: format.into() };
    let node = opening(&image("/i/a.s1", "qcow2"), &[image("/dev/vg/a", "raw")]);
    assert_eq!(
        node,
        json!({
            "driver": "qcow2", "read-only": true,
            "file": { "driver": "file", "filename": "/i/a.s1", "read-only": true },
            "backing": {
                "driver": "raw", "read-only": true,
                "file": { "driver": "host_device", "filename": "/dev/vg/a", "read-only": true },
            },
        })
    );
    assert_eq!(opening(&image("/i/a", "qcow2"), &[])["backing"], Value::Null);
}

#[test]
fn a_comma_in_a_path_begins_no_option() {
    assert_eq!(value("/run/a,addr.type=inet"), "/run/a,,addr.type=inet");
}

#[test]
fn a_snapshot_of_an_rbd_image_is_read_where_the_machines_document_says_its_cluster_is() {
    let source =
        "<source protocol='rbd' name='p/i'><host name='mon1' port='6790'/><host name='mon2'/></source>";
    let disk = format!("<disk type='network'><auth username='backup'/>{source}<target dev='vda'/></disk>");
    let document = format!("<domain><name>vm</name><devices>{disk}</devices></domain>");
    let domain = DomainXml::read(document.as_bytes()).unwrap();
    let cluster = Cluster::of(domain.disk("vda").unwrap().element(), Some("/etc/c.conf"));
    assert_eq!(
        rbd("p/i@s1", &cluster).unwrap()["file"],
        json!({
            "driver": "rbd", "pool": "p", "image": "i", "snapshot": "s1", "read-only": true, "user": "backup",
            "conf": "/etc/c.conf",
            "server": [{ "host": "mon1", "port": "6790" }, { "host": "mon2", "port": "6789" }],
        })
    );
    let plain = json!({ "driver": "rbd", "pool": "p", "namespace": "n", "image": "i", "snapshot": "s1", "read-only": true });
    assert_eq!(rbd("p/n/i@s1", &Cluster::default()).unwrap()["file"], plain);
    assert_eq!(rbd("p/i", &Cluster::default()), None);
}

#[test]
fn what_is_inside_an_image_is_served_by_its_name() {
    let export = Export {
        daemon: "qsd".into(),
        nbd: "qemu-nbd".into(),
        socket: "/run/s".into(),
        within: Duration::from_secs(1),
    };
    let command = export.by_nbd("vda", &SnapshotName::new("s1").unwrap(), &json!({ "driver": "qcow2" }));
    assert_eq!(command.program, "qemu-nbd");
    let words = "--read-only --persistent --shared=0 --socket=/run/s --export-name=vda --load-snapshot=snapshot.name=s1 \
                 json:{\"driver\":\"qcow2\"}";
    assert_eq!(command.arguments.join(" "), words);
}
