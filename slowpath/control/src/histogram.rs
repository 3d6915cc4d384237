//! How long things took.

use std::time::Duration;

/// Observations counted by their size, as Prometheus wants them.
#[derive(Clone, PartialEq, Debug)]
pub struct Histogram {
    /// Greatest value of each bucket in seconds, ascending, and how many observations are in it but in none before.
    buckets: Vec<(f64, u64)>,
    /// Observations greater than any bucket takes.
    beyond: u64,
    sum: Duration,
}

impl Histogram {
    /// Without observations; `bounds` are the greatest values of the buckets in seconds, ascending.
    pub fn new(bounds: impl IntoIterator<Item = f64>) -> Self {
        let buckets = bounds.into_iter().map(|bound| (bound, 0)).collect();
        Histogram { buckets, beyond: 0, sum: Duration::ZERO }
    }

    /// Adds an observation.
    pub fn observe(&mut self, value: Duration) {
        let seconds = value.as_secs_f64();
        let at = self.buckets.partition_point(|&(bound, _)| bound < seconds);
        match self.buckets.get_mut(at) {
            Some((_, count)) => *count += 1,
            None => self.beyond += 1,
        }
        self.sum += value;
    }

    /// The buckets, each without what those before it hold; the last has no bound.
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        self.buckets.iter().copied().chain([(f64::INFINITY, self.beyond)]).collect()
    }

    /// How many observations there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum::<u64>() + self.beyond
    }

    /// All observations together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_in_the_first_bucket_that_is_not_less() {
        let mut histogram = Histogram::new([0.0, 0.25, 1.0]);
        for millis in [0, 250, 251, 1_000, 1_001, 90_000] {
            histogram.observe(Duration::from_millis(millis));
        }
        assert_eq!(histogram.buckets(), [(0.0, 1), (0.25, 1), (1.0, 2), (f64::INFINITY, 2)]);
        assert_eq!(histogram.count(), 6);
        assert_eq!(histogram.sum(), Duration::from_millis(92_502));
    }
}
