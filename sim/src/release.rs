//! The QEMU releases that the simulator knows, and how they name themselves.

use std::{fmt, str::FromStr};

/// A QEMU release whose behaviour was recorded. Ordered by age: `release >= Release::V7_2` reads as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Release {
    /// QEMU 5.2: no snapshot jobs, only the human monitor's `savevm`.
    V5_2,
    /// QEMU 7.2.
    V7_2,
    /// QEMU 10.0.
    V10_0,
    /// QEMU 11.1.
    V11_1,
}

impl Release {
    /// Every release, oldest first.
    pub const ALL: [Release; 4] = [Release::V5_2, Release::V7_2, Release::V10_0, Release::V11_1];

    /// `"10.0"`.
    pub fn name(self) -> &'static str {
        match self {
            Release::V5_2 => "5.2",
            Release::V7_2 => "7.2",
            Release::V10_0 => "10.0",
            Release::V11_1 => "11.1",
        }
    }

    /// The version in the greeting: major, minor, micro. From the recorded binaries.
    pub fn version(self) -> (u32, u32, u32) {
        match self {
            Release::V5_2 => (5, 2, 0),
            Release::V7_2 => (7, 2, 22),
            Release::V10_0 => (10, 0, 13),
            Release::V11_1 => (11, 1, 3),
        }
    }

    /// The package in the greeting. From the recorded binaries.
    pub fn package(self) -> &'static str {
        match self {
            Release::V5_2 => "Debian 1:5.2+dfsg-11+deb11u3",
            Release::V7_2 => "Debian 1:7.2+dfsg-7+deb12u18+b3",
            Release::V10_0 => "Debian 1:10.0.13+ds-0+deb13u1",
            Release::V11_1 => "Debian 1:11.1.3+ds-1",
        }
    }

    /// The known release nearest to a real version, and whether it is that very release. The nearest is the
    /// newest that is not newer; the oldest for what came before all.
    pub fn nearest(major: u32, minor: u32) -> (Release, bool) {
        let release = Release::ALL
            .into_iter()
            .rev()
            .find(|known| (known.version().0, known.version().1) <= (major, minor))
            .unwrap_or(Release::V5_2);
        (release, (release.version().0, release.version().1) == (major, minor))
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Not one of the releases that the simulator knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no release `{0}`: the simulator knows 5.2, 7.2, 10.0 and 11.1")]
pub struct UnknownRelease(String);

impl FromStr for Release {
    type Err = UnknownRelease;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Release::ALL
            .into_iter()
            .find(|release| release.name() == name)
            .ok_or_else(|| UnknownRelease(name.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_version_is_held_against_the_newest_that_is_not_newer() {
        assert_eq!(Release::nearest(10, 0), (Release::V10_0, true));
        assert_eq!(Release::nearest(10, 2), (Release::V10_0, false));
        assert_eq!(Release::nearest(12, 0), (Release::V11_1, false));
        assert_eq!(Release::nearest(4, 2), (Release::V5_2, false));
    }
}
