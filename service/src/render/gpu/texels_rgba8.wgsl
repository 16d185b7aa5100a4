// Textures as words, one for each pixel, row after row.

@group(0) @binding(2) var<storage, read> slab0: array<u32>;
@group(0) @binding(3) var<storage, read> slab1: array<u32>;
@group(0) @binding(4) var<storage, read> slab2: array<u32>;
@group(0) @binding(5) var<storage, read> slab3: array<u32>;

// The pixel `at` of the texture that begins with word `first` and has `stride` words in a row.
fn texel(slab: u32, first: u32, stride: u32, at: vec2<u32>) -> vec4<u32> {
    let word = first + at.y * stride + at.x;
    switch slab {
        case 0u: { return unpack(slab0[word]); }
        case 1u: { return unpack(slab1[word]); }
        case 2u: { return unpack(slab2[word]); }
        default: { return unpack(slab3[word]); }
    }
}
