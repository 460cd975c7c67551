//! What the command shows while it works: a bar on a terminal, plain lines elsewhere, and always the closing line.

use std::{fmt, io::IsTerminal as _};

use indicatif::{ProgressBar, ProgressStyle};

/// How one case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All as expected.
    Passed,
    /// Not as expected: what, and the command that repeats it.
    Failed { findings: Vec<String>, repeat: String },
    /// Not played, and why.
    Skipped(String),
}

/// Counts verdicts and shows them.
pub(super) struct Output {
    bar: Option<ProgressBar>,
    counts: Counts,
}

/// How many went how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    passed: usize,
    failed: usize,
    skipped: usize,
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Output {
    /// Starts with the line that says what runs: enough to do it again.
    pub(super) fn start(what: &str, cases: usize) -> Self {
        println!("freezeframe {} {what}", env!("CARGO_PKG_VERSION"));
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {msg}");
            ProgressBar::new(cases as u64).with_style(style.expect("a sound template"))
        });
        Self { bar, counts: Counts::default() }
    }

    /// Shows how a case went. On a terminal only what needs attention stays on the screen.
    pub(super) fn verdict(&mut self, name: &str, verdict: &Verdict) {
        match verdict {
            Verdict::Passed => {
                self.counts.passed += 1;
                match &self.bar {
                    Some(bar) => bar.set_message(name.to_owned()),
                    None => println!("ok      {name}"),
                }
            }
            Verdict::Skipped(why) => {
                self.counts.skipped += 1;
                self.line(&format!("skipped {name}: {why}"));
            }
            Verdict::Failed { findings, repeat } => {
                self.counts.failed += 1;
                self.line(&format!("FAILED  {name}"));
                for finding in findings {
                    self.line(&format!("  {}", finding.replace('\n', "\n  ")));
                }
                self.line(&format!("  repeat: {repeat}"));
            }
        }
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// A line of its own.
    pub(super) fn line(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{line}")),
            None => println!("{line}"),
        }
    }

    /// The closing line. True if nothing failed.
    pub(super) fn close(self) -> bool {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        println!("{}", self.counts);
        self.counts.failed == 0
    }
}
