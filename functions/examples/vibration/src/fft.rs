//! The spectrum of real samples: a Hann window, and a Fourier transform of radix 2.

use alloc::vec::Vec;
use core::f64::consts::{FRAC_PI_2, PI};
use tidegate_guest::decimal::sqrt;

/// A complex number.
#[derive(Debug, Clone, Copy, Default)]
struct Complex {
    re: f64,
    im: f64,
}

/// Amplitudes of the lines from 0 to half of the rate, and the length of the transform: the
/// largest power of two that is in the samples; what is behind it does not count.
pub(crate) fn amplitudes(samples: &[f64], mean: f64) -> (Vec<f64>, usize) {
    let length = 1 << samples.len().max(2).ilog2();
    // A quarter of a wave as a table, so that each sine is exact to the last digits.
    let quarter: Vec<f64> =
        (0..=length / 4).map(|at| sine(at as f64 * 2.0 * PI / length as f64)).collect();
    let wave = Wave { quarter, length };
    let mut data: Vec<Complex> = Vec::with_capacity(length);
    for (at, sample) in samples.iter().take(length).enumerate() {
        let hann = 0.5 - 0.5 * wave.cosine(at);
        data.push(Complex { re: (sample - mean) * hann, im: 0.0 });
    }
    transform(&mut data, &wave);
    // Half of the energy is in the mirrored lines, and half was taken by the window.
    let scale = 4.0 / length as f64;
    let size = |line: &Complex| sqrt(line.re * line.re + line.im * line.im) * scale;
    (data.iter().take(length / 2 + 1).map(size).collect(), length)
}

/// Sines and cosines of whole steps of a circle.
struct Wave {
    quarter: Vec<f64>,
    length: usize,
}

impl Wave {
    /// The sine at `step / length` of the circle.
    fn sine(&self, step: usize) -> f64 {
        let (quarter, half) = (self.length / 4, self.length / 2);
        let step = step % self.length;
        let (sign, step) = if step >= half { (-1.0, step - half) } else { (1.0, step) };
        let step = if step > quarter { half - step } else { step };
        sign * self.quarter.get(step).copied().unwrap_or(0.0)
    }

    fn cosine(&self, step: usize) -> f64 {
        self.sine(step + self.length / 4)
    }
}

/// Cooley and Tukey's transform, in place.
fn transform(data: &mut [Complex], wave: &Wave) {
    let length = data.len();
    let bits = length.trailing_zeros();
    for at in 0..length {
        let mirrored = at.reverse_bits() >> (usize::BITS - bits);
        if at < mirrored {
            data.swap(at, mirrored);
        }
    }
    let mut size = 2;
    while size <= length {
        let step = length / size;
        for block in data.chunks_exact_mut(size) {
            let (low, high) = block.split_at_mut(size / 2);
            for (at, (a, b)) in low.iter_mut().zip(high).enumerate() {
                let (cos, sin) = (wave.cosine(at * step), -wave.sine(at * step));
                let turned = Complex { re: b.re * cos - b.im * sin, im: b.re * sin + b.im * cos };
                *b = Complex { re: a.re - turned.re, im: a.im - turned.im };
                *a = Complex { re: a.re + turned.re, im: a.im + turned.im };
            }
        }
        size *= 2;
    }
}

/// The sine of an angle from 0 to a quarter of the circle: its series, of which the terms from
/// the eleventh on are below the last digit.
fn sine(angle: f64) -> f64 {
    let square = angle.min(FRAC_PI_2) * angle.min(FRAC_PI_2);
    let mut term = angle.min(FRAC_PI_2);
    let mut sum = term;
    for n in 1..11 {
        let n = f64::from(2 * n);
        term *= -square / (n * (n + 1.0));
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sines_are_those_of_the_standard_library() {
        for step in 0..=1000 {
            let angle = f64::from(step) * FRAC_PI_2 / 1000.0;
            assert!((sine(angle) - angle.sin()).abs() < 4e-16, "{angle}");
        }
    }

    #[test]
    fn the_transform_is_the_sum_that_defines_it() {
        for length in [8_usize, 64, 256] {
            let samples: Vec<f64> = (0..length).map(|at| (at * at % 23) as f64 - 11.0).collect();
            let (found, size) = amplitudes(&samples, 0.5);
            assert_eq!((found.len(), size), (length / 2 + 1, length));
            for (line, amplitude) in found.iter().enumerate() {
                let (mut re, mut im) = (0.0, 0.0);
                for (at, sample) in samples.iter().enumerate() {
                    let angle = 2.0 * PI * at as f64 / length as f64;
                    let windowed = (sample - 0.5) * (0.5 - 0.5 * angle.cos());
                    re += windowed * (angle * line as f64).cos();
                    im -= windowed * (angle * line as f64).sin();
                }
                let expected = re.hypot(im) * 4.0 / length as f64;
                assert!((amplitude - expected).abs() < 1e-9, "{length} {line}");
            }
        }
    }

    #[test]
    fn what_is_behind_a_power_of_two_does_not_count() {
        let samples: Vec<f64> = (0..100).map(f64::from).collect();
        assert_eq!(amplitudes(&samples, 0.0), amplitudes(&samples[..64], 0.0));
    }
}
