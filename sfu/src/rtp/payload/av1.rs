//! The AV1 aggregation header (AOMedia, "RTP Payload Format For AV1", §4.4).

use super::Descriptor;

/// Reads the aggregation header of one AV1 packet.
///
/// Layers are not in it; they come from the dependency descriptor where it is negotiated.
pub(super) fn describe(payload: &[u8], marker: bool) -> Option<Descriptor> {
    let (&header, rest) = payload.split_first()?;
    let continues = header & 0x80 != 0;
    let new_sequence = header & 0x08 != 0;
    // N must not be set on a packet that continues an OBU, and an empty packet carries nothing.
    if rest.is_empty() || (continues && new_sequence) {
        return None;
    }
    Some(Descriptor {
        keyframe: new_sequence,
        frame_start: !continues,
        frame_end: marker,
        ..Descriptor::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_coded_video_sequence_is_a_keyframe() {
        let first = describe(&[0x18, 0x0a, 0x0b], false).unwrap();
        assert!(first.keyframe && first.frame_start && !first.frame_end);
        let middle = describe(&[0xd0, 1], false).unwrap();
        assert!(!middle.keyframe && !middle.frame_start);
        assert!(describe(&[0x90, 1], true).unwrap().frame_end);
        assert_eq!(describe(&[0x98, 1], false), None);
        assert_eq!(describe(&[0x18], false), None);
    }
}
