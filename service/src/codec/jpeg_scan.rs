//! Is a JPEG complete? Walks the entropy-coded data of sequential files block by block, without computing a pixel.
//!
//! Decoders repair: where data runs out before the blocks do, they repeat or grey the rest and report success, even in
//! their strict modes. This walk counts blocks instead. It knows Huffman codes and markers, no transforms. Progressive
//! files are walked marker by marker only: their later scans refine a picture that is already whole.

use super::{CodecError, Format, probe::Walk};

/// Checks that every scan of the file codes all of its blocks and that an end marker follows.
///
/// A scan that runs out is [`CodecError::Truncated`]; codes that do not exist are [`CodecError::Malformed`].
pub fn verify(bytes: &[u8]) -> Result<(), CodecError> {
    let mut file = Scanner::new(bytes);
    loop {
        match file.walk.marker()? {
            0x00 | 0x01 | 0xD0..=0xD8 => {}
            0xD9 => return file.all_components_seen(),
            0xC4 => file.huffman_tables()?,
            0xDD => file.restart_interval()?,
            0xDA => file.scan()?,
            code @ 0xC0..=0xC2 => file.frame(code == 0xC2)?,
            _ => {
                file.segment()?;
            }
        }
    }
}

/// Most components of a frame and of a scan, by the standard.
const COMPONENTS_MAX: usize = 4;

/// The number of components, which opens the list of them in the header of a frame or a scan.
fn component_count(body: &mut Walk<'_>) -> Result<u8, CodecError> {
    let count = body.u8()?;
    if (1..=COMPONENTS_MAX).contains(&usize::from(count)) {
        Ok(count)
    } else {
        Err(body.malformed(format!("{count} components, not 1 to {COMPONENTS_MAX}")))
    }
}

/// A component of the frame.
#[derive(Clone, Copy)]
struct Component {
    id: u8,
    h: u32,
    v: u32,
    seen: bool,
}

struct Scanner<'a> {
    walk: Walk<'a>,
    width: u32,
    height: u32,
    progressive: bool,
    components: Vec<Component>,
    /// DC tables 0..4, then AC tables 0..4.
    tables: [Option<Box<Table>>; 8],
    restart_interval: u32,
}

impl<'a> Scanner<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            walk: Walk::new(bytes, 2, Format::Jpeg),
            width: 0,
            height: 0,
            progressive: false,
            components: Vec::new(),
            tables: Default::default(),
            restart_interval: 0,
        }
    }

    /// The body of a segment with a length.
    fn segment(&mut self) -> Result<Walk<'a>, CodecError> {
        let length = usize::from(self.walk.u16_be()?);
        let body = length
            .checked_sub(2)
            .ok_or_else(|| self.walk.malformed("segment shorter than its own length"))?;
        Ok(Walk::new(self.walk.take(body)?, 0, Format::Jpeg))
    }

    fn all_components_seen(&self) -> Result<(), CodecError> {
        if !self.components.is_empty() && self.components.iter().all(|c| c.seen) {
            return Ok(());
        }
        Err(CodecError::Truncated {
            format: Format::Jpeg,
        })
    }

    fn restart_interval(&mut self) -> Result<(), CodecError> {
        self.restart_interval = u32::from(self.segment()?.u16_be()?);
        Ok(())
    }

    fn frame(&mut self, progressive: bool) -> Result<(), CodecError> {
        // A second one would give the scans that follow blocks of another picture than was probed.
        if !self.components.is_empty() {
            return Err(self.walk.malformed("two frame headers"));
        }
        let mut body = self.segment()?;
        body.u8()?;
        self.height = u32::from(body.u16_be()?);
        self.width = u32::from(body.u16_be()?);
        self.progressive = progressive;
        for _ in 0..component_count(&mut body)? {
            let part = body.take(3)?;
            let (h, v) = (u32::from(part[1] >> 4), u32::from(part[1] & 15));
            if !(1..=4).contains(&h) || !(1..=4).contains(&v) {
                return Err(body.malformed("sampling factor outside 1..=4"));
            }
            self.components.push(Component {
                id: part[0],
                h,
                v,
                seen: false,
            });
        }
        Ok(())
    }

    fn huffman_tables(&mut self) -> Result<(), CodecError> {
        let mut body = self.segment()?;
        while !body.is_done() {
            let place = body.u8()?;
            let (class, index) = (place >> 4, place & 15);
            if class > 1 || index > 3 {
                return Err(body.malformed("Huffman table outside of the eight there are"));
            }
            let counts: [u8; 16] = body.take(16)?.try_into().unwrap_or_default();
            let symbols = body.take(counts.iter().map(|&n| usize::from(n)).sum())?;
            let table = Table::new(&counts, symbols)
                .ok_or_else(|| body.malformed("overfull Huffman table"))?;
            self.tables[usize::from(class * 4 + index)] = Some(Box::new(table));
        }
        Ok(())
    }

    fn scan(&mut self) -> Result<(), CodecError> {
        let mut body = self.segment()?;
        let mut parts = Vec::with_capacity(COMPONENTS_MAX);
        for _ in 0..component_count(&mut body)? {
            let (id, tables) = (body.u8()?, body.u8()?);
            let known = self.components.iter().position(|c| c.id == id);
            let at = known.ok_or_else(|| body.malformed("scan of an unknown component"))?;
            if self.components[at].seen && !self.progressive {
                return Err(body.malformed("component coded twice"));
            }
            self.components[at].seen = true;
            parts.push((at, usize::from(tables >> 4 & 3), usize::from(tables & 3)));
        }
        if self.progressive {
            return self.skip_entropy();
        }
        let (mcus, plan) = self
            .plan(&parts)
            .ok_or_else(|| body.malformed("scan without its Huffman tables"))?;
        let data = self.walk.rest();
        let used = Bits::new(data).blocks(mcus, &plan, self.restart_interval)?;
        self.walk.take(used)?;
        self.skip_entropy()
    }

    /// Units of the scan and the tables of each block in one.
    fn plan(&self, parts: &[(usize, usize, usize)]) -> Option<(u32, Vec<(&Table, &Table)>)> {
        let h_max = self.components.iter().map(|c| c.h).max()?;
        let v_max = self.components.iter().map(|c| c.v).max()?;
        let tables = |dc: usize, ac: usize| {
            Some((self.tables[dc].as_deref()?, self.tables[4 + ac].as_deref()?))
        };
        if let [(at, dc, ac)] = *parts {
            let c = self.components[at];
            let across = (self.width * c.h).div_ceil(h_max).div_ceil(8);
            let down = (self.height * c.v).div_ceil(v_max).div_ceil(8);
            return Some((across * down, vec![tables(dc, ac)?]));
        }
        let mut plan = Vec::new();
        for &(at, dc, ac) in parts {
            let c = self.components[at];
            plan.extend(std::iter::repeat_n(tables(dc, ac)?, (c.h * c.v) as usize));
        }
        Some((
            self.width.div_ceil(8 * h_max) * self.height.div_ceil(8 * v_max),
            plan,
        ))
    }

    /// Goes to the next marker that is not a restart.
    fn skip_entropy(&mut self) -> Result<(), CodecError> {
        let data = self.walk.rest();
        let mut at = 0;
        while let Some(found) = data[at..].iter().position(|&b| b == 0xFF) {
            at += found;
            match data.get(at + 1) {
                Some(0x00 | 0xD0..=0xD7) => at += 2,
                Some(0xFF) => at += 1,
                Some(_) => return self.walk.take(at).map(drop),
                None => break,
            }
        }
        Err(CodecError::Truncated {
            format: Format::Jpeg,
        })
    }
}

/// Bits of the code that one look-up resolves.
const FAST: u32 = 10;

/// A Huffman table: one look-up for short codes, canonical ranges for the rest.
struct Table {
    /// `length << 8 | symbol` for every prefix; zero where the code is longer.
    fast: [u16; 1 << FAST],
    /// Per length, one more than the last code, shifted to 16 bits; and what turns a code into a symbol's index.
    ends: [(u32, i32); 17],
    symbols: Vec<u8>,
}

impl Table {
    fn new(counts: &[u8; 16], symbols: &[u8]) -> Option<Self> {
        let mut table = Self {
            fast: [0; 1 << FAST],
            ends: [(0, 0); 17],
            symbols: symbols.to_vec(),
        };
        let (mut code, mut index) = (0u32, 0usize);
        for length in 1..=16u32 {
            let count = u32::from(counts[length as usize - 1]);
            if code + count > 1 << length {
                return None;
            }
            table.ends[length as usize] =
                ((code + count) << (16 - length), index as i32 - code as i32);
            for _ in 0..count {
                if length <= FAST {
                    let entry = (length << 8) as u16 | u16::from(symbols[index]);
                    let from = (code << (FAST - length)) as usize;
                    table.fast[from..from + (1 << (FAST - length))].fill(entry);
                }
                code += 1;
                index += 1;
            }
            code <<= 1;
        }
        Some(table)
    }

    /// Length and symbol of the code that opens these 16 bits.
    #[inline]
    fn find(&self, bits: u32) -> Option<(u32, u8)> {
        let entry = self.fast[(bits >> (16 - FAST)) as usize];
        if entry != 0 {
            return Some((u32::from(entry >> 8), entry as u8));
        }
        let length = (FAST + 1..=16).find(|&length| bits < self.ends[length as usize].0)?;
        let index = (bits >> (16 - length)) as i32 + self.ends[length as usize].1;
        self.symbols
            .get(usize::try_from(index).ok()?)
            .map(|&symbol| (length, symbol))
    }
}

/// Entropy-coded bits: stuffed bytes taken out, nothing but zeroes after a marker.
struct Bits<'a> {
    data: &'a [u8],
    at: usize,
    buffer: u64,
    /// Bits in `buffer`; negative once more was taken than there was.
    left: i32,
}

impl<'a> Bits<'a> {
    fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            buffer: 0,
            left: 0,
        }
    }

    /// Walks `mcus` units of the blocks in `plan`; returns the bytes used.
    fn blocks(
        mut self,
        mcus: u32,
        plan: &[(&Table, &Table)],
        interval: u32,
    ) -> Result<usize, CodecError> {
        // Blocks take bits, so that the data ends the walk. Without any, nothing would.
        if plan.is_empty() {
            return Ok(self.at);
        }
        for mcu in 0..mcus {
            if interval != 0 && mcu != 0 && mcu % interval == 0 {
                self.restart()?;
            }
            for (dc, ac) in plan {
                self.block(dc, ac)?;
            }
            if self.left < 0 {
                return Err(CodecError::Truncated {
                    format: Format::Jpeg,
                });
            }
        }
        Ok(self.at)
    }

    #[inline]
    fn block(&mut self, dc: &Table, ac: &Table) -> Result<(), CodecError> {
        let size = self.symbol(dc)?;
        self.skip(u32::from(size & 15));
        let mut k = 1;
        while k < 64 {
            let symbol = self.symbol(ac)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => k += 16,
                (_, 0) => break,
                (run, size) => {
                    k += u32::from(run) + 1;
                    self.skip(u32::from(size));
                }
            }
        }
        Ok(())
    }

    #[inline]
    fn symbol(&mut self, table: &Table) -> Result<u8, CodecError> {
        if self.left < 32 {
            self.refill();
        }
        let bits = (self.buffer >> 48) as u32;
        match table.find(bits) {
            Some((length, symbol)) => {
                self.skip(length);
                Ok(symbol)
            }
            // Zeroes or the ones of the padding after the end may be no code.
            None if self.left < 16 => Err(CodecError::Truncated {
                format: Format::Jpeg,
            }),
            None => Err(CodecError::Malformed {
                format: Format::Jpeg,
                cause: "no such Huffman code".into(),
            }),
        }
    }

    #[inline]
    fn skip(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.left -= bits as i32;
    }

    /// Fills the buffer to more than 56 bits, or as far as the data goes. A symbol and its value take at most 31.
    #[inline]
    fn refill(&mut self) {
        while (0..=56).contains(&self.left) {
            let Some(&byte) = self.data.get(self.at) else {
                return;
            };
            let step = match (byte, self.data.get(self.at + 1)) {
                (0xFF, Some(0x00)) => 2,
                (0xFF, _) => return,
                _ => 1,
            };
            self.buffer |= u64::from(byte) << (56 - self.left);
            self.left += 8;
            self.at += step;
        }
    }

    /// Drops the padding, then takes the restart marker that must follow.
    fn restart(&mut self) -> Result<(), CodecError> {
        // Whole bytes left in the buffer would be data that no block used.
        self.refill();
        let rest = &self.data[self.at..];
        match (self.left, rest) {
            (0..8, [0xFF, 0xD0..=0xD7, ..]) => {
                (self.buffer, self.left, self.at) = (0, 0, self.at + 2);
                Ok(())
            }
            (_, [] | [0xFF]) => Err(CodecError::Truncated {
                format: Format::Jpeg,
            }),
            _ => Err(CodecError::Malformed {
                format: Format::Jpeg,
                cause: "restart marker missing".into(),
            }),
        }
    }
}
