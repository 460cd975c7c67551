//! QEMU's own Python client, and the shell that comes with it, against `freezeframe serve`.
//!
//! `ci/python-clients.sh` installs them. Where that is not possible the test is skipped and says so; in CI, where `CI` is
//! `true`, it fails. A test without libtest's harness, which hides what a passing test prints.
#![allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "real programs on real sockets")]
#![allow(clippy::print_stdout, reason = "it has no harness to speak for it")]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
};

use freezeframe_tests::unharnessed::{asked_for, may_not_skip};
use tempfile::TempDir;

/// What a test runner calls the one test.
const NAME: &str = "the_python_client_takes_a_snapshot_and_its_shell_works";

const SCRIPT: &str = r#"
import asyncio, sys
from qemu.qmp import EventListener, QMPClient

async def main():
    client = QMPClient("test")
    await client.connect(sys.argv[1])
    with client.listener(names=("JOB_STATUS_CHANGE",)) as listener:
        await client.execute("snapshot-save", {"job-id": "j", "tag": "t", "vmstate": "vda", "devices": ["vda"]})
        async for event in listener:
            if event["data"]["status"] == "concluded":
                break
    print(await client.execute("query-status"))
    await client.disconnect()

asyncio.run(main())
"#;

fn main() -> ExitCode {
    if asked_for(&[NAME]).is_empty() {
        return ExitCode::SUCCESS;
    }
    match clients() {
        Ok(programs) => {
            let server = Server::start();
            take_a_snapshot(&programs, &server);
            ask_in_the_shell(&programs, &server);
            println!("\n{NAME}: ok\npython_client: 1 passed, 0 failed, 0 skipped\n");
            ExitCode::SUCCESS
        }
        Err(reason) if may_not_skip() => {
            println!("\n{NAME}: {reason}\npython_client: 0 passed, 1 failed, 0 skipped\n");
            ExitCode::FAILURE
        }
        Err(reason) => {
            println!("\n{NAME}: {reason}\npython_client: 0 passed, 0 failed, 1 skipped\n");
            ExitCode::SUCCESS
        }
    }
}

/// Where the clients' programs are, or why there are none.
fn clients() -> Result<PathBuf, String> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("python-clients");
    let script = format!("{}/../ci/python-clients.sh", env!("CARGO_MANIFEST_DIR"));
    let made = Command::new(script).arg(&folder).output().map_err(|error| error.to_string())?;
    if made.status.success() {
        return Ok(folder.join("bin"));
    }
    Err(String::from_utf8_lossy(&made.stderr).trim().to_owned())
}

/// The command that serves a scenario. Dropped, it is killed.
struct Server {
    process: Child,
    folder: TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = TempDir::new().unwrap();
        let scenario = format!("{}/../scenarios/suite/external/one-disk.toml", env!("CARGO_MANIFEST_DIR"));
        let process = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"))
            .args(["serve", &scenario, "--qmp"])
            .arg(format!("unix:{}/qmp", folder.path().display()))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Self { process, folder };
        let said = BufReader::new(server.process.stdout.take().unwrap());
        let ready = said.lines().map_while(Result::ok).any(|line| line.starts_with("ready: "));
        assert!(ready, "it ended before it was ready");
        server
    }

    fn monitor(&self) -> PathBuf {
        self.folder.path().join("qmp")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn take_a_snapshot(programs: &Path, server: &Server) {
    let done = Command::new(programs.join("python")).args(["-c", SCRIPT]).arg(server.monitor()).output();
    let done = done.unwrap();
    assert!(done.status.success(), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stdout).contains("'status': 'running'"), "{done:?}");
}

fn ask_in_the_shell(programs: &Path, server: &Server) {
    let mut shell = Command::new(programs.join("qmp-shell"))
        .arg(server.monitor())
        .env("HOME", server.folder.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    shell.stdin.take().unwrap().write_all(b"query-status\n").unwrap();
    let said = shell.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&said.stdout);
    assert!(text.contains("Connected to QEMU 11.1.3") && text.contains("\"status\": \"running\""), "{text}");
}
