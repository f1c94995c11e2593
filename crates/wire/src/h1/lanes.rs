//! Many bytes at a time: which of them are controls or colons, as one bit per byte.

use wide::u8x16;

/// Bytes looked at together.
pub(super) const LANES: usize = 16;
/// Bytes of a line that are looked at first: two times [`LANES`].
pub(super) const BLOCK: usize = 32;

/// What stands where in a block; the lowest bit is the first byte.
pub(super) struct Marks {
    /// Colons.
    pub(super) colons: u32,
    /// Bytes below 0x20, HTAB among them, and DEL.
    pub(super) controls: u32,
}

/// Marks of a whole block.
#[inline]
pub(super) fn marks(block: &[u8; BLOCK]) -> Marks {
    let mut marks = Marks {
        colons: 0,
        controls: 0,
    };
    for (i, half) in block.as_chunks::<LANES>().0.iter().enumerate() {
        let shift = i * LANES;
        marks.colons |= u8x16::new(*half).simd_eq(u8x16::splat(b':')).to_bitmask() << shift;
        marks.controls |= controls(half) << shift;
    }
    marks
}

/// Bytes below 0x20, HTAB among them, and DEL. Bytes above 0x7f (obs-text) are none.
#[inline]
pub(super) fn controls(lanes: &[u8; LANES]) -> u32 {
    let bytes = u8x16::new(*lanes);
    let low = bytes.min(u8x16::splat(0x1f)).simd_eq(bytes);
    let delete = bytes.simd_eq(u8x16::splat(0x7f));
    (low | delete).to_bitmask()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_at_every_place() {
        for at in 0..BLOCK {
            for byte in 0..=255u8 {
                let mut block = [b'a'; BLOCK];
                block[at] = byte;
                let marks = marks(&block);
                let bit = |yes: bool| u32::from(yes) << at;
                assert_eq!(marks.colons, bit(byte == b':'), "{byte} at {at}");
                assert_eq!(
                    marks.controls,
                    bit(byte < 0x20 || byte == 0x7f),
                    "{byte} at {at}"
                );
            }
        }
    }
}
