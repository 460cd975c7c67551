//! The commands of the human monitor that exist in one of the releases and are not simulated: told from typing errors
//! by their names alone. From `help` of the recorded binaries.

/// Names of commands.
const COMMANDS: &str = "\
    acl_add acl_policy acl_remove acl_reset acl_show announce_self balloon block_job_cancel \
    block_job_complete block_job_pause block_job_resume block_job_set_speed block_passwd block_resize \
    block_set_io_throttle block_stream boot_set calc_dirty_rate cancel_vcpu_dirty_limit change chardev-add \
    chardev-change chardev-remove chardev-send-break clear client_migrate_info closefd commit cpu device_add \
    device_del drive_add drive_backup drive_del drive_mirror dump-guest-memory dumpdtb eject exit_preconfig \
    expire_password gdbserver getfd gpa2hpa gpa2hva gva2gpa help hostfwd_add hostfwd_remove i info log \
    logfile mce memsave migrate migrate_cancel migrate_continue migrate_incoming migrate_pause \
    migrate_recover migrate_set_cache_size migrate_set_capability migrate_set_downtime migrate_set_parameter \
    migrate_set_speed migrate_start_postcopy mouse_button mouse_move mouse_set nbd_server_add \
    nbd_server_remove nbd_server_start nbd_server_stop netdev_add netdev_del nmi o object_add object_del \
    one-insn-per-tb p pcie_aer_inject_error pmemsave print q qemu-io qom-get qom-list qom-set quit \
    replay_break replay_delete_break replay_seek ringbuf_read ringbuf_write screendump sendkey set_link \
    set_password set_vcpu_dirty_limit singlestep snapshot_blkdev snapshot_blkdev_internal \
    snapshot_delete_blkdev_internal stopcapture sum sync-profile system_powerdown system_reset system_wakeup \
    trace-event watchdog_action wavcapture x x_colo_lost_heartbeat xen-event-inject xen-event-list xp";

/// Names of what `info` shows.
const INFO: &str = "\
    accel accelerators balloon blockstats capture chardev cpus cpustats cryptodev dirty_rate dump firmware- \
    log history hotpluggable-cpus ioapic iothreads irq jit kvm lapic mem memdev memory-devices \
    memory_size_summary mice migrate migrate_cache_size migrate_capabilities migrate_parameters mtree name \
    network numa opcount pci pic profile qdm qom-tree qtree ramblock rdma registers replay rocker rocker-of- \
    dpa-flows rocker-of-dpa-groups rocker-ports roms sev sgx spice stats sync-profile tlb tpm trace-events \
    usb usbhost usernet uuid vcpu_dirty_limit version via virtio virtio-queue-element virtio-queue-status \
    virtio-status virtio-vhost-queue-status vm-generation-id vnc";

/// Whether QEMU knows such a command, of its own or of `info`.
pub(super) fn exists(name: &str, of_info: bool) -> bool {
    let names = if of_info { INFO } else { COMMANDS };
    names.split_whitespace().any(|known| known == name)
}
