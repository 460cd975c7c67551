//! What `info` shows of sockets, I/O threads, jobs, memory and how much disks have read and written.

use std::fmt::Write;

use crate::{
    qemu::{Context, Qemu},
    qobject::QObject,
};

/// `info chardev`.
pub(super) fn chardev(qemu: &Qemu, cx: &Context<'_>) -> String {
    let open = qemu.guest().is_some_and(crate::guest::Guest::port_is_open);
    let line =
        |socket: &QObject| format!("{}: filename={}\r\n", text(socket, "label"), text(socket, "filename"));
    items(&qemu.chardevs.query(cx.release(), open)).iter().map(line).collect()
}

/// `info iothreads`.
pub(super) fn iothreads(qemu: &Qemu, cx: &Context<'_>) -> String {
    let mut all = String::new();
    for thread in items(&qemu.objects.query_iothreads(cx.release())) {
        let _ = write!(all, "{}:\r\n  thread_id={}\r\n", text(thread, "id"), number(thread, "thread-id"));
        for name in ["poll-max-ns", "poll-grow", "poll-shrink", "poll-weight", "aio-max-batch"] {
            if member(thread, name).is_some() {
                let _ = write!(all, "  {name}={}\r\n", number(thread, name));
            }
        }
    }
    all
}

/// `info block-jobs`.
pub(super) fn block_jobs(qemu: &Qemu, cx: &Context<'_>) -> String {
    let jobs = qemu.jobs.query_block(cx.now(), cx.release());
    let line = |job: &QObject| {
        let (kind, device) = (text(job, "type"), text(job, "device"));
        let what = match kind.as_str() {
            "stream" => format!("Streaming device {device}"),
            kind => format!("Type {kind}, device {device}"),
        };
        let [done, all, speed] = ["offset", "len", "speed"].map(|name| number(job, name));
        format!("{what}: Completed {done} of {all} bytes, speed limit {speed} bytes/s\r\n")
    };
    let lines: String = items(&jobs).iter().map(line).collect();
    if lines.is_empty() { "No active jobs\r\n".into() } else { lines }
}

/// `info blockstats`.
pub(super) fn blockstats(qemu: &Qemu, cx: &mut Context<'_>) -> String {
    let mut all = String::new();
    let as_tables = cx.release().block_statistics_are_tables();
    for device in items(&qemu.statistics(false, cx)) {
        let Some(stats) = member(device, "stats") else { continue };
        let of = |name: &str| number(stats, name);
        if as_tables && !all.is_empty() {
            all += "\r\n";
        }
        let _ = write!(all, "{}:", text(device, "device"));
        if as_tables {
            let idle = member(stats, "idle_time_ns").map_or(0, |_| of("idle_time_ns"));
            let _ = write!(
                all,
                " idle_time_ns={idle}\r\n{:26}{:>5}{:>17}{:>25}{:>11}\r\n",
                "", "bytes", "operations", "total_time_ns", "merged"
            );
            for (name, short) in [("Read", "rd"), ("Write", "wr")] {
                let [bytes, operations, time, merged] = ["bytes", "operations", "total_time_ns", "merged"]
                    .map(|what| of(&format!("{short}_{what}")));
                let _ = write!(
                    all,
                    "{:<11}{bytes:>20}{operations:>17}{time:>25}{merged:>11}\r\n",
                    format!("{name}:")
                );
            }
            let (operations, time) = (of("flush_operations"), of("flush_total_time_ns"));
            let _ = write!(all, "{:<11}{:>20}{operations:>17}{time:>25}\r\n", "Flush:", "");
            continue;
        }
        for name in [
            "rd_bytes",
            "wr_bytes",
            "rd_operations",
            "wr_operations",
            "flush_operations",
            "wr_total_time_ns",
            "rd_total_time_ns",
            "flush_total_time_ns",
            "rd_merged",
            "wr_merged",
            "idle_time_ns",
        ] {
            let _ = write!(all, " {name}={}", of(name));
        }
        all += "\r\n";
    }
    all
}

/// `info memdev`.
pub(super) fn memdev(qemu: &Qemu, cx: &Context<'_>) -> String {
    let Ok(devices) = qemu.about.query("query-memdev", cx.release()) else { return String::new() };
    let mut all = String::new();
    for device in items(&devices) {
        let _ =
            write!(all, "memory backend: {}\r\n  size:  {}\r\n", text(device, "id"), number(device, "size"));
        for name in ["merge", "dump", "prealloc", "share", "reserve"] {
            if let Some(QObject::Bool(flag)) = member(device, name) {
                let _ = write!(all, "  {name}: {flag}\r\n");
            }
        }
        let _ = write!(all, "  policy: {}\r\n  host nodes: \r\n\r\n", text(device, "policy"));
    }
    all
}

/// `info memory_size_summary`.
pub(super) fn memory_size_summary(qemu: &Qemu, cx: &Context<'_>) -> String {
    let Ok(summary) = qemu.about.query("query-memory-size-summary", cx.release()) else {
        return String::new();
    };
    let [base, plugged] = ["base-memory", "plugged-memory"].map(|name| number(&summary, name));
    format!("base memory: {base}\r\nplugged memory: {plugged}\r\n")
}

/// `info cpus`.
pub(super) fn cpus(qemu: &Qemu, cx: &Context<'_>) -> String {
    let Ok(processors) = qemu.about.query("query-cpus-fast", cx.release()) else { return String::new() };
    let model = if cx.release().processors_have_qom_type() { " model=qemu64" } else { "" };
    let line = |processor: &QObject| {
        format!(
            "* CPU #{}: thread_id={}{model}\r\n",
            number(processor, "cpu-index"),
            number(processor, "thread-id")
        )
    };
    items(&processors).iter().map(line).collect()
}

/// `info migrate_capabilities`.
pub(super) fn migrate_capabilities(qemu: &Qemu, cx: &mut Context<'_>) -> String {
    let Ok(capabilities) = qemu.migration.query("query-migrate-capabilities", cx) else {
        return String::new();
    };
    let line = |capability: &QObject| {
        let on = member(capability, "state") == Some(&QObject::Bool(true));
        format!("{}: {}\r\n", text(capability, "capability"), if on { "on" } else { "off" })
    };
    items(&capabilities).iter().map(line).collect()
}

fn items(list: &QObject) -> &[QObject] {
    match list {
        QObject::List(items) => items,
        _ => &[],
    }
}

fn member<'a>(object: &'a QObject, name: &str) -> Option<&'a QObject> {
    match object {
        QObject::Dict(dict) => dict.get(name),
        _ => None,
    }
}

fn text(object: &QObject, name: &str) -> String {
    match member(object, name) {
        Some(QObject::Text(text)) => text.to_string(),
        _ => String::new(),
    }
}

fn number(object: &QObject, name: &str) -> u64 {
    match member(object, name) {
        Some(QObject::Number(number)) => *number,
        _ => 0,
    }
}
