//! From recorded samples to what a chart can hold: decimation, counters into rates, gaps kept as gaps.
//! Knows numbers and times, not what they mean.

use std::ops::Range;

/// Most points a series has in the page; a screen has fewer columns.
pub const POINTS_MAX: usize = 2_000;

/// A column of values; a missing sample is `None` and stays a gap.
pub type Column = Vec<Option<f64>>;

/// Thins out parallel columns to at most `points_max` rows (at least 2). Each bucket keeps two rows and each column puts its
/// smallest and largest value of the bucket there, in the order they occurred: a peak never disappears.
/// A time moves by less than one bucket, that is 2 / `points_max` of the whole.
#[must_use]
pub fn decimate(x: &[f64], columns: &[Column], points_max: usize) -> (Vec<f64>, Vec<Column>) {
    if x.len() <= points_max {
        return (x.to_vec(), columns.to_vec());
    }
    let buckets = (points_max / 2).max(1);
    let ranges: Vec<Range<usize>> = (0..buckets)
        .map(|b| b * x.len() / buckets..(b + 1) * x.len() / buckets)
        .filter(|r| !r.is_empty())
        .collect();
    let thin_x = ranges
        .iter()
        .flat_map(|r| [x[r.start], x[r.end - 1]])
        .collect();
    let thin = |column: &Column| {
        ranges
            .iter()
            .flat_map(|r| extremes(&column[r.clone()]))
            .collect()
    };
    (thin_x, columns.iter().map(thin).collect())
}

/// Smallest and largest value in the order they occur; both `None` if there is none.
fn extremes(values: &[Option<f64>]) -> [Option<f64>; 2] {
    let mut low: Option<(usize, f64)> = None;
    let mut high: Option<(usize, f64)> = None;
    for (i, value) in values
        .iter()
        .enumerate()
        .filter_map(|(i, v)| v.map(|v| (i, v)))
    {
        if low.is_none_or(|(_, l)| value < l) {
            low = Some((i, value));
        }
        if high.is_none_or(|(_, h)| value > h) {
            high = Some((i, value));
        }
    }
    match (low, high) {
        (Some((i, l)), Some((j, h))) if i <= j => [Some(l), Some(h)],
        (Some((_, l)), Some((_, h))) => [Some(h), Some(l)],
        _ => [None, None],
    }
}

/// Sum of columns row by row: `None` where the first is missing, others count as nothing when missing.
#[must_use]
pub fn sum(first: &Column, others: &[&Column]) -> Column {
    let row = |(i, value): (usize, &Option<f64>)| {
        value.map(|v| {
            v + others
                .iter()
                .filter_map(|o| o.get(i).copied().flatten())
                .sum::<f64>()
        })
    };
    first.iter().enumerate().map(row).collect()
}

/// Most one-second bins, a fortnight: beyond that the times are no seconds.
const BINS_MAX: i64 = 1_209_600;

/// Ends of whole seconds as bins, and of each counter its growth in the bin. A bin without a sample at either end is
/// a gap, and so is one in which the counter fell: the process was restarted.
/// Columns are as long as `t_s`. Empty for more than a fortnight.
#[must_use]
pub fn growth_per_second(t_s: &[f64], counters: &[&Column]) -> (Vec<f64>, Vec<Column>) {
    let (Some(first), Some(last)) = (t_s.first(), t_s.last()) else {
        return (Vec::new(), vec![Vec::new(); counters.len()]);
    };
    let (from, to) = (first.floor() as i64, last.floor() as i64);
    if to - from > BINS_MAX {
        return (Vec::new(), vec![Vec::new(); counters.len()]);
    }
    let ends: Vec<f64> = (from + 1..=to).map(|s| s as f64).collect();
    let growth = |counter: &&Column| {
        let mut row = 0;
        let mut before: Option<f64> = None;
        let grow = |end: &f64| {
            let start = row;
            while row < t_s.len() && t_s[row] <= *end {
                row += 1;
            }
            let now = counter[start..row].iter().rev().find_map(|v| *v);
            let grown = before.zip(now).map(|(b, n)| n - b).filter(|g| *g >= 0.0);
            before = now;
            grown
        };
        ends.iter().map(grow).collect()
    };
    let columns = counters.iter().map(growth).collect();
    (ends, columns)
}

/// Puts series with x values of their own onto one x axis: the sorted union, with `None` where a series has no point.
#[must_use]
pub fn align(series: &[Vec<(f64, f64)>]) -> (Vec<f64>, Vec<Column>) {
    let mut x: Vec<f64> = series.iter().flatten().map(|(x, _)| *x).collect();
    x.sort_by(f64::total_cmp);
    x.dedup();
    let column = |points: &Vec<(f64, f64)>| {
        let mut column: Column = vec![None; x.len()];
        for (at, value) in points {
            if let Ok(i) = x.binary_search_by(|probe| probe.total_cmp(at)) {
                column[i] = Some(*value);
            }
        }
        column
    };
    let columns = series.iter().map(column).collect();
    (x, columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimation_keeps_peaks_and_long_gaps() {
        let x: Vec<f64> = (0..100_000).map(f64::from).collect();
        let mut column: Column = x.iter().map(|_| Some(1.0)).collect();
        column[54_321] = Some(99.0);
        column[70_000..80_000].fill(None);
        let (thin_x, thin) = decimate(&x, &[column], POINTS_MAX);
        assert!(thin_x.len() <= POINTS_MAX && thin[0].len() == thin_x.len());
        assert!(thin_x.is_sorted());
        let peak = thin[0]
            .iter()
            .position(|v| *v == Some(99.0))
            .expect("the peak is kept");
        assert!((thin_x[peak] - 54_321.0).abs() < 100.0);
        assert!(thin[0].iter().filter(|v| v.is_none()).count() >= 198);
    }

    #[test]
    fn short_series_stay_as_they_are() {
        let (x, columns) = decimate(&[1.0, 2.0], &[vec![Some(1.0), None]], POINTS_MAX);
        assert_eq!(
            (x.as_slice(), columns[0].as_slice()),
            ([1.0, 2.0].as_slice(), [Some(1.0), None].as_slice())
        );
    }

    #[test]
    fn a_counter_that_falls_or_is_missing_is_a_gap() {
        let t: Vec<f64> = (0..12).map(|i| f64::from(i) * 0.5).collect();
        let counter: Column = [0., 5., 10., 15., 20., 25., 0., 1., -1., -1., -1., 12.]
            .iter()
            .map(|v| Some(*v).filter(|v| *v >= 0.0))
            .collect();
        let (ends, growth) = growth_per_second(&t, &[&counter]);
        assert_eq!(ends, [1.0, 2.0, 3.0, 4.0, 5.0]);
        // The process restarted before t = 3; between 4 and 5 there is no sample, and the sixth second is not whole.
        assert_eq!(growth[0], [None, Some(10.0), None, Some(1.0), None]);
    }

    #[test]
    fn series_share_one_axis() {
        let (x, columns) = align(&[vec![(1.0, 5.0), (3.0, 6.0)], vec![(2.0, 7.0)]]);
        assert_eq!(x, [1.0, 2.0, 3.0]);
        assert_eq!(
            columns,
            [
                vec![Some(5.0), None, Some(6.0)],
                vec![None, Some(7.0), None]
            ]
        );
    }

    #[test]
    fn a_sum_needs_its_first_column() {
        let got = sum(
            &vec![Some(1.0), None],
            &[&vec![None, Some(2.0)], &vec![Some(3.0), Some(4.0)]],
        );
        assert_eq!(got, [Some(4.0), None]);
    }
}
