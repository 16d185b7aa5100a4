//! Measurements: histograms and counts per worker, cut at window boundaries, merged at the end and every second.
//!
//! One [`Recorder`] belongs to one goose user and is written without locks; once a second it pours its interval into
//! the shared [`Collector`]. All times are microseconds after the schedule's origin.

use std::collections::BTreeMap;

use backdrop_reports::load::{Interval, Latency, OperationFigures, SendFigures};
use hdrhistogram::Histogram;
use parking_lot::Mutex;

/// Largest latency told apart: a minute. Larger ones are recorded as this.
const LATENCY_MAX_US: u64 = 60_000_000;
const DIGITS: u8 = 3;
/// Sends whose worker woke later than this after their time, or the end of their tick, are late, microseconds.
pub const LATE_US: u64 = 5_000;
/// Quantiles of the spectrum that the report draws.
const SPECTRUM: [f64; 17] = [
    0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.975, 0.99, 0.995, 0.999, 0.9995, 0.9999, 0.99995,
    0.99999, 0.999999, 1.0,
];

/// Histogram of one worker.
pub type Hist = Histogram<u32>;
/// Histogram of all workers.
pub type Total = Histogram<u64>;

/// An empty histogram of latencies.
///
/// # Panics
/// Never: the bounds are constants that the library accepts.
pub fn histogram<C: hdrhistogram::Counter>() -> Histogram<C> {
    Histogram::new_with_bounds(1, LATENCY_MAX_US, DIGITS).expect("constant bounds")
}

/// Adds a worker's histogram to a total.
pub fn merge(total: &mut Total, part: &Hist) {
    for value in part.iter_recorded() {
        total.saturating_record_n(value.value_iterated_to(), u64::from(value.count_at_value()));
    }
}

/// The two kinds of operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// A switch of one session.
    Switch = 0,
    /// A preview frame.
    Preview = 1,
}

/// How one operation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// Acknowledged.
    Ok,
    /// Answered by the thumbnail.
    Degraded,
    /// Shed by the service.
    Shed,
    /// Answered with a failure, or dropped for a reason that is not the service's; by name.
    Failed(&'static str),
    /// Never answered and certainly not applied, by name: counted as failed.
    Unanswered(&'static str),
    /// Answered with a failure that may hide an applied request, by name: counted as indeterminate.
    Unclear(&'static str),
    /// Never answered and perhaps applied, by name.
    Indeterminate(&'static str),
}

impl Class {
    /// Whether the wait for it is a latency. Nobody may be left out for want of an answer, or a stall would make the
    /// figures better; a refusal is an answer, and a quick one would flatter.
    fn has_latency(self) -> bool {
        match self {
            Class::Ok | Class::Degraded | Class::Unanswered(_) | Class::Indeterminate(_) => true,
            Class::Shed | Class::Failed(_) | Class::Unclear(_) => false,
        }
    }

    /// Name of what went wrong.
    pub fn error(self) -> Option<&'static str> {
        match self {
            Class::Ok | Class::Degraded => None,
            Class::Shed => Some("shed"),
            Class::Failed(name)
            | Class::Unanswered(name)
            | Class::Unclear(name)
            | Class::Indeterminate(name) => Some(name),
        }
    }
}

/// Boundaries of the spans that the run is cut into: warm-up, then every edge of a window, then the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spans {
    edges_us: Vec<u64>,
}

impl Spans {
    /// `edges_us` in any order; zero is always one.
    pub fn new(mut edges_us: Vec<u64>) -> Self {
        edges_us.push(0);
        edges_us.sort_unstable();
        edges_us.dedup();
        Spans { edges_us }
    }

    fn count(&self) -> usize {
        self.edges_us.len()
    }

    /// The span that a planned time falls into.
    pub fn at(&self, due_us: u64) -> usize {
        // A handful of edges: a scan from the end beats a binary search.
        self.edges_us
            .iter()
            .rposition(|edge| *edge <= due_us)
            .unwrap_or(0)
    }

    /// Spans that lie in `from..to`; both must be edges.
    pub fn within(&self, from_us: u64, to_us: u64) -> std::ops::Range<usize> {
        let first = self.edges_us.partition_point(|edge| *edge < from_us);
        let last = self.edges_us.partition_point(|edge| *edge < to_us);
        first..last.max(first)
    }
}

/// Counts of one kind of operation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// All that were planned.
    pub planned: u64,
    /// Acknowledged whole.
    pub ok: u64,
    /// Answered by the thumbnail.
    pub degraded: u64,
    /// Shed.
    pub shed: u64,
    /// Failed.
    pub failed: u64,
    /// Unknown.
    pub indeterminate: u64,
    /// Failed and unknown ones by name.
    pub errors: BTreeMap<&'static str, u64>,
}

impl Counts {
    fn count(&mut self, class: Class, n: u64) {
        self.planned += n;
        match class {
            Class::Ok => self.ok += n,
            Class::Degraded => self.degraded += n,
            Class::Shed => self.shed += n,
            Class::Failed(name) | Class::Unanswered(name) => {
                self.failed += n;
                *self.errors.entry(name).or_default() += n;
            }
            Class::Unclear(name) | Class::Indeterminate(name) => {
                self.indeterminate += n;
                *self.errors.entry(name).or_default() += n;
            }
        }
    }

    fn add(&mut self, other: &Counts) {
        self.planned += other.planned;
        self.ok += other.ok;
        self.degraded += other.degraded;
        self.shed += other.shed;
        self.failed += other.failed;
        self.indeterminate += other.indeterminate;
        for (name, n) in &other.errors {
            *self.errors.entry(name).or_default() += n;
        }
    }
}

#[derive(Debug)]
struct Span {
    counts: Counts,
    /// From the planned time to the answer, or to the moment it was given up ([`Class::has_latency`]).
    latency: Hist,
    /// From the send to the last byte, of what was answered.
    service: Hist,
    /// Sent late, or never, for the simulator's own sake.
    late: u64,
}

/// One worker's measurements of one kind of operation.
#[derive(Debug)]
pub struct Recorder {
    operation: Operation,
    spans: Spans,
    stats: Vec<Span>,
    interval: Counts,
    interval_latency: Hist,
    /// Sends as the last interval left them.
    sends: SendFigures,
}

impl Recorder {
    /// A recorder over these spans.
    pub fn new(operation: Operation, spans: Spans) -> Self {
        let stats = (0..spans.count())
            .map(|_| Span {
                counts: Counts::default(),
                latency: histogram(),
                service: histogram(),
                late: 0,
            })
            .collect();
        Recorder {
            operation,
            spans,
            stats,
            interval: Counts::default(),
            interval_latency: histogram(),
            sends: SendFigures::default(),
        }
    }

    /// Books one operation that was due at `due_us` and over at `done_us`.
    pub fn book(&mut self, due_us: u64, done_us: u64, class: Class) {
        let span = &mut self.stats[self.spans.at(due_us)];
        span.counts.count(class, 1);
        self.interval.count(class, 1);
        // What was given up after the timeout has waited for it: the elapsed time needs no floor.
        if class.has_latency() {
            let latency_us = done_us.saturating_sub(due_us).max(1);
            span.latency.saturating_record(latency_us);
            self.interval_latency.saturating_record(latency_us);
        }
    }

    /// Books the time from send to last byte of a request that carried `operations`.
    pub fn served(&mut self, due_us: u64, service_us: u64, operations: u32) {
        let span = &mut self.stats[self.spans.at(due_us)];
        span.service
            .saturating_record_n(service_us.max(1), operations);
    }

    /// Books operations that were due at `due_us` and that the simulator itself sent late or never.
    pub fn late(&mut self, due_us: u64, operations: u64) {
        self.stats[self.spans.at(due_us)].late += operations;
    }

    /// Pours the interval into the collector; `sends` are the worker's, all of them so far.
    pub fn flush(&mut self, collector: &Collector, sends: &SendFigures) {
        if self.interval == Counts::default() && self.sends == *sends {
            return;
        }
        let mut seconds = collector.current.lock();
        let second = &mut seconds[self.operation as usize];
        second.counts.add(&self.interval);
        add_sends(&mut second.sends, &since(sends, &self.sends));
        self.sends = sends.clone();
        merge(&mut second.latency, &self.interval_latency);
        drop(seconds);
        self.interval = Counts::default();
        self.interval_latency.clear();
    }
}

/// What one second brought.
#[derive(Debug)]
pub struct Second {
    /// Counts by the time of the answer.
    pub counts: Counts,
    /// Latencies of what was answered or given up.
    pub latency: Total,
    /// Sends against plan.
    pub sends: SendFigures,
}

impl Second {
    fn empty() -> Self {
        Second {
            counts: Counts::default(),
            latency: histogram(),
            sends: SendFigures::default(),
        }
    }
}

/// Where all workers' intervals meet.
#[derive(Debug)]
pub struct Collector {
    current: Mutex<[Second; 2]>,
    finished: Mutex<Finished>,
}

/// Everything that workers handed in when they were done.
#[derive(Debug)]
pub struct Finished {
    recorders: Vec<Recorder>,
    /// Wake lateness of all workers.
    pub wake: Total,
    /// Sends of switches against plan.
    pub sends: SendFigures,
    /// Sends of previews against plan.
    pub preview_sends: SendFigures,
    /// Entries per batch.
    pub batches: Total,
}

impl Default for Collector {
    fn default() -> Self {
        Collector {
            current: Mutex::new([Second::empty(), Second::empty()]),
            finished: Mutex::new(Finished {
                recorders: Vec::new(),
                wake: histogram(),
                sends: SendFigures::default(),
                preview_sends: SendFigures::default(),
                batches: histogram(),
            }),
        }
    }
}

/// How one worker kept its plan.
#[derive(Debug)]
pub struct Pace {
    /// Wake lateness.
    pub wake: Hist,
    /// Entries per batch.
    pub batches: Hist,
    /// Sends against plan.
    pub sends: SendFigures,
}

impl Default for Pace {
    fn default() -> Self {
        Pace {
            wake: histogram(),
            batches: histogram(),
            sends: SendFigures::default(),
        }
    }
}

impl Collector {
    /// Takes what came since the last call: switches, previews.
    pub fn take(&self) -> [Second; 2] {
        std::mem::replace(
            &mut *self.current.lock(),
            [Second::empty(), Second::empty()],
        )
    }

    /// A worker is done.
    pub fn finish(&self, mut recorder: Recorder, pace: &Pace) {
        recorder.flush(self, &pace.sends);
        let mut finished = self.finished.lock();
        merge(&mut finished.wake, &pace.wake);
        merge(&mut finished.batches, &pace.batches);
        let sends = match recorder.operation {
            Operation::Switch => &mut finished.sends,
            Operation::Preview => &mut finished.preview_sends,
        };
        add_sends(sends, &pace.sends);
        finished.recorders.push(recorder);
    }

    /// Looks at what was handed in.
    pub fn with_finished<T>(&self, look: impl FnOnce(&Finished) -> T) -> T {
        look(&self.finished.lock())
    }
}

fn add_sends(sum: &mut SendFigures, part: &SendFigures) {
    sum.planned += part.planned;
    sum.sent += part.sent;
    sum.late += part.late;
    sum.dropped += part.dropped;
    sum.unsent += part.unsent;
    sum.late_ratio = ratio(sum.late + sum.dropped, sum.planned);
}

/// What came after `before`; the ratio is left to who adds up.
fn since(now: &SendFigures, before: &SendFigures) -> SendFigures {
    SendFigures {
        planned: now.planned - before.planned,
        sent: now.sent - before.sent,
        late: now.late - before.late,
        dropped: now.dropped - before.dropped,
        unsent: now.unsent - before.unsent,
        late_ratio: 0.0,
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

impl Finished {
    /// Figures of one kind of operation over spans that took `seconds`.
    pub fn figures(&self, operation: Operation, from_us: u64, to_us: u64) -> OperationFigures {
        let mut counts = Counts::default();
        let mut latency: Total = histogram();
        let mut service: Total = histogram();
        let mut late = 0;
        for recorder in self
            .recorders
            .iter()
            .filter(|recorder| recorder.operation == operation)
        {
            for span in &recorder.stats[recorder.spans.within(from_us, to_us)] {
                counts.add(&span.counts);
                merge(&mut latency, &span.latency);
                merge(&mut service, &span.service);
                late += span.late;
            }
        }
        let seconds = to_us.saturating_sub(from_us) as f64 / 1e6;
        OperationFigures {
            planned: counts.planned,
            ok: counts.ok,
            degraded: counts.degraded,
            shed: counts.shed,
            failed: counts.failed,
            indeterminate: counts.indeterminate,
            late,
            errors: counts
                .errors
                .into_iter()
                .map(|(name, n)| (name.to_owned(), n))
                .collect(),
            rate_per_s: if seconds > 0.0 {
                (counts.ok + counts.degraded) as f64 / seconds
            } else {
                0.0
            },
            latency: latency_of(&latency),
            service_time: latency_of(&service),
            spectrum: spectrum(&latency),
        }
    }
}

/// The report's view of a histogram.
pub fn latency_of(histogram: &Total) -> Latency {
    if histogram.is_empty() {
        return Latency::default();
    }
    Latency {
        count: histogram.len(),
        mean_us: (histogram.mean() * 10.0).round() / 10.0,
        p50_us: histogram.value_at_quantile(0.5),
        p90_us: histogram.value_at_quantile(0.9),
        p99_us: histogram.value_at_quantile(0.99),
        p999_us: histogram.value_at_quantile(0.999),
        max_us: histogram.max(),
    }
}

fn spectrum(histogram: &Total) -> Vec<(f64, u64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    SPECTRUM
        .iter()
        .map(|quantile| (*quantile, histogram.value_at_quantile(*quantile)))
        .collect()
}

/// The report's view of one second that ended at `t_s`.
pub fn interval_of(t_s: f64, [switches, previews]: &[Second; 2]) -> Interval {
    let quantile = |latency: &Total, q| {
        if latency.is_empty() {
            0
        } else {
            latency.value_at_quantile(q)
        }
    };
    let max = if switches.latency.is_empty() {
        0
    } else {
        switches.latency.max()
    };
    Interval {
        t_s,
        switches_ok: switches.counts.ok,
        switches_shed: switches.counts.shed,
        switches_failed: switches.counts.failed + switches.counts.indeterminate,
        switch_p50_us: quantile(&switches.latency, 0.5),
        switch_p99_us: quantile(&switches.latency, 0.99),
        switch_max_us: max,
        previews_ok: previews.counts.ok,
        previews_degraded: previews.counts.degraded,
        previews_shed: previews.counts.shed,
        previews_failed: previews.counts.failed + previews.counts.indeterminate,
        preview_p99_us: quantile(&previews.latency, 0.99),
    }
}

#[cfg(test)]
mod tests {
    use backdrop_reports::load::WindowFigures;

    use super::*;

    #[test]
    fn windows_and_warm_up_are_cut_by_planned_time() {
        let spans = Spans::new(vec![1_000, 2_000, 3_000]);
        let collector = Collector::default();
        let mut recorder = Recorder::new(Operation::Switch, spans.clone());
        recorder.book(500, 600, Class::Ok);
        recorder.book(1_500, 1_700, Class::Ok);
        recorder.book(2_500, 9_000, Class::Shed);
        recorder.book(2_999, 4_000, Class::Indeterminate("timeout"));
        collector.finish(recorder, &Pace::default());
        collector.with_finished(|finished| {
            let all = finished.figures(Operation::Switch, 1_000, 3_000);
            assert_eq!(
                (all.planned, all.ok, all.shed, all.indeterminate),
                (3, 1, 1, 1)
            );
            assert_eq!(all.errors["timeout"], 1);
            let early = finished.figures(Operation::Switch, 1_000, 2_000);
            assert_eq!(early.latency.max_us, 200);
            let late = finished.figures(Operation::Switch, 2_000, 3_000);
            assert_eq!((late.planned, late.ok), (2, 0));
            assert_eq!(finished.figures(Operation::Preview, 0, 3_000).planned, 0);
        });
        let seconds = collector.take();
        assert_eq!(interval_of(1.0, &seconds).switches_ok, 2);
        assert_eq!(interval_of(2.0, &collector.take()).switches_ok, 0);
    }

    #[test]
    fn late_sends_are_counted_by_window_and_judged_where_there_are_enough() {
        let window = |planned: u64, late: u64| {
            let collector = Collector::default();
            let mut recorder =
                Recorder::new(Operation::Switch, Spans::new(vec![1_000, 2_000, 3_000]));
            (0..planned).for_each(|_| recorder.book(1_500, 1_600, Class::Ok));
            recorder.late(1_500, late);
            recorder.book(2_500, 2_600, Class::Ok);
            collector.finish(recorder, &Pace::default());
            let of = |from, to| {
                collector.with_finished(|finished| finished.figures(Operation::Switch, from, to))
            };
            assert_eq!(of(2_000, 3_000).late, 0);
            WindowFigures {
                switches: of(1_000, 2_000),
                ..WindowFigures::default()
            }
            .too_late()
        };
        assert_eq!(window(2_000, 20), None, "one in a hundred may be");
        assert_eq!(window(2_000, 26), Some(0.013));
        assert_eq!(window(999, 900), None, "too few to tell");
    }

    #[test]
    fn what_was_never_answered_counts_what_it_waited_and_a_refusal_does_not() {
        let collector = Collector::default();
        let mut recorder = Recorder::new(Operation::Switch, Spans::new(Vec::new()));
        recorder.book(1_000, 1_100, Class::Ok);
        for class in [
            Class::Shed,
            Class::Failed("gone"),
            Class::Unclear("http_500"),
        ] {
            recorder.book(1_000, 900_000, class);
        }
        recorder.book(1_000, 21_000, Class::Indeterminate("timeout"));
        recorder.book(1_000, 31_000, Class::Unanswered("unsent_timeout"));
        collector.finish(recorder, &Pace::default());
        collector.with_finished(|finished| {
            let all = finished.figures(Operation::Switch, 0, 10_000);
            assert_eq!((all.failed, all.indeterminate), (2, 2));
            assert_eq!(all.latency.count, 3);
            assert!((30_000..30_100).contains(&all.latency.max_us));
        });
        // The second that they fell into says the same.
        assert!(interval_of(1.0, &collector.take()).switch_p99_us >= 30_000);
    }

    #[test]
    fn previews_are_paced_apart_and_what_the_service_held_up_is_no_starvation() {
        let collector = Collector::default();
        let mut pace = Pace::default();
        pace.sends.planned = 10;
        pace.sends.unsent = 5;
        let spans = Spans::new(Vec::new());
        collector.finish(Recorder::new(Operation::Switch, spans.clone()), &pace);
        pace.sends.late = 5;
        collector.finish(Recorder::new(Operation::Preview, spans), &pace);
        collector.with_finished(|finished| {
            assert_eq!(finished.sends.late_ratio, 0.0);
            assert_eq!(finished.preview_sends.late_ratio, 0.5);
        });
    }

    #[test]
    fn latencies_beyond_the_histogram_are_kept_as_its_largest() {
        let mut hist: Hist = histogram();
        hist.saturating_record(10 * LATENCY_MAX_US);
        let mut total: Total = histogram();
        merge(&mut total, &hist);
        assert_eq!(total.len(), 1);
        assert!(latency_of(&total).max_us >= LATENCY_MAX_US);
    }
}
