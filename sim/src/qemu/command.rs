//! Which part of QEMU carries a command out.

use super::{
    Context, Qemu, QmpError,
    arguments::Arguments,
    block::{self, query::Query, statistics::Statistics},
    differences::Drain,
    human_monitor,
    job::Verb,
    migration, not_simulated, qom,
    snapshot_job::{self, Kind},
    vm_snapshot,
};
use crate::{Release, guest::Guest, qobject::QObject};

impl Qemu {
    pub(super) fn dispatch(
        &mut self,
        command: &str,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        match command {
            "blockdev-add" | "blockdev-del" | "blockdev-snapshot" | "blockdev-snapshot-sync" => {
                self.change_graph(command, arguments, cx)
            }
            "blockdev-mirror" | "drive-mirror" | "blockdev-backup" | "drive-backup" | "blockdev-create"
            | "block-commit" | "block-stream" => self.start_block_job(command, arguments, cx),
            "blockdev-reopen"
            | "x-blockdev-reopen"
            | "block_resize"
            | "change-backing-file"
            | "block_set_io_throttle"
            | "blockdev-set-active"
            | "object-add"
            | "object-del" => self.node_command(command, arguments, cx),
            bitmap if bitmap.starts_with("block-dirty-bitmap-") => {
                block::bitmap::command(&mut self.graph, bitmap, arguments, cx)
            }
            "nbd-server-start" | "nbd-server-stop" | "nbd-server-add" | "nbd-server-remove"
            | "block-export-add" | "block-export-del" => self.export(command, arguments, cx),
            "blockdev-snapshot-internal-sync" => {
                block::internal_snapshot::take(&self.graph, &self.jobs, &self.cpus, arguments, cx)?;
                self.drained(Drain::Transaction, cx)
            }
            "blockdev-snapshot-delete-internal-sync" => {
                block::internal_snapshot::delete(&self.graph, &self.jobs, arguments, cx)
            }
            "transaction" => {
                self.jobs.drained(Drain::Transaction, cx);
                let machine = block::transaction::Machine {
                    graph: &mut self.graph,
                    jobs: &mut self.jobs,
                    cpus: &self.cpus,
                };
                let done = block::transaction::transaction(machine, arguments, cx);
                self.firmware.meets(&self.jobs, &self.cpus, cx);
                done
            }
            "device_add" => self.devices.device_add(&mut self.graph, arguments, cx),
            "device_del" => self.devices.device_del(&mut self.graph, &mut self.cpus, arguments, cx),
            "qom-list" | "qom-get" | "qom-set" => self.qom(cx.release()).command(command, arguments),
            "human-monitor-command" => human_monitor::command(self, arguments, cx),
            "snapshot-save" => self.snapshot(Kind::Save, arguments, cx),
            "snapshot-load" => self.snapshot(Kind::Load, arguments, cx),
            "snapshot-delete" => self.snapshot(Kind::Delete, arguments, cx),
            query if query.starts_with("query-migrate") => self.migration.query(query, cx),
            query if query.starts_with("query-") => self.query(query, arguments, cx),
            "add-fd" => self.fdsets.add(arguments, cx),
            "remove-fd" => self.fdsets.remove(arguments, cx.release(), self.cpus.running()),
            "getfd" | "closefd" => self.migration_command(command, arguments, cx),
            migration if migration.starts_with("migrate") => self.migration_command(migration, arguments, cx),
            job if job.starts_with("job-") || job.starts_with("block-job-") => {
                self.job_command(job, arguments, cx)
            }
            other => match block::medium::command(other, &mut self.graph, &self.devices, arguments, cx) {
                Some(outcome) => block::medium::reply(outcome),
                None => self.power_command(other, arguments, cx),
            },
        }
    }

    /// Commands that start a job on nodes.
    fn start_block_job(
        &mut self,
        command: &str,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        let mut rested = None;
        match command {
            "drive-backup" => self.jobs.drained(Drain::Transaction, cx),
            "blockdev-backup" => {
                rested = self.jobs.before_another_begins(cx);
                self.finish_block_jobs(cx);
            }
            _ => {}
        }
        let (graph, jobs) = (&mut self.graph, &mut self.jobs);
        let begun = match command {
            "blockdev-mirror" => block::mirror::blockdev_mirror(graph, jobs, arguments, cx),
            "drive-mirror" => block::drive_mirror::drive_mirror(graph, jobs, arguments, cx),
            "blockdev-backup" => block::backup::blockdev_backup(graph, jobs, arguments, cx),
            "drive-backup" => block::drive_backup::drive_backup(graph, jobs, arguments, cx),
            "block-commit" => block::commit::block_commit(graph, jobs, arguments, cx),
            "block-stream" => block::stream::block_stream(graph, jobs, arguments, cx),
            _ => block::create::blockdev_create(graph, jobs, arguments, cx),
        };
        if let (Some(rested), Ok(_)) = (rested, &begun) {
            self.jobs.before_anothers_reply(rested, cx);
        }
        self.finish_block_jobs(cx);
        self.firmware.meets(&self.jobs, &self.cpus, cx);
        begun
    }

    /// The tree of objects.
    fn qom(&mut self, release: Release) -> qom::Qom<'_> {
        qom::Qom {
            devices: &mut self.devices,
            graph: &mut self.graph,
            pci: &self.pci,
            objects: &self.objects,
            chardevs: &self.chardevs,
            about: &self.about,
            release,
        }
    }

    /// Commands that change what a node or a device is like.
    fn node_command(
        &mut self,
        command: &str,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        let graph = &mut self.graph;
        match command {
            "block_resize" => block::resize::block_resize(graph, &self.jobs, arguments, cx),
            "change-backing-file" => {
                block::change_backing_file::change_backing_file(graph, &self.jobs, arguments, cx)
            }
            "block_set_io_throttle" => {
                block::throttle::block_set_io_throttle(graph, &self.devices, arguments)
            }
            "blockdev-set-active" => block::active::blockdev_set_active(graph, arguments, cx),
            "object-add" => self.objects.add(graph, arguments, cx),
            "object-del" => self.objects.delete(graph, arguments, cx),
            _ => block::reopen::blockdev_reopen(graph, &mut self.jobs, arguments, cx),
        }
    }

    fn query(
        &self,
        query: &str,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        let release = cx.release();
        let set_up = self.cpus.devices_are_set_up(cx.now()) || self.boot_sector.has_run();
        let torn_off = release.filters_left_behind_are_torn_off() && self.graph.has_left_behind_filters();
        if query == "query-named-block-nodes" && torn_off {
            cx.abort();
        }
        let (now, flat) = (cx.now(), arguments.flag("flat"));
        let blocks = Query { graph: &self.graph, jobs: &self.jobs, now, host: cx.host(), release, flat };
        match query {
            "query-block" => Ok(blocks.devices(self.disks_are_started(now))),
            "query-named-block-nodes" => Ok(blocks.nodes()),
            "query-jobs" => Ok(self.jobs.query(cx.now())),
            "query-block-jobs" => Ok(self.jobs.query_block(cx.now(), release)),
            "query-blockstats" => Ok(self.statistics(arguments.flag("query-nodes"), cx)),
            "query-iothreads" => Ok(self.objects.query_iothreads(release)),
            "query-block-exports" => Ok(self.graph.exports().query()),
            "query-chardev" => {
                Ok(self.chardevs.query(release, self.guest().is_some_and(Guest::port_is_open)))
            }
            "query-fdsets" => Ok(self.fdsets.query()),
            "query-yank" => Ok(self.chardevs.query_yank()),
            "query-pci" => self.pci.query(set_up, |id| self.devices.has(id, &self.graph)),
            "query-status" => Ok(self.cpus.query_status(cx)),
            other => self.about.query(other, release),
        }
    }

    pub(crate) fn statistics(&self, of_nodes: bool, cx: &mut Context<'_>) -> QObject {
        let now = cx.now();
        let booted = self.cpus.found_disks_at(now).or(self.boot_sector.has_run().then_some(now));
        let failed_write = self.boot_sector.told_by();
        let slot = |device: &&block::Device| self.pci.slot_of_disk(&device.id).unwrap_or(u64::MAX);
        let first = self.graph.devices().iter().min_by_key(slot).map(|device| device.id.as_str());
        let statistics =
            Statistics { graph: &self.graph, release: cx.release(), now, booted, first, failed_write };
        if of_nodes { statistics.nodes() } else { statistics.devices() }
    }

    fn job_command(
        &mut self,
        command: &str,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        let id = arguments.optional_text("id").unwrap_or(arguments.text("device"));
        let jobs = &mut self.jobs;
        let verb = match command.strip_prefix("block-").unwrap_or(command) {
            "job-pause" => Verb::Pause,
            "job-resume" => Verb::Resume,
            "job-complete" => Verb::Complete,
            "job-finalize" => Verb::Finalize,
            "job-dismiss" => Verb::Dismiss,
            "job-cancel" => Verb::Cancel,
            "job-set-speed" => Verb::SetSpeed,
            "job-change" => Verb::Change,
            _ => return Err(not_simulated(&format!("command `{command}`"))),
        };
        match (command, verb) {
            ("block-job-cancel", _) => jobs.block_cancel(id, arguments.flag("force"), cx)?,
            ("block-job-set-speed", _) => jobs.set_speed(id, arguments.integer("speed"), cx)?,
            ("block-job-change", _) => jobs.change(id, arguments.text("copy-mode"))?,
            (command, verb) if command.starts_with("block-") => jobs.block_verb(id, verb, cx)?,
            (_, verb) => jobs.verb(id, verb, cx)?,
        }
        self.finish_block_jobs(cx);
        Ok(QObject::empty())
    }

    fn migration_command(
        &mut self,
        command: &str,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        let mut machine = migration::Machine { graph: &mut self.graph, cpus: &mut self.cpus };
        self.migration.command(command, &mut machine, arguments, cx)
    }

    fn snapshot(
        &mut self,
        kind: Kind,
        arguments: Arguments<'_>,
        cx: &mut Context<'_>,
    ) -> Result<QObject, QmpError> {
        let machine = vm_snapshot::Machine {
            graph: &mut self.graph,
            cpus: &mut self.cpus,
            jobs: &mut self.jobs,
            migration: &mut self.migration,
            firmware: &mut self.firmware,
            chipset: self.devices.chipset(),
        };
        snapshot_job::start(kind, machine, arguments, cx)
    }

    /// The end of a command that has drained all nodes.
    fn drained(&mut self, drain: Drain, cx: &mut Context<'_>) -> Result<QObject, QmpError> {
        self.jobs.drained(drain, cx);
        Ok(QObject::empty())
    }
}
