//! Who is passed on, tick by tick.

use super::*;
use crate::audio::{Solo, Turn};

/// One packet of a tone.
fn plain() -> Vec<u8> {
    let frames = opus(&tone(440.0, 0.5, 0.0, 9_600), 0);
    frames[5].data.to_vec()
}

/// How often mixing began in ten minutes of a source whose clock is off by so much; each packet goes out at most once,
/// in order.
fn switches(ppm: i64) -> usize {
    let (mut solo, data) = (Solo::default(), plain());
    let (mut begun, mut passed) = (0, 0);
    let mut pushed = 0;
    for tick in 0..30_000_i64 {
        let tick_us = tick * 20_000;
        // All that has come 100 ms later.
        while pushed * (20_000_000_000 + 20_000 * ppm) / 1_000_000 <= tick_us + 100_000 {
            let at_us = pushed * (20_000_000_000 + 20_000 * ppm) / 1_000_000;
            solo.push(SourceId(1), packet(at_us, &data));
            pushed += 1;
        }
        match solo.turn(tick_us, tick_us - 6_500) {
            Turn::Pass(_) => passed += 1,
            Turn::Mix { begins } => begun += usize::from(begins),
        }
    }
    assert!(passed > 28_000, "{passed}");
    begun
}

#[test]
fn a_clock_that_drifts_is_followed_by_a_packet_at_a_time() {
    assert_eq!(switches(0), 0);
    // 120 ms in ten minutes; mixing puts it right by 20 to 40 ms at a time.
    for ppm in [200, -200] {
        assert!((2..=8).contains(&switches(ppm)), "{}", switches(ppm));
    }
}

#[test]
fn what_is_no_whole_tick_of_sound_is_mixed() {
    let long = opus::packet::get_nb_samples(&[0x7b, 2], 48_000);
    assert!(long.is_ok_and(|samples| samples > 960));
    for odd in [
        &[0x7b, 2][..],
        &[0xfc, 0xff, 0xfe],
        &[0xfc],
        &[0xff, 0xff, 1, 2, 3],
    ] {
        let mut solo = Solo::default();
        for tick in 0..500_i64 {
            let tick_us = tick * 20_000;
            solo.push(SourceId(1), packet(tick_us, odd));
            let turn = solo.turn(tick_us, tick_us);
            assert_eq!(turn, Turn::Mix { begins: false }, "{odd:?}");
        }
    }
}
