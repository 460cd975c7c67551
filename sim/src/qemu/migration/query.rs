//! `query-migrate`, and what there is to tell of the memory that was sent.
//!
//! How many pages are empty is as recorded of a machine whose firmware found nothing to start; sizes and times are
//! plausible, not exact.

use std::time::Duration;

use super::{Migration, Status};
use crate::{
    host::Hardware,
    qemu::{Context, run_state::Cpus},
    qobject::{QDict, QObject, key, qdict},
};

/// Bytes of a page of guest memory.
const PAGE: u64 = 4096;
/// Memory beside that of the guest: firmware, video and tables.
const BESIDE: u64 = 130 * PAGE;
/// Pages in use before the firmware has run.
const UNTOUCHED: u64 = 5;
/// After so long a migration that is held back sends again.
const TICK: Duration = Duration::from_millis(100);

/// What a migration sends, and when.
#[derive(Debug, Clone, Default)]
pub(crate) struct Memory {
    total: u64,
    in_use: u64,
    again: u64,
    asked: Duration,
    begun: Option<Duration>,
    stopped: Option<Duration>,
    ended: Option<Duration>,
}

impl Memory {
    /// The memory of a machine that is about to be migrated.
    pub(crate) fn new(hardware: &Hardware, cpus: &Cpus, cx: &Context<'_>) -> Self {
        let in_use = if cpus.devices_are_set_up(cx.now()) { cx.release().pages_in_use() } else { UNTOUCHED };
        Self { total: hardware.memory + BESIDE, in_use, asked: cx.now(), ..Self::default() }
    }

    /// The memory of a machine of which a snapshot was taken: for `query-migrate` that took no time.
    pub(crate) fn of_snapshot(hardware: &Hardware, cpus: &Cpus, cx: &Context<'_>) -> Self {
        let now = Some(cx.now());
        Self { begun: now, stopped: now, ended: now, ..Self::new(hardware, cpus, cx) }
    }

    /// The first pass begins.
    pub(crate) fn begin(&mut self, now: Duration) {
        self.begun = Some(now);
    }

    /// The guest has written to that many pages again.
    pub(crate) fn write_again(&mut self, pages: u64) {
        self.again += pages;
    }

    /// The guest has stopped.
    pub(crate) fn stop(&mut self, now: Duration) {
        self.stopped = Some(now);
    }

    /// All is sent.
    pub(crate) fn end(&mut self, now: Duration) {
        self.ended = Some(now);
    }

    /// Pages that were sent by `now`: empty ones and others.
    fn pages(&self, slowest: (u64, u64), now: Duration) -> (u64, u64) {
        let empty = (self.total / PAGE).saturating_sub(self.in_use);
        if self.stopped.is_some() || self.ended.is_some() {
            return (empty, self.in_use + self.again);
        }
        let ticks = now.saturating_sub(self.begun.unwrap_or(now)).as_millis() / TICK.as_millis() + 1;
        let ticks = u64::try_from(ticks).unwrap_or(u64::MAX);
        let part = |pages: u64, all: u64| (pages * ticks / 2).min(all);
        (part(slowest.0, empty), part(slowest.1, self.in_use))
    }
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Migration {
    /// `query-migrate`: the last migration from here, or the one to here.
    pub(super) fn query_migrate(&self, cx: &Context<'_>) -> QObject {
        let (status, error) = match (self.outgoing.status(), &self.incoming) {
            (Status::None, Some(incoming)) => (incoming.status(), incoming.error()),
            (status, _) => (status, self.outgoing.error()),
        };
        let mut reply = qdict! {};
        match status {
            Status::None => return reply.into(),
            _ if self.outgoing.status() == Status::None => {}
            Status::Active
            | Status::PreSwitchover
            | Status::Device
            | Status::Cancelling
            | Status::Failing => {
                reply.put(key!("expected-downtime"), self.parameters.number("downtime-limit"));
                if cx.release().migrations_tell_what_remains() {
                    reply.put(key!("remaining"), self.remaining(cx));
                }
                self.put_times(&mut reply, cx);
            }
            Status::Completed => {
                let memory = self.outgoing.memory();
                let stopped = memory.stopped.or(memory.ended).unwrap_or_default();
                reply.put(
                    key!("downtime"),
                    milliseconds(memory.ended.unwrap_or_default().saturating_sub(stopped)),
                );
                self.put_times(&mut reply, cx);
            }
            _ => {}
        }
        reply.put(key!("status"), status.name());
        if let Some(error) = error {
            reply.put(key!("error-desc"), error.to_owned());
        }
        reply.into()
    }

    fn put_times(&self, reply: &mut QDict, cx: &Context<'_>) {
        let memory = self.outgoing.memory();
        let until = memory.ended.unwrap_or(cx.now());
        let begun = memory.begun.unwrap_or(until);
        reply.put(key!("setup-time"), milliseconds(begun.saturating_sub(memory.asked)));
        reply.put(key!("total-time"), milliseconds(until.saturating_sub(memory.asked)));
        reply.put(key!("ram"), self.ram(cx));
        if self.capabilities.has("xbzrle") {
            reply.put(key!("xbzrle-cache"), self.xbzrle_cache());
        }
    }

    /// QAPI's `XBZRLECacheStats`: an idle guest has nothing to send again that was in the cache.
    fn xbzrle_cache(&self) -> QDict {
        qdict! {
            "cache-size": self.parameters.number("xbzrle-cache-size"),
            "bytes": 0,
            "pages": 0,
            "cache-miss": 0,
            "cache-miss-rate": 0,
            "encoding-rate": 0,
            "overflow": 0,
        }
    }

    fn remaining(&self, cx: &Context<'_>) -> u64 {
        let memory = self.outgoing.memory();
        let (empty, others) = memory.pages(cx.release().slowest_pages(), cx.now());
        memory.total.saturating_sub((empty + others) * PAGE)
    }

    /// QAPI's `MigrationStats`.
    fn ram(&self, cx: &Context<'_>) -> QDict {
        let release = cx.release();
        let memory = self.outgoing.memory();
        let (duplicate, normal) = memory.pages(release.slowest_pages(), cx.now());
        let sent = normal * (PAGE + 8) + duplicate * 9;
        let took = milliseconds(memory.ended.unwrap_or(cx.now()).saturating_sub(memory.asked));
        let mut ram = qdict! {
            "total": memory.total,
            "transferred": sent,
            "remaining": self.remaining(cx),
            "duplicate": duplicate,
            "normal": normal,
            "normal-bytes": normal * PAGE,
            "dirty-pages-rate": 0,
            "mbps": (sent * 8 / 1000).checked_div(took).unwrap_or(0),
            "dirty-sync-count": self.passes(),
            "postcopy-requests": 0,
            "page-size": PAGE,
            "multifd-bytes": 0,
            "pages-per-second": 0,
        };
        if release.memory_has_skipped_pages() {
            ram.put(key!("skipped"), 0);
        }
        if release.memory_is_counted_by_phase() {
            ram.put(key!("precopy-bytes"), sent);
            ram.put(key!("downtime-bytes"), 0);
            ram.put(key!("postcopy-bytes"), 0);
            ram.put(key!("dirty-sync-missed-zero-copy"), 0);
        }
        ram
    }
}
