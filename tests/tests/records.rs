//! The records of a machine's snapshots, told the same story on a real file system and on the simulated host.

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::world::{World as _, sim::SimWorld};
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Purpose},
    env::{Env, tokio::TokioEnv},
    store::{self, Passed, Store, StoreError},
    tree::SnapshotTree,
};
use freezeframe_sim::{Machine, Oracle, Release, Simulation};
use tokio::runtime::Builder;

#[test]
fn records_outlive_who_wrote_them_on_a_real_file_system() {
    let folder = tempfile::tempdir().unwrap();
    let state = Utf8PathBuf::try_from(folder.path().join("state")).unwrap();
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { story(TokioEnv::new(), &state).await });
}

#[test]
fn records_outlive_who_wrote_them_on_the_simulated_host() {
    let machine = Machine::new();
    let simulation = Simulation::new(&machine, Release::V10_0, Oracle::default_order());
    let handle = simulation.handle();
    let world = SimWorld::new(&machine, handle.sockets(), handle.spawner());
    simulation.run(story(world.env().clone(), "/state".into())).unwrap();
}

fn record(name: &str, parent: Option<&str>) -> DomainSnapshot {
    let text = format!(
        "<domainsnapshot><name>{name}</name><state>running</state><creationTime>1</creationTime></domainsnapshot>"
    );
    let record = DomainSnapshot::read(text.as_bytes(), Purpose::Redefine).unwrap();
    DomainSnapshot { parent: parent.map(str::to_owned), ..record }
}

async fn story<E: Env>(env: E, state: &Utf8Path) {
    let names = |tree: &SnapshotTree| tree.topological().join(" ");
    let (mut store, passed) = Store::open(env.clone(), state, "vm").await.unwrap();
    assert!(store.tree().is_empty() && passed.is_empty());

    let (mut tree, _) =
        SnapshotTree::new(vec![record("a", None), record("b", Some("a")), record("c", Some("b"))], None);
    tree.set_current(Some("c"));
    store.save(tree).await.unwrap();

    // Who only reads is let in, who would change is not, and another machine is another matter.
    assert_eq!(names(&store::load(&env, state, "vm").await.unwrap().0), "a b c");
    assert!(matches!(Store::open(env.clone(), state, "vm").await, Err(StoreError::Locked(_))));
    assert!(Store::open(env.clone(), state, "vm2").await.unwrap().0.tree().is_empty());
    drop(store);

    let (mut store, _) = Store::open(env.clone(), state, "vm").await.unwrap();
    assert_eq!((names(store.tree()), store.tree().current()), ("a b c".into(), Some("c")));

    // A name that would leave the folder stops the whole change before it begins.
    let mut tree = store.tree().clone();
    tree.remove("a");
    tree.insert(record("../x", None));
    assert!(matches!(store.save(tree).await, Err(StoreError::Name(_))));
    assert_eq!(names(&store::load(&env, state, "vm").await.unwrap().0), "a b c");

    let mut tree = store.tree().clone();
    tree.remove("c");
    tree.remove("a");
    store.save(tree).await.unwrap();
    let (tree, _) = store::load(&env, state, "vm").await.unwrap();
    assert_eq!((names(&tree), tree.current()), ("b".into(), Some("b")));
    assert_eq!(tree.get("b").unwrap().parent, None);
    assert_eq!(env.list_folder(&state.join("vm")).await.unwrap(), ["b.xml", "current", "lock"]);

    // What is no record is told of and stays.
    env.replace_file(&state.join("vm/wrong.xml"), b"<domainsnapshot>").await.unwrap();
    env.replace_file(&state.join("vm/vast.xml"), &vec![b' '; 5 << 20]).await.unwrap();
    let (tree, passed) = store::load(&env, state, "vm").await.unwrap();
    assert_eq!(names(&tree), "b");
    assert!(matches!(&passed[..], [Passed::Unreadable { .. }, Passed::Bad { .. }]), "{passed:?}");
    assert!(matches!(store::load(&env, state, "..").await, Err(StoreError::Machine(_))));
}
