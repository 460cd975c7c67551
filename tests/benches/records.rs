//! Ten thousand snapshots in one tree: reading the records from their folder, listing, looking up, and finding what a new one changes.
//!
//! A chain (each snapshot the child of the one before, the deepest tree there is) and a bush (all of one parent). The rate
//! in snapshots a second is to stay the same while the number grows: the last lines tell how many times as long ten thousand take in
//! one tree as in ten trees of a thousand. 1 is linear, 1.3 is n log n, 2.5 is n^1.4, 10 is quadratic; it fails above [`AT_MOST`].
#![allow(missing_docs, reason = "a benchmark")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures, and says so"
)]

use std::{
    any::Any,
    fs,
    hint::black_box,
    time::{Duration, Instant},
};

use camino::Utf8PathBuf;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Purpose},
    env::tokio::TokioEnv,
    store::{self, Changes},
    tree::{Filter, Scope, SnapshotTree},
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// How many times as long ten thousand in one tree may take as in ten: linear, with what looking each up in a larger map costs (1.3, n log n),
/// and what caches do that hold a thousand and no ten thousand, beside other work (up to 1.7 was seen). n^1.4 would be 2.5.
const AT_MOST: f64 = 2.2;

/// How often both are taken by turns at least: what else the host does strikes both, and the best of each counts.
const ROUNDS: usize = 7;

/// For how long they are, in which what takes a millisecond has its turn often enough.
const AT_LEAST: Duration = Duration::from_secs(2);

const SIZES: [usize; 3] = [100, 1_000, 10_000];

/// How the snapshots descend.
#[derive(Clone, Copy)]
enum Shape {
    Chain,
    Bush,
}

/// The records' documents, as they lie in a folder.
fn documents(shape: Shape, size: usize) -> Vec<String> {
    let parent = |index: usize| match (shape, index) {
        (_, 0) => String::new(),
        (Shape::Chain, _) => format!("<parent><name>s{}</name></parent>", index - 1),
        (Shape::Bush, _) => "<parent><name>s0</name></parent>".to_owned(),
    };
    let document = |index| {
        format!(
            "<domainsnapshot><name>s{index}</name><state>disk-snapshot</state>{}<creationTime>{index}</creationTime><active>0</active>\
             <memory snapshot='no'/><disks><disk name='vda' snapshot='external' type='file'><driver type='qcow2'/>\
             <source file='/images/vda.s{index}'/></disk></disks></domainsnapshot>",
            parent(index)
        )
    };
    (0..size).map(document).collect()
}

/// Records in a folder of the host's, and the tree that they are.
struct Recorded {
    documents: Vec<String>,
    tree: SnapshotTree,
    state: Utf8PathBuf,
    runtime: Runtime,
    /// Goes with it.
    _folder: TempDir,
}

impl Recorded {
    fn new(shape: Shape, size: usize) -> Self {
        let (folder, documents) = (TempDir::new().expect("a temporary folder"), documents(shape, size));
        let state = Utf8PathBuf::try_from(folder.path().to_owned()).expect("its name is text");
        let records = state.join("vm");
        fs::create_dir(&records).expect("a folder");
        for (index, document) in documents.iter().enumerate() {
            fs::write(records.join(format!("s{index}.xml")), document).expect("a record");
        }
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let mut recorded = Self { documents, tree: SnapshotTree::default(), state, runtime, _folder: folder };
        recorded.tree = recorded.load();
        assert_eq!(recorded.tree.topological().len(), size);
        recorded
    }

    fn load(&self) -> SnapshotTree {
        let env = TokioEnv::new();
        let load = store::load(&env, &self.state, "vm");
        let (tree, passed) = self.runtime.block_on(load).expect("a folder of records");
        assert!(passed.is_empty(), "{passed:?}");
        tree
    }
}

/// What is done with records, by name; what is made for it goes when its time is taken.
type Deed = (&'static str, fn(&Recorded) -> Box<dyn Any>);

const DEEDS: [Deed; 5] = [
    ("load", |recorded| Box::new(recorded.load())),
    ("list in order", |recorded| Box::new(recorded.tree.topological().len())),
    ("list the leaves", |recorded| {
        Box::new(recorded.tree.list(Scope::All, Filter { leaves: true, ..Filter::default() }).len())
    }),
    ("look each up", |Recorded { documents, tree, .. }| {
        let found = (0..documents.len()).filter(|index| tree.get(&format!("s{index}")).is_some());
        assert_eq!(found.count(), documents.len());
        Box::new(())
    }),
    ("add one", |Recorded { documents, tree, .. }| {
        let mut grown = tree.clone();
        let new = documents[0].replace("<name>s0</name>", "<name>new</name>");
        grown.insert(DomainSnapshot::read(new.as_bytes(), Purpose::Redefine).expect("a record"));
        let changes = Changes::between("/records".into(), tree, &grown).expect("names that are names");
        assert_eq!(changes.writes().len(), 1);
        Box::new(grown)
    }),
];

fn records(criterion: &mut Criterion) {
    for (name, shape) in [("chain", Shape::Chain), ("bush", Shape::Bush)] {
        let mut group = criterion.benchmark_group(format!("records/{name}"));
        for size in SIZES {
            let recorded = Recorded::new(shape, size);
            group.throughput(Throughput::Elements(size as u64));
            for (deed, act) in DEEDS {
                group.bench_function(BenchmarkId::new(deed, size), |bencher| {
                    bencher.iter(|| act(&recorded));
                });
            }
        }
    }
}

/// How long it takes to make something, without its end.
fn time<T>(act: impl FnOnce() -> T) -> Duration {
    let begun = Instant::now();
    let made = black_box(act());
    let took = begun.elapsed();
    drop(made);
    took
}

fn growth(_: &mut Criterion) {
    let mut too_much = Vec::new();
    for (name, shape) in [("chain", Shape::Chain), ("bush", Shape::Bush)] {
        let ten: Vec<_> = (0..10).map(|_| Recorded::new(shape, 1_000)).collect();
        let one = Recorded::new(shape, 10_000);
        for (deed, act) in DEEDS {
            let round = |_: usize| (time(|| ten.iter().map(act).collect::<Vec<_>>()), time(|| act(&one)));
            let begun = Instant::now();
            let rounds = (0..).take_while(|number| *number < ROUNDS || begun.elapsed() < AT_LEAST);
            let best = rounds.map(round).reduce(|best, now| (best.0.min(now.0), best.1.min(now.1)));
            let (ten, one) = best.expect("some rounds");
            let ratio = one.as_secs_f64() / ten.as_secs_f64();
            println!(
                "records/{name}: {deed}: 10,000 take {ratio:.2} times as long in one tree as in ten ({one:?})"
            );
            if ratio > AT_MOST {
                too_much.push(format!("{name}: {deed}"));
            }
        }
    }
    assert!(too_much.is_empty(), "it does not grow linearly: {}", too_much.join("; "));
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(10).measurement_time(Duration::from_secs(1)).warm_up_time(Duration::from_millis(200));
    targets = records, growth
}
criterion_main!(benches);
