//! Medians, percentiles, ratios, the noise of a ratio, and the order that keeps it low.

/// The number of consecutive parts of a run that show its noise.
const PARTS: usize = 5;

/// The median; of none, 0.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let half = sorted.len() / 2;
    match sorted.len() {
        0 => 0.0,
        len if len % 2 == 1 => sorted[half],
        _ => f64::midpoint(sorted[half - 1], sorted[half]),
    }
}

/// The 99th percentile by nearest rank: under 100 values it is the largest; of none, 0.
pub fn p99(values: &[f64]) -> f64 {
    percentile(values, 99)
}

/// That percentile by nearest rank; of none, 0.
pub fn percentile(values: &[f64], percent: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (sorted.len() * percent).div_ceil(100);
    rank.checked_sub(1).and_then(|index| sorted.get(index)).copied().unwrap_or(0.0)
}

/// A ratio of medians, with its noise.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Ratio {
    /// Of the whole run.
    pub value: f64,
    /// Half of the distance between the highest and the lowest of the ratios of the run's parts.
    pub noise: f64,
}

/// The ratio of the medians of two series that were measured in turns; none if a divisor is
/// missing.
pub fn ratio(ours: &[f64], theirs: &[f64]) -> Option<Ratio> {
    let divide = |ours: &[f64], theirs: &[f64]| {
        let base = median(theirs);
        (base > 0.0 && !ours.is_empty()).then(|| median(ours) / base)
    };
    let value = divide(ours, theirs)?;
    let length = ours.len().min(theirs.len());
    let size = length.div_ceil(PARTS).max(1);
    let parts = ours[..length].chunks(size).zip(theirs[..length].chunks(size));
    let ratios: Vec<f64> = parts.filter_map(|(ours, theirs)| divide(ours, theirs)).collect();
    let highest = ratios.iter().copied().fold(value, f64::max);
    let lowest = ratios.iter().copied().fold(value, f64::min);
    Some(Ratio { value, noise: (highest - lowest) / 2.0 })
}

/// Everybody in turns, forwards and backwards, and another first each time: the kernel's deferred
/// work of one then falls on different others.
pub fn turns(round: usize, total: usize) -> impl Iterator<Item = usize> {
    (0..total).map(move |turn| {
        let step = if round.is_multiple_of(2) { turn } else { total - 1 - turn };
        (round / 2 + step) % total
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_has_a_turn_in_each_round_and_is_first_at_times() {
        let rounds: Vec<Vec<usize>> = (0..6).map(|round| turns(round, 3).collect()).collect();
        for round in &rounds {
            let mut sorted = round.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [0, 1, 2]);
        }
        assert!((0..3).all(|who| rounds.iter().any(|round| round[0] == who)));
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert!((median(&[4.0, 1.0, 3.0, 2.0]) - 2.5).abs() < 1e-9);
        assert!((median(&[9.0, 1.0, 5.0]) - 5.0).abs() < 1e-9);
    }

    #[test]
    fn p99_leaves_one_in_a_hundred_out() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert!((p99(&values) - 198.0).abs() < 1e-9);
        assert!((p99(&[3.0, 7.0]) - 7.0).abs() < 1e-9);
    }

    #[test]
    fn a_steady_ratio_has_no_noise_even_when_the_machine_slows_down() {
        let theirs: Vec<f64> = (1..=20).map(f64::from).collect();
        let ours: Vec<f64> = theirs.iter().map(|value| value * 0.5).collect();
        let ratio = ratio(&ours, &theirs).unwrap();
        assert!((ratio.value - 0.5).abs() < 1e-9 && ratio.noise < 1e-9, "{ratio:?}");
    }

    #[test]
    fn parts_that_disagree_are_noise() {
        let ratio = ratio(&[1.0, 1.0, 1.0, 1.0, 2.0], &[1.0; 5]).unwrap();
        assert!((ratio.value - 1.0).abs() < 1e-9 && (ratio.noise - 0.5).abs() < 1e-9, "{ratio:?}");
    }

    #[test]
    fn nothing_is_no_base() {
        assert_eq!(ratio(&[1.0], &[]), None);
        assert_eq!(ratio(&[], &[1.0]), None);
    }
}
