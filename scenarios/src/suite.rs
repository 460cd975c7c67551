//! A set of scenarios, read and checked.

use camino::{Utf8Path, Utf8PathBuf};
use freezeframe_driver::error::Code;
use freezeframe_sim::Release;

use crate::language::{FindError, LoadError, Scenario, World, find, load_all};

/// One scenario and where it stands.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its file.
    pub path: Utf8PathBuf,
    /// What stands in it.
    pub scenario: Scenario,
}

impl Case {
    /// Whether it holds for a release.
    pub fn is_for(&self, release: Release) -> bool {
        self.releases().any(|known| known == release)
    }

    /// Whether it may be played there.
    pub fn is_played_on(&self, world: World) -> bool {
        self.scenario.targets.contains(&world)
    }

    /// The releases that it holds for, oldest first.
    pub fn releases(&self) -> impl Iterator<Item = Release> {
        self.scenario.releases.iter().map(|release| Release::from(*release))
    }
}

/// Why a set of scenarios cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SuiteError {
    /// A path leads to none.
    #[error(transparent)]
    Find(#[from] FindError),
    /// Files have mistakes; all of them are told.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n\n"))]
    Load(Vec<LoadError>),
    /// The filter leaves none.
    #[error("error: no scenario has `{0}` in its id")]
    NoneLeft(String),
    /// None is for the release that was asked for.
    #[error("error: none of these scenarios is for QEMU {0}")]
    NoneFor(Release),
}

/// Reads the scenarios at these paths; without a path those that freezeframe comes with. `filter` keeps those whose id
/// contains it.
///
/// # Errors
/// [`SuiteError`], with every mistake of every file.
pub fn load(paths: &[Utf8PathBuf], filter: Option<&str>) -> Result<Vec<Case>, SuiteError> {
    let paths = if paths.is_empty() { vec![own()] } else { paths.to_vec() };
    let codes = Code::ALL.map(Code::name);
    let loaded = load_all(&find(&paths)?, &codes).map_err(SuiteError::Load)?;
    let cases = loaded.into_iter().map(|(path, scenario)| Case { path, scenario });
    let Some(filter) = filter else { return Ok(cases.collect()) };
    let cases: Vec<_> = cases.filter(|case| case.scenario.id.contains(filter)).collect();
    if cases.is_empty() { Err(SuiteError::NoneLeft(filter.to_owned())) } else { Ok(cases) }
}

/// The suite of freezeframe itself: in the folder where it is run, or where it was built.
fn own() -> Utf8PathBuf {
    let here = Utf8Path::new("scenarios/suite");
    if here.is_dir() { here.to_owned() } else { Utf8Path::new(env!("CARGO_MANIFEST_DIR")).join("suite") }
}
