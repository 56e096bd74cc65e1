use proptest::prelude::*;

use super::*;

/// Writes fields of bits as the specification lists them.
#[derive(Default)]
struct TestWriter {
    bits: Vec<bool>,
}

impl TestWriter {
    fn put(&mut self, width: u32, value: u32) -> &mut Self {
        self.bits
            .extend((0..width).rev().map(|bit| value >> bit & 1 == 1));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let byte = |bits: &[bool]| {
            bits.iter()
                .enumerate()
                .fold(0, |byte, (at, &bit)| byte | u8::from(bit) << (7 - at))
        };
        self.bits.chunks(8).map(byte).collect()
    }
}

/// L2T2 in small: templates S0T0, S0T1, S1T0, S1T1; targets in the order of their layers, T1 of
/// each may be switched to; one chain; sizes 320x180 and 640x360.
pub(crate) fn keyframe(template: u32, frame_number: u32) -> Vec<u8> {
    let mut bits = TestWriter::default();
    bits.put(1, 1)
        .put(1, 0)
        .put(6, template)
        .put(16, frame_number);
    bits.put(5, 0b11000); // structure, active decode targets
    bits.put(6, 60).put(5, 3); // template ids from 60, four targets
    bits.put(2, 1).put(2, 2).put(2, 1).put(2, 3);
    for indications in [[2, 2, 2, 2], [0, 2, 0, 2], [0, 0, 2, 2], [0, 0, 0, 2]] {
        for indication in indications {
            bits.put(2, indication);
        }
    }
    for differences in [&[][..], &[1], &[1], &[1, 2]] {
        for &difference in differences {
            bits.put(1, 1).put(4, difference - 1);
        }
        bits.put(1, 0);
    }
    bits.put(2, 1); // one chain of at most four: ns(5)
    // every target is protected by chain 0 of 1, ns(1) takes no bits
    for _template in 0..4 {
        bits.put(4, 0);
    }
    bits.put(1, 1)
        .put(16, 319)
        .put(16, 179)
        .put(16, 639)
        .put(16, 359);
    bits.put(4, 0b0011); // active decode targets
    bits.bytes()
}

fn structure() -> Structure {
    parse(&keyframe(60, 7), None).unwrap().structure.unwrap()
}

#[test]
fn reads_a_keyframe_with_its_structure() {
    let parsed = parse(&keyframe(60, 7), None).unwrap();
    let mandatory = Mandatory {
        frame_start: true,
        frame_end: false,
        template_id: 60,
        frame_number: 7,
    };
    assert_eq!(parsed.mandatory, mandatory);
    assert_eq!(
        (parsed.spatial, parsed.temporal, parsed.switch),
        (0, 0, true)
    );
    assert!(parsed.opens_higher);
    assert_eq!(parsed.active_targets, Some(0b0011));
    let structure = parsed.structure.unwrap();
    assert_eq!(structure.size, Some((640, 360)));
    let within = |active, spatial, temporal| {
        let targets = structure.targets_within(active, spatial, temporal);
        (targets.count, targets.active, targets.is_limited)
    };
    assert_eq!(within(0b1111, 0, 0), (4, 0b0001, true));
    assert_eq!(within(0b1111, 0, 1), (4, 0b0011, true));
    assert_eq!(within(0b1111, 1, 0), (4, 0b0101, true));
    assert_eq!(within(0b1111, 9, 9), (4, 0b1111, false));
    assert_eq!(within(0b0011, 0, 1), (4, 0b0011, false));
}

#[test]
fn later_descriptors_refer_to_the_stored_structure() {
    let structure = structure();
    let short = [0x80 | 63, 0x00, 0x08];
    let parsed = parse(&short, Some(&structure)).unwrap();
    assert_eq!(
        (parsed.spatial, parsed.temporal, parsed.switch),
        (1, 1, true)
    );
    assert!(!parsed.opens_higher);
    // Template ids wrap at 64; this structure ends at 63, and 0 is not one of it.
    assert_eq!(parse(&[0x80, 0, 8], Some(&structure)), None);
    assert_eq!(parse(&short, None), None);
    // Custom indications: a frame all targets need, so none can begin with it.
    let mut bits = TestWriter::default();
    bits.put(8, 0x80 | 61)
        .put(16, 9)
        .put(5, 0b00100)
        .put(8, 0b1111_1111);
    let parsed = parse(&bits.bytes(), Some(&structure)).unwrap();
    assert_eq!(
        (parsed.spatial, parsed.temporal, parsed.switch),
        (0, 1, false)
    );
    let mut bits = TestWriter::default();
    bits.put(8, 0x80 | 60)
        .put(16, 9)
        .put(5, 0b01000)
        .put(4, 0b0101);
    assert_eq!(
        parse(&bits.bytes(), Some(&structure))
            .unwrap()
            .active_targets,
        Some(0b0101)
    );
}

#[test]
fn a_descriptor_cut_short_is_refused() {
    let whole = keyframe(60, 7);
    assert!(whole.len() <= DESCRIPTOR_BYTES_MAX);
    for length in 0..whole.len() {
        assert_eq!(parse(&whole[..length], None), None, "{length}");
    }
}

#[test]
fn says_layers_to_the_payload_descriptor() {
    let mut descriptor = Descriptor {
        keyframe: true,
        ..Descriptor::default()
    };
    parse(&keyframe(60, 7), None)
        .unwrap()
        .apply(&mut descriptor);
    assert!(descriptor.keyframe && descriptor.frame_start && descriptor.sync);
    assert_eq!(descriptor.size, Some((640, 360)));
    parse(&[0x40 | 62, 0, 8], Some(&structure()))
        .unwrap()
        .apply(&mut descriptor);
    assert!(!descriptor.keyframe && !descriptor.frame_start && descriptor.frame_end);
    assert_eq!((descriptor.spatial, descriptor.temporal), (1, 0));
}

#[test]
fn rewrites_the_frame_number_in_place() {
    let mut descriptor = keyframe(60, 7);
    assert!(rewrite_frame_number(&mut descriptor, 0xabcd));
    assert_eq!(descriptor, keyframe(60, 0xabcd));
    assert!(!rewrite_frame_number(&mut [0, 1], 1));
}

fn targets(active: u32) -> Targets {
    Targets {
        count: 4,
        active,
        is_limited: true,
    }
}

#[test]
fn rewrites_the_active_decode_targets() {
    let structure = structure();
    let rewritten = |extension: &[u8], active| {
        let mut out = [0xff; 70];
        let length = rewrite_active_targets(extension, targets(active), &mut out).unwrap();
        parse(&out[..length], Some(&structure)).unwrap()
    };
    let whole = keyframe(60, 7);
    let before = parse(&whole, None).unwrap();
    let expected = DependencyDescriptor {
        active_targets: Some(0b0101),
        ..before
    };
    assert_eq!(rewritten(&whole, 0b0101), expected);
    let short = [0x80 | 63, 0x00, 0x08];
    let before = parse(&short, Some(&structure)).unwrap();
    let expected = DependencyDescriptor {
        active_targets: Some(0b0001),
        ..before
    };
    assert_eq!(rewritten(&short, 0b0001), expected);
    // Custom indications stay behind the new field.
    let mut bits = TestWriter::default();
    bits.put(8, 0x80 | 61)
        .put(16, 9)
        .put(5, 0b00100)
        .put(8, 0b1111_1111);
    let after = rewritten(&bits.bytes(), 0b0011);
    assert_eq!((after.active_targets, after.switch), (Some(0b0011), false));
    assert_eq!(
        rewrite_active_targets(&short, targets(1), &mut [0; 4]),
        None
    );
    assert_eq!(
        rewrite_active_targets(&short[..2], targets(1), &mut [0; 70]),
        None
    );
    let others = Targets {
        count: 5,
        ..targets(1)
    };
    assert_eq!(rewrite_active_targets(&whole, others, &mut [0; 70]), None);
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        let structure = structure();
        for length in 0..=bytes.len() {
            let _ = parse(&bytes[..length], None);
            let _ = parse(&bytes[..length], Some(&structure));
            let _ = rewrite_active_targets(&bytes[..length], targets(1), &mut [0; 70]);
        }
    }

    #[test]
    fn no_damaged_structure_makes_it_panic(at in 0usize..40, byte: u8) {
        let mut bytes = keyframe(60, 7);
        let at = at % bytes.len();
        bytes[at] = byte;
        if let Some(parsed) = parse(&bytes, None)
            && let Some(structure) = parsed.structure
        {
            let _ = structure.targets_within(1, 1, 1);
            let _ = parse(&[0x80, 0, 8], Some(&structure));
        }
    }
}
