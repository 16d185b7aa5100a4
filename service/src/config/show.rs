//! The effective settings in the log, as fields: what a machine looks for is a value of its own, with its unit in its name.
//! Secrets are left out.

use super::{Config, Unsafe};
use std::time::Duration;

fn ms(time: Duration) -> u64 {
    time.as_millis() as u64
}

impl Config {
    /// Logs all settings, an event for each part of the service; an event holds no more than 32 fields.
    pub fn show(&self) {
        self.show_places();
        self.show_sizes();
        self.show_http();
        self.show_unsafe();
    }

    fn show_places(&self) {
        let tenants: Vec<&str> = self
            .tokens
            .iter()
            .map(|token| token.tenant.as_str())
            .collect();
        tracing::info!(
            listen = %self.listen,
            admin = %self.admin,
            admin_anywhere = self.admin_anywhere,
            data = %self.data.display(),
            archive = %self.archive_dir().display(),
            archive_bytes_max = self.archive_bytes_max,
            tokens = self.tokens.len(),
            tenants = tenants.join(","),
            log_level = self.log_level,
            "settings: places and callers"
        );
    }

    fn show_sizes(&self) {
        tracing::info!(
            sharing = self.sharing.name(),
            eviction = self.eviction.name(),
            renditions_per_background = self.renditions_per_background,
            sessions_max = self.sessions_max,
            backgrounds_max = self.backgrounds_max,
            // Left out, it is the host's.
            memory_limit_bytes = self.memory_limit,
            memory_sample_interval_ms = ms(self.memory_sample_interval),
            threads = self.threads,
            render_threads = self.render_threads,
            decode_threads = self.decode_threads,
            render_queue_max = self.render_queue_max,
            composite_threads = self.composite_threads,
            composite_queue_max = self.composite_queue_max,
            sources_max = self.sources.sources_max,
            stream_bytes_max = self.sources.stream_bytes_max,
            stream_stale_after_ms = ms(self.sources.stale_after),
            stream_waiters_max = self.sources.waiters_max,
            renderer = self.gpu.renderer.name(),
            gpu_software = self.gpu.software,
            gpu_textures = self.gpu.textures.name(),
            gpu_window_us = self.gpu.window.as_micros() as u64,
            gpu_batch_max = self.gpu.batch_max,
            gpu_texture_bytes_max = self.gpu.texture_bytes_max,
            gpu_staging_bytes = self.gpu.staging_bytes,
            image_pixels_max = self.image_pixels_max,
            access_record = self.access_record,
            "settings: sizes and threads"
        );
    }

    fn show_http(&self) {
        let http = &self.http;
        tracing::info!(
            connections_max = http.connections_max,
            batch_entries_max = http.batch_entries_max,
            body_bytes_max = http.body_bytes_max,
            header_bytes_max = http.header_bytes_max,
            frame_pixels_max = http.frame_pixels_max,
            header_timeout_ms = ms(http.header_timeout),
            body_timeout_ms = ms(http.body_timeout),
            request_timeout_ms = ms(http.request_timeout),
            composite_deadline_ms = ms(http.composite_deadline),
            idle_timeout_ms = ms(http.idle_timeout),
            linger_timeout_ms = ms(http.linger_timeout),
            reserve_wait_ms = ms(http.reserve_wait),
            lame_duck_ms = ms(http.lame_duck),
            drain_timeout_ms = ms(http.drain_timeout),
            "settings: bounds of requests"
        );
    }

    fn show_unsafe(&self) {
        let Unsafe {
            disable_budget,
            disable_governor,
            volatile_uploads,
            disable_eviction_order,
            disable_single_flight,
            disable_version_check,
            disable_dwell,
            disable_body_limit,
            disable_queue_bound,
        } = self.unsafe_switches;
        for (is_off, what) in [
            (disable_budget, "THE BUDGET REFUSES NOTHING"),
            (disable_governor, "THE GOVERNOR DOES NOTHING"),
            (volatile_uploads, "UPLOADS ARE NOT DURABLE"),
            (disable_eviction_order, "EVICTION HAS NO ORDER"),
            (disable_single_flight, "EVERY CALLER LOADS FOR ITSELF"),
            (disable_version_check, "OVERTAKEN LOADS ARE SHOWN"),
            (disable_dwell, "THE GOVERNOR HAS NO DWELL TIME"),
            (disable_body_limit, "BODIES MAY HAVE ANY LENGTH"),
            (disable_queue_bound, "ANY NUMBER OF FRAMES MAY WAIT"),
        ] {
            if is_off {
                tracing::warn!(
                    "{what}: a protection is off for a chaos control; never run this in production"
                );
            }
        }
    }
}
