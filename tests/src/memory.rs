//! Plans that save a machine's memory to a file or load it from one, and what they are carried out on: for tests of the steps
//! that they are made of, in the simulator and on real QEMUs.

use std::{io, num::NonZeroU32, rc::Rc, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe::{
    interpose::{Faults, Hands},
    language::{At, Fault, FaultKind, Moment, Point},
    recorded::Recorded,
    transcript::Record,
    world::World,
};
use freezeframe_driver::{
    Machine, Patience,
    capabilities::Capabilities,
    client::Client,
    commands::{QueryStatus, Status},
    domain::{Domain, DomainDisk},
    env::{Access, Env, OpenFile, Ownership},
    error::OperationError,
    migration::Settings,
    plan::{Plan, Stage},
    qemu_img::Clusters,
    save_image::{Format, SaveImage},
    step::{
        BeginSaveImage, LoadMemory, Meanwhile, Pause, PrepareOverlay, ReserveFile, Resume, SaveMemory,
        SealSaveImage, SetMigration, Step, Switch, SwitchOverlays,
    },
};
use freezeframe_sim::Release;

/// How long an operation may take here.
pub const WITHIN: Duration = Duration::from_secs(20);

/// What stands for a domain's document.
pub const DOCUMENT: &str = "<domain type='qemu'><name>vm</name></domain>";

/// What the guest does while its memory is saved, and how that is laid out: every way that a release has.
pub fn ways(release: Release) -> Vec<(Meanwhile, Format)> {
    let mut ways = vec![(Meanwhile::Paused, Format::Raw), (Meanwhile::Live, Format::Raw)];
    if release > Release::V5_2 {
        ways.push((Meanwhile::Background, Format::Raw));
    }
    if release > Release::V7_2 {
        ways.extend([(Meanwhile::Paused, Format::Sparse), (Meanwhile::Live, Format::Sparse)]);
    }
    ways
}

/// A fault that strikes once, at the `nth` command of that name or at the `nth` event.
pub fn fault(moment: Moment, nth: u32, point: Point, kind: FaultKind) -> Fault {
    let nth = NonZeroU32::new(nth).expect("counted from 1");
    Fault { at: At { moment, point, with: None, nth }, kind, times: NonZeroU32::MIN, added: false }
}

/// What another client does when the driver's command has been carried out, before the driver knows.
pub fn another_client_does(at: &str, json: &str) -> Fault {
    fault(Moment::Command(at.into()), 1, Point::Applied, FaultKind::Qmp(json.into()))
}

/// Lets migrations send next to nothing.
pub const SLOW: &str = r#"{"execute": "migrate-set-parameters", "arguments": {"max-bandwidth": 1000}}"#;

/// Another client lets migrations send next to nothing, just before one is begun.
pub fn slow() -> Fault {
    another_client_does("migrate-set-parameters", SLOW)
}

/// Another client cancels the migration, which is slow enough for it.
pub fn slow_and_cancelled() -> [Fault; 2] {
    [slow(), another_client_does("migrate", r#"{"execute": "migrate_cancel"}"#)]
}

/// A driver in a world, over a wire on which faults strike.
pub struct Rig<'w, W: World> {
    /// The world.
    pub world: &'w W,
    /// A connection of the test's own, where nothing goes wrong.
    pub control: Client<W::Env>,
    /// The machine, as the driver has it.
    pub machine: Machine<Recorded<W::Env>>,
    /// What was said between the two.
    pub record: Record,
    /// What is to go wrong.
    pub faults: Faults<W::Env>,
}

impl<'w, W: World + Clone + 'static> Rig<'w, W> {
    /// Connects to a machine with these disks, of a QEMU that can do this.
    ///
    /// # Panics
    /// If that cannot be done.
    pub async fn new(world: &'w W, capabilities: Rc<Capabilities>, disks: &[&str], faults: &[Fault]) -> Self {
        let env = world.env();
        let control = Client::connect(env, &world.control(), false, WITHIN).await.expect("a second monitor");
        let record = Record::new(env.now());
        let faults = Faults::new(faults, control.clone(), Hands::in_world(world));
        let recorded = Recorded::new(env.clone(), record.clone(), Some(faults.clone()));
        let disk = |target: &&str| DomainDisk::new(target, &format!("{target}-device"));
        let domain = Domain::new("vm", disks.iter().map(disk).collect());
        let patience = Patience { command: Duration::from_secs(1), ..Patience::default() };
        let machine = Machine::connect(recorded, world.monitor(), domain, Some(capabilities), patience);
        let machine = machine.await.unwrap_or_else(|error| panic!("{error}"));
        Self { world, control, machine, record, faults }
    }

    /// The save image that is written.
    pub fn path(&self) -> Utf8PathBuf {
        self.world.folder().join("vm.mem")
    }

    /// What migrations of this QEMU are set to.
    ///
    /// # Panics
    /// If it does not say.
    pub async fn settings(&self) -> Settings {
        let deadline = self.world.env().now() + WITHIN;
        Settings::ask(&self.control, "test", deadline).await.expect("QEMU tells its settings")
    }

    /// The plan that saves the memory of the running guest and lets its disks, if any are named, go on in overlays of that
    /// moment.
    pub async fn saving(&self, guest: Meanwhile, format: Format, disks: &[&str]) -> Plan {
        let path = self.path();
        let image = SaveImage {
            complete: false,
            was_running: true,
            format,
            document: DOCUMENT.into(),
            cookie: Some("<cookie/>".into()),
        };
        let at = image.begin().expect("a document that can be saved").len() as u64;
        let background = (guest == Meanwhile::Background).then_some("background-snapshot");
        let mapped = (format == Format::Sparse).then_some("mapped-ram");
        let old = self.settings().await;
        let on: Vec<_> = background.into_iter().chain(mapped).collect();
        let settings = SetMigration { new: old.for_saving(&on), old };
        let save = SaveMemory {
            path: path.clone(),
            at,
            method: self.machine.capabilities().memory_method(),
            fdname: "memory".into(),
            guest,
            takes_back: false,
        };
        let mut reserve: Vec<Step> =
            vec![ReserveFile { path: path.clone(), ownership: Ownership::Own }.into()];
        reserve.extend(
            disks
                .iter()
                .map(|disk| ReserveFile { path: self.overlay(disk), ownership: Ownership::Own }.into()),
        );
        let back = settings.back();
        let begin = BeginSaveImage { path: path.clone(), image, overwrite: false };
        let mut prepare: Vec<Step> = vec![begin.into(), settings.into()];
        prepare.extend(disks.iter().map(|disk| self.prepare(disk).into()));
        let pause: Vec<Step> = if guest == Meanwhile::Live { Vec::new() } else { vec![Pause {}.into()] };
        let switches: Vec<_> = disks.iter().map(|disk| self.switch(disk)).collect();
        let switch: Vec<Step> = if switches.is_empty() {
            Vec::new()
        } else {
            vec![SwitchOverlays { switches, with_memory: true }.into()]
        };
        // In the background the guest goes on while its memory is written: its disks are switched before.
        let (first, then): (Vec<Step>, _) = if guest == Meanwhile::Background {
            (switch, vec![save.into()])
        } else {
            (vec![save.into()], switch)
        };
        let end = vec![SealSaveImage { path }.into()];
        let stages =
            [reserve, prepare, pause, first, then, vec![Resume::default().into()], end, vec![back.into()]];
        let stages: Vec<_> =
            stages.into_iter().filter(|steps| !steps.is_empty()).map(|steps| Stage { steps }).collect();
        let no_return = stages.len() - 2;
        let disks = disks.iter().map(|disk| (*disk).to_owned()).collect();
        Plan { title: "save memory".into(), disks, manual: Vec::new(), stages, no_return }
    }

    /// The plan that loads a save image.
    pub fn loading(&self, path: &Utf8Path) -> Plan {
        let capabilities = self.machine.capabilities();
        let load = LoadMemory {
            path: path.to_owned(),
            method: capabilities.memory_method(),
            fdname: "memory".into(),
            stays: capabilities.failed_loads_can_stay(),
            takes_images: false,
        };
        let stages = vec![Stage { steps: vec![load.into()] }];
        Plan { title: "load memory".into(), disks: Vec::new(), manual: Vec::new(), stages, no_return: 0 }
    }

    /// Carries a plan out.
    ///
    /// # Errors
    /// Those of the driver.
    pub async fn carry_out(&self, plan: &Plan) -> Result<(), OperationError> {
        self.machine.carry_out(plan, WITHIN).await
    }

    /// How the machine stands.
    ///
    /// # Panics
    /// If it does not say.
    pub async fn status(&self) -> Status {
        let deadline = self.world.env().now() + WITHIN;
        self.control.execute("test", &QueryStatus {}, deadline).await.expect("QEMU tells how it stands")
    }

    /// What the save image says, and how long it is in bytes.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn saved(&self) -> io::Result<(SaveImage, u64)> {
        let file = self.world.env().open(&self.path(), Access::Read).await?;
        let bytes = file.read_at(0, 1 << 20).await?;
        let image = SaveImage::read(&bytes).map_err(io::Error::other)?;
        Ok((image, file.length().await?))
    }

    fn overlay(&self, disk: &str) -> Utf8PathBuf {
        self.world.folder().join(format!("{disk}.s1"))
    }

    fn prepare(&self, disk: &str) -> PrepareOverlay {
        PrepareOverlay {
            target: disk.to_owned(),
            job: format!("create-{disk}"),
            file: self.overlay(disk),
            device: false,
            reuse: false,
            file_node: format!("{disk}-s1-file"),
            node: format!("{disk}-s1"),
            size: 16 << 20,
            backing_file: self.world.folder().join(format!("{disk}.qcow2")),
            backing_format: "qcow2".into(),
            clusters: Clusters::default(),
            metadata_cache: None,
        }
    }

    fn switch(&self, disk: &str) -> Switch {
        Switch {
            target: disk.to_owned(),
            node: disk.to_owned(),
            overlay: format!("{disk}-s1"),
            file: self.overlay(disk),
            reused: false,
            bitmaps: Vec::new(),
        }
    }
}
