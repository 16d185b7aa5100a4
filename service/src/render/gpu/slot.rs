//! The sets of buffers that go round between the threads: what goes to the device, and what comes back.
//!
//! A set is mapped for writing while it waits to be filled, belongs to the device from submission on, and is mapped for reading when
//! that is done. Sizes are fixed when the device is opened.

use std::sync::mpsc;
use std::time::Duration;

use super::device::Device;
use super::{OpenError, TextureFormat, slab};

/// Sets of buffers: one is filled while the other is drawn from.
pub const SLOTS: u64 = 2;

/// Sizes are multiples of this many bytes.
const GRAIN: u64 = 4096;

/// Bytes of the buffers of one set, and of a slab of textures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// To the device: heads, tables, foregrounds, masks, and textures on their way.
    pub upload: u64,
    /// Back from it: frames.
    pub readback: u64,
    /// A slab.
    pub slab: u64,
}

/// So many bytes, or what is whole of them.
pub fn cut(bytes: u64) -> u64 {
    (bytes / GRAIN).max(1) * GRAIN
}

/// How often the machine's memory has each of a set's bytes.
fn sides(shares_memory: bool) -> u64 {
    if shares_memory { 2 } else { 1 }
}

impl Sizes {
    /// A share of `staging` for each set, three fifths of it upwards: a foreground and its mask take a quarter more than their frame.
    /// Where the device shares the machine's memory, its side of the sets comes out of `staging`, too.
    pub fn of(
        staging: u64,
        textures: u64,
        format: TextureFormat,
        binding_max: u64,
        shares_memory: bool,
    ) -> Self {
        let share = staging / SLOTS / sides(shares_memory);
        Self {
            upload: cut((share * 3 / 5).min(binding_max)),
            readback: cut((share * 2 / 5).min(binding_max)),
            slab: slab::bytes_of(format, textures, binding_max),
        }
    }

    /// Bytes of the machine's memory that all sets take: on a device that shares it, what the device keeps of them, too.
    pub fn host_bytes(self, shares_memory: bool) -> u64 {
        (self.upload + self.readback) * SLOTS * sides(shares_memory)
    }

    /// Bytes of all sets, here and on the device.
    pub fn all_bytes(self) -> u64 {
        self.host_bytes(true)
    }
}

/// One set.
#[derive(Debug)]
pub struct Slot {
    /// Mapped for writing whenever it is not with the device.
    pub upload: wgpu::Buffer,
    /// What a shader reads of it.
    pub inputs: wgpu::Buffer,
    /// What a shader makes.
    pub frames: wgpu::Buffer,
    /// A copy of that, mapped for reading while frames are taken out.
    pub readback: wgpu::Buffer,
    /// The buffers as the kernel sees them, with the slabs there were; and how many changes of those that was ago.
    pub bound: Option<(u64, wgpu::BindGroup)>,
}

impl Slot {
    /// A new set, ready to be filled.
    pub fn new(device: &Device, sizes: Sizes) -> Result<Self, OpenError> {
        use wgpu::BufferUsages as Is;
        let make = |bytes: u64, usage| {
            let made = device.buffer(bytes, usage);
            made.ok_or(OpenError::Memory { bytes })
        };
        Ok(Self {
            upload: make(sizes.upload, Is::MAP_WRITE | Is::COPY_SRC)?,
            inputs: make(sizes.upload, Is::STORAGE | Is::COPY_DST)?,
            frames: make(sizes.readback, Is::STORAGE | Is::COPY_SRC)?,
            readback: make(sizes.readback, Is::MAP_READ | Is::COPY_DST)?,
            bound: None,
        })
    }

    /// Asks for `upload` to be mapped again and for the first `frames` bytes of `readback`, once the device is done with what was
    /// submitted; for each, a word comes over the channel.
    pub fn map(&self, frames: u64) -> Mapping {
        let (told, words) = mpsc::channel();
        let mut wanted = 1;
        if frames > 0 {
            wanted += 1;
            let told = told.clone();
            let tell = move |mapped: Result<(), _>| {
                let _ = told.send(mapped.is_ok());
            };
            self.readback.map_async(wgpu::MapMode::Read, ..frames, tell);
        }
        let tell = move |mapped: Result<(), _>| {
            let _ = told.send(mapped.is_ok());
        };
        self.upload.map_async(wgpu::MapMode::Write, .., tell);
        Mapping { words, wanted }
    }
}

/// Buffers that are about to be mapped.
#[derive(Debug)]
pub struct Mapping {
    words: mpsc::Receiver<bool>,
    wanted: usize,
}

impl Mapping {
    /// Whether all were. Comes at once where the device is done, but for a thread that is telling it at this moment.
    pub fn done(&self, hang: Duration) -> bool {
        (0..self.wanted).all(|_| self.words.recv_timeout(hang).unwrap_or(false))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_take_what_they_were_given_and_no_more() {
        for staging in [1 << 20, (8 << 20) + 4711, 160 << 20] {
            for shares_memory in [false, true] {
                let rgba8 = TextureFormat::Rgba8;
                let sizes = Sizes::of(staging, 64 << 20, rgba8, u64::from(u32::MAX), shares_memory);
                let bytes = sizes.host_bytes(shares_memory);
                assert!(bytes <= staging, "{bytes} of {staging}");
                let sets = SLOTS * sides(shares_memory);
                assert!(bytes + 3 * GRAIN * sets > staging, "{bytes} of {staging}");
            }
        }
    }

    #[test]
    fn no_buffer_is_longer_than_a_shader_can_see() {
        let sizes = Sizes::of(8 << 30, 1 << 40, TextureFormat::Rgba8, 128 << 20, false);
        let Sizes {
            upload,
            readback,
            slab,
        } = sizes;
        assert_eq!([upload, readback, slab], [128 << 20; 3]);
    }
}
