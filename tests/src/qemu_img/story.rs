//! What the driver does with the images of a machine that is off, from the first overlay to the last commit.

use std::{fmt::Display, future::Future};

use camino::Utf8Path;
use freezeframe::world::{World as _, sim::SimWorld};
use freezeframe_driver::{
    env::Env,
    qemu_img::{Backing, Clusters, ImageInfo, NewImage, QemuImg, ToolError},
};
use freezeframe_sim::{Machine, Oracle, Release, Simulation};

/// Tells the story in a folder: a line for each thing that was done, with what came of it.
pub async fn of_images<E: Env>(tool: &QemuImg<E>, folder: &Utf8Path) -> Vec<String> {
    let mut told = Told { lines: Vec::new(), folder };
    let [base, top, odd] = ["base.qcow2", "top.qcow2", "odd,name: \"x\""].map(|name| folder.join(name));
    let missing = folder.join("missing");
    let new = |file: &Utf8Path, size, backing| NewImage {
        file: file.to_owned(),
        size,
        clusters: Clusters::default(),
        backing,
    };
    let on = |file: &Utf8Path| Backing { file: file.to_owned(), format: "qcow2".into() };

    told.done("a base", tool.create(&new(&base, Some(16 << 20), None))).await;
    told.done("an overlay", tool.create(&new(&top, None, Some(on(&base))))).await;
    told.done("an overlay on nothing", tool.create(&new(&odd, None, Some(on(&missing))))).await;
    told.done("an image of an odd name", tool.create(&new(&odd, Some(1 << 20), Some(on(&missing))))).await;
    told.done("a snapshot", tool.snapshot_create(&base, "1")).await;
    told.done("another", tool.snapshot_create(&base, "-s 2")).await;
    told.done("one of a chain that leads to nothing", tool.snapshot_create(&odd, "s")).await;
    told.done("one of nothing", tool.snapshot_create(&missing, "s")).await;
    told.names(
        tool.snapshot_list(&base).await.map(|list| list.into_iter().map(|known| known.name).collect()),
    );
    told.done("back to the second", tool.snapshot_apply(&base, "-s 2")).await;
    told.done("back to none", tool.snapshot_apply(&base, "2")).await;
    told.done("the first is deleted", tool.snapshot_delete(&base, "1")).await;
    told.done("and once more", tool.snapshot_delete(&base, "1")).await;
    told.names(tool.snapshot_list(&base).await.map(|list| list.into_iter().map(|known| known.id).collect()));
    told.chain(tool.info_of_chain(&top, "qcow2").await);
    told.chain(tool.info_of_chain(&odd, "qcow2").await);
    told.done("into the base", tool.commit(&top, None)).await;
    told.done("into the base by its name", tool.commit(&top, Some(&base))).await;
    told.done("the base into nothing", tool.commit(&base, None)).await;
    told.done("on nothing", tool.rebase_unsafe(&top, Some(&on(&missing)))).await;
    told.done("into nothing", tool.commit(&top, None)).await;
    told.chain(tool.info(&top, "qcow2").await.map(|one| vec![one]));
    told.done("by itself", tool.rebase_unsafe(&top, None)).await;
    told.chain(tool.info_of_chain(&top, "qcow2").await);
    told.done("what it shows is kept", tool.rebase(&top, Some(&on(&base)))).await;
    told.done("and nothing is below", tool.rebase(&top, None)).await;
    told.done("of what is not there", tool.rebase(&top, Some(&on(&missing)))).await;
    told.chain(tool.info_of_chain(&top, "qcow2").await);
    told.chain(tool.info(&missing, "qcow2").await.map(|one| vec![one]));
    let other = QemuImg { program: "/nowhere/no-such-tool".into(), ..tool.clone() };
    told.done("by a tool that is not there", other.commit(&top, None)).await;
    told.done("a path that is none", tool.commit("-d".into(), None)).await;
    told.lines
}

/// The story on the simulated host of a release, on which no machine runs.
///
/// # Panics
/// If it waits for what will never happen.
pub fn simulated(release: Release) -> Vec<String> {
    let machine = Machine::new();
    let simulation = Simulation::new(&machine, release, Oracle::default_order());
    let handle = simulation.handle();
    handle.kill_qemu();
    let world = SimWorld::new(&machine, handle.sockets(), handle.spawner());
    let tool = QemuImg::new(world.env().clone());
    let told = simulation.run(async move { of_images(&tool, world.folder()).await });
    told.expect("each run of a tool comes to its end")
}

struct Told<'a> {
    lines: Vec<String>,
    folder: &'a Utf8Path,
}

impl Told<'_> {
    async fn done(&mut self, what: &str, doing: impl Future<Output = Result<(), ToolError>>) {
        let outcome = doing.await;
        self.outcome(what, outcome.map(|()| "done"));
    }

    fn names(&mut self, names: Result<Vec<String>, ToolError>) {
        self.outcome("snapshots", names.map(|names| names.join(", ")));
    }

    fn chain(&mut self, chain: Result<Vec<ImageInfo>, ToolError>) {
        let one = |info: &ImageInfo| {
            let ImageInfo { filename, format, virtual_size, .. } = info;
            let (file, of) = (&info.full_backing_filename, &info.backing_filename_format);
            format!("{filename} {format} {virtual_size} on {file:?} {of:?}")
        };
        self.outcome("chain", chain.map(|chain| chain.iter().map(one).collect::<Vec<_>>().join("; ")));
    }

    fn outcome(&mut self, what: &str, outcome: Result<impl Display, ToolError>) {
        let outcome = match outcome {
            Ok(outcome) => outcome.to_string(),
            Err(error) => format!("failed: {error}"),
        };
        self.lines.push(format!("{what}: {outcome}").replace(self.folder.as_str(), "<dir>"));
    }
}
