//! The one question that everything which could have gone otherwise asks.

/// Answers [`Oracle::choose`].
#[derive(Debug, Clone, Default)]
pub struct Oracle {}

impl Oracle {
    /// Which of `n` ways this goes; 0 is what usually happens.
    pub fn choose(&mut self, _label: &'static str, _n: usize) -> usize {
        0
    }
}
