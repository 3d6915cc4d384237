//! The highest rate without loss.

/// Steps of the search: the answer is within 1/2¹⁰ of the highest rate.
const STEPS: u32 = 10;

/// The highest rate, up to `most` frames a second, at which `trial` gives a loss of at most `allowed` percent
/// (RFC 2544, section 26.1, by halving). Zero when even the lowest rate loses more.
pub fn search(most: u64, allowed: f64, mut trial: impl FnMut(u64) -> f64) -> u64 {
    let (mut good, mut bad) = (0, most);
    if trial(most) <= allowed {
        return most;
    }
    for _ in 0..STEPS {
        let rate = good + (bad - good) / 2;
        if rate == good {
            break;
        }
        if trial(rate) <= allowed {
            good = rate;
        } else {
            bad = rate;
        }
    }
    good
}
