//! What the metrics page says.

use crate::http::http_get;
use crate::netns::Netns;
use std::time::Duration;

/// A page of metrics.
#[derive(Clone, Debug)]
pub struct Metrics(String);

/// A histogram of a page.
#[derive(Clone, PartialEq, Debug)]
pub struct Observed {
    /// Greatest value of each bucket in seconds, and how many observations are no greater.
    pub buckets: Vec<(f64, u64)>,
    /// All observations together, in seconds.
    pub sum: f64,
}

impl Metrics {
    /// Asks a daemon.
    pub fn of(netns: &Netns) -> Self {
        Metrics(http_get(netns, "http://127.0.0.1:9470/metrics").expect("the daemon has metrics").body)
    }

    /// A sample by its name and labels as they are on the page, if it is there.
    pub fn get(&self, sample: &str) -> Option<f64> {
        let value = |line: &str| line.strip_prefix(sample)?.strip_prefix(' ')?.trim().parse().ok();
        self.0.lines().find_map(value)
    }

    /// A histogram by its name and one label; without observations if it is not there.
    pub fn histogram(&self, name: &str, label: &str) -> Observed {
        let of_family = |line: &&str| line.starts_with(name) && line.contains(label);
        let bucket = |line: &str| {
            let (_, bound) = line.split_once("le=\"")?;
            let (bound, rest) = bound.split_once('"')?;
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().ok()? };
            Some((bound, rest.rsplit(' ').next()?.parse().ok()?))
        };
        let sum = self.get(&format!("{name}_sum{{{label}}}"));
        Observed {
            buckets: self.0.lines().filter(of_family).filter_map(bucket).collect(),
            sum: sum.unwrap_or(0.0),
        }
    }
}

impl Observed {
    /// How many observations there are.
    pub fn count(&self) -> u64 {
        self.buckets.last().map_or(0, |(_, count)| *count)
    }

    /// Those that an earlier page did not have.
    #[must_use]
    pub fn since(&self, before: &Observed) -> Observed {
        let earlier =
            |bound: f64| before.buckets.iter().find(|(of, _)| *of == bound).map_or(0, |(_, count)| *count);
        let buckets = self.buckets.iter().map(|&(bound, count)| (bound, count - earlier(bound)));
        Observed { buckets: buckets.collect(), sum: self.sum - before.sum }
    }

    /// The bound of the bucket that a share of the observations does not exceed; nothing beyond the last bound.
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (self.count() as f64 * share).ceil() as u64;
        let bucket = self.buckets.iter().find(|(_, count)| *count >= wanted)?;
        Duration::try_from_secs_f64(bucket.0).ok()
    }

    /// The mean.
    pub fn mean(&self) -> Duration {
        Duration::from_secs_f64(self.sum / self.count().max(1) as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_read_with_its_quantiles() {
        let page = "a_bucket{le=\"0.001\",kind=\"X\"} 5\na_bucket{le=\"0.005\",kind=\"X\"} 99\na_bucket{le=\"+Inf\",kind=\"X\"} 100\n\
            a_sum{kind=\"X\"} 0.2\na_count{kind=\"X\"} 100\nb{} 7.5\n";
        let metrics = Metrics(page.to_owned());
        assert_eq!((metrics.get("b{}"), metrics.get("c{}")), (Some(7.5), None));
        let found = metrics.histogram("a", "kind=\"X\"");
        assert_eq!((found.count(), found.mean()), (100, Duration::from_millis(2)));
        assert_eq!(found.quantile(0.99), Some(Duration::from_millis(5)));
        assert_eq!(found.quantile(1.0), None);
        assert_eq!(found.since(&found).count(), 0);
    }
}
