//! SplitMix64: the pseudo-random numbers of a seeded run.
//!
//! Written out here because a seed in a bug report must mean the same run for ever, whatever becomes of a
//! library. Source of the algorithm: Steele, Lea and Flood, "Fast splittable pseudorandom number generators",
//! OOPSLA 2014.

/// A stream of 64-bit numbers from one seed.
#[derive(Debug, Clone)]
pub(super) struct SplitMix64 {
    state: u64,
}

impl SplitMix64 {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A number below `n`, which is not 0.
    pub(super) fn below(&mut self, n: usize) -> usize {
        scaled(self.next(), n)
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// A number below `n`, which is not 0, for one of 64 bits. Multiplying instead of dividing: the bias is below n / 2^64.
pub(super) fn scaled(number: u64, n: usize) -> usize {
    ((u128::from(number) * n as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_are_those_that_the_algorithm_is_published_with() {
        let mut numbers = SplitMix64::new(1_234_567);
        let first: Vec<_> = (0..5).map(|_| numbers.next()).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423,
                4_593_380_528_125_082_431,
                16_408_922_859_458_223_821,
            ]
        );
    }

    #[test]
    fn every_number_below_the_bound_comes_up() {
        let mut numbers = SplitMix64::new(1);
        let mut seen = [0_u32; 3];
        for _ in 0..3000 {
            seen[numbers.below(3)] += 1;
        }
        assert!(seen.iter().all(|&times| (900..1100).contains(&times)), "{seen:?}");
    }
}
