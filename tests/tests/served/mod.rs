//! A command that serves, and clients of it, for the tests that need them.
#![allow(dead_code, reason = "each test that shares this uses its part")]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use tempfile::TempDir;

/// A command that serves. Dropped, it is killed.
pub(crate) struct Server {
    pub(crate) process: Child,
    folder: TempDir,
    /// What it says first.
    pub(crate) said: Vec<String>,
}

impl Server {
    /// Serves a scenario of the suite; `{dir}` in an argument is the server's own folder.
    pub(crate) fn start(scenario: &str, arguments: &[&str]) -> Self {
        let scenario = format!("{}/../scenarios/suite/{scenario}.toml", env!("CARGO_MANIFEST_DIR"));
        Self::of(Path::new(&scenario), TempDir::new().unwrap(), arguments)
    }

    /// Serves a machine that is described in a file of this name and contents.
    pub(crate) fn machine(name: &str, contents: &str, arguments: &[&str]) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, contents).unwrap();
        Self::of(&path, folder, arguments)
    }

    pub(crate) fn of(subject: &Path, folder: TempDir, arguments: &[&str]) -> Self {
        let dir = folder.path().to_str().unwrap();
        let process = Command::new(env!("CARGO_BIN_EXE_freezeframe-command"))
            .arg("serve")
            .arg(subject)
            .args(arguments.iter().map(|argument| argument.replace("{dir}", dir)))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut server = Self { process, folder, said: Vec::new() };
        for line in BufReader::new(server.process.stdout.take().unwrap()).lines() {
            server.said.push(line.unwrap());
            if server.said.last().is_some_and(|line| line.starts_with("ready: ")) {
                return server;
            }
        }
        panic!("it ended before it was ready: {:?}", server.said);
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What it says last, on standard error.
    pub(crate) fn complaints(&mut self) -> String {
        let mut said = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        said
    }

    pub(crate) fn connect(&self, name: &str) -> Client {
        Client::over(UnixStream::connect(self.path(name)).unwrap())
    }

    pub(crate) fn end(&mut self, signal: &str) -> ExitStatus {
        let sent = Command::new("kill").args(["-s", signal, &self.process.id().to_string()]).status();
        assert!(sent.unwrap().success());
        self.process.wait().unwrap()
    }

    /// A figure of its memory in KiB: `VmRSS`, what it takes; `VmHWM`, the most it has taken.
    pub(crate) fn memory(&self, figure: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with(figure)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Its processor time in hundredths of a second.
    pub(crate) fn ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        fields[11..13].iter().map(|time| time.parse::<u64>().unwrap()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A client that sends what it likes and reads lines.
pub(crate) struct Client(pub(crate) BufReader<UnixStream>);

impl Client {
    pub(crate) fn over(stream: UnixStream) -> Self {
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self(BufReader::new(stream))
    }

    /// The socket, once all that was read has been looked at.
    pub(crate) fn into_inner(self) -> UnixStream {
        self.0.into_inner()
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).unwrap();
    }

    /// The next line; empty at the end.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line of an agent, whose 0xFF is no UTF-8: bytes as the characters of the same number.
    pub(crate) fn agent_line(&mut self) -> String {
        let mut line = Vec::new();
        self.0.read_until(b'\n', &mut line).unwrap();
        line.into_iter().map(char::from).collect()
    }

    /// Nothing comes for a while.
    pub(crate) fn silence(&mut self) -> bool {
        self.0.get_ref().set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        let silent = self.0.fill_buf().is_err();
        self.0.get_ref().set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        silent
    }

    pub(crate) fn negotiate(&mut self) {
        assert!(self.line().starts_with("{\"QMP\": "));
        self.send(b"{\"execute\":\"qmp_capabilities\"}\n");
        assert_eq!(self.line(), "{\"return\": {}}");
    }
}
