//! *Backdrop: render*: what a frame costs and what it waits for, and what a GPU has to do with it.

use crate::grafana::Dashboard;
use crate::head;
use crate::layout::{Draft, Layout};
use crate::queries::{mean, quantile, rate, rate_by, rate_where, select, share, total, total_by};
use crate::words::{
    COMPOSITE_ROUTE, FRAME_ROUTE, HIT_RATIO, HITS, NO_COMPOSITES, NO_FRAMES, NO_GPU_FRAMES, NOT_OK,
};

const REQUEST: &str = "http_request_duration_seconds";
const RENDER: &str = "render_duration_seconds";
const COMPOSITE: &str = "composite_duration_seconds";

/// The whole dashboard.
#[must_use]
pub fn dashboard() -> Dashboard {
    let layout = glance(Layout::default());
    let layout = frames(layout);
    let layout = composites(layout);
    let layout = sources(layout);
    let layout = textures(layout);
    let layout = memory(layout);
    let layout = gpu(layout);
    head::RENDER.over(layout.panels())
}

fn glance(layout: Layout) -> Layout {
    layout
        .row("At a glance")
        .panel(
            Draft::stat("Frames", "ops", "Frames answered whole per second.")
                .query("frames", rate("renders_total", r#"result="ok""#)),
        )
        .panel(
            Draft::stat(
                "Request p99",
                "s",
                "99th percentile of the time from a frame's request to its answer's head.",
            )
            .query("p99", quantile("0.99", REQUEST, FRAME_ROUTE))
            .quiet(NO_FRAMES)
            .thresholds(&[("green", None), ("orange", Some(0.1)), ("red", Some(0.5))]),
        )
        .panel(
            Draft::stat(
                "Render p99",
                "s",
                "99th percentile of render and encode alone, without any wait.",
            )
            .query("p99", quantile("0.99", RENDER, ""))
            .quiet(NO_FRAMES),
        )
        .panel(
            Draft::stat(
                "Degraded",
                "percentunit",
                "Share of frames answered by the thumbnail, as in state critical.",
            )
            .query("degraded", share("renders_total", r#"result="degraded""#))
            .quiet(NO_FRAMES)
            .thresholds(&[("green", None), ("orange", Some(0.01))]),
        )
        .panel(
            Draft::stat(
                "Not answered",
                "percentunit",
                "Share of frames that were shed or failed.",
            )
            .query(
                "shed or failed",
                share("renders_total", r#"result=~"shed|error""#),
            )
            .quiet(NO_FRAMES)
            .thresholds(&[
                ("green", None),
                ("orange", Some(0.01)),
                ("red", Some(0.05)),
            ]),
        )
        .panel(
            Draft::stat(
                "Cores drawing",
                "cores",
                "Workers that render or encode, on average: time spent per second of time.",
            )
            .query("cores", rate("render_duration_seconds_sum", "")),
        )
}

fn frames(layout: Layout) -> Layout {
    layout
        .row("Frames")
        .panel(
            Draft::lines("Frames by result", "ops", "Frames per second. Degraded: the thumbnail. Shed: no worker, memory or texture in time.")
                .query("{{result}}", rate_by("result", "renders_total")),
        )
        .panel(
            Draft::lines("Render and encode", "s", "Time that drawing and encoding one frame takes, without any wait. It rises with the frame's size, and with a CPU that is shared.")
                .query("p50", quantile("0.5", RENDER, ""))
                .query("p90", quantile("0.9", RENDER, ""))
                .query("p99", quantile("0.99", RENDER, ""))
                .quiet(NO_FRAMES)
                .log(),
        )
        .panel(
            Draft::lines("Whole request", "s", "Time from a frame's request to its answer's head: wait for a worker, the texture, render and encode.")
                .query("p50", quantile("0.5", REQUEST, FRAME_ROUTE))
                .query("p90", quantile("0.9", REQUEST, FRAME_ROUTE))
                .query("p99", quantile("0.99", REQUEST, FRAME_ROUTE))
                .quiet(NO_FRAMES)
                .log(),
        )
        .panel(
            Draft::lines("Where the time goes", "s", "Mean time of a request for a frame, and the part of it that is drawing; the rest is waiting, for a worker or for pixels.")
                .query("request", mean(REQUEST, FRAME_ROUTE))
                .query("render and encode", mean(RENDER, ""))
                .quiet(NO_FRAMES),
        )
        .panel(
            Draft::lines("Frame errors", "percentunit", "Share of frames that were not answered whole.")
                .query("not ok", share("renders_total", NOT_OK))
                .query("shed", share("renders_total", r#"result="shed""#))
                .query("degraded", share("renders_total", r#"result="degraded""#))
                .quiet(NO_FRAMES),
        )
        .panel(
            Draft::lines("Answers by status", "reqps", "Requests for a frame per second by class of status. 3xx: the client had that frame already.")
                .query("{{status}}", rate_where("status", "http_requests_total", FRAME_ROUTE)),
        )
}

fn composites(layout: Layout) -> Layout {
    layout
        .row("Composites")
        .panel(
            Draft::lines("Composites by result", "ops", "Composites per second. Late: given up at their deadline. Cancelled: the caller left. Shed: the queue is full, or memory short. Rejected: asked for wrongly.")
                .query("{{result}}", rate_by("result", "composites_total")),
        )
        .panel(
            Draft::lines("Work of a composite", "s", "Time of a thread for one composite, without any wait: decode of frame and mask, composite, encode. Frames pushed to streams are decoded by the same threads.")
                .query("p50", quantile("0.5", COMPOSITE, ""))
                .query("p90", quantile("0.9", COMPOSITE, ""))
                .query("p99", quantile("0.99", COMPOSITE, ""))
                .quiet(NO_COMPOSITES)
                .log(),
        )
        .panel(
            Draft::lines("Whole request", "s", "Time from a composite's request to its answer's head, its body's arrival included.")
                .query("p50", quantile("0.5", REQUEST, COMPOSITE_ROUTE))
                .query("p99", quantile("0.99", REQUEST, COMPOSITE_ROUTE))
                .quiet(NO_COMPOSITES)
                .log(),
        )
        .panel(
            Draft::lines("Composites that wait", "short", "Composites in the queue for a thread; at its bound the next ones are shed.")
                .query("waiting", total("composite_queue_frames", "")),
        )
}

fn sources(layout: Layout) -> Layout {
    layout
        .row("Sources other than images")
        .panel(
            Draft::lines("Sources by kind", "short", "Sessions with a stream or a processor behind their participants; all others have an image.")
                .stacked()
                .query("{{kind}}", total_by("kind", "sources")),
        )
        .panel(
            Draft::lines("Frames pushed", "ops", "Frames of streams per second. Overtaken: a later one came before this one was decoded.")
                .query("{{result}}", rate_by("result", "stream_frames_total")),
        )
        .panel(
            Draft::lines("Who waits for a frame", "short", "Callers that wait for the next frame of a stream.")
                .query("waiting", total("stream_waiters", "")),
        )
}

fn textures(layout: Layout) -> Layout {
    layout
        .row("Textures that frames need")
        .panel(
            Draft::lines("Hit ratio", "percentunit", HIT_RATIO)
                .max(1.0)
                .query("hit ratio", share("flyweight_accesses_total", HITS))
                .quiet(NO_FRAMES),
        )
        .panel(
            Draft::lines("Load duration", "s", "Time of one load, from its start until the texture is resident: what a frame on a cold background waits for.")
                .query("p50", quantile("0.5", "flyweight_load_duration_seconds", ""))
                .query("p99", quantile("0.99", "flyweight_load_duration_seconds", ""))
                .log(),
        )
        .panel(
            Draft::lines("Frames of renditions", "ops", "Frames per second by what a rendition was to them: copied from one, kept as one, or not kept after all. Nothing unless --renditions-per-background is given.")
                .query("{{result}}", rate_by("result", "flyweight_rendition_frames_total")),
        )
        .panel(
            Draft::lines("Renditions known", "short", "Frames that are remembered by view and size; their pixels count among the textures while they are there.")
                .query("known", total("flyweight_renditions", "")),
        )
        .panel(
            Draft::lines("Pinned by frames", "bytes", "Bytes of textures that a frame being drawn holds; they cannot be evicted meanwhile.")
                .query("pinned", total("flyweight_pinned_bytes", "")),
        )
}

fn memory(layout: Layout) -> Layout {
    layout
        .row("What drawing takes")
        .panel(
            Draft::lines("Reserved for frames", "bytes", "Bytes that the budget holds for frames under way, and for decoding what they need.")
                .stacked()
                .query(
                    "{{purpose}}",
                    format!("sum by (purpose) ({})", select("memory_budget_used_bytes", r#"purpose=~"render|encode|decode|streams""#)),
                ),
        )
        .panel(
            Draft::lines("Cores", "cores", "Processor cores that draw, and those of the whole service.")
                .query("drawing", rate("render_duration_seconds_sum", ""))
                .query("service", rate("process_cpu_seconds_total", "")),
        )
        .panel(
            Draft::lines("Refused for load", "ops", "Requests per second answered with 503, by what was short; of frames, mostly the queue.")
                .query("{{reason}}", rate_by("reason", "shed_total")),
        )
}

fn gpu(layout: Layout) -> Layout {
    layout
        .row("GPU")
        .panel(
            Draft::lines("Frames by who drew them", "ops", "Previews and composites per second. Without a GPU the CPU draws all; beside one, what that refuses, and what lies over a stream or a blur. From BC7: of the GPU's those that are near the exact frame, and not equal.")
                .query("{{renderer}}", rate_by("renderer", "frames_drawn_total"))
                .query("from BC7", rate("gpu_inexact_frames_total", "")),
        )
        .panel(
            Draft::lines("Frames of a batch", "short", "Mean and median number of frames that one dispatch draws.")
                .query("mean", mean("gpu_batch_frames", ""))
                .query("p50", quantile("0.5", "gpu_batch_frames", ""))
                .quiet(NO_GPU_FRAMES),
        )
        .panel(
            Draft::lines("Not drawn by the GPU", "ops", "Frames per second that the CPU drew in its place. Busy: its queue is full. Lost: its device went away. Late: it took half of a composite's time. Too large: for its buffers. Memory: none for the texture. Encoding: its BC7 blocks are not made yet.")
                .query("{{reason}}", rate_by("reason", "gpu_fallbacks_total")),
        )
        .panel(
            Draft::lines("GPU memory", "bytes", "Bytes of textures on the GPU, and of all buffers on it and for it, whether they hold anything or not.")
                .query("textures", total("gpu_texture_bytes", ""))
                .query("buffers", total("gpu_held_bytes", "")),
        )
        .panel(
            Draft::lines("Textures uploaded", "ops", "Textures that go to the GPU per second. With steady sessions a rise means that they displace each other there.")
                .query("uploads", rate("gpu_uploads_total", "")),
        )
        .panel(
            Draft::lines("BC7 blocks made", "ops", "Textures made into blocks per second by result, only where BC7 is asked for. Dropped: no memory for them.")
                .query("{{result}}", rate_by("result", "gpu_encodes_total")),
        )
        .panel(
            Draft::lines("Making BC7 blocks", "percentunit", "Share of its thread's time that making blocks takes. Near 1: textures come faster than they are made, or displace each other on the GPU.")
                .query("busy", rate("gpu_encode_seconds_total", "")),
        )
        .panel(
            Draft::lines("GPU ready", "short", "GPUs that take frames, over instances: 1 for one service with a GPU, 0 without one and while it is lost.")
                .query("ready", total("gpu_ready", "")),
        )
        .panel(
            Draft::lines("Losses of the GPU", "ops", "Losses of its device per second, and attempts to open it anew by result. More errors: it stays away.")
                .query("losses", rate("gpu_losses_total", ""))
                .query("reopened {{result}}", rate_by("result", "gpu_reopened_total")),
        )
}
