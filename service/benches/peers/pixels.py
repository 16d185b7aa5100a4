"""The peers of `pixel-peers` that are reached from Python: Pillow, OpenCV, libvips, and libjpeg-turbo, pixman and libyuv by ctypes.

Started by the Rust side with a folder of raw buffers that both sides read. One line of JSON says which peers there are and which are not;
then each line on standard input, `run FIGURE PEER` or `show FIGURE PEER`, is answered by one: nanoseconds of one run, or bytes written to
`shown` in the folder; or by `failed` and why. One thread, and each library as its own documentation has it fastest for the same result;
where it has several ways, each is a peer. Buffers are made before the clock starts, and results go where a library can be given a buffer.
"""

import ctypes
import io
import json
import os
import sys
import time
from ctypes import byref, c_int32, c_ulong, c_void_p
from pathlib import Path

os.environ["VIPS_CONCURRENCY"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

WIDTH, HEIGHT = 1920, 1080
PREVIEW = (640, 360)
LARGE = (2560, 1440)
# The middle of the picture, a quarter nearer: `zoomed` of the Rust side.
ZOOM = 1.25
CROP = (192, 108, 1536, 864)
# Three boxes of 2r + 1 pixels, and the Gaussian that they come to.
RADIUS = 40
SIGMA = RADIUS + 0.5
QUALITY = 80

PEERS = {}
MISSING = []
VERSIONS = {}


def peer(figure, name):
    """Registers a function of a set of buffers that returns what it made."""

    def keep(function):
        PEERS[(figure, name)] = function
        return function

    return keep


def library(name, file):
    """A shared library, or a note that it is not there."""
    try:
        return ctypes.CDLL(file)
    except OSError as error:
        MISSING.append([name, str(error)])
        return None


class Set:
    """One frame's buffers, as one library after another wants to see them."""

    def __init__(self, folder, number):
        def raw(what, channels):
            data = np.fromfile(folder / f"{what}-{number}", np.uint8)
            return data.reshape((HEIGHT, WIDTH, channels) if channels > 1 else (HEIGHT, WIDTH))

        self.background = raw("background", 4)
        self.over = raw("over", 4)
        self.mask = raw("mask", 1)
        self.out = np.zeros_like(self.background)
        self.spare = [np.zeros_like(self.background) for _ in range(3)]
        # Filled, and so faulted in.
        self.small = np.full((PREVIEW[1], PREVIEW[0], 4), 255, np.uint8)
        self.large = np.full((LARGE[1], LARGE[0], 4), 255, np.uint8)
        self.cache = {}

    def kept(self, key, make):
        """What a library needs once for each set: wrappers around the same pixels."""
        if key not in self.cache:
            self.cache[key] = make()
        return self.cache[key]


def at(array):
    return c_void_p(array.ctypes.data)


# --- Pillow


def pillow():
    import PIL
    from PIL import Image, ImageFilter

    VERSIONS["Pillow"] = PIL.__version__

    def image(s, what):
        return s.kept(("pil", what), lambda: Image.fromarray(getattr(s, what)))

    def blended(background, s):
        # As `Image.composite` does, whose copy this is.
        out = background.copy()
        out.paste(image(s, "over"), None, image(s, "mask"))
        return out

    @peer("composite", "Pillow")
    def _(s):
        return blended(image(s, "background"), s)

    @peer("bilinear", "Pillow")
    def _(s):
        x, y, width, height = CROP
        box = (x, y, x + width, y + height)
        near = image(s, "background").resize((WIDTH, HEIGHT), Image.Resampling.BILINEAR, box)
        near.paste(image(s, "over"), None, image(s, "mask"))
        return near

    @peer("blur", "Pillow, box blur of three passes")
    def _(s):
        return image(s, "background").filter(ImageFilter.GaussianBlur(SIGMA))

    @peer("shrink", "Pillow, box")
    def _(s):
        return image(s, "background").resize(PREVIEW, Image.Resampling.BOX)

    @peer("shrink", "Pillow, reduce")
    def _(s):
        return image(s, "background").reduce(3)

    @peer("enlarge", "Pillow")
    def _(s):
        return image(s, "background").resize(LARGE, Image.Resampling.BILINEAR)

    @peer("decode", "Pillow")
    def _(s):
        # Three channels of four that it keeps: to make it RGBA would be a further copy.
        picture = Image.open(io.BytesIO(JPEG))
        picture.load()
        return picture

    @peer("encode", "Pillow")
    def _(s):
        picture = PICTURE.setdefault("pil", Image.fromarray(PICTURE["rgba"]).convert("RGB"))
        out = io.BytesIO()
        picture.save(out, "jpeg", quality=QUALITY, subsampling="4:2:0")
        return out.getbuffer()


# --- OpenCV


def opencv():
    import cv2

    VERSIONS["OpenCV"] = cv2.__version__
    cv2.setNumThreads(1)

    def blend(background, s):
        # The alpha of this mask is 255 throughout, which is the same where both pictures are opaque.
        mask, over, under = s.spare
        cv2.cvtColor(s.mask, cv2.COLOR_GRAY2BGRA, mask)
        cv2.multiply(s.over, mask, over, 1 / 255)
        cv2.bitwise_not(mask, mask)
        cv2.multiply(background, mask, under, 1 / 255)
        return cv2.add(over, under, s.out)

    def blend_linear(background, s):
        # Weights of one channel, as floats: the mask, and what it leaves.
        def make():
            return [np.ones((HEIGHT, WIDTH), np.float32) for _ in range(2)]

        over, under = s.kept("cv-weights", make)
        cv2.multiply(s.mask, 1 / 255, over, dtype=cv2.CV_32F)
        cv2.subtract(1.0, over, under, dtype=cv2.CV_32F)
        return cv2.blendLinear(s.over, background, over, under, s.out)

    def nearer(s):
        x, y, width, height = CROP
        window = s.background[y : y + height, x : x + width]
        near = s.kept("cv-near", lambda: np.full_like(s.background, 255))
        return cv2.resize(window, (WIDTH, HEIGHT), near, interpolation=cv2.INTER_LINEAR)

    @peer("composite", "OpenCV, multiply and add")
    def _(s):
        return blend(s.background, s)

    @peer("composite", "OpenCV, blendLinear")
    def _(s):
        return blend_linear(s.background, s)

    @peer("bilinear", "OpenCV, multiply and add")
    def _(s):
        return blend(nearer(s), s)

    @peer("bilinear", "OpenCV, blendLinear")
    def _(s):
        return blend_linear(nearer(s), s)

    @peer("blur", "OpenCV, three boxes")
    def _(s):
        side = (2 * RADIUS + 1, 2 * RADIUS + 1)
        cv2.blur(s.background, side, s.spare[0], borderType=cv2.BORDER_REPLICATE)
        cv2.blur(s.spare[0], side, s.spare[1], borderType=cv2.BORDER_REPLICATE)
        return cv2.blur(s.spare[1], side, s.out, borderType=cv2.BORDER_REPLICATE)

    @peer("blur", "OpenCV, stackBlur")
    def _(s):
        # A tent of the same variance: r (r + 2) / 6.
        radius = round((1 + 6 * SIGMA * SIGMA) ** 0.5 - 1)
        return cv2.stackBlur(s.background, (2 * radius + 1, 2 * radius + 1), s.out)

    @peer("blur", "OpenCV, Gaussian")
    def _(s):
        return cv2.GaussianBlur(s.background, (0, 0), SIGMA, s.out, borderType=cv2.BORDER_REPLICATE)

    @peer("shrink", "OpenCV, area")
    def _(s):
        return cv2.resize(s.background, PREVIEW, s.small, interpolation=cv2.INTER_AREA)

    @peer("enlarge", "OpenCV")
    def _(s):
        return cv2.resize(s.background, LARGE, s.large, interpolation=cv2.INTER_LINEAR)

    @peer("decode", "OpenCV")
    def _(s):
        # Three channels, and turned round for showing only.
        return cv2.imdecode(JPEG_ARRAY, cv2.IMREAD_COLOR)[:, :, ::-1]

    @peer("encode", "OpenCV")
    def _(s):
        bgr = PICTURE.setdefault("bgr", np.ascontiguousarray(PICTURE["rgba"][:, :, 2::-1]))
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1]


# --- libvips


def libvips():
    import pyvips

    VERSIONS["libvips"] = ".".join(str(pyvips.version(at)) for at in range(3))
    # An operation that was done before would be looked up.
    pyvips.cache_set_max(0)

    def image(s, what, bands=4):
        def make():
            array = getattr(s, what)
            return pyvips.Image.new_from_memory(array.data, WIDTH, HEIGHT, bands, "uchar")

        return s.kept(("vips", what), make)

    @peer("composite", "libvips")
    def _(s):
        mask = image(s, "mask", 1)
        return mask.ifthenelse(image(s, "over"), image(s, "background"), blend=True).write_to_memory()

    @peer("bilinear", "libvips")
    def _(s):
        linear = pyvips.Interpolate.new("bilinear")
        window = image(s, "background").crop(*CROP)
        near = window.affine([ZOOM, 0, 0, ZOOM], interpolate=linear, oarea=[0, 0, WIDTH, HEIGHT], extend="copy",
                             odx=(ZOOM - 1) / 2, ody=(ZOOM - 1) / 2)
        return image(s, "mask", 1).ifthenelse(image(s, "over"), near, blend=True).write_to_memory()

    @peer("blur", "libvips, Gaussian")
    def _(s):
        return image(s, "background").gaussblur(SIGMA, precision="integer").write_to_memory()

    @peer("shrink", "libvips, shrink")
    def _(s):
        return image(s, "background").shrink(3, 3).write_to_memory()

    @peer("enlarge", "libvips")
    def _(s):
        return image(s, "background").resize(LARGE[0] / WIDTH, kernel="linear").write_to_memory()

    @peer("decode", "libvips")
    def _(s):
        return pyvips.Image.jpegload_buffer(JPEG).write_to_memory()

    @peer("encode", "libvips")
    def _(s):
        def make():
            rgb = np.ascontiguousarray(PICTURE["rgba"][:, :, :3])
            PICTURE["vips-rgb"] = rgb
            return pyvips.Image.new_from_memory(rgb.data, WIDTH, HEIGHT, 3, "uchar")

        if "vips" not in PICTURE:
            PICTURE["vips"] = make()
        return PICTURE["vips"].jpegsave_buffer(Q=QUALITY, subsample_mode="on", keep="none")


# --- libjpeg-turbo


def turbo():
    lib = library("libjpeg-turbo", "libturbojpeg.so.0")
    if lib is None:
        return
    RGBA, S420, NO_REALLOC = 7, 2, 1024
    FAST_UPSAMPLE, FAST_DCT = 256, 2048
    lib.tjInitDecompress.restype = lib.tjInitCompress.restype = c_void_p
    lib.tjBufSize.restype = c_ulong
    reader, writer = c_void_p(lib.tjInitDecompress()), c_void_p(lib.tjInitCompress())
    room = np.zeros(lib.tjBufSize(WIDTH, HEIGHT, S420), np.uint8)

    def decode(s, flags):
        failed = lib.tjDecompress2(reader, at(JPEG_ARRAY), c_ulong(len(JPEG)), at(s.out), WIDTH, WIDTH * 4, HEIGHT, RGBA, flags)
        assert failed == 0
        return s.out

    @peer("decode", "libjpeg-turbo")
    def _(s):
        return decode(s, 0)

    @peer("decode", "libjpeg-turbo, less exact")
    def _(s):
        return decode(s, FAST_UPSAMPLE | FAST_DCT)

    @peer("encode", "libjpeg-turbo")
    def _(s):
        place, size = at(room), c_ulong(room.size)
        failed = lib.tjCompress2(writer, at(PICTURE["rgba"]), WIDTH, WIDTH * 4, HEIGHT, RGBA, byref(place), byref(size),
                                 S420, QUALITY, NO_REALLOC)
        assert failed == 0
        return room[: size.value]


# --- pixman


def pixman():
    lib = library("pixman", "libpixman-1.so.0")
    if lib is None:
        return
    XRGB, A8 = 0x2002_0888, 0x0801_8000
    SRC, OVER = 1, 3
    BILINEAR, PAD = 4, 2
    lib.pixman_image_create_bits.restype = c_void_p
    lib.pixman_version_string.restype = ctypes.c_char_p
    VERSIONS["pixman"] = lib.pixman_version_string().decode()

    def image(s, what, form=XRGB):
        def make():
            array = getattr(s, what)
            height, width = array.shape[:2]
            stride = array.strides[0]
            return c_void_p(lib.pixman_image_create_bits(form, width, height, at(array), stride))

        return s.kept(("pixman", what, form), make)

    def composite(op, src, mask, dst, size):
        lib.pixman_image_composite32(op, src, mask, dst, 0, 0, 0, 0, 0, 0, *size)

    def zoomed(s, size, crop):
        """A source that is read through a transform."""

        def make():
            x, y, width, height = crop
            source = c_void_p(lib.pixman_image_create_bits(XRGB, WIDTH, HEIGHT, at(s.background), WIDTH * 4))
            fixed = [round(v * 65536) for v in (width / size[0], 0, x, 0, height / size[1], y, 0, 0, 1)]
            lib.pixman_image_set_transform(source, (c_int32 * 9)(*fixed))
            lib.pixman_image_set_filter(source, BILINEAR, None, 0)
            lib.pixman_image_set_repeat(source, PAD)
            return source

        return s.kept(("pixman", size, crop), make)

    @peer("composite", "pixman")
    def _(s):
        # Over a copy: the background is everyone's.
        ctypes.memmove(s.out.ctypes.data, s.background.ctypes.data, s.out.nbytes)
        composite(OVER, image(s, "over"), image(s, "mask", A8), image(s, "out"), (WIDTH, HEIGHT))
        return s.out

    @peer("bilinear", "pixman")
    def _(s):
        size = (WIDTH, HEIGHT)
        composite(SRC, zoomed(s, size, CROP), None, image(s, "out"), size)
        composite(OVER, image(s, "over"), image(s, "mask", A8), image(s, "out"), size)
        return s.out

    @peer("enlarge", "pixman")
    def _(s):
        composite(SRC, zoomed(s, LARGE, (0, 0, WIDTH, HEIGHT)), None, image(s, "large"), LARGE)
        return s.large


# --- libyuv


def libyuv():
    lib = library("libyuv", "libyuv.so.0")
    if lib is None:
        return
    stride = WIDTH * 4
    FILTER_BILINEAR = 2

    def blend_planes(background, s):
        # Its blend of planes by a mask, with the mask four times as wide as it came.
        mask = s.spare[0]
        lib.J400ToARGB(at(s.mask), WIDTH, at(mask), stride, WIDTH, HEIGHT)
        lib.BlendPlane(at(s.over), stride, at(background), stride, at(mask), stride, at(s.out), stride, stride, HEIGHT)
        return s.out

    def blend(background, s):
        # Its blend of pixels wants the mask within the foreground, and that multiplied. A frame may be written to, nobody else has it.
        over, ready = s.kept("libyuv-over", s.over.copy), s.spare[0]
        lib.ARGBCopyYToAlpha(at(s.mask), WIDTH, at(over), stride, WIDTH, HEIGHT)
        lib.ARGBAttenuate(at(over), stride, at(ready), stride, WIDTH, HEIGHT)
        lib.ARGBBlend(at(ready), stride, at(background), stride, at(s.out), stride, WIDTH, HEIGHT)
        return s.out

    @peer("composite", "libyuv, ARGBBlend")
    def _(s):
        return blend(s.background, s)

    @peer("composite", "libyuv, BlendPlane")
    def _(s):
        return blend_planes(s.background, s)

    @peer("composite", "libyuv, masked and multiplied beforehand")
    def _(s):
        def make():
            blend(s.background, s)
            return s.spare[0].copy()

        over = s.kept("libyuv-ready", make)
        lib.ARGBBlend(at(over), stride, at(s.background), stride, at(s.out), stride, WIDTH, HEIGHT)
        return s.out

    def scale(source, from_size, to, to_size, kind):
        lib.ARGBScale(source, stride, *from_size, at(to), to_size[0] * 4, *to_size, kind)
        return to

    def nearer(s):
        x, y, width, height = CROP
        window = c_void_p(s.background.ctypes.data + y * stride + x * 4)
        return scale(window, (width, height), s.spare[1], (WIDTH, HEIGHT), FILTER_BILINEAR)

    @peer("bilinear", "libyuv, ARGBBlend")
    def _(s):
        return blend(nearer(s), s)

    @peer("bilinear", "libyuv, BlendPlane")
    def _(s):
        return blend_planes(nearer(s), s)

    # No `shrink`: to a third it takes samples of an ARGB picture, whatever filter it is asked for.

    @peer("enlarge", "libyuv")
    def _(s):
        return scale(at(s.background), (WIDTH, HEIGHT), s.large, LARGE, FILTER_BILINEAR)


def load(name, register):
    try:
        register()
    except (ImportError, AttributeError, OSError) as error:
        MISSING.append([name, str(error)])


def answer(folder, sets, turn, line):
    """What one line of standard input asks for, as one line."""
    command, figure, name = line.rstrip("\n").split("\t")
    work = PEERS[(figure, name)]
    if command == "run":
        start = time.perf_counter_ns()
        work(sets[turn])
        return time.perf_counter_ns() - start
    # With every set, so that no run pays for what is kept of one.
    for other in sets[1:]:
        work(other)
    made = work(sets[0])
    data = made if isinstance(made, (bytes, memoryview)) else np.ascontiguousarray(made).tobytes()
    (folder / "shown").write_bytes(data)
    return len(data)


def main():
    global JPEG, JPEG_ARRAY
    folder = Path(sys.argv[1])
    JPEG = (folder / "picture.jpg").read_bytes()
    JPEG_ARRAY = np.frombuffer(JPEG, np.uint8)
    PICTURE["rgba"] = np.fromfile(folder / "picture", np.uint8).reshape((HEIGHT, WIDTH, 4))
    sets = [Set(folder, number) for number in range(int(sys.argv[2]))]
    for name, register in [("Pillow", pillow), ("OpenCV", opencv), ("libvips", libvips), ("libjpeg-turbo", turbo), ("pixman", pixman),
                           ("libyuv", libyuv)]:
        load(name, register)
    print(json.dumps({"peers": list(PEERS), "missing": MISSING, "versions": list(VERSIONS.items())}), flush=True)
    for turn, line in enumerate(sys.stdin):
        try:
            said = answer(folder, sets, turn % len(sets), line)
        except Exception as error:  # whatever a library may throw: it is said, and the others go on
            said = "failed " + " ".join(f"{type(error).__name__}: {error}".split())
        print(said, flush=True)


PICTURE = {}

try:
    import numpy as np
except ImportError as error:
    print(json.dumps({"peers": [], "missing": [["all that Python reaches", str(error)]], "versions": []}), flush=True)
else:
    main()
