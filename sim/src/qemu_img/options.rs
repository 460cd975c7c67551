//! The arguments of a command of `qemu-img`.

use super::Refusal;

/// What was given to a command.
#[derive(Debug, Default)]
pub(super) struct Options<'a> {
    valued: Vec<(&'a str, &'a str)>,
    flags: Vec<&'a str>,
    /// What is no option.
    pub(super) names: Vec<&'a str>,
}

impl<'a> Options<'a> {
    /// Reads arguments, of which these are known. Options may come behind names.
    pub(super) fn read(
        mut words: impl Iterator<Item = &'a str>,
        valued: &[&str],
        flags: &[&str],
    ) -> Result<Self, Refusal> {
        let mut options = Self::default();
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value)),
                _ => (word, None),
            };
            if !word.starts_with('-') {
                options.names.push(word);
            } else if flags.contains(&word) {
                options.flags.push(word);
            } else if let Some(value) =
                value.or_else(|| valued.contains(&name).then(|| words.next()).flatten())
                && valued.contains(&name)
            {
                options.valued.push((name, value));
            } else {
                return Err(Refusal::not_simulated(&format!("the option `{word}`")));
            }
        }
        Ok(options)
    }

    /// The value of an option; the last if it is given more than once.
    pub(super) fn value(&self, name: &str) -> Option<&'a str> {
        self.valued.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Whether a flag is given.
    pub(super) fn has(&self, flag: &str) -> bool {
        self.flags.contains(&flag)
    }

    /// The one name that the command takes.
    pub(super) fn name(&self) -> Result<&'a str, Refusal> {
        match self.names[..] {
            [name] => Ok(name),
            _ => Err(Refusal::not_simulated("a usage error")),
        }
    }

    /// Output in JSON is the only one that is simulated.
    pub(super) fn in_json(&self) -> Result<(), Refusal> {
        match self.value("--output") {
            Some("json") => Ok(()),
            _ => Err(Refusal::not_simulated("other output than `--output=json`")),
        }
    }
}
