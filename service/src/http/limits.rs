//! Bounds of the public listener: one struct, its defaults, and what makes them consistent.

use std::time::Duration;

/// Bounds of the public listener.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// Open connections; more are answered 503 and closed.
    pub connections_max: usize,
    /// Entries of one batch.
    pub batch_entries_max: usize,
    /// Bytes of one body.
    pub body_bytes_max: u64,
    /// Bytes of a request's head.
    pub header_bytes_max: usize,
    /// Time for a request's head to arrive.
    pub header_timeout: Duration,
    /// Time for a request's body to arrive.
    pub body_timeout: Duration,
    /// Time for everything after the body, or after the head where there is none.
    pub request_timeout: Duration,
    /// Time without any progress of a connection.
    pub idle_timeout: Duration,
    /// Time that a refused sender has to take note of its answer: what it still sends is thrown away, up to a body's bytes.
    pub linger_timeout: Duration,
    /// Time that a reservation may wait before the request is shed.
    pub reserve_wait: Duration,
    /// Time for which a service that is told to stop says so on `/readyz` and serves as before, so that balancers turn away first.
    pub lame_duck: Duration,
    /// Time for requests in flight to end when the service stops.
    pub drain_timeout: Duration,
    /// Pixels of a frame.
    pub frame_pixels_max: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            batch_entries_max: 65_536,
            body_bytes_max: 64 << 20,
            header_bytes_max: 64 << 10,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(90),
            linger_timeout: Duration::from_secs(2),
            reserve_wait: Duration::from_millis(250),
            lame_duck: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            frame_pixels_max: 3840 * 2160,
        }
    }
}

impl HttpConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// A sentence with the cause.
    pub fn validate(&self) -> Result<(), String> {
        let positive = [
            ("connections-max", self.connections_max as u64),
            ("batch-entries-max", self.batch_entries_max as u64),
            ("body-bytes-max", self.body_bytes_max),
            ("frame-pixels-max", self.frame_pixels_max),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, value)| *value == 0) {
            return Err(format!("{name} is 0, and must be positive"));
        }
        if self.connections_max > 1 << 20 || self.batch_entries_max > 1 << 24 {
            return Err(
                "connections-max is above 1048576 or batch-entries-max above 16777216".to_owned(),
            );
        }
        if self.header_bytes_max < 8 << 10 {
            return Err("header-bytes-max is below 8KiB".to_owned());
        }
        let waits = [
            self.reserve_wait,
            self.drain_timeout,
            self.lame_duck,
            self.linger_timeout,
        ];
        if waits.iter().any(|time| *time > Duration::from_secs(3600)) {
            return Err(
                "reserve-wait, lame-duck, drain-timeout or linger-timeout is above an hour"
                    .to_owned(),
            );
        }
        let times = [
            self.header_timeout,
            self.body_timeout,
            self.request_timeout,
            self.idle_timeout,
        ];
        if times
            .iter()
            .any(|time| time.is_zero() || *time > Duration::from_secs(3600))
        {
            return Err("a timeout is not between 1 ms and an hour".to_owned());
        }
        // Between the last byte of a body that came late and the first of its answer nothing moves on the connection.
        let quiet_max = self.reserve_wait + self.body_timeout + self.request_timeout;
        if self.idle_timeout < quiet_max {
            return Err(format!(
                "idle-timeout is below the sum of reserve-wait, body-timeout and request-timeout, {quiet_max:?}, \
                 and would cut answers off"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_connection_outlives_the_slowest_answer() {
        let defaults = HttpConfig::default();
        assert_eq!(defaults.validate(), Ok(()));
        let sum = defaults.reserve_wait + defaults.body_timeout + defaults.request_timeout;
        let with = |idle_timeout| HttpConfig {
            idle_timeout,
            ..HttpConfig::default()
        };
        assert_eq!(with(sum).validate(), Ok(()));
        let below = with(sum - Duration::from_millis(1));
        assert!(below.validate().is_err_and(|cause| cause.contains("sum")));
    }
}
