//! Which machine answers: another one than that described is left alone. On the simulator, on every release.

use freezeframe::world::{
    World as _,
    sim::{SimWorld, Simulator},
};
use freezeframe_driver::{
    Machine, Patience,
    domain::Domain,
    domain_xml::DomainXml,
    error::{Code, OperationError},
};
use freezeframe_sim::{Machine as Described, Oracle, Release, Simulation};
use rstest::rstest;

const ONE: &str = "6f2d61a4-0000-4000-8000-000000000001";
const ANOTHER: &str = "6f2d61a4-0000-4000-8000-000000000002";

/// What comes of a description with this UUID when the machine that answers has that one.
fn checked(release: Release, described: &str, answers: Option<&str>) -> Result<(), Box<OperationError>> {
    let capabilities = Simulator::new().capabilities(release).unwrap();
    let described = format!("<domain type='qemu'><name>vm</name>{described}<devices/></domain>");
    let described = DomainXml::read(described.as_bytes()).unwrap();
    let machine = Described { uuid: answers.map(str::to_owned), ..Described::new().disk("vda") };
    let simulation = Simulation::new(&machine, release, Oracle::default_order());
    let handle = simulation.handle();
    let world = SimWorld::new(&machine, handle.sockets(), handle.spawner());
    let told = simulation.run(async {
        let (env, monitor, domain) = (world.env().clone(), world.monitor(), Domain::from(described));
        let machine = Machine::connect(env, monitor, domain, Some(capabilities), Patience::default()).await?;
        machine.check_identity().await
    });
    told.unwrap().map_err(Box::new)
}

#[rstest]
fn a_machine_of_another_uuid_is_left_alone(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let one = format!("<uuid>{ONE}</uuid>");
    match checked(release, &one, Some(ANOTHER)) {
        Err(error) => {
            let OperationError::Refused(refusal) = *error else { panic!("{error:?}") };
            assert_eq!(refusal.code(), Code::OperationInvalid);
            let words = "this is another machine's description, or another machine's monitor";
            assert!(refusal.to_string().ends_with(words), "{refusal}");
        }
        Ok(()) => panic!("it is another machine"),
    }
    checked(release, &one, Some(ONE)).unwrap();
    // Who does not say who it is, is believed.
    checked(release, &one, None).unwrap();
    checked(release, "", Some(ANOTHER)).unwrap();
}

/// What comes of a description of this kind and memory when the machine that answers is a `q35` of 64 MiB.
#[rstest]
fn a_machine_that_is_not_as_it_is_described_is_left_alone(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let other = |described: &str, what: &str| match checked(release, described, None) {
        Err(error) => {
            let OperationError::Refused(refusal) = *error else { panic!("{error:?}") };
            assert_eq!(refusal.code(), Code::OperationInvalid);
            assert!(refusal.to_string().contains(what), "{refusal}");
        }
        Ok(()) => panic!("{described} is another machine"),
    };
    let kind = |machine: &str| format!("<os><type machine='{machine}'>hvm</type></os>");
    other(&kind("pc"), "the one that is described of the kind pc:");
    other(&kind("pc-q35-2.4"), "the one that is described of the kind pc-q35-2.4");
    other(
        "<memory unit='MiB'>128</memory>",
        "of the memory 67108864 bytes, and the one that is described of the memory 134217728 bytes",
    );
    checked(release, &kind("q35"), None).unwrap();
    checked(release, "<memory>65536</memory>", None).unwrap();
    // Rounded up to whole MiB, as libvirt does.
    checked(release, "<memory unit='b'>67108800</memory>", None).unwrap();
    // What is plugged in is a part of what is described, and not of what QEMU was started with.
    checked(release, "<maxMemory>1048576</maxMemory><memory>131072</memory>", None).unwrap();
}
