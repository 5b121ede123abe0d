//! Numbers that are the same in each run.

/// A sequence (xorshift64*; Vigna, "An experimental exploration of Marsaglia's xorshift generators, scrambled", 2014).
#[derive(Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of a seed, which isn't 0.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The `n`th sequence of a seed.
    pub fn nth(seed: u64, n: u64) -> Random {
        Random(seed.wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1)
    }

    /// The next number, below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) % limit
    }
}
