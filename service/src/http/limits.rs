//! Bounds of the public listener: one struct, its defaults, and what makes them consistent.

use std::fmt;
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
    /// Bytes of a request's head, and of the buffer that a connection is read with; see [`HttpConfig::stream_header_bytes_max`].
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
    /// Time for a composite whose caller names none, within the time of any request.
    pub composite_deadline: Duration,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            batch_entries_max: 65_536,
            body_bytes_max: 64 << 20,
            header_bytes_max: 16 << 10,
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            request_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(90),
            linger_timeout: Duration::from_secs(2),
            reserve_wait: Duration::from_millis(250),
            lame_duck: Duration::ZERO,
            drain_timeout: Duration::from_secs(10),
            frame_pixels_max: 3840 * 2160,
            composite_deadline: Duration::from_secs(1),
        }
    }
}

impl HttpConfig {
    /// Checks the bounds.
    ///
    /// # Errors
    /// A sentence that names the setting, its value and what it may be.
    pub fn validate(&self) -> Result<(), String> {
        let numbers = [
            ("connections-max", self.connections_max as u64, 1, 1 << 20),
            (
                "batch-entries-max",
                self.batch_entries_max as u64,
                1,
                1 << 24,
            ),
            ("body-bytes-max", self.body_bytes_max, 1, 1 << 40),
            (
                "header-bytes-max",
                self.header_bytes_max as u64,
                8 << 10,
                1 << 20,
            ),
            ("frame-pixels-max", self.frame_pixels_max, 1, 1 << 32),
        ];
        for (name, value, least, most) in numbers {
            within(name, value, least, most)?;
        }
        let (none, instant) = (Duration::ZERO, Duration::from_millis(1));
        let times = [
            ("reserve-wait", self.reserve_wait, none),
            ("drain-timeout", self.drain_timeout, none),
            ("lame-duck", self.lame_duck, none),
            ("linger-timeout", self.linger_timeout, none),
            ("header-timeout", self.header_timeout, instant),
            ("body-timeout", self.body_timeout, instant),
            ("request-timeout", self.request_timeout, instant),
            ("idle-timeout", self.idle_timeout, instant),
            ("composite-deadline", self.composite_deadline, instant),
        ];
        for (name, value, least) in times {
            within(name, Shown(value), Shown(least), Shown(HOUR))?;
        }
        // Between the last byte of a body that came late and the first of its answer nothing moves on the connection.
        let quiet_max = self.reserve_wait + self.body_timeout + self.request_timeout;
        if self.idle_timeout < quiet_max {
            return Err(format!(
                "idle-timeout is {:?}, less than reserve-wait, body-timeout and request-timeout together, {quiet_max:?}, \
                 and would cut answers off",
                self.idle_timeout
            ));
        }
        Ok(())
    }

    /// Bytes of the head of a request on HTTP/2, as that counts them: the streams of a connection hold one each, all at once.
    #[must_use]
    pub fn stream_header_bytes_max(&self) -> u32 {
        u32::try_from(self.header_bytes_max / 4).unwrap_or(u32::MAX)
    }
}

const HOUR: Duration = Duration::from_secs(3600);

/// A time as settings are written, more or less.
#[derive(PartialEq, PartialOrd)]
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

/// Refuses a setting outside of its bounds.
///
/// # Errors
/// A sentence that names the setting, its value and what it may be.
pub fn within<T: PartialOrd + fmt::Display>(
    name: &str,
    value: T,
    least: T,
    most: T,
) -> Result<(), String> {
    if least <= value && value <= most {
        return Ok(());
    }
    Err(format!(
        "{name} is {value}, and must lie between {least} and {most}"
    ))
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
        assert!(
            below
                .validate()
                .is_err_and(|cause| cause.contains("together"))
        );
    }

    #[test]
    fn what_is_out_of_bounds_is_named_with_its_value_and_what_it_may_be() {
        let refused = |change: fn(&mut HttpConfig)| {
            let mut config = HttpConfig::default();
            change(&mut config);
            config.validate().expect_err("refused")
        };
        assert_eq!(
            refused(|config| config.batch_entries_max = 1 << 25),
            "batch-entries-max is 33554432, and must lie between 1 and 16777216"
        );
        assert_eq!(
            refused(|config| config.header_bytes_max = 4096),
            "header-bytes-max is 4096, and must lie between 8192 and 1048576"
        );
        assert_eq!(
            refused(|config| config.lame_duck = Duration::from_secs(3601)),
            "lame-duck is 3601s, and must lie between 0ns and 3600s"
        );
        assert_eq!(
            refused(|config| config.body_timeout = Duration::ZERO),
            "body-timeout is 0ns, and must lie between 1ms and 3600s"
        );
    }
}
