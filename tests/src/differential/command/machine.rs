//! Whether the guest runs, and migration as far as it leads nowhere.

use proptest::{collection::vec, prelude::Strategy, sample::select};
use serde_json::{Value, json};

use super::{
    Kinds,
    members::{always, flag, object, one_of, texts},
};

/// Capabilities that all releases have.
const CAPABILITIES: [&str; 4] = ["events", "xbzrle", "auto-converge", "postcopy-ram"];

/// Commands on the machine as a whole.
pub(super) fn kinds() -> Kinds {
    let nothing = || object(Vec::new());
    let names = one_of(vec![(8, texts(&CAPABILITIES)), (1, texts(&["nosuch"]))]);
    let capability = (names, flag()).prop_map(|(name, state)| json!({ "capability": name, "state": state }));
    let capabilities = vec(capability, 0..3).prop_map(Value::from);
    let nowhere =
        select(vec![json!("nosuch:"), json!("unix:$DIR/nosuch"), json!("fd:nosuch"), json!("tcp:")]);
    vec![
        (2, "stop", nothing()),
        (2, "cont", nothing()),
        (1, "system_reset", nothing()),
        (1, "system_powerdown", nothing()),
        (1, "query-status", nothing()),
        (1, "query-block", nothing()),
        (2, "migrate-set-capabilities", object(vec![("capabilities", always(capabilities))])),
        (1, "query-migrate-capabilities", nothing()),
        (1, "migrate", object(vec![("uri", always(nowhere))])),
        (1, "migrate_cancel", nothing()),
    ]
}
