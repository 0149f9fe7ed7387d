//! Why a list of one-time ports did not open its door.

use std::time::Duration;

/// What is wrong with a list of one-time ports that was knocked completely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misfit {
    /// It has already opened the door; its period is accepted now.
    Used,
    /// It is the list of a period that is not accepted: this many periods after the current one, or before it
    /// if negative.
    OtherPeriod(i8),
}

impl Misfit {
    /// The text for the log. `period` is the length of the door's periods.
    #[must_use]
    pub fn words(self, period: Duration) -> String {
        match self {
            Misfit::Used => "list of this period already used".to_owned(),
            Misfit::OtherPeriod(distance) => {
                let off = about(period.as_secs().saturating_mul(distance.unsigned_abs().into()));
                let direction = if distance < 0 { "behind" } else { "ahead" };
                format!("fits period {distance:+}: clock about {off} {direction}")
            }
        }
    }
}

/// A number of seconds, in the largest unit of which it has at least two.
fn about(seconds: u64) -> String {
    let units = [("days", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let (name, length) =
        units.into_iter().find(|(name, length)| seconds >= 2 * length || *name == "s").unwrap_or(("s", 1));
    // Round to the nearest unit.
    format!("{} {name}", (seconds + length / 2) / length)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_the_log() {
        let words = |distance, seconds| Misfit::OtherPeriod(distance).words(Duration::from_secs(seconds));
        assert_eq!(words(-3, 60), "fits period -3: clock about 3 min behind");
        assert_eq!(words(2, 30), "fits period +2: clock about 60 s ahead");
        assert_eq!(words(10, 65_535), "fits period +10: clock about 8 days ahead");
        assert_eq!(Misfit::Used.words(Duration::ZERO), "list of this period already used");
    }
}
