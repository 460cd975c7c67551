//! Plans are data: what is planned, and what is refused, can be read without any QEMU.
