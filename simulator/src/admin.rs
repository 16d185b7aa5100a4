//! The service's admin listener, as far as a load needs it: counters of its metrics. Everything else is public API.

use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;

use crate::client::{Call, Lane, Target, TargetError};

/// Bytes that all metrics may have.
const METRICS_BYTES_MAX: usize = 16 << 20;
/// Time for one look.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The listener. Its requests are not those of the load, and are counted apart from them.
#[derive(Debug, Clone)]
pub struct Admin {
    target: Arc<Target>,
}

impl Admin {
    /// Checks the address.
    ///
    /// # Errors
    /// It is no `http://host:port`.
    pub fn new(url: &str) -> Result<Self, TargetError> {
        let target = Arc::new(Target::new(url, None)?);
        Ok(Admin { target })
    }

    /// Sum of a counter over its labels; `None` where the service does not answer or has no such metric.
    pub async fn counter(&self, name: &str) -> Option<u64> {
        let mut lane = Lane::new(self.target.clone(), TIMEOUT);
        let call = Call::get(Uri::from_static("/metrics"), METRICS_BYTES_MAX);
        let answer = lane.call(call).await;
        let answer = answer.ok().filter(|answer| answer.status == 200)?;
        sum(std::str::from_utf8(&answer.body).ok()?, name)
    }
}

/// `name{label="value"} number`, added up over the label sets.
fn sum(exposition: &str, name: &str) -> Option<u64> {
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let number = match rest.strip_prefix('{') {
            Some(labels) => labels.rsplit_once('}')?.1,
            None => rest.strip_prefix(' ')?,
        };
        number.split_whitespace().next()?.parse::<f64>().ok()
    };
    let values: Vec<f64> = exposition.lines().filter_map(value).collect();
    (!values.is_empty()).then(|| values.iter().sum::<f64>() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_is_added_up_over_its_labels_and_no_other_is() {
        let text = "# TYPE x_total counter\nx_total{result=\"ok\"} 3\nx_total{result=\"error\"} 2\n\
                    x_total_more 9\nplain_total 7\n# EOF\n";
        assert_eq!(sum(text, "x_total"), Some(5));
        assert_eq!(sum(text, "plain_total"), Some(7));
        assert_eq!(sum(text, "absent_total"), None);
    }
}
