//! `blkdebug`: a filter above a protocol node that lets requests fail where its rules say so.
//!
//! ```text
//! an event of the format (`write_aio`) -> rules of that event and of the state at hand -> the requests that follow fail
//! ```
//! A rule with `once` strikes one request and is gone; any other strikes all that come after its event. Which request of
//! a job that is, the job asks with [`Blkdebug::strikes`].
//!
//! Not here: offsets (`sector`), breakpoints, alignment, `take-child-perms`.
//! Source: QEMU's QAPI docs of `BlkdebugInjectErrorOptions`, recordings.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    machine::Errno,
    qemu::{QmpError, arguments::Arguments, not_simulated},
};

/// The rules of a node, and which of them are at work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blkdebug {
    rules: Vec<Rule>,
    state: u64,
    /// As the options say it, flattened: QEMU names the node by them.
    pub(super) stated: Vec<(String, Value)>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Rule {
    event: String,
    /// In which state it counts; 0 for any.
    state: u64,
    action: Action,
    /// Its event has come: it strikes from now on.
    at_work: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    InjectError { errno: Errno, once: bool, iotype: Option<String> },
    SetState { new_state: u64 },
}

/// What an injected error does to the requests that follow its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Strike {
    /// How they fail.
    pub(crate) errno: Errno,
    /// Only the first fails.
    pub(crate) once: bool,
}

impl Blkdebug {
    /// The rules in the options of a node.
    ///
    /// # Errors
    /// "not simulated" for rules beyond those above.
    pub(crate) fn new(options: Arguments<'_>) -> Result<Self, QmpError> {
        let mut rules = Vec::new();
        let mut stated = Vec::new();
        for kind in ["inject-error", "set-state"] {
            for (index, rule) in options.list(kind).iter().enumerate() {
                let rule = Arguments(rule.as_object().ok_or_else(|| not_simulated("a rule that is none"))?);
                rules.push(Rule::new(kind, rule)?);
                stated.extend(
                    rule.0.iter().map(|(name, value)| (format!("{kind}.{index}.{name}"), value.clone())),
                );
            }
        }
        Ok(Self { rules, state: 1, stated })
    }

    /// The rules of a node on the command line, where lists are written with numbers. What is not simulated there was
    /// refused when the command line was read.
    pub(crate) fn of_command_line(stated: &[(String, Value)]) -> Self {
        let mut rules: BTreeMap<(&str, &str), Map<String, Value>> = BTreeMap::new();
        for (name, value) in stated {
            let mut parts = name.splitn(3, '.');
            if let (Some(kind), Some(index), Some(name)) = (parts.next(), parts.next(), parts.next()) {
                rules.entry((kind, index)).or_default().insert(name.into(), value.clone());
            }
        }
        let rules = rules.iter().filter_map(|((kind, _), rule)| Rule::new(kind, Arguments(rule)).ok());
        Self { rules: rules.collect(), state: 1, stated: stated.to_vec() }
    }

    /// The format has come to an event: rules strike from now on, or the state changes.
    pub(crate) fn event(&mut self, event: &str) {
        let before = self.state;
        for rule in &mut self.rules {
            if rule.event == event && (rule.state == 0 || rule.state == before) {
                match rule.action {
                    Action::InjectError { .. } => rule.at_work = true,
                    Action::SetState { new_state } => self.state = new_state,
                }
            }
        }
    }

    /// How the next request of a type (`write`, `read`) fails, if it does. A rule with `once` is gone then.
    pub(crate) fn strikes(&mut self, kind: &str) -> Option<Strike> {
        let at = self.rules.iter().position(|rule| match &rule.action {
            Action::InjectError { iotype, .. } => {
                rule.at_work && iotype.as_deref().is_none_or(|only| only == kind)
            }
            Action::SetState { .. } => false,
        })?;
        let Action::InjectError { errno, once, .. } = self.rules[at].action else { return None };
        if once {
            self.rules.remove(at);
        }
        Some(Strike { errno, once })
    }
}

impl Rule {
    fn new(kind: &str, rule: Arguments<'_>) -> Result<Self, QmpError> {
        let action = if kind == "set-state" {
            rule.only(&["event", "state", "new_state"])?;
            Action::SetState { new_state: rule.size("new_state") }
        } else {
            rule.only(&["event", "state", "iotype", "errno", "once", "immediately"])?;
            let number = rule.0.get("errno").and_then(Value::as_u64).unwrap_or(5);
            let errno = Errno::numbered(number).ok_or_else(|| not_simulated(&format!("errno {number}")))?;
            let iotype = rule.optional_text("iotype").map(str::to_owned);
            Action::InjectError { errno, once: rule.flag("once"), iotype }
        };
        Ok(Self { event: rule.text("event").into(), state: rule.size("state"), action, at_work: false })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn node(options: Value) -> Blkdebug {
        Blkdebug::new(Arguments(options.as_object().unwrap())).unwrap()
    }

    #[test]
    fn a_rule_strikes_only_after_its_event() {
        let mut node = node(json!({ "inject-error": [{ "event": "write_aio", "errno": 28 }] }));
        assert_eq!(node.strikes("write"), None);
        node.event("write_aio");
        let strike = Some(Strike { errno: Errno::NoSpace, once: false });
        assert_eq!([node.strikes("write"), node.strikes("read")], [strike, strike]);
    }

    #[test]
    fn a_rule_with_once_is_gone_when_it_has_struck() {
        let mut node = node(json!({ "inject-error": [{ "event": "write_aio", "once": true }] }));
        node.event("write_aio");
        assert!(node.strikes("write").is_some());
        node.event("write_aio");
        assert_eq!(node.strikes("write"), None);
    }

    #[test]
    fn a_rule_of_another_state_waits_for_it() {
        let mut node = node(json!({
            "set-state": [{ "event": "vmstate_save", "new_state": 2 }],
            "inject-error": [{ "event": "write_aio", "state": 2 }],
        }));
        node.event("write_aio");
        assert_eq!(node.strikes("write"), None);
        node.event("vmstate_save");
        node.event("write_aio");
        assert!(node.strikes("write").is_some());
    }

    #[test]
    fn rules_of_the_command_line_are_those_of_a_command() {
        let of_command = node(json!({ "inject-error": [{ "event": "write_aio", "errno": 5 }] }));
        assert_eq!(Blkdebug::of_command_line(&of_command.stated), of_command);
    }
}
