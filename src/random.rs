//! Random numbers as a function of what they are for: (seed, epoch, sample, …), never of a device, a thread or an order.

/// The output function of SplitMix64 (Steele, Lea and Flood, 2014).
pub fn splitmix64(z: u64) -> u64 {
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// A key that depends on both arguments and their order.
pub fn mix(key: u64, value: u64) -> u64 {
    splitmix64(
        splitmix64(key.wrapping_add(0x9e37_79b9_7f4a_7c15)) ^ value.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15),
    )
}

/// A key for a name: 64-bit FNV-1a.
pub fn hash_name(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// The `index`-th number of the stream `key`, uniform in [0, 1), a multiple of 2⁻²⁴.
pub fn uniform(key: u64, index: u64) -> f32 {
    (mix(key, index) >> 40) as f32 / (1u32 << 24) as f32
}

/// The `index`-th number of the stream `key` with mean 0 and variance 1 (Box and Muller, 1958).
pub fn standard_normal(key: u64, index: u64) -> f64 {
    // 1 - u is above 0, so that the logarithm is finite.
    let radius = (-2.0 * (1.0 - f64::from(uniform(key, 2 * index))).ln()).sqrt();
    radius * (std::f64::consts::TAU * f64::from(uniform(key, 2 * index + 1))).cos()
}

/// The numbers of a key, one after the other.
#[derive(Clone, Debug)]
pub struct Stream {
    key: u64,
    next: u64,
}

impl Stream {
    /// From its beginning.
    pub fn new(key: u64) -> Self {
        Self { key, next: 0 }
    }

    /// 64 random bits.
    pub fn bits(&mut self) -> u64 {
        let bits = mix(self.key, self.next);
        self.next += 1;
        bits
    }

    /// Uniform in [0, 1), as [`uniform`].
    pub fn unit(&mut self) -> f32 {
        let value = uniform(self.key, self.next);
        self.next += 1;
        value
    }

    /// Uniform in `0..count`; 0 if there is nothing to choose from.
    pub fn below(&mut self, count: u64) -> u64 {
        // The high half of the product is uniform on 0..count, up to 1 part in 2^64 / count.
        ((u128::from(self.bits()) * u128::from(count)) >> 64) as u64
    }
}
