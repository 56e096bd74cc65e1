//! How loud a packet is, for finding who speaks.

use super::Sample;

/// The level in -dBov: 0 is the loudest, 127 silence (RFC 6464 §3).
pub(super) fn level(samples: &[Sample]) -> u8 {
    let values = samples.as_flattened();
    let energy: f64 = values
        .iter()
        .map(|value| f64::from(*value) * f64::from(*value))
        .sum();
    let power = energy / (values.len().max(1) as f64);
    if power.is_nan() || power <= 1e-13 {
        return SILENCE;
    }
    let level = (-10.0 * power.log10()).round();
    (0..=SILENCE)
        .rev()
        .find(|dbov| f64::from(*dbov) <= level)
        .unwrap_or(0)
}

const SILENCE: u8 = 127;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_square_wave_at_full_scale_is_0_and_silence_127() {
        assert_eq!(level(&[[1.0, -1.0]; 960]), 0);
        assert_eq!(level(&[[0.1, -0.1]; 960]), 20);
        assert_eq!(level(&[[0.0; 2]; 960]), 127);
        assert_eq!(level(&[]), 127);
        assert_eq!(level(&[[f32::NAN; 2]; 960]), 127);
    }
}
