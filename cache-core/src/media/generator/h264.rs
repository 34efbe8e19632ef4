//! The least H.264 that every decoder takes: constrained baseline, 64 x 48, uncompressed key frames (I_PCM) and
//! frames that repeat the one before (all macroblocks skipped). Clause numbers are of ITU-T H.264.

/// Size in macroblocks of 16 x 16.
const WIDTH_MBS: u32 = 4;
const HEIGHT_MBS: u32 = 3;

const NAL_AUD: u8 = 0x09;
const NAL_SPS: u8 = 0x67;
const NAL_PPS: u8 = 0x68;
const NAL_IDR: u8 = 0x65;
const NAL_REPEAT: u8 = 0x41;

/// Slice types that hold for the whole picture (7.4.3).
const ALL_I: u32 = 7;
const ALL_P: u32 = 5;

/// `mb_type` of I_PCM in an I slice (table 7-11).
const I_PCM: u32 = 25;

/// Frame numbers count to 16 (`log2_max_frame_num_minus4` is 0).
const FRAME_NUM_BITS: u32 = 4;

/// Appends key frame number `gop`: delimiter, parameter sets, picture.
pub(super) fn key_frame(gop: u64, fps: u32, out: &mut Vec<u8>) {
    nal(NAL_AUD, &[0x10], out);
    nal(NAL_SPS, &sequence_parameters(fps), out);
    nal(NAL_PPS, &picture_parameters(), out);
    let mut slice = slice_head(ALL_I, 0);
    slice.ue((gop & 1) as u32); // idr_pic_id: neighbours differ
    slice.bits(0, 2); // no_output_of_prior_pics, long_term_reference
    slice_end(&mut slice);
    for mb in 0..WIDTH_MBS * HEIGHT_MBS {
        slice.ue(I_PCM);
        slice.align();
        let (x, y) = (mb % WIDTH_MBS * 16, mb / WIDTH_MBS * 16);
        for line in y..y + 16 {
            slice.bytes.extend((x..x + 16).map(|column| luma(gop, column, line)));
        }
        slice.bytes.extend([(96 + gop * 8 % 64) as u8; 64]);
        slice.bytes.extend([(160 - gop * 8 % 64) as u8; 64]);
    }
    nal(NAL_IDR, &slice.trailing(), out);
}

/// Appends the `place`-th frame behind a key frame: the one before again.
pub(super) fn repeat(place: u64, out: &mut Vec<u8>) {
    nal(NAL_AUD, &[0x30], out);
    let mut slice = slice_head(ALL_P, (place % (1 << FRAME_NUM_BITS)) as u32);
    slice.bits(0, 1); // num_ref_idx_active_override
    slice.bits(0, 1); // ref_pic_list_modification
    slice.bits(0, 1); // adaptive_ref_pic_marking
    slice_end(&mut slice);
    slice.ue(WIDTH_MBS * HEIGHT_MBS); // mb_skip_run
    nal(NAL_REPEAT, &slice.trailing(), out);
}

/// Diagonal bars that wander by half a bar from one key frame to the next; within video range, so that no start code
/// can arise.
fn luma(gop: u64, column: u32, line: u32) -> u8 {
    let phase = (u64::from(column + line) + gop * 8) % 32;
    (40 + phase * 5) as u8
}

fn sequence_parameters(fps: u32) -> Vec<u8> {
    let mut b = Bits::default();
    b.bytes.extend_from_slice(&[66, 0xC0, 30]); // constrained baseline, level 3
    b.ue(0); // seq_parameter_set_id
    b.ue(FRAME_NUM_BITS - 4);
    b.ue(2); // pic_order_cnt_type: output order is decoding order
    b.ue(1); // max_num_ref_frames
    b.bits(0, 1); // gaps_in_frame_num
    b.ue(WIDTH_MBS - 1);
    b.ue(HEIGHT_MBS - 1);
    b.bits(1, 1); // frame_mbs_only
    b.bits(1, 1); // direct_8x8_inference
    b.bits(0, 1); // cropping
    b.bits(1, 1); // VUI (annex E)
    b.bits(0, 4); // aspect ratio, overscan, signal type, chroma location
    b.bits(1, 1); // timing
    b.bits(1, 32);
    b.bits(2 * fps, 32);
    b.bits(1, 1); // fixed_frame_rate
    b.bits(0, 3); // NAL HRD, VCL HRD, pic_struct
    b.bits(1, 1); // bitstream restriction
    b.bits(1, 1); // motion vectors over picture boundaries
    b.ue(0); // max_bytes_per_pic_denom
    b.ue(0); // max_bits_per_mb_denom
    b.ue(10); // log2_max_mv_length_horizontal
    b.ue(10); // log2_max_mv_length_vertical
    b.ue(0); // max_num_reorder_frames
    b.ue(1); // max_dec_frame_buffering
    b.trailing()
}

fn picture_parameters() -> Vec<u8> {
    let mut b = Bits::default();
    b.ue(0); // pic_parameter_set_id
    b.ue(0); // seq_parameter_set_id
    b.bits(0, 2); // CAVLC; no field order
    b.ue(0); // one slice group
    b.ue(0); // one reference in list 0
    b.ue(0); // and in list 1
    b.bits(0, 3); // weighted prediction, of both kinds
    b.ue(0); // pic_init_qp
    b.ue(0); // pic_init_qs
    b.ue(0); // chroma_qp_index_offset
    b.bits(1, 1); // slices say how they are deblocked
    b.bits(0, 2); // constrained intra, redundant pictures
    b.trailing()
}

/// `slice_header` (7.3.3) up to the frame number.
fn slice_head(slice_type: u32, frame_num: u32) -> Bits {
    let mut b = Bits::default();
    b.ue(0); // first_mb_in_slice
    b.ue(slice_type);
    b.ue(0); // pic_parameter_set_id
    b.bits(frame_num, FRAME_NUM_BITS);
    b
}

/// Its end.
fn slice_end(b: &mut Bits) {
    b.ue(0); // slice_qp_delta
    b.ue(1); // no deblocking
}

/// Writes bits, most significant first.
#[derive(Default)]
struct Bits {
    bytes: Vec<u8>,
    /// Bits of an unfinished byte, and how many.
    rest: u8,
    count: u32,
}

impl Bits {
    /// The low `count` bits of `value`.
    fn bits(&mut self, value: u32, count: u32) {
        for i in (0..count).rev() {
            self.rest = self.rest << 1 | (value >> i & 1) as u8;
            self.count += 1;
            if self.count == 8 {
                self.bytes.push(self.rest);
                self.count = 0;
            }
        }
    }

    /// Exp-Golomb (9.1).
    fn ue(&mut self, value: u32) {
        let code = value + 1;
        let len = 32 - code.leading_zeros();
        self.bits(0, len - 1);
        self.bits(code, len);
    }

    /// Zeros up to the next byte.
    fn align(&mut self) {
        while self.count != 0 {
            self.bits(0, 1);
        }
    }

    /// The bytes, behind a one and zeros (7.3.2.11).
    fn trailing(mut self) -> Vec<u8> {
        self.bits(1, 1);
        self.align();
        self.bytes
    }
}

/// Appends a NAL unit behind its start code, with emulation prevention (7.4.1).
fn nal(head: u8, payload: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&[0, 0, 0, 1, head]);
    let mut zeros = 0;
    for byte in payload {
        if zeros >= 2 && *byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        out.push(*byte);
        zeros = if *byte == 0 { zeros + 1 } else { 0 };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_golomb_codes_are_those_of_the_standard() {
        let mut b = Bits::default();
        for value in [0, 1, 2, 3] {
            b.ue(value);
        }
        // 1 010 011 00100, then the trailing one.
        assert_eq!(b.trailing(), [0b1010_0110, 0b0100_1000]);
    }

    #[test]
    fn zeros_do_not_look_like_a_start_code() {
        let mut out = Vec::new();
        nal(NAL_SPS, &[0, 0, 1, 0, 0, 0], &mut out);
        assert_eq!(out[5..], [0, 0, 3, 1, 0, 0, 3, 0]);
    }
}
