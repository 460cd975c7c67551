//! Removes a file that nothing leads to any more.

use std::{fmt, io, time::Duration};

use camino::{Utf8Path, Utf8PathBuf};
use serde::{Deserialize, Serialize};

use super::{Begun, Kind, Remains, file_error, file_name};
use crate::{
    env::{Env, FileKind},
    error::StepError,
    kept::WhyKept,
    live::Live,
};

/// Removes a file that nothing leads to any more: an overlay that was left by going back to what is under it. There is no undo,
/// so it comes when all else is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RemoveFile {
    /// Which.
    pub path: Utf8PathBuf,
}

impl Kind for RemoveFile {
    fn lane(&self) -> String {
        format!("remove-{}", file_name(&self.path))
    }

    async fn act<E: Env>(&self, live: &Live<E>) -> Result<(), StepError> {
        remove_image(live, &self.path).await
    }

    async fn undo_outside<E: Env>(&self, _env: &E, _begun: Begun) -> Result<(), Remains> {
        Ok(())
    }

    fn remains(&self) -> Remains {
        format!("`{}` is of no use any more: remove it", self.path)
    }
}

/// How long whoever has an image open may take to let go of it: a machine that was ended, or a tool that has only looked.
const LETS_GO_WITHIN: Duration = Duration::from_secs(1);

/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Removes an image; one that is not there is none. It stays, and is told, if another process has it open: what stands on it elsewhere
/// nobody here can know. So does what the description of a machine names that ended before this was done: it may have been started since.
/// So does a link with what is behind it: the one without the other would be named by nobody.
pub(super) async fn remove_image<E: Env>(live: &Live<E>, path: &Utf8Path) -> Result<(), StepError> {
    if let Some(why) = why_kept(live, path).await {
        live.keep(path, why);
        return Ok(());
    }
    remove_if_there(live.env(), path).await
}

async fn why_kept<E: Env>(live: &Live<E>, path: &Utf8Path) -> Option<WhyKept> {
    let env = live.env();
    if live.is_spared(path) && matches!(env.file_kind(path).await, Ok(kind) if kind != FileKind::Absent) {
        return Some(WhyKept::MayHaveRun);
    }
    if let Some(behind) = behind_link(env, path).await {
        return Some(WhyKept::Link(behind));
    }
    let deadline = env.now() + LETS_GO_WITHIN;
    loop {
        match env.image_in_use(path).await {
            Ok(false) => return None,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(WhyKept::Unclear(error.to_string())),
            Ok(true) if env.now() >= deadline => return Some(WhyKept::InUse),
            Ok(true) => env.sleep_until(env.now() + LOOK_EVERY).await,
        }
    }
}

/// The file that a path leads to, if its last part is a link. A folder may be one: what is removed in it is the file itself.
async fn behind_link<E: Env>(env: &E, path: &Utf8Path) -> Option<Utf8PathBuf> {
    let folder = env.canonical(path.parent()?).await.ok()?;
    let behind = env.canonical(path).await.ok()?;
    (behind != folder.join(path.file_name()?)).then_some(behind)
}

/// Removes a file; one that is not there is none.
pub(super) async fn remove_if_there<E: Env>(env: &E, path: &Utf8Path) -> Result<(), StepError> {
    match env.remove_file(path).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(file_error("remove", path)(error)),
        _ => Ok(()),
    }
}

impl fmt::Display for RemoveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "remove {}", file_name(&self.path))
    }
}

#[cfg(all(test, feature = "tokio-env"))]
#[allow(clippy::disallowed_types, clippy::disallowed_methods, reason = "links are of the real host alone")]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;
    use crate::{env::tokio::TokioEnv, kept::KeptFile, monitor::Monitor, patience::Patience};

    #[tokio::test]
    async fn a_link_is_kept_with_what_is_behind_it_and_told_and_a_file_in_a_linked_folder_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = Utf8PathBuf::try_from(folder.path().canonicalize().unwrap()).unwrap();
        let (images, behind, link) = (root.join("images"), root.join("behind"), root.join("link"));
        fs::create_dir(&images).unwrap();
        symlink(&images, root.join("folder")).unwrap();
        let plain = root.join("folder/plain");
        fs::write(&plain, "").unwrap();
        fs::write(&behind, "").unwrap();
        symlink(&behind, &link).unwrap();
        let monitor = Monitor::off(TokioEnv::new(), None);
        let live = monitor.live("remove".into(), Duration::from_secs(5), Patience::default());
        for path in [&link, &plain, &root.join("gone")] {
            remove_image(&live, path).await.unwrap();
        }
        assert!(link.is_symlink() && behind.exists() && !plain.exists());
        let kept = monitor.kept().take();
        assert_eq!(kept, [KeptFile { file: link.clone(), why: WhyKept::Link(behind.clone()) }]);
        let told = kept[0].to_string();
        assert!(told.contains(link.as_str()) && told.contains(behind.as_str()), "{told}");
    }
}
