//! `recover`: what an operation has left is put right.

use clap::Args;
use freezeframe_driver::{journal::Pending, recover::Recovered, report::Images};
use serde_json::{Value, json};

use super::{SnapshotError, old_description, operate::OperateArgs};
use crate::cli::{CliError, told::Told};

#[derive(Debug, Args)]
pub(super) struct RecoverArgs {
    #[command(flatten)]
    operate: OperateArgs,
    /// Give the operation up instead: what it has left stays, and nobody is told of it any more
    #[arg(long)]
    forget: bool,
}

pub(super) fn recover(arguments: &RecoverArgs) -> Result<Told, CliError> {
    let operate = &arguments.operate;
    if operate.dry_run {
        let pending =
            operate.with_what_is_there(async |machine| Ok((machine.pending().await?, machine.forgotten())));
        let (pending, begun) = pending?;
        let begun = begun.filter(|_| pending.is_none());
        return Ok(found(pending.as_ref(), "pending", &Value::Null, begun.as_ref(), &[]).tried(true));
    }
    if arguments.forget {
        let (pending, begun, in_doubt) = operate.with_what_is_there(async |machine| {
            let pending = machine.forget_pending().await?;
            let in_doubt = match &pending {
                Some(pending) => machine.left_in_doubt(pending).await,
                None => Vec::new(),
            };
            Ok((pending, machine.forgotten(), in_doubt))
        })?;
        return Ok(found(pending.as_ref(), "forgotten", &json!("forgotten"), begun.as_ref(), &in_doubt));
    }
    let (recovered, old) = operate.with_what_is_there(async |machine| {
        let recovered = operate.recover(machine).await?.or_else(|| machine.forgotten());
        let images = async || match &recovered {
            Some(_) => old_description::images_of_running(machine).await,
            None => Images::new(),
        };
        let old = operate.old_description(machine, images).await;
        Ok((recovered, old))
    })?;
    match recovered {
        Some(mut recovered) if !recovered.remains.is_empty() => {
            recovered.remains.extend(old_description::words(&operate.machine.file(), &old));
            Err(SnapshotError::NotRecovered(Box::new(recovered)).into())
        }
        Some(recovered) => {
            let told = Told::new(format!("{recovered}\n"), object(&recovered));
            Ok(old_description::tell(told, &operate.machine.file(), &old))
        }
        None => Ok(found(None, "", &Value::Null, None, &[])),
    }
}

fn object(recovered: &Recovered) -> Value {
    let mut object = json!({
        "pending": recovered.title,
        "became": recovered.turn.name(),
        "done": recovered.deeds,
        "remains": recovered.remains,
    });
    if !recovered.kept.is_empty() {
        object["kept"] = recovered.kept.iter().map(|kept| json!(kept.file)).collect();
    }
    object
}

/// An operation that is found, and nothing is done about; what the records say was begun, whatever becomes of that one; and what is kept of it.
fn found(
    pending: Option<&Pending>,
    word: &str,
    became: &Value,
    begun: Option<&Recovered>,
    in_doubt: &[String],
) -> Told {
    let title = pending.map(|pending| &pending.intent.plan.title);
    let became = title.map_or(&Value::Null, |_| became);
    let mut text = title.map_or("nothing is pending\n".to_owned(), |title| format!("{word}: {title}\n"));
    let begun = begun.map_or([].as_slice(), |begun| &begun.remains);
    let remains: Vec<_> = begun.iter().chain(in_doubt).collect();
    text.extend(remains.iter().map(|left| format!("  left: {left}\n")));
    Told::new(text, json!({ "pending": title, "became": became, "done": [], "remains": remains }))
}
