//! Sharing weights among bins.

/// Gives each weight a bin (its number, below `bins`) so that the sums of the bins
/// come out as even as can be: heaviest first, always into the lightest bin. The
/// greatest sum exceeds the mean by less than one weight, and by very little when
/// there are many weights for each bin. Ties go to the lower number. Nothing for no
/// bins.
pub fn by_weight(weights: &[u64], bins: usize) -> Vec<usize> {
    if bins == 0 {
        return Vec::new();
    }
    let mut heaviest_first: Vec<usize> = (0..weights.len()).collect();
    heaviest_first.sort_by_key(|&at| std::cmp::Reverse(weights[at]));
    let mut sums = vec![0_u128; bins];
    let mut chosen = vec![0; weights.len()];
    for at in heaviest_first {
        let lightest = (0..bins).min_by_key(|&bin| sums[bin]).unwrap_or(0);
        sums[lightest] += u128::from(weights[at]);
        chosen[at] = lightest;
    }
    chosen
}

#[cfg(test)]
mod tests {
    use caucus_ring::Ring;

    use super::*;

    /// The greatest sum over the mean, in parts of a thousand.
    fn over_mean(weights: &[u64], bins: usize) -> u128 {
        let mut sums = vec![0_u128; bins];
        for (at, bin) in by_weight(weights, bins).into_iter().enumerate() {
            sums[bin] += u128::from(weights[at]);
        }
        let total: u128 = sums.iter().sum();
        let most = sums.iter().max().copied().unwrap_or(0);
        (most * bins as u128 * 1000).div_ceil(total) - 1000
    }

    #[test]
    fn small_cases() {
        assert_eq!(by_weight(&[1, 1, 1, 1], 2), [0, 1, 0, 1]);
        assert_eq!(by_weight(&[5, 1, 2, 2], 2), [0, 1, 1, 1]);
        assert_eq!(by_weight(&[3, 2], 4), [0, 1]);
        assert_eq!(by_weight(&[1, 2, 3], 1), [0, 0, 0]);
        assert_eq!(by_weight(&[1, 2, 3], 0), Vec::<usize>::new());
        assert_eq!(by_weight(&[], 3), Vec::<usize>::new());
    }

    #[test]
    fn every_number_of_groups_is_within_five_per_cent() {
        let ring = Ring::new(4096).unwrap();
        for groups in 1..=64 {
            let over = over_mean(ring.arcs(), groups);
            assert!(over <= 50, "{groups} groups: {over}/1000 over the mean");
        }
    }
}
