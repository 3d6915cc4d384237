//! Latencies in buckets, each at most 1/16 wide of its value.

use serde::Serialize;

/// Sub-buckets of each power of two.
const SUB: u32 = 16;
const BUCKETS: usize = (64 * SUB) as usize;

/// Counts of nanoseconds.
#[derive(Clone, Debug)]
pub struct Histogram {
    buckets: Box<[u64]>,
    count: u64,
    most: u64,
}

/// What a histogram says, in microseconds.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// Half of all were faster.
    pub p50: f64,
    /// 99 % were faster.
    pub p99: f64,
    /// 99.9 % were faster.
    pub p999: f64,
    /// The slowest.
    pub max: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram { buckets: vec![0; BUCKETS].into_boxed_slice(), count: 0, most: 0 }
    }
}

impl Histogram {
    /// Counts one.
    pub fn record(&mut self, nanos: u64) {
        self.buckets[bucket(nanos)] += 1;
        self.count += 1;
        self.most = self.most.max(nanos);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Histogram::default();
    }

    /// The value below which this part (0 to 1) of all lies, up to the width of a bucket.
    pub fn quantile(&self, part: f64) -> u64 {
        let wanted = (self.count as f64 * part).ceil() as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted && *count > 0 {
                return upper(index).min(self.most);
            }
        }
        self.most
    }

    /// The usual quantiles; `None` when nothing was counted.
    pub fn summary(&self) -> Option<Summary> {
        let micros = |nanos: u64| (nanos as f64 / 10.0).round() / 100.0;
        (self.count > 0).then(|| Summary {
            p50: micros(self.quantile(0.5)),
            p99: micros(self.quantile(0.99)),
            p999: micros(self.quantile(0.999)),
            max: micros(self.most),
        })
    }
}

fn bucket(nanos: u64) -> usize {
    let power = 63 - nanos.max(1).leading_zeros();
    if power < SUB.ilog2() {
        return nanos as usize;
    }
    let shift = power - SUB.ilog2();
    ((shift + 1) * SUB + ((nanos >> shift) as u32 - SUB)) as usize
}

/// The largest value of a bucket.
fn upper(bucket: usize) -> u64 {
    let bucket = bucket as u32;
    if bucket < SUB {
        return u64::from(bucket);
    }
    let shift = bucket / SUB - 1;
    (u64::from(bucket % SUB + SUB + 1) << shift) - 1
}
