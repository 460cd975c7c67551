//! Two drivers on one machine, each with records in a folder of its own: the lock among the records keeps neither from the other,
//! and no chain is planned on that somebody is changing. On the simulator, on every release; and the folder of the locks on a real
//! host.
#![allow(clippy::disallowed_methods, reason = "folders of a real host are made for the driver to find")]

use std::{
    fs, io,
    os::unix::fs::{PermissionsExt as _, symlink},
    time::Duration,
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::world::{
    World as _,
    sim::{SimEnv, SimWorld, Simulator},
};
use freezeframe_driver::{
    Machine, Patience,
    domain::Domain,
    domain_snapshot::DomainSnapshot,
    domain_xml::DomainXml,
    env::{Env, tokio::TokioEnv},
    error::{Code, OperationError},
    machine::HoldError,
    request::{Create, CreateFlag, Request},
    store::Store,
};
use freezeframe_sim::{Machine as Described, Oracle, Release, Simulation, exec::Spawner};
use rstest::rstest;
use tokio::runtime::Builder;

const UUID: &str = "6f2d61a4-0000-4000-8000-000000000001";

fn document(uuid: &str) -> DomainXml {
    let text = format!(
        "<domain type='qemu'><name>vm</name>{uuid}<devices><disk type='file' device='disk'>
         <driver name='qemu' type='qcow2'/><source file='/images/vda.qcow2'/><target dev='vda' bus='virtio'/>
         <alias name='vda-device'/></disk></devices></domain>"
    );
    DomainXml::read(text.as_bytes()).unwrap()
}

/// What two drivers meet, each of which is told of the machine what is described to it; the machine answers with a UUID of its own.
struct Met {
    /// Who asks for the lock while the first takes a snapshot.
    meanwhile: io::Result<()>,
    /// A snapshot of the second while somebody has the lock, and once it is free.
    second: Result<(), Box<OperationError>>,
    again: Result<(), Box<OperationError>>,
}

fn meet(release: Release, described: [&str; 2]) -> Met {
    let capabilities = Simulator::new().capabilities(release).unwrap();
    let machine = Described { uuid: Some(UUID.into()), ..Described::new().disk("vda") };
    let simulation = Simulation::new(&machine, release, Oracle::default_order());
    let handle = simulation.handle();
    let world = SimWorld::new(&machine, handle.sockets(), handle.spawner());
    let env = world.env();
    let told = simulation.run(async {
        let driver = async |number: usize| -> Machine<SimEnv<Spawner>> {
            let domain = Domain::from(document(described[number]));
            let monitor = [world.monitor(), world.control()][number].clone();
            let known = Some(capabilities.clone());
            let machine = Machine::connect(env.clone(), monitor, domain, known, Patience::default()).await;
            let machine = machine.unwrap();
            machine.check_identity().await.unwrap();
            let state = Utf8PathBuf::from(format!("/state{number}"));
            machine.with_records(Store::open(env.clone(), &state, "vm").await.unwrap().0)
        };
        let (one, other) = (driver(0).await, driver(1).await);
        let (first, s2, s3) = (create("s1", &[CreateFlag::DiskOnly]), create("s2", &[]), create("s3", &[]));
        let lock = Utf8PathBuf::from(format!("/run/freezeframe/{UUID}.lock"));
        let meanwhile = async {
            // Whenever that is.
            for _ in 0..100 {
                env.sleep_until(env.now() + Duration::from_micros(100)).await;
                env.lock(&lock).await.map(drop)?;
            }
            Ok(())
        };
        let (first, meanwhile) = tokio::join!(one.perform(&first), meanwhile);
        first.unwrap();
        let held = env.lock(&lock).await.expect("it was given back");
        let second = other.perform(&s2).await.map(drop).map_err(Box::new);
        drop(held);
        let again = other.perform(&s3).await.map(drop).map_err(Box::new);
        Met { meanwhile, second, again }
    });
    simulation.world().check_invariants().unwrap();
    told.unwrap()
}

fn create(name: &str, flags: &[CreateFlag]) -> Request {
    let wish = DomainSnapshot { name: Some(name.into()), ..DomainSnapshot::default() };
    Request::Create(Box::new(Create::new(wish, flags.iter().copied())))
}

#[rstest]
fn drivers_with_records_in_two_folders_are_kept_apart_on_one_machine(
    #[values(Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1)] release: Release,
) {
    let described = format!("<uuid>{UUID}</uuid>");
    // Known by its description, by what it answers, or by one of them each.
    for described in [[&*described, &*described], ["", ""], ["", &*described]] {
        let Met { meanwhile, second, again } = meet(release, described);
        assert_eq!(meanwhile.unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let error = *second.expect_err("somebody else has it");
        assert_eq!(error.code(), Code::OperationTimeout);
        assert!(matches!(error, OperationError::Held(HoldError::Held(_))), "{error}");
        let words = format!(
            "it holds `/run/freezeframe/{UUID}.lock`): try again when it is done. Nothing was touched."
        );
        assert!(error.to_string().ends_with(&words), "{error}");
        again.unwrap();
    }
}

#[test]
fn the_runtime_folder_is_the_users_alone_or_another_is_taken() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Utf8Path::from_path(folder.path()).unwrap();
    let at = |name: &str| folder.join(name);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let first = |names: &[&str]| {
        let candidates: Vec<_> = names.iter().map(|name| at(name)).collect();
        runtime.block_on(TokioEnv::new().with_runtime_folder(&candidates).runtime_folder())
    };
    // One that cannot be made is passed over, and what was made is found the next time.
    assert_eq!(first(&["none/below", "made"]).unwrap(), at("made"));
    assert_eq!(fs::metadata(at("made")).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(first(&["made", "other"]).unwrap(), at("made"));
    // A link, and one that others may enter, may be anybody's.
    symlink(at("made"), at("link")).unwrap();
    fs::create_dir(at("open")).unwrap();
    fs::set_permissions(at("open"), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(first(&["link", "open", "other"]).unwrap(), at("other"));
    let refused = first(&["link", "open"]).unwrap_err().to_string();
    assert!(refused.contains("this user's alone"), "{refused}");
}
