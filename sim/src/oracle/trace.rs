//! What made a run differ from the default: the answers that were not 0, and their text.
//!
//! Sparse on purpose. A trace of twenty words can be read, trimmed by hand, and survives edits that add
//! questions elsewhere, since an answer is found by its label and how often that label was asked for.

use std::{borrow::Cow, fmt, str::FromStr};

/// One answer that was not 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deviation {
    /// What was asked about.
    pub label: Cow<'static, str>,
    /// Which time that label was asked for, from 0.
    pub occurrence: u32,
    /// The answer.
    pub value: usize,
}

/// The deviations of a run, in the order in which they were taken. Its text is words such as `latency#4=2`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    deviations: Vec<Deviation>,
}

impl Trace {
    /// The deviations, in the order in which they were taken.
    pub fn deviations(&self) -> &[Deviation] {
        &self.deviations
    }

    pub(super) fn push(&mut self, deviation: Deviation) {
        self.deviations.push(deviation);
    }
}

impl FromIterator<Deviation> for Trace {
    fn from_iter<I: IntoIterator<Item = Deviation>>(deviations: I) -> Self {
        Self { deviations: deviations.into_iter().collect() }
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, deviation) in self.deviations.iter().enumerate() {
            let gap = if place == 0 { "" } else { " " };
            write!(f, "{gap}{}#{}={}", deviation.label, deviation.occurrence, deviation.value)?;
        }
        Ok(())
    }
}

/// A word of a trace that is not `label#occurrence=value`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no deviation: a trace is words such as `latency#4=2`")]
pub struct BadTrace(String);

impl FromStr for Trace {
    type Err = BadTrace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split_whitespace().map(|word| deviation(word).ok_or_else(|| BadTrace(word.into()))).collect()
    }
}

fn deviation(word: &str) -> Option<Deviation> {
    let (label, rest) = word.split_once('#')?;
    let (occurrence, value) = rest.split_once('=')?;
    let deviation = Deviation {
        label: Cow::Owned(label.into()),
        occurrence: occurrence.parse().ok()?,
        value: value.parse().ok()?,
    };
    (!label.is_empty()).then_some(deviation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_survives_its_text() {
        let trace: Trace = "latency#4=2\n task#17=1".parse().unwrap();
        assert_eq!(trace.to_string(), "latency#4=2 task#17=1");
        assert_eq!(trace.deviations()[1], Deviation { label: "task".into(), occurrence: 17, value: 1 });
    }

    #[test]
    fn a_word_that_is_no_deviation_is_named() {
        for word in ["latency", "latency#x=1", "latency#1", "#1=1", "latency#1=-1"] {
            assert_eq!(word.parse::<Trace>(), Err(BadTrace(word.into())));
        }
    }
}
