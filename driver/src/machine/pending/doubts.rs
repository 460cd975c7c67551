//! In which of two images a guest went on that a deletion was taking from one to the other: what the journal knows of it when QEMU is gone,
//! and what nobody does.

use crate::{
    env::Env,
    error::OffRefusal,
    journal::{Journal, Pending, Written},
    machine::Machine,
    mark, plan,
    recover::Recovered,
    step::{EndCommit, Step},
    store::Changes,
};

impl<E: Env> Machine<E> {
    /// Writes into the records of a machine that is off which disks have stayed in their overlays, though their turn had come to leave them: by
    /// the journal no pivot was begun. That stands there before any is.
    pub(super) async fn note_stayed(&self, pending: &Pending, journal: &Journal<E>) {
        let ahead = |(_, written, step): (usize, Written, &'_ Step)| match step {
            Step::EndCommit(end) if end.active && written == Written::Ahead => Some(end.clone()),
            _ => None,
        };
        let ahead: Vec<EndCommit> = pending.steps().filter_map(ahead).collect();
        let (Some(old), Some(records)) = (self.written_records().await, &self.records) else { return };
        let mut tree = old.clone();
        for end in &ahead {
            plan::stayed(&mut tree, &end.target, &end.file);
        }
        if tree == old {
            return;
        }
        let folder = records.borrow().folder().to_owned();
        let env = self.monitor.env();
        // That the deletion has begun stays so, and what its step has written is not there any more to tell it.
        let begun = pending.steps().enumerate().filter(|(_, (_, written, step))| {
            *written == Written::InDoubt
                && matches!(step, Step::RecordDeletion(record) if record.done.is_none())
        });
        let noted = async {
            let begun: Vec<_> = begun.map(|(number, _)| number).collect();
            if !begun.is_empty() {
                journal.done(begun).await.map_err(|error| error.to_string())?;
            }
            let changes = Changes::between(&folder, &old, &tree).map_err(|error| error.to_string())?;
            changes.write(env).await.map_err(|error| mark::told(&error))
        };
        if let Err(error) = noted.await {
            tracing::warn!(%error, "that disks have stayed in their overlays is not written down");
        }
    }

    /// Tells of each disk of a machine that is off in which of two images the guest went on nobody knows, with what to do.
    pub(super) fn tell_doubts(&self, recovered: &mut Recovered) {
        let domain = self.domain();
        let (Some(tree), Some(document)) = (self.tree(), domain.document.as_ref().filter(|_| self.is_off()))
        else {
            return;
        };
        for doubt in plan::in_doubt(&tree, document) {
            // The pivot itself says it without a way out.
            if let OffRefusal::MayHaveMoved { disk, file, .. }
            | OffRefusal::MayHaveStayed { disk, file, .. } = &doubt
            {
                let plain = EndCommit::in_doubt(disk, file);
                recovered.remains.retain(|left| *left != plain);
            }
            recovered.remains.push(mark::told(&doubt));
        }
    }
}
