//! What the command shows while it works: a bar on a terminal, plain lines elsewhere, and always the closing line.

use std::{
    fmt,
    io::{self, IsTerminal as _, Write as _},
};

use camino::Utf8Path;
use indicatif::{ProgressBar, ProgressStyle};

use super::CliError;

/// How one case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All as expected.
    Passed,
    /// All as expected in the end; what was not in the try before, and the command that repeats it.
    Unsteady { findings: Vec<String>, repeat: String },
    /// Not as expected: what, and the command that repeats it.
    Failed { findings: Vec<String>, repeat: String },
    /// Not played, and why.
    Skipped(String),
}

/// Writes text to standard output. A reader that has gone (`| head -1`) is no error: it has what it wanted, and the
/// work and its exit code do not depend on it.
///
/// # Errors
/// [`CliError::Write`] when it cannot be written for another reason.
pub(super) fn print(text: &str) -> Result<(), CliError> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(CliError::Write { path: "to standard output".into(), source })
        }
        _ => Ok(()),
    }
}

/// Writes a line to standard error. Where that fails nobody can be told, and the exit code still says it.
pub(super) fn complain(line: &str) {
    let _ = writeln!(io::stderr(), "{}", line.trim_end());
}

/// A path as a shell reads it back.
pub(super) fn quoted(path: &Utf8Path) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./@+:,%=".contains(c);
    if path.as_str().chars().all(plain) {
        return path.to_string();
    }
    format!("'{}'", path.as_str().replace('\'', r"'\''"))
}

/// Counts verdicts and shows them. A line that cannot be written is told of by [`Output::close`].
pub(super) struct Output {
    bar: Option<ProgressBar>,
    counts: Counts,
    /// How much was played in cases that are played many times.
    plays: u64,
    printed: Result<(), CliError>,
}

/// How many went how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    /// How many of those passed had to be tried again.
    unsteady: usize,
    failed: usize,
    skipped: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)?;
        match self.unsteady {
            0 => Ok(()),
            unsteady => write!(f, "; {unsteady} of the passed had to be tried again"),
        }
    }
}

impl Output {
    /// Starts with the line that says what runs: enough to do it again.
    pub(super) fn start(what: &str, cases: usize) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}");
            ProgressBar::new(cases as u64).with_style(style.expect("a sound template"))
        });
        let mut output = Self { bar, counts: Counts::default(), plays: 0, printed: Ok(()) };
        output.line(&format!("freezeframe {} {what}", env!("CARGO_PKG_VERSION")));
        output
    }

    /// Shows how a case went. On a terminal only what needs attention stays on the screen.
    pub(super) fn verdict(&mut self, name: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => {
                self.counts.passed += 1;
                match &self.bar {
                    Some(bar) => bar.set_message(name.to_owned()),
                    None => self.line(&format!("ok      {name}")),
                }
            }
            Verdict::Skipped(why) => {
                self.counts.skipped += 1;
                self.line(&format!("skipped {name}: {why}"));
            }
            Verdict::Unsteady { findings, repeat } => {
                self.counts.passed += 1;
                self.counts.unsteady += 1;
                self.findings("again  ", name, findings, repeat);
            }
            Verdict::Failed { findings, repeat } => {
                self.counts.failed += 1;
                self.findings("FAILED ", name, findings, repeat);
            }
        }
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// A case is done, after so many plays: on a terminal with their rate and the time that is left.
    pub(super) fn advance(&mut self, what: &str, plays: usize) {
        self.plays += plays as u64;
        if let Some(bar) = &self.bar {
            bar.inc(1);
            let a_second = self.plays as f64 / bar.elapsed().as_secs_f64().max(0.001);
            bar.set_message(format!("{a_second:.0} a second, {:.0?} left; {what}", bar.eta()));
        }
    }

    fn findings(&mut self, word: &str, name: &str, findings: &[String], repeat: &str) {
        self.line(&format!("{word} {name}"));
        for finding in findings {
            self.line(&format!("  {}", finding.replace('\n', "\n  ")));
        }
        self.line(&format!("  repeat: {repeat}"));
    }

    /// A line of its own.
    pub(super) fn line(&mut self, line: &str) {
        let text = format!("{line}\n");
        let printed = match &self.bar {
            Some(bar) => bar.suspend(|| print(&text)),
            None => print(&text),
        };
        if self.printed.is_ok() {
            self.printed = printed;
        }
    }

    /// The closing line. True if nothing failed.
    ///
    /// # Errors
    /// [`CliError::Write`] if any line could not be written.
    pub(super) fn close(self) -> Result<bool, CliError> {
        let counts = self.counts;
        self.end(&counts.to_string())?;
        Ok(counts.failed == 0)
    }

    /// A closing line of the caller's own.
    ///
    /// # Errors
    /// [`CliError::Write`] if any line could not be written.
    pub(super) fn end(mut self, line: &str) -> Result<(), CliError> {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.line(line);
        self.printed
    }
}
