//! What charges are for, and which rules of the budget follow from that. It knows no books.

/// What a charge is for. A closed set: each is a label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Purpose {
    /// Decoded pixels that a background owns.
    Textures,
    /// Blocks of the frame pool that nobody owns at the moment.
    PoolIdle,
    /// Source bytes and scratch of a decode.
    Decode,
    /// An upload being checked.
    Upload,
    /// Output of an encoder.
    Encode,
    /// Output pixels of a render.
    Render,
    /// Chunks of the session table.
    Sessions,
    /// Bodies of requests, with what parsing makes of them, and of answers.
    Body,
    /// Always-resident thumbnails.
    Thumbnails,
    /// Sources other than images, and the newest frames of streams.
    Streams,
    /// Buffers of the machine's memory that a GPU works with: what goes there and comes back, and its textures where it has no memory
    /// of its own.
    Gpu,
}

impl Purpose {
    /// Number of purposes.
    pub const COUNT: usize = 11;
    /// Every purpose, in the order of its discriminant.
    pub const ALL: [Purpose; Self::COUNT] = [
        Purpose::Textures,
        Purpose::PoolIdle,
        Purpose::Decode,
        Purpose::Upload,
        Purpose::Encode,
        Purpose::Render,
        Purpose::Sessions,
        Purpose::Body,
        Purpose::Thumbnails,
        Purpose::Streams,
        Purpose::Gpu,
    ];

    /// Label value in metrics and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Purpose::Textures => "textures",
            Purpose::PoolIdle => "pool_idle",
            Purpose::Decode => "decode",
            Purpose::Upload => "upload",
            Purpose::Encode => "encode",
            Purpose::Render => "render",
            Purpose::Sessions => "sessions",
            Purpose::Body => "body",
            Purpose::Thumbnails => "thumbnails",
            Purpose::Streams => "streams",
            Purpose::Gpu => "gpu_staging",
        }
    }

    /// Whether charges of this purpose stay, as opposed to those that end with a request.
    pub fn stays(self) -> bool {
        matches!(
            self,
            Purpose::Textures
                | Purpose::PoolIdle
                | Purpose::Sessions
                | Purpose::Thumbnails
                | Purpose::Streams
                | Purpose::Gpu
        )
    }

    /// Whether it is refused while growth is closed (Critical): loads, uploads, streams and buffers for a GPU, but not the serving of
    /// what is resident, which the CPU can do.
    pub fn grows(self) -> bool {
        matches!(
            self,
            Purpose::Textures | Purpose::Decode | Purpose::Upload | Purpose::Streams | Purpose::Gpu
        )
    }
}
