//! What a machine's QEMU can do, kept beside the machine's records: to be asked takes QEMU longer than a whole snapshot of disks, and it
//! does nothing else meanwhile.
//!
//! One binary always answers the same, as libvirt counts on too. It is known by what it says of itself when it greets and by the
//! file of the description's `<emulator>`: another inode, length or time of change is another binary. What one machine's QEMU said is
//! told to no other machine, for a guest may have taken it over.
//!
//! It is a memory aid: where it cannot be read or does not fit, QEMU is asked, and where it cannot be written, it is asked again.
#![allow(clippy::disallowed_methods, reason = "reads a file beside the records, and looks at the emulator")]

use std::{fs, os::unix::fs::MetadataExt as _, rc::Rc};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::{capabilities::Capabilities, domain_xml::DomainXml, env::Env, wire::Greeting};
use serde::{Deserialize, Serialize};

/// The file's name in the folder of the records, where `.xml` alone are records.
const FILE: &str = "capabilities";

/// No QEMU can do so much that it takes more bytes.
const LONGEST: u64 = 1 << 20;

/// What is known of one machine's QEMU.
pub(super) struct Known {
    path: Utf8PathBuf,
    emulator: Option<Emulator>,
}

/// The file, as it is written.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Written {
    /// Who wrote it: another one may look for other things.
    freezeframe: String,
    version: (u32, u32, u32),
    package: String,
    emulator: Emulator,
    capabilities: Capabilities,
}

/// A binary, as the host's file system knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Emulator {
    path: Utf8PathBuf,
    device: u64,
    inode: u64,
    length: u64,
    /// When anything about it was changed last: seconds and nanoseconds.
    changed: (i64, i64),
}

impl Emulator {
    fn of(domain: &DomainXml) -> Option<Self> {
        let path = Utf8PathBuf::from(domain.element().child("devices")?.child("emulator")?.text().trim());
        let found = fs::metadata(&path).ok()?;
        let changed = (found.ctime(), found.ctime_nsec());
        Some(Self { path, device: found.dev(), inode: found.ino(), length: found.len(), changed })
    }
}

impl Known {
    /// That of the machine whose records are in this folder.
    pub(super) fn of(folder: &Utf8Path, domain: &DomainXml) -> Self {
        Self { path: folder.join(FILE), emulator: Emulator::of(domain) }
    }

    /// What the QEMU that greets so can do, if that is known.
    pub(super) fn read(&self, greeting: &Greeting) -> Option<Rc<Capabilities>> {
        let is_short =
            fs::symlink_metadata(&self.path).is_ok_and(|file| file.is_file() && file.len() < LONGEST);
        let bytes = is_short.then(|| fs::read(&self.path).ok()).flatten()?;
        let written: Written = serde_json::from_slice(&bytes).ok()?;
        let fits = written.freezeframe == env!("CARGO_PKG_VERSION")
            && (written.version, &*written.package) == (greeting.version, &*greeting.package)
            && Some(&written.emulator) == self.emulator.as_ref();
        fits.then(|| Rc::new(written.capabilities))
    }

    /// Keeps what the QEMU that greets so can do.
    pub(super) async fn keep(&self, env: &impl Env, greeting: &Greeting, capabilities: &Capabilities) {
        let Some(emulator) = self.emulator.clone() else { return };
        let written = Written {
            freezeframe: env!("CARGO_PKG_VERSION").to_owned(),
            version: greeting.version,
            package: greeting.package.clone(),
            emulator,
            capabilities: capabilities.clone(),
        };
        let Ok(bytes) = serde_json::to_vec(&written) else { return };
        // As a record is: whole or not at all, its owner's alone, and behind no link.
        let _ = env.replace_file(&self.path, &bytes).await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use freezeframe_driver::env::tokio::TokioEnv;
    use tokio::test;

    use super::*;

    fn domain(emulator: &Utf8Path) -> DomainXml {
        let text =
            format!("<domain><name>vm</name><devices><emulator>{emulator}</emulator></devices></domain>");
        DomainXml::read(text.as_bytes()).unwrap()
    }

    fn greeting(micro: u32) -> Greeting {
        Greeting { version: (7, 2, micro), package: "Debian".into(), capabilities: Vec::new() }
    }

    #[test]
    async fn what_a_binary_can_do_is_known_until_it_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let emulator = folder.join("qemu");
        fs::write(&emulator, "one").unwrap();
        let schema =
            r#"[{"name": "snapshot-save", "meta-type": "command", "arg-type": "0", "ret-type": "0"}]"#;
        let able = Capabilities::from_schema(&serde_json::from_str::<Vec<_>>(schema).unwrap());
        assert!(able.has("snapshot-save"));
        let known = Known::of(folder, &domain(&emulator));
        assert_eq!(known.read(&greeting(22)), None);
        let behind = folder.join("behind");
        fs::write(&behind, "somebody's").unwrap();
        symlink(&behind, folder.join("capabilities.new")).unwrap();
        known.keep(&TokioEnv::new(), &greeting(22), &able).await;
        assert_eq!(fs::read_to_string(behind).unwrap(), "somebody's");
        assert_eq!(fs::metadata(folder.join(FILE)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(known.read(&greeting(22)).as_deref(), Some(&able));
        assert_eq!(known.read(&greeting(23)), None, "another release");
        fs::write(&emulator, "another").unwrap();
        assert_eq!(Known::of(folder, &domain(&emulator)).read(&greeting(22)), None, "another binary");
        fs::write(folder.join(FILE), "{").unwrap();
        assert_eq!(known.read(&greeting(22)), None, "no such file");
    }

    #[test]
    async fn of_a_binary_that_is_not_found_nothing_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let folder = Utf8Path::from_path(folder.path()).unwrap();
        let known = Known::of(folder, &domain(Utf8Path::new("/nowhere/qemu")));
        known.keep(&TokioEnv::new(), &greeting(22), &Capabilities::default()).await;
        assert!(!folder.join(FILE).exists());
    }
}
