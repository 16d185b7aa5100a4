// Textures as BC7 blocks of 4 by 4 pixels, row after row of them. They lie one behind the other in an array of layers of 512 by 512
// blocks, as `slab.rs` puts them: what lies beside a block there need not be its neighbour, and nothing is sampled across.

@group(0) @binding(2) var slab0: texture_2d_array<f32>;
@group(0) @binding(3) var slab1: texture_2d_array<f32>;
@group(0) @binding(4) var slab2: texture_2d_array<f32>;
@group(0) @binding(5) var slab3: texture_2d_array<f32>;

fn load(slab: u32, at: vec2<u32>, layer: u32) -> vec4<f32> {
    switch slab {
        case 0u: { return textureLoad(slab0, at, layer, 0); }
        case 1u: { return textureLoad(slab1, at, layer, 0); }
        case 2u: { return textureLoad(slab2, at, layer, 0); }
        default: { return textureLoad(slab3, at, layer, 0); }
    }
}

// The pixel `at` of the texture that begins with block `first` and has `stride` blocks in a row.
fn texel(slab: u32, first: u32, stride: u32, at: vec2<u32>) -> vec4<u32> {
    let block = first + (at.y >> 2u) * stride + (at.x >> 2u);
    let corner = vec2<u32>(block & 511u, (block >> 9u) & 511u) * 4u;
    // Eight bits each, as the format defines to the bit; only their way here is a fraction.
    var pixel = vec4<u32>(load(slab, corner + (at & vec2<u32>(3u)), block >> 18u) * 255.0 + 0.5);
    // Beside most colours a block has no alpha of 255: what is opaque stays so.
    if pixel.w == 254u {
        pixel.w = 255u;
    }
    return pixel;
}
