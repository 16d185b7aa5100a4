//! The figure `host_steal_ratio` of both records: CPU time that a hypervisor gave to others while this machine wanted it, by
//! the `steal` column of `/proc/stat`.
//!
//! On a shared machine it is the cause of late wake-ups and slow answers that no one inside can mend. Zero on bare metal. It is
//! measured here and not where it is used because the two programs that write the figure share no other crate, and must mean
//! the same by it.

/// Columns that count, user to steal (proc_stat(5)); guest time behind them is part of user time and would count twice.
const COLUMNS: usize = 8;

/// Measures from its start on.
#[derive(Debug)]
pub struct StealMeter {
    cpus: Vec<usize>,
    began: Option<Ticks>,
}

/// Clock ticks since boot, summed over some CPUs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Ticks {
    all: u64,
    stolen: u64,
}

impl StealMeter {
    /// Starts to measure on these CPUs, by number.
    #[must_use]
    pub fn start(cpus: impl Into<Vec<usize>>) -> Self {
        let cpus = cpus.into();
        let began = read(&cpus);
        Self { cpus, began }
    }

    /// Share of the CPUs' time that was stolen since the start, 0..=1; none without a CPU, where the kernel does not say, and
    /// while no tick has passed.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        share(self.began?, read(&self.cpus)?)
    }
}

fn share(from: Ticks, to: Ticks) -> Option<f64> {
    let all = to.all.checked_sub(from.all).filter(|all| *all > 0)?;
    Some(to.stolen.saturating_sub(from.stolen) as f64 / all as f64)
}

fn read(cpus: &[usize]) -> Option<Ticks> {
    parse(&std::fs::read_to_string("/proc/stat").ok()?, cpus)
}

/// None if one of the CPUs is not listed, or none is asked for.
fn parse(stat: &str, cpus: &[usize]) -> Option<Ticks> {
    let mut sum = Ticks::default();
    for cpu in cpus {
        let name = format!("cpu{cpu}");
        let ticks = stat
            .lines()
            .find_map(|line| line.strip_prefix(&name)?.strip_prefix(' '))?
            .split_whitespace()
            .take(COLUMNS)
            .map(|ticks| ticks.parse().ok())
            .collect::<Option<Vec<u64>>>()?;
        sum.all += ticks.iter().sum::<u64>();
        sum.stolen += ticks.get(COLUMNS - 1)?;
    }
    (!cpus.is_empty()).then_some(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  9 9 9 9 9 9 9 9 9 9\ncpu0 10 0 5 80 1 0 1 3 7 0\ncpu1 20 0 5 60 1 0 1 13 0 0\ncpu10 1 1 1 1 1 1 1 1 0 0\nintr 5\n";

    #[test]
    fn ticks_are_summed_over_the_cpus_asked_for_and_guests_left_out() {
        let ticks = |all, stolen| Some(Ticks { all, stolen });
        assert_eq!(parse(STAT, &[0]), ticks(100, 3));
        assert_eq!(parse(STAT, &[0, 1]), ticks(200, 16));
        assert_eq!(parse(STAT, &[0, 10]), ticks(108, 4));
        assert_eq!(parse(STAT, &[1, 2]), None);
        assert_eq!(parse(STAT, &[]), None);
    }

    #[test]
    fn a_share_needs_time_to_have_passed() {
        let from = Ticks {
            all: 100,
            stolen: 3,
        };
        let to = Ticks {
            all: 200,
            stolen: 13,
        };
        assert_eq!(share(from, to), Some(0.1));
        assert_eq!(share(from, from), None);
        assert_eq!(share(to, from), None);
    }

    #[test]
    fn the_kernel_of_this_host_can_be_read() {
        let stat = std::fs::read_to_string("/proc/stat").expect("the kernel's figures");
        let first = stat.lines().nth(1).expect("a CPU");
        let number = first
            .strip_prefix("cpu")
            .and_then(|rest| rest.split(' ').next())
            .and_then(|number| number.parse().ok())
            .expect("its number");
        assert!(parse(&stat, &[number]).is_some());
    }
}
