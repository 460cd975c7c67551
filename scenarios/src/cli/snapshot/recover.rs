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
        let pending = operate.with_what_is_there(async |machine| machine.pending().await)?;
        return Ok(found(pending.as_ref(), "pending", &Value::Null).tried(true));
    }
    if arguments.forget {
        let pending = operate.with_what_is_there(async |machine| machine.forget_pending().await)?;
        return Ok(found(pending.as_ref(), "forgotten", &json!("forgotten")));
    }
    let (recovered, old) = operate.with_what_is_there(async |machine| {
        let recovered = operate.recover(machine).await?;
        let images = async || match &recovered {
            Some(_) => old_description::images_of_running(machine).await,
            None => Images::new(),
        };
        let old = operate.old_description(machine, images).await;
        Ok((recovered, old))
    })?;
    match recovered {
        Some(recovered) if !recovered.remains.is_empty() => {
            Err(SnapshotError::NotRecovered(Box::new(recovered)).into())
        }
        Some(recovered) => {
            let told = Told::new(format!("{recovered}\n"), object(&recovered));
            Ok(old_description::tell(told, &operate.machine.file(), &old))
        }
        None => Ok(found(None, "", &Value::Null)),
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

/// An operation that is found, and nothing is done about.
fn found(pending: Option<&Pending>, word: &str, became: &Value) -> Told {
    let title = pending.map(|pending| &pending.intent.plan.title);
    let became = title.map_or(&Value::Null, |_| became);
    let text = title.map_or("nothing is pending\n".to_owned(), |title| format!("{word}: {title}\n"));
    Told::new(text, json!({ "pending": title, "became": became, "done": [], "remains": [] }))
}
