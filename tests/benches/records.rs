//! Ten thousand snapshots in one tree: reading the records, listing, looking up, and finding what a new one changes.
//!
//! A chain (each snapshot the child of the one before, the deepest tree there is) and a bush (all of one parent). The rate
//! in snapshots a second is to stay the same while the number grows: the last lines tell how many times as long the tenfold
//! takes. 10 is linear, 100 quadratic; it fails above [`AT_MOST`].
#![allow(missing_docs, reason = "a benchmark")]
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "measures, and says so"
)]

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use freezeframe_driver::{
    domain_snapshot::{DomainSnapshot, Purpose},
    store::Changes,
    tree::{Filter, Scope, SnapshotTree},
};

/// How many times as long ten times as many may take: linear, with what caches cost that hold a thousand and no ten thousand, also
/// where others use them at the same time. Quadratic would be 100.
const AT_MOST: f64 = 40.0;

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
            "<domainsnapshot><name>s{index}</name><state>disk-snapshot</state>{}<creationTime>{index}</creationTime>\
             <memory snapshot='no'/><disks><disk name='vda' snapshot='external' type='file'><driver type='qcow2'/>\
             <source file='/images/vda.s{index}'/></disk></disks></domainsnapshot>",
            parent(index)
        )
    };
    (0..size).map(document).collect()
}

fn read(documents: &[String]) -> SnapshotTree {
    let records = documents.iter().map(|document| {
        DomainSnapshot::read(document.as_bytes(), Purpose::Redefine).expect("a record of our own making")
    });
    let (tree, wrong) = SnapshotTree::new(records.collect(), None);
    assert!(wrong.is_empty());
    tree
}

/// What is done with a tree, by name.
type Deed = (&'static str, fn(&[String], &SnapshotTree));

const DEEDS: [Deed; 5] = [
    ("load", |documents, _| {
        black_box(read(documents));
    }),
    ("list in order", |_, tree| {
        black_box(tree.topological().len());
    }),
    ("list the leaves", |_, tree| {
        black_box(tree.list(Scope::All, Filter { leaves: true, ..Filter::default() }).len());
    }),
    ("look each up", |documents, tree| {
        let found = (0..documents.len()).filter(|index| tree.get(&format!("s{index}")).is_some());
        assert_eq!(found.count(), documents.len());
    }),
    ("add one", |documents, tree| {
        let mut grown = tree.clone();
        let new = documents[0].replace("<name>s0</name>", "<name>new</name>");
        grown.insert(DomainSnapshot::read(new.as_bytes(), Purpose::Redefine).expect("a record"));
        let changes = Changes::between("/records".into(), tree, &grown).expect("names that are names");
        assert_eq!(changes.writes().len(), 1);
    }),
];

fn records(criterion: &mut Criterion) {
    for (name, shape) in [("chain", Shape::Chain), ("bush", Shape::Bush)] {
        let mut group = criterion.benchmark_group(format!("records/{name}"));
        for size in SIZES {
            let documents = documents(shape, size);
            let tree = read(&documents);
            group.throughput(Throughput::Elements(size as u64));
            for (deed, act) in DEEDS {
                group.bench_function(BenchmarkId::new(deed, size), |bencher| {
                    bencher.iter(|| act(&documents, &tree));
                });
            }
        }
    }
}

/// The best of some times.
fn quickest(act: impl Fn()) -> Duration {
    let time = || {
        let begun = Instant::now();
        act();
        begun.elapsed()
    };
    (0..7).map(|_| time()).min().expect("seven times")
}

fn growth(_: &mut Criterion) {
    let mut too_much = Vec::new();
    for (name, shape) in [("chain", Shape::Chain), ("bush", Shape::Bush)] {
        let [small, large] = [1_000, 10_000].map(|size| {
            let documents = documents(shape, size);
            let tree = read(&documents);
            DEEDS.map(|(_, act)| quickest(|| act(&documents, &tree)))
        });
        for (((deed, _), small), large) in DEEDS.iter().zip(small).zip(large) {
            let ratio = large.as_secs_f64() / small.as_secs_f64();
            println!("records/{name}: {deed}: 10,000 take {ratio:.1} times as long as 1,000 ({large:?})");
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
