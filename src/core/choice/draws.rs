//! Chance that comes in as an argument: the same seed, the same draws.

use std::f64::consts::TAU;

/// A stream of draws from a seed (splitmix64). Not for secrets.
#[derive(Clone, Debug)]
pub struct Draws(u64);

impl Draws {
    /// The stream of a seed. A claim's nonce is a good one: fresh for every
    /// attempt, and on record.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// Uniform in [0, 1).
    pub fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^= bits >> 31;
        (bits >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Normal with mean 0 and deviation 1 (Box-Muller); always finite.
    pub fn normal(&mut self) -> f64 {
        // 1 − u is in (0, 1]: its logarithm is finite.
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (TAU * self.uniform()).cos()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_repeat_and_have_the_shape_they_say() {
        let mut draws = Draws::seeded(7);
        let mut again = draws.clone();
        let (mut sum, mut squares, mut uniforms) = (0.0, 0.0, 0.0);
        let count = 20_000;
        for _ in 0..count {
            let normal = draws.normal();
            assert_eq!(normal.to_bits(), again.normal().to_bits());
            sum += normal;
            squares += normal * normal;
            let uniform = draws.uniform();
            assert!((0.0..1.0).contains(&uniform));
            assert_eq!(uniform.to_bits(), again.uniform().to_bits());
            uniforms += uniform;
        }
        let count = f64::from(count);
        assert!((sum / count).abs() < 0.03 && (squares / count - 1.0).abs() < 0.05);
        assert!((uniforms / count - 0.5).abs() < 0.01);
    }
}
