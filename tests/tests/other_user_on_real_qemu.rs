//! Root drives a machine whose QEMU runs as another user, as libvirt's does: what is made for it is whose its images are. And what is
//! made by one who cannot give files away.
//!
//! Which QEMUs: see `freezeframe_tests::real::programs`.
//!
//! A test without libtest's harness, which hides what a passing test prints: what is skipped for want of root or of a QEMU must be seen.
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "runs the command as a user does")]

use std::{
    error::Error,
    fs, io,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        net::UnixStream,
    },
    process::{Child, Command, ExitCode, Stdio},
    thread,
    time::{Duration, Instant},
};

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::env::{Env as _, Ownership, tokio::TokioEnv};
use freezeframe_tests::unharnessed::{asked_for, on_each_qemu, skipped_without_root};
use rustix::{process::Uid, thread::set_thread_uid};
use tempfile::TempDir;
use tokio::runtime::Builder;

type Failed = Box<dyn Error>;

/// What a test runner calls these tests.
const MADE: &str = "a_file_is_made_for_whose_its_image_is_or_not_at_all";
const DRIVEN: &str = "the_qemu_of_another_user_opens_what_root_has_made_for_it";

/// Who has the images: neither root nor anybody else who runs this.
const USER: u32 = 65_534;
const GROUP: u32 = 23_456;

/// How long QEMU may take to open its monitor.
const WITHIN: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    if !rustix::process::geteuid().is_root() {
        let asked = [MADE, DRIVEN].map(|name| asked_for(&[name]).len());
        if asked.iter().any(|asked| *asked > 0) {
            skipped_without_root(asked.iter().sum());
        }
        return ExitCode::SUCCESS;
    }
    if !asked_for(&[MADE]).is_empty()
        && let Err(error) = made()
    {
        println!("{MADE}: FAILED: {error}");
        return ExitCode::FAILURE;
    }
    on_each_qemu(DRIVEN, driven)
}

fn is(what: &str, is: bool) -> Result<(), Failed> {
    if is { Ok(()) } else { Err(format!("not so: {what}").into()) }
}

/// A folder that every user may enter.
fn folder(mode: u32) -> Result<(TempDir, Utf8PathBuf), Failed> {
    let folder = tempfile::tempdir()?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode))?;
    let path = Utf8PathBuf::try_from(folder.path().to_owned())?;
    Ok((folder, path))
}

/// Owner, group and mode.
fn whose(file: &Utf8Path) -> io::Result<(u32, u32, u32)> {
    let found = fs::metadata(file)?;
    Ok((found.uid(), found.gid(), found.mode() & 0o777))
}

/// Makes a file as this user, who is in no group but root's, and no root unless the user is 0.
fn make(user: u32, file: Utf8PathBuf, ownership: Ownership) -> io::Result<()> {
    // The user is the thread's, and that of all threads that it starts.
    let made = thread::spawn(move || {
        set_thread_uid(Uid::from_raw(user))?;
        let runtime = Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(TokioEnv::new().create_new(&file, &ownership))
    });
    made.join().expect("it does not panic")
}

fn made() -> Result<(), Failed> {
    let (_held, folder) = folder(0o777)?;
    let image = folder.join("image");
    let file = folder.join("file");
    fs::write(&image, "")?;
    let of_image = || Ownership::OfImage(image.clone());
    let of_memory = || Ownership::OfMemory(image.clone());
    let nowhere = || Ownership::OfImage(folder.join("nowhere"));
    let (other, roots) = (12_345, 0);
    // The image's owner, group and mode; who makes a file for it; whose that is then.
    let cases = [
        ((USER, GROUP, 0o600), roots, of_image(), Some((USER, GROUP, 0o600))),
        ((USER, GROUP, 0o664), roots, of_image(), Some((USER, GROUP, 0o664))),
        ((USER, GROUP, 0o664), roots, of_memory(), Some((USER, GROUP, 0o660))),
        ((USER, GROUP, 0o440), roots, of_image(), Some((USER, GROUP, 0o640))),
        ((USER, GROUP, 0o664), roots, Ownership::Own, Some((roots, roots, 0o600))),
        ((USER, GROUP, 0o664), roots, nowhere(), Some((roots, roots, 0o600))),
        // A group that it cannot be given to is granted nothing.
        ((other, GROUP, 0o664), other, of_image(), Some((other, roots, 0o604))),
        ((USER, GROUP, 0o660), other, of_image(), None),
        ((USER, GROUP, 0o660), other, of_memory(), Some((other, roots, 0o600))),
        ((USER, roots, 0o640), other, of_image(), None),
        ((USER, roots, 0o660), other, of_image(), Some((other, roots, 0o660))),
        ((USER, GROUP, 0o606), other, of_image(), Some((other, roots, 0o606))),
    ];
    for (number, ((owner, group, mode), maker, ownership, then)) in cases.into_iter().enumerate() {
        chown(&image, Some(owner), Some(group))?;
        fs::set_permissions(&image, fs::Permissions::from_mode(mode))?;
        let made = make(maker, file.clone(), ownership);
        match then {
            Some(then) => {
                made.map_err(|error| format!("case {number}: {error}"))?;
                let found = whose(&file)?;
                is(&format!("case {number}: it is {then:?}, and not {found:?}"), found == then)?;
                fs::remove_file(&file)?;
            }
            None => {
                let error = made.err().ok_or_else(|| format!("case {number}: it was made"))?;
                let words = error.to_string();
                let says = words.contains("is user 65534's") && words.contains("user 12345 can make");
                is(&format!("case {number}: it is refused: {words}"), says && !file.exists())?;
                is("it is for want of rights", error.kind() == io::ErrorKind::PermissionDenied)?;
            }
        }
    }
    println!("{MADE}: as root, and as user {other}");
    Ok(())
}

/// A machine whose images another user has, and whose QEMU is that user's.
struct Rig {
    folder: Utf8PathBuf,
    program: Utf8PathBuf,
    qemu: Option<Child>,
    _held: TempDir,
}

impl Drop for Rig {
    fn drop(&mut self) {
        if let Some(mut qemu) = self.qemu.take() {
            let _ = qemu.kill();
            let _ = qemu.wait();
        }
    }
}

impl Rig {
    fn new(program: &Utf8Path) -> Result<Self, Failed> {
        let (held, folder) = folder(0o755)?;
        let rig = Self { folder, program: program.to_owned(), qemu: None, _held: held };
        let mut disks = String::new();
        for target in ["vda", "vdb"] {
            let image = rig.image(target, "qcow2");
            rig.tool("qemu-img", &["create", "-q", "-f", "qcow2", image.as_str(), "4M"], 0)?;
            chown(&image, Some(USER), Some(USER))?;
            fs::set_permissions(&image, fs::Permissions::from_mode(0o600))?;
            disks += &format!(
                "<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{image}'/>\
                 <target dev='{target}' bus='virtio'/></disk>"
            );
        }
        let text = format!(
            "<domain type='qemu'><name>vm</name><memory unit='MiB'>64</memory><os><type machine='q35'>hvm</type></os>\
             <devices><emulator>{program}</emulator>{disks}</devices></domain>"
        );
        fs::write(rig.folder.join("vm.xml"), text)?;
        Ok(rig)
    }

    fn image(&self, target: &str, ending: &str) -> Utf8PathBuf {
        self.folder.join(format!("{target}.{ending}"))
    }

    fn monitor(&self) -> Utf8PathBuf {
        self.folder.join("monitor")
    }

    /// Runs one of QEMU's tools.
    fn tool(&self, name: &str, arguments: &[&str], code: i32) -> Result<(), Failed> {
        let beside = self.program.with_file_name(name);
        let program = if beside.exists() { beside } else { name.into() };
        let said = Command::new(program).args(arguments).output()?;
        let words = String::from_utf8_lossy(&said.stderr);
        is(&format!("{name} {arguments:?} ended with {code}: {words}"), said.status.code() == Some(code))
    }

    /// Starts QEMU as root, which then becomes the other user, as one has to whose programs may lie where that user is not let in.
    fn start(&mut self, ending: &str) -> Result<(), Failed> {
        let help = Command::new(&self.program).arg("-help").output()?;
        let user = match String::from_utf8_lossy(&help.stdout).contains("\n-runas ") {
            true => ["-runas".to_owned(), format!("{USER}:{USER}")],
            false => ["-run-with".to_owned(), format!("user={USER}:{USER}")],
        };
        let mut command = Command::new(&self.program);
        command
            .args("-accel tcg -machine q35 -m 64 -display none -nodefaults -name vm".split(' '))
            .args(user);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", self.monitor()));
        for target in ["vda", "vdb"] {
            let file = self.image(target, ending);
            command
                .arg("-blockdev")
                .arg(format!("driver=qcow2,node-name=n-{target},file.driver=file,file.filename={file}"));
            command.arg("-device").arg(format!("virtio-blk-pci,drive=n-{target},id={target}-device"));
        }
        let null = Stdio::null;
        self.qemu = Some(command.stdin(null()).stdout(null()).stderr(Stdio::inherit()).spawn()?);
        let until = Instant::now() + WITHIN;
        while UnixStream::connect(self.monitor()).is_err() {
            is("QEMU listens", Instant::now() < until)?;
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn does(&self, arguments: &[&str]) -> Result<(), Failed> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"));
        command.current_dir(&self.folder).arg("snapshot").args(arguments);
        command.args(["--domain", "vm.xml", "--state", "state"]);
        if self.qemu.is_some() {
            command.args(["--qmp", self.monitor().as_str(), "--write-domain"]);
        }
        let said = command.output()?;
        is(
            &format!("{arguments:?} is done: {}", String::from_utf8_lossy(&said.stderr)),
            said.status.success(),
        )
    }

    /// Whether these files are the other user's alone.
    fn are_the_users(&self, files: &[Utf8PathBuf]) -> Result<(), Failed> {
        for file in files {
            let found = whose(file)?;
            is(&format!("{file} is {found:?}"), found == (USER, USER, 0o600))?;
        }
        Ok(())
    }

    /// The files that are there now, but for those that are no images and no memory.
    fn files(&self) -> Result<Vec<Utf8PathBuf>, Failed> {
        let entries = self.folder.read_dir_utf8()?.collect::<Result<Vec<_>, _>>()?;
        let files = entries.into_iter().map(|entry| entry.path().to_owned());
        let of_machine = |file: &Utf8PathBuf| file.file_name().is_some_and(|name| name.starts_with("vd"));
        Ok(files.filter(of_machine).collect())
    }
}

fn driven(program: &Utf8Path) -> Result<(), Failed> {
    let mut rig = Rig::new(program)?;
    rig.does(&["create-as", "o1", "--disk-only"])?;
    rig.are_the_users(&[rig.image("vda", "o1"), rig.image("vdb", "o1")])?;
    rig.does(&["revert", "o1"])?;
    let after = rig.files()?;
    is("new overlays are in the place of the old", after.len() == 4 && !rig.image("vda", "o1").exists())?;
    rig.are_the_users(&after)?;

    rig.start("qcow2")?;
    // What it runs in is described.
    let vm = rig.folder.join("vm.xml");
    let mut text = fs::read_to_string(&vm)?;
    for overlay in after.iter().filter(|file| file.extension() != Some("qcow2")) {
        let target = overlay.file_stem().unwrap_or_default();
        text = text.replace(overlay.as_str(), rig.image(target, "qcow2").as_str());
    }
    fs::write(&vm, text)?;
    fs::remove_dir_all(rig.folder.join("state"))?;
    rig.does(&["create-as", "e1", "--disk-only"])?;
    let memory = rig.image("vdm", "memory");
    rig.does(&["create-as", "m1", "--memspec", memory.as_str()])?;
    let mut made = vec![memory];
    made.extend(["vda", "vdb"].iter().flat_map(|target| ["e1", "m1"].map(|name| rig.image(target, name))));
    rig.are_the_users(&made)
}
