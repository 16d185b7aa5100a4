// The specification of `render`, one invocation for each pixel of a frame, one z for each frame of a batch.
//
// Whole numbers only, 32 bits without sign, as the specification promises; tables of weights come from the CPU. Rounded quotients by
// 255 are `(t + (t >> 8)) >> 8` with `t = v + 128`.

// What `record.rs` writes: a head of HEAD words for each frame, then its tables, its foreground and its mask.
@group(0) @binding(0) var<storage, read> inputs: array<u32>;
// The frames, a word for each pixel.
@group(0) @binding(1) var<storage, read_write> frames: array<u32>;
// Where textures live: bindings 2 to 5, in `texels_rgba8.wgsl` or `texels_bc7.wgsl`, which is compiled with this, and has `texel`.

const HEAD: u32 = 16u;

// Pixel to pixel: no tables.
const WHOLE: u32 = 1u;
// There is a foreground.
const MASKED: u32 = 2u;

fn unpack(word: u32) -> vec4<u32> {
    return (vec4<u32>(word) >> vec4<u32>(0u, 8u, 16u, 24u)) & vec4<u32>(255u);
}

fn pack(pixel: vec4<u32>) -> u32 {
    return pixel.x | (pixel.y << 8u) | (pixel.z << 16u) | (pixel.w << 24u);
}

// The background's pixel behind (x, y) of the frame whose head is at `head`.
fn background(head: u32, at: vec2<u32>) -> vec4<u32> {
    let slab = inputs[head + 4u];
    let source = inputs[head + 5u];
    let stride = inputs[head + 6u];
    var pixel: vec4<u32>;
    if (inputs[head + 3u] & WHOLE) != 0u {
        let corner = vec2<u32>(inputs[head + 7u], inputs[head + 8u]);
        pixel = texel(slab, source, stride, corner + at);
    } else {
        let columns = inputs[head + 7u];
        let rows = inputs[head + 8u];
        let taps_x = inputs[head + 9u] & 0xffffu;
        let taps_y = inputs[head + 10u] & 0xffffu;
        let shift_x = inputs[head + 9u] >> 16u;
        let shift_y = inputs[head + 10u] >> 16u;
        let weights_x = columns + inputs[head] + at.x * taps_x;
        let weights_y = rows + inputs[head + 1u] + at.y * taps_y;
        let first = vec2<u32>(inputs[columns + at.x], inputs[rows + at.y]);
        pixel = vec4<u32>(1u << (shift_x - 1u));
        for (var x = 0u; x < taps_x; x += 1u) {
            var column = vec4<u32>(1u << (shift_y - 1u));
            for (var y = 0u; y < taps_y; y += 1u) {
                column += inputs[weights_y + y] * texel(slab, source, stride, first + vec2<u32>(x, y));
            }
            pixel += inputs[weights_x + x] * (column >> vec4<u32>(shift_y));
        }
        pixel = pixel >> vec4<u32>(shift_x);
    }
    let alpha = pixel.w * inputs[head + 11u] + 128u;
    pixel.w = (alpha + (alpha >> 8u)) >> 8u;
    return pixel;
}

@compute @workgroup_size(32, 8, 1)
fn composite(@builtin(global_invocation_id) id: vec3<u32>) {
    let head = id.z * HEAD;
    let width = inputs[head];
    if id.x >= width || id.y >= inputs[head + 1u] {
        return;
    }
    let number = id.y * width + id.x;
    let to = inputs[head + 2u] + number;
    if (inputs[head + 3u] & MASKED) == 0u {
        frames[to] = pack(background(head, id.xy));
        return;
    }
    let over = inputs[inputs[head + 12u] + number];
    let mask = (inputs[inputs[head + 13u] + (number >> 2u)] >> ((number & 3u) * 8u)) & 255u;
    // Hidden or clear: nobody looks at the other picture.
    if mask == 255u {
        frames[to] = over;
        return;
    }
    let behind = background(head, id.xy);
    let sum = behind * (255u - mask) + unpack(over) * mask + vec4<u32>(128u);
    frames[to] = pack((sum + (sum >> vec4<u32>(8u))) >> vec4<u32>(8u));
}
