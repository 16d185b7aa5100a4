//! The device: which adapter is taken, how it is opened, and whether it is lost.
//!
//! The invariant: nothing here panics over a device that goes away. wgpu's handler of uncaptured errors would; ours sets a flag,
//! and so do its callback of lost devices and whoever finds that a call did not do what it should.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::{AdapterInfo, Adapters, OpenError, TextureFormat};

/// A batch that takes longer hangs: its device counts as lost. Well below the time that a request has (5 s unless told otherwise), so
/// that its frames come back while the CPU can still draw them.
const HANG: Duration = Duration::from_secs(2);
/// The same for one in software, which compiles its kernel with the first batch, and may be kept from its CPU for long by others.
const HANG_IN_SOFTWARE: Duration = Duration::from_secs(60);

/// What answers "is it lost?", shared with wgpu's callbacks.
#[derive(Debug, Default)]
pub struct Lost(AtomicBool);

impl Lost {
    /// Whether it is.
    pub fn is(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Notes it; says so once.
    pub fn set(&self, cause: &str) {
        if !self.0.swap(true, Ordering::AcqRel) {
            tracing::warn!(cause, "the GPU is lost: frames are drawn by the CPU");
        }
    }
}

/// An open device with the kernel on it.
#[derive(Debug)]
pub struct Device {
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) pipeline: wgpu::ComputePipeline,
    /// Longest buffer that a shader can be bound to, in bytes.
    pub(super) binding_max: u64,
    pub(super) lost: Arc<Lost>,
    pub(super) info: AdapterInfo,
}

/// The value of a future that is there at once, as wgpu's are where it does not run in a browser.
fn now<T>(future: impl Future<Output = T>) -> Option<T> {
    let mut future = std::pin::pin!(future);
    match future
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()))
    {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn info_of(adapter: &wgpu::Adapter) -> AdapterInfo {
    let info = adapter.get_info();
    let kind = info.device_type;
    AdapterInfo {
        name: match info.driver_info.is_empty() {
            true => info.name,
            false => format!("{}, {}", info.name, info.driver_info),
        },
        // One of unknown kind is not trusted to be faster than the CPU.
        software: matches!(kind, wgpu::DeviceType::Cpu | wgpu::DeviceType::Other),
        shares_memory: !matches!(
            kind,
            wgpu::DeviceType::DiscreteGpu | wgpu::DeviceType::VirtualGpu
        ),
        textures: TextureFormat::Rgba8,
    }
}

/// The adapters of this machine, those with memory of their own first. `WGPU_BACKEND`, `WGPU_ADAPTER_NAME` (a part of a name) and the
/// variables of the Vulkan loader decide what is there.
fn all() -> Vec<(wgpu::Adapter, AdapterInfo)> {
    let descriptor = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::VULKAN,
        // No validation layers unless the environment asks for them.
        flags: wgpu::InstanceFlags::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    let instance = wgpu::Instance::new(descriptor.with_env());
    let found = now(instance.enumerate_adapters(wgpu::Backends::all())).unwrap_or_default();
    let named = std::env::var("WGPU_ADAPTER_NAME").map(|name| name.to_lowercase());
    let mut found: Vec<_> = found
        .into_iter()
        .map(|adapter| {
            let info = info_of(&adapter);
            (adapter, info)
        })
        .filter(|(_, info)| match &named {
            Ok(name) => info.name.to_lowercase().contains(name),
            Err(_) => true,
        })
        .collect();
    found.sort_by_key(|(_, info)| (info.software, info.shares_memory));
    found
}

impl Device {
    /// Opens the first adapter that will do and can, for textures of that format if it offers it, else for the exact one.
    pub fn open(adapters: Adapters, textures: TextureFormat) -> Result<Self, OpenError> {
        let found = all();
        let mut refused = Vec::new();
        let mut cause = None;
        for (adapter, info) in found {
            if !adapters.take(&info) {
                refused.push(info.name);
                continue;
            }
            match Self::on(&adapter, info, textures) {
                Ok(device) => return Ok(device),
                Err(error) => cause = cause.or(Some(error)),
            }
        }
        Err(match cause {
            Some(cause) => OpenError::Device(cause),
            None => OpenError::NoAdapter { refused },
        })
    }

    fn on(
        adapter: &wgpu::Adapter,
        mut info: AdapterInfo,
        textures: TextureFormat,
    ) -> Result<Self, String> {
        let offered = adapter.features();
        let required = textures.features();
        if offered.contains(required) {
            info.textures = textures;
        }
        let offered = adapter.limits();
        // Lengths are words of 32 bits in the shader, and no buffer needs more.
        let longest = |offered: u64| offered.min(u64::from(u32::MAX) & !3);
        let limits = wgpu::Limits {
            max_storage_buffer_binding_size: longest(offered.max_storage_buffer_binding_size),
            max_buffer_size: longest(offered.max_buffer_size),
            ..wgpu::Limits::downlevel_defaults()
        };
        let binding_max = limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size);
        let limits = wgpu::Limits {
            max_storage_buffers_per_shader_stage: 6,
            ..limits
        };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("backdrop"),
            required_features: info.textures.features(),
            required_limits: limits,
            // Few and large buffers: blocks to cut small ones from would be memory that nobody charged.
            memory_hints: wgpu::MemoryHints::MemoryUsage,
            ..Default::default()
        };
        let opened = now(adapter.request_device(&descriptor));
        let (device, queue) = opened
            .ok_or("the driver gave no answer")?
            .map_err(|error| error.to_string())?;
        let lost = Arc::new(Lost::default());
        watch(&device, &lost);
        let pipeline = pipeline(&device, info.textures);
        if lost.is() {
            return Err("the kernel cannot be made".to_owned());
        }
        Ok(Self {
            device,
            queue,
            pipeline,
            binding_max,
            lost,
            info,
        })
    }

    /// A buffer, or `None` where the device has no memory for it.
    pub(super) fn buffer(&self, bytes: u64, usage: wgpu::BufferUsages) -> Option<wgpu::Buffer> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer = self.device.create_buffer(&wgpu::BufferDescriptor {
            label: None,
            size: bytes,
            usage,
            mapped_at_creation: usage.contains(wgpu::BufferUsages::MAP_WRITE),
        });
        match now(scope.pop()).flatten() {
            None => Some(buffer),
            Some(_) => None,
        }
    }

    /// An array of BC7 textures, so many pixels across and down and so many layers, or `None` where the device has no memory for it.
    pub(super) fn blocks(&self, [width, height, layers]: [u32; 3]) -> Option<wgpu::Texture> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let texture = self.device.create_texture(&wgpu::TextureDescriptor {
            label: None,
            size: wgpu::Extent3d {
                width,
                height,
                depth_or_array_layers: layers,
            },
            mip_level_count: 1,
            sample_count: 1,
            dimension: wgpu::TextureDimension::D2,
            // Not its sRGB kind: the specification averages samples as they are.
            format: wgpu::TextureFormat::Bc7RgbaUnorm,
            usage: wgpu::TextureUsages::TEXTURE_BINDING | wgpu::TextureUsages::COPY_DST,
            view_formats: &[],
        });
        match now(scope.pop()).flatten() {
            None => Some(texture),
            Some(_) => None,
        }
    }

    /// How long a batch may take.
    pub(super) fn hang(&self) -> Duration {
        match self.info.software {
            true => HANG_IN_SOFTWARE,
            false => HANG,
        }
    }

    /// Waits until a submission is done. False, and the device is lost, if that does not come.
    pub(super) fn wait(&self, submission: wgpu::SubmissionIndex) -> bool {
        let poll = wgpu::PollType::Wait {
            submission_index: Some(submission),
            timeout: Some(self.hang()),
        };
        // wgpu panics where the driver says that the device is lost.
        let cause = match catch_unwind(AssertUnwindSafe(|| self.device.poll(poll))) {
            Ok(Ok(_)) => return !self.lost.is(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "the driver lost it".to_owned(),
        };
        self.lost.set(&cause);
        false
    }
}

fn watch(device: &wgpu::Device, lost: &Arc<Lost>) {
    let flag = Arc::clone(lost);
    device.set_device_lost_callback(move |reason, message| {
        flag.set(&format!("{reason:?} {message}"));
    });
    let flag = Arc::clone(lost);
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        flag.set(&error.to_string());
    }));
}

impl TextureFormat {
    /// What a device must have for it.
    fn features(self) -> wgpu::Features {
        match self {
            Self::Rgba8 => wgpu::Features::empty(),
            Self::Bc7 => wgpu::Features::TEXTURE_COMPRESSION_BC,
        }
    }

    /// The kernel that reads it.
    fn kernel(self) -> &'static str {
        match self {
            Self::Rgba8 => concat!(
                include_str!("composite.wgsl"),
                include_str!("texels_rgba8.wgsl")
            ),
            Self::Bc7 => concat!(
                include_str!("composite.wgsl"),
                include_str!("texels_bc7.wgsl")
            ),
        }
    }
}

fn pipeline(device: &wgpu::Device, textures: TextureFormat) -> wgpu::ComputePipeline {
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some("composite"),
        source: wgpu::ShaderSource::Wgsl(textures.kernel().into()),
    });
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some("composite"),
        layout: None,
        module: &module,
        entry_point: Some("composite"),
        compilation_options: wgpu::PipelineCompilationOptions::default(),
        cache: None,
    })
}
