//! The GPU's thread: takes jobs, has them recorded and submitted, and opens a lost device anew.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use super::batch::Flight;
use super::device::Device;
use super::encoder::Encoder;
use super::queue::{Queue, Turn};
use super::record::{Gone, Recorder};
use super::slot::{SLOTS, Sizes, Slot};
use super::{AdapterInfo, Event, Host, OpenError, Settings, finish};

/// How long a lost device is left alone at first.
const AGAIN: Duration = Duration::from_millis(100);
/// How long it is left alone at most: each failure, and each loss before a frame came, doubles the time.
const AGAIN_MAX: Duration = Duration::from_secs(30);

/// A device with its buffers, their memory, and the way round for them.
pub struct Kit {
    device: Arc<Device>,
    recorder: Recorder,
    flights: mpsc::Receiver<Flight>,
    free: mpsc::Sender<Slot>,
    _memory: Box<dyn Send>,
}

impl Kit {
    /// What is known of its adapter.
    pub fn info(&self) -> &AdapterInfo {
        &self.device.info
    }
}

/// The thread's work.
pub struct Worker {
    settings: Settings,
    host: Arc<dyn Host>,
    queue: Arc<Queue>,
    encoder: Option<Arc<Encoder>>,
}

/// Why serving ended.
enum End {
    Closed,
    Lost,
}

impl Worker {
    pub fn new(
        settings: Settings,
        host: Arc<dyn Host>,
        queue: Arc<Queue>,
        encoder: Option<Arc<Encoder>>,
    ) -> Self {
        Self {
            settings,
            host,
            queue,
            encoder,
        }
    }

    /// Opens a device and makes its buffers. A driver that panics is one that cannot be used.
    pub fn open(&self) -> Result<Kit, OpenError> {
        let Settings {
            adapters, textures, ..
        } = self.settings;
        let open = || Device::open(adapters, textures).and_then(|device| self.equip(device));
        catch_unwind(AssertUnwindSafe(open))
            .unwrap_or_else(|_| Err(OpenError::Device("its driver panicked".to_owned())))
    }

    /// Makes a device's buffers, after their memory was reserved.
    fn equip(&self, device: Device) -> Result<Kit, OpenError> {
        let Settings {
            staging_bytes,
            texture_bytes_max,
            shared_texture_bytes_max,
            batch_max,
            ..
        } = self.settings;
        let shares_memory = device.info.shares_memory;
        let textures = match shares_memory {
            true => texture_bytes_max.min(shared_texture_bytes_max),
            false => texture_bytes_max,
        };
        let format = device.info.textures;
        let binding_max = device.binding_max;
        let sizes = Sizes::of(staging_bytes, textures, format, binding_max, shares_memory);
        let bytes = sizes.host_bytes(shares_memory);
        let memory = self
            .host
            .reserve(bytes)
            .ok_or(OpenError::Memory { bytes })?;
        let device = Arc::new(device);
        let (free, slots) = mpsc::channel();
        for _ in 0..SLOTS {
            drop(free.send(Slot::new(&device, sizes)?));
        }
        let (submitted, flights) = mpsc::channel();
        let recorder = Recorder::new(
            Arc::clone(&device),
            Arc::clone(&self.host),
            sizes,
            batch_max,
            (slots, submitted),
            self.encoder.clone(),
        );
        self.host.tell(Event::Held {
            textures: 0,
            all: sizes.all_bytes(),
        });
        Ok(Kit {
            device,
            recorder: recorder.ok_or(OpenError::Memory { bytes })?,
            flights,
            free,
            _memory: memory,
        })
    }

    /// Serves until the queue is closed.
    pub fn run(self, kit: Kit) {
        let mut kit = Some(kit);
        let mut again = AGAIN;
        loop {
            if let Some(kit) = kit.take() {
                let (end, drew) = self.serve(kit);
                self.host.tell(Event::Held {
                    textures: 0,
                    all: 0,
                });
                if matches!(end, End::Closed) {
                    return;
                }
                self.host.tell(Event::Lost);
                if drew {
                    again = AGAIN;
                }
            }
            if self.queue.closes_within(again) {
                return;
            }
            again = (again * 2).min(AGAIN_MAX);
            match self.open() {
                Ok(opened) => {
                    tracing::info!(adapter = opened.device.info.name, "the GPU is back");
                    kit = Some(opened);
                    self.queue.reopen();
                    self.host.tell(Event::Reopened { done: true });
                }
                Err(error) => {
                    tracing::warn!(%error, again_ms = again.as_millis() as u64, "the GPU is not back");
                    self.host.tell(Event::Reopened { done: false });
                }
            }
        }
    }

    /// Serves until the device is lost or the queue closed; says whether frames came from it.
    fn serve(&self, kit: Kit) -> (End, bool) {
        let Kit {
            device,
            mut recorder,
            flights,
            free,
            _memory,
        } = kit;
        let (host, lost) = (Arc::clone(&self.host), Arc::clone(&device.lost));
        let finisher = std::thread::Builder::new().name("gpu-poll".to_owned());
        // Told by who delivers: what was only submitted may be lost without a word.
        let drew = Arc::new(AtomicBool::new(false));
        let came = Arc::clone(&drew);
        let finisher = finisher.spawn(move || finish::run(&device, &*host, flights, free, &came));
        let Ok(finisher) = finisher else {
            lost.set("no thread for it");
            self.queue.suspend();
            return (End::Lost, false);
        };
        // A job that panics takes its batch with it, not the thread.
        let end = catch_unwind(AssertUnwindSafe(|| self.feed(&mut recorder)));
        let end = end.unwrap_or_else(|_| {
            lost.set("a job panicked");
            End::Lost
        });
        if matches!(end, End::Lost) {
            // Before anything is waited for: what comes now is for the CPU.
            self.queue.suspend();
        }
        // Ends the other thread, once it has finished what is in flight.
        if catch_unwind(AssertUnwindSafe(|| drop(recorder))).is_err() {
            tracing::error!("the driver panicked at a lost GPU's buffers");
        }
        if finisher.join().is_err() {
            tracing::error!("the thread that waits for the GPU had panicked");
        }
        (end, drew.load(Ordering::Acquire))
    }

    fn feed(&self, recorder: &mut Recorder) -> End {
        loop {
            if recorder.ready().is_err() {
                return End::Lost;
            }
            match self
                .queue
                .turn(self.settings.window, self.settings.batch_max)
            {
                Turn::Close => return End::Closed,
                Turn::Shrink(bytes) => {
                    if recorder.shrink_to(bytes).is_err() {
                        return End::Lost;
                    }
                }
                Turn::TakeIn(encoded) => {
                    if recorder.take_in_blocks(&encoded).is_err() {
                        return End::Lost;
                    }
                }
                Turn::Draw(mut jobs) => {
                    let mut draw = || -> Result<(), Gone> {
                        while let Some(job) = jobs.0.pop_front() {
                            recorder.add(job)?;
                        }
                        recorder.submit()
                    };
                    if draw().is_err() {
                        return End::Lost;
                    }
                }
            }
        }
    }
}
