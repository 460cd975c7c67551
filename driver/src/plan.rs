//! A plan: what will be done, in which order, before anything is done.
//!
//! A planner ([`create`], [`revert`], [`delete`]) takes the request, the domain, what the live machine says
//! and what this QEMU can do, and returns a [`Plan`] or a [`Refusal`]. It sends nothing. The plan is plain
//! data: it can be printed ([`std::fmt::Display`], the `--dry-run`), compared, and written down.
//!
//! Stages follow one another; the steps of one stage run side by side. Before the point of no return a
//! failure undoes what was done, newest first; after it the plan is carried forward.

mod external;
mod internal;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    capabilities::Capabilities,
    domain::Domain,
    error::Refusal,
    observed::{Observed, ObservedDisk},
    request::{Create, Kind, Request},
    step::Step,
};

/// What will be done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What it is for, in one line.
    pub title: String,
    /// The disks that take part, by target.
    pub disks: Vec<String>,
    /// The stages, in order.
    pub stages: Vec<Stage>,
    /// The stage whose success is the point of no return.
    pub no_return: usize,
}

/// Steps that run side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Stage {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Stage {
    /// A stage of one step.
    fn one(step: impl Into<Step>) -> Self {
        Self { steps: vec![step.into()] }
    }

    /// A stage of several steps of one kind.
    fn all<S: Into<Step>>(steps: impl IntoIterator<Item = S>) -> Self {
        Self { steps: steps.into_iter().map(Into::into).collect() }
    }
}

/// What a planner may look at.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// What the caller knows of the machine.
    pub domain: &'a Domain,
    /// What the machine says of itself.
    pub observed: &'a Observed,
    /// What this QEMU can do.
    pub capabilities: &'a Capabilities,
    /// A word that nobody else uses, for names of jobs and nodes.
    pub unique: &'a str,
}

/// Plans an operation.
///
/// # Errors
/// [`Refusal`]: it must not or cannot be done.
pub fn plan(request: &Request, facts: Facts<'_>) -> Result<Plan, Refusal> {
    match request {
        Request::Create(create) => match &create.kind {
            Kind::Internal { vmstate } => internal::create(create, vmstate.as_deref(), facts),
            Kind::DiskOnly { files } => external::create(create, files, facts),
        },
        Request::Revert(revert) => internal::revert(&revert.name, facts),
        Request::Delete(delete) => internal::delete(&delete.name, facts),
    }
}

/// The disks that a snapshot is to hold: those named, or every writable one.
fn selected<'a>(create: &Create, facts: Facts<'a>) -> Result<Vec<&'a ObservedDisk>, Refusal> {
    for (index, target) in create.disks.iter().enumerate() {
        facts.known(target)?;
        if create.disks[..index].contains(target) {
            return Err(Refusal::DiskTwice(target.clone()));
        }
    }
    let disks: Vec<_> = if create.disks.is_empty() {
        // "Every disk" must not quietly mean "every disk that was found".
        if let Some(missing) = facts.observed.missing.first() {
            return Err(Refusal::NoImage(missing.clone()));
        }
        facts.observed.disks.iter().filter(|disk| !disk.readonly).collect()
    } else {
        let found = create
            .disks
            .iter()
            .map(|target| facts.observed.disk(target).ok_or_else(|| Refusal::NoImage(target.clone())));
        found.collect::<Result<_, _>>()?
    };
    if let Some(disk) = disks.iter().find(|disk| disk.readonly) {
        return Err(Refusal::ReadOnly(disk.target.clone()));
    }
    if disks.is_empty() { Err(Refusal::NothingSelected) } else { Ok(disks) }
}

impl Facts<'_> {
    /// Checks that the domain has this disk.
    fn known(&self, target: &str) -> Result<(), Refusal> {
        if self.domain.disks.iter().any(|disk| disk.target == target) {
            return Ok(());
        }
        Err(Refusal::NoSuchDisk {
            disk: target.to_owned(),
            domain: self.domain.name.clone(),
            known: self.domain.disks.iter().map(|disk| disk.target.clone()).collect(),
        })
    }
}

/// The targets of disks, for a plan and its title.
fn targets(disks: &[&ObservedDisk]) -> Vec<String> {
    disks.iter().map(|disk| disk.target.clone()).collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.title)?;
        let mut number = 0;
        for (index, stage) in self.stages.iter().enumerate() {
            for step in &stage.steps {
                number += 1;
                let note = if index == self.no_return {
                    "point of no return".to_owned()
                } else {
                    step.undo_title().map(|undo| format!("undo: {undo}")).unwrap_or_default()
                };
                let line = format!("{number:>3}  {:<46} {note}", step.to_string());
                writeln!(f, "{}", line.trim_end())?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
