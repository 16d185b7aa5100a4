//! Slabs: where textures live on the device, as words of a buffer or as blocks of a texture array.
//!
//! Either way a texture is a run of units at one place of the slab (see [`super::atlas`]). Blocks lie one behind the other in layers of
//! one fixed size, which every device that we open takes: no texture has a layer of its own, which would be cut to its size and no
//! other's. The shader counts as this file does.

use super::atlas::{Grid, SLABS};
use super::device::Device;
use super::{Host, TextureFormat};

/// Bytes of a block of 4 by 4 pixels.
pub const BLOCK_BYTES: u64 = 16;
/// Blocks of a layer, across and down: 2048 pixels.
const LAYER: u64 = 512;
/// Layers of an array, at most.
const LAYERS_MAX: u64 = 256;
/// Bytes of a row of blocks, a multiple of 256 as copies want it. Textures begin with a row.
const ROW_BYTES: u64 = LAYER * BLOCK_BYTES;

/// Bytes of one of so many that may take `textures` in all, at most `binding_max` where that counts.
pub fn bytes_of(format: TextureFormat, textures: u64, binding_max: u64) -> u64 {
    let share = textures / SLABS as u64;
    match format {
        TextureFormat::Rgba8 => super::slot::cut(share.min(binding_max)),
        TextureFormat::Bc7 => {
            let rows = (share / ROW_BYTES).clamp(1, LAYER * LAYERS_MAX);
            let whole_layers = if rows > LAYER { rows % LAYER } else { 0 };
            (rows - whole_layers) * ROW_BYTES
        }
    }
}

/// How a slab of so many bytes is divided.
pub fn grid(format: TextureFormat, bytes: u64) -> Grid {
    let (unit_bytes, align) = match format {
        TextureFormat::Rgba8 => (4, 64),
        TextureFormat::Bc7 => (BLOCK_BYTES, LAYER),
    };
    Grid {
        unit_bytes,
        slab_units: bytes / unit_bytes,
        align,
    }
}

/// Bytes of a texture that no copy divides.
pub fn grain(format: TextureFormat) -> u64 {
    match format {
        TextureFormat::Rgba8 => 4,
        TextureFormat::Bc7 => ROW_BYTES,
    }
}

/// One slab, or what is bound in the place of one that does not exist.
pub struct Slab {
    store: Store,
    /// Its memory, where that is the machine's.
    _memory: Option<Box<dyn Send>>,
}

enum Store {
    Words(wgpu::Buffer),
    Blocks(wgpu::Texture, wgpu::TextureView),
}

impl Slab {
    /// A slab of [`bytes_of`] the device's format. `None` where there is no memory for it.
    pub fn make(device: &Device, host: &dyn Host, bytes: u64) -> Option<Self> {
        let memory = match device.info.shares_memory {
            true => Some(host.reserve(bytes)?),
            false => None,
        };
        Some(Self {
            store: Store::make(device, bytes)?,
            _memory: memory,
        })
    }

    /// The smallest there is, of which nothing is read.
    pub fn stub(device: &Device) -> Option<Self> {
        let bytes = match device.info.textures {
            TextureFormat::Rgba8 => BLOCK_BYTES,
            TextureFormat::Bc7 => ROW_BYTES,
        };
        Some(Self {
            store: Store::make(device, bytes)?,
            _memory: None,
        })
    }

    /// It, as a shader is bound to it.
    pub fn binding(&self) -> wgpu::BindingResource<'_> {
        match &self.store {
            Store::Words(buffer) => buffer.as_entire_binding(),
            Store::Blocks(_, view) => wgpu::BindingResource::TextureView(view),
        }
    }

    /// Of `left` bytes of a texture those that one copy takes, where there is room for so many; 0 if there is too little.
    pub fn piece(&self, left: usize, room: usize) -> usize {
        let grain = grain(match self.store {
            Store::Words(_) => TextureFormat::Rgba8,
            Store::Blocks(..) => TextureFormat::Bc7,
        }) as usize;
        if left <= room {
            left
        } else {
            room / grain * grain
        }
    }

    /// Records a copy of such a piece, which lies in `from` at `offset`, to the place that begins with unit `at`.
    pub fn copy(
        &self,
        encoder: &mut wgpu::CommandEncoder,
        from: &wgpu::Buffer,
        offset: u64,
        at: u64,
        bytes: u64,
    ) {
        match &self.store {
            Store::Words(buffer) => {
                encoder.copy_buffer_to_buffer(from, offset, buffer, at * 4, bytes);
            }
            Store::Blocks(texture, _) => {
                let (mut offset, mut row, mut left) = (offset, at / LAYER, bytes);
                while left > 0 {
                    // Up to the end of the layer, or what is left of the last row.
                    let rows = (left / ROW_BYTES).min(LAYER - row % LAYER);
                    let (blocks, rows) = match rows {
                        0 => (left / BLOCK_BYTES, 1),
                        rows => (LAYER, rows),
                    };
                    copy_blocks(encoder, (from, offset), (texture, row), [blocks, rows]);
                    let now = blocks * rows * BLOCK_BYTES;
                    offset += now;
                    row += rows;
                    left -= now;
                }
            }
        }
    }

    /// Gives its memory back, once the device does not use it any more.
    pub fn destroy(self) {
        match self.store {
            Store::Words(buffer) => buffer.destroy(),
            Store::Blocks(texture, _) => texture.destroy(),
        }
    }
}

/// Records a copy of `blocks` across and down, to the beginning of a row.
fn copy_blocks(
    encoder: &mut wgpu::CommandEncoder,
    (buffer, offset): (&wgpu::Buffer, u64),
    (texture, row): (&wgpu::Texture, u64),
    [across, down]: [u64; 2],
) {
    let from = wgpu::TexelCopyBufferInfo {
        buffer,
        layout: wgpu::TexelCopyBufferLayout {
            offset,
            bytes_per_row: Some(ROW_BYTES as u32),
            rows_per_image: None,
        },
    };
    let to = wgpu::TexelCopyTextureInfo {
        texture,
        mip_level: 0,
        origin: wgpu::Origin3d {
            x: 0,
            y: (row % LAYER * 4) as u32,
            z: (row / LAYER) as u32,
        },
        aspect: wgpu::TextureAspect::All,
    };
    let size = wgpu::Extent3d {
        width: (across * 4) as u32,
        height: (down * 4) as u32,
        depth_or_array_layers: 1,
    };
    encoder.copy_buffer_to_texture(from, to, size);
}

impl Store {
    fn make(device: &Device, bytes: u64) -> Option<Self> {
        Some(match device.info.textures {
            TextureFormat::Rgba8 => {
                let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
                Self::Words(device.buffer(bytes, usage)?)
            }
            TextureFormat::Bc7 => {
                let rows = bytes / ROW_BYTES;
                let (rows, layers) = match rows <= LAYER {
                    true => (rows, 1),
                    false => (LAYER, rows / LAYER),
                };
                let texture = device.blocks([LAYER * 4, rows * 4, layers].map(|n| n as u32))?;
                // An array also of one layer.
                let view = texture.create_view(&wgpu::TextureViewDescriptor {
                    dimension: Some(wgpu::TextureViewDimension::D2Array),
                    ..Default::default()
                });
                Self::Blocks(texture, view)
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slabs_of_blocks_are_whole_rows_and_then_whole_layers() {
        let bytes = |textures| bytes_of(TextureFormat::Bc7, textures, 4096);
        assert_eq!(bytes(0), ROW_BYTES, "one row at least");
        assert_eq!(bytes(4 * (3 * ROW_BYTES + 17)), 3 * ROW_BYTES);
        let layer = LAYER * ROW_BYTES;
        assert_eq!(bytes(4 * layer), layer);
        assert_eq!(bytes(4 * (3 * layer - ROW_BYTES)), 2 * layer);
        assert_eq!(bytes(512 << 20), 128 << 20);
        assert_eq!(bytes(1 << 40), LAYERS_MAX * layer);
    }

    #[test]
    fn what_a_texture_takes_is_its_blocks() {
        let full = crate::codec::pixels::Size::new(1920, 1080);
        assert_eq!(TextureFormat::Bc7.bytes(full), 2_073_600);
        assert_eq!(TextureFormat::Rgba8.bytes(full), 8_294_400);
        let odd = crate::codec::pixels::Size::new(5, 1);
        assert_eq!(TextureFormat::Bc7.bytes(odd), 32);
    }
}
