//! The vector and matrix instructions of this processor.

use std::sync::OnceLock;

use super::amx;
use crate::error::say;

/// The environment variable that forbids the instructions above a level, to try the kernels of lesser processors.
pub const LIMIT: &str = "FT_INSTRUCTIONS";

/// Which instructions may be used; each level has those of the ones before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// What every processor of this target has.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VL.
    Avx512,
    /// Dot products of bfloat16 pairs.
    Avx512Bf16,
    /// Products of bfloat16 matrices.
    Amx,
}

impl Level {
    pub const ALL: [Self; 5] = [Self::Portable, Self::Avx2, Self::Avx512, Self::Avx512Bf16, Self::Amx];

    /// The best level of this processor that `FT_INSTRUCTIONS` allows.
    pub fn detect() -> Self {
        static LEVEL: OnceLock<Level> = OnceLock::new();
        *LEVEL.get_or_init(|| {
            let limit = std::env::var(LIMIT).ok().and_then(|name| {
                let known = Self::ALL.into_iter().find(|level| level.name() == name);
                if known.is_none() {
                    let names = Self::ALL.map(Self::name).join(", ");
                    say(&format!("warning: {LIMIT}={name} is none of {names}; nothing is forbidden"));
                }
                known
            });
            Self::ALL
                .into_iter()
                .rev()
                .find(|&l| limit.is_none_or(|limit| l <= limit) && l.is_there())
                .unwrap_or(Self::Portable)
        })
    }

    /// Whether this processor, and its operating system, has the level's instructions.
    pub fn is_there(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        {
            macro_rules! all_of {
                ($($feature:tt),+) => { $(std::arch::is_x86_feature_detected!($feature))&&+ };
            }
            let avx512 = || all_of!("avx512f", "avx512bw", "avx512dq", "avx512vl");
            match self {
                Self::Portable => true,
                Self::Avx2 => all_of!("avx2", "fma"),
                Self::Avx512 => avx512(),
                Self::Avx512Bf16 => avx512() && all_of!("avx512bf16"),
                Self::Amx => avx512() && all_of!("avx512bf16") && amx::is_there(),
            }
        }
        #[cfg(not(target_arch = "x86_64"))]
        {
            self == Self::Portable
        }
    }

    /// `portable`, `avx2`, `avx512`, `avx512bf16` or `amx`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Portable => "portable",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
            Self::Avx512Bf16 => "avx512bf16",
            Self::Amx => "amx",
        }
    }
}

/// Runs `body` compiled for the best instructions of this processor. It must be an always inlined closure
/// (`#[inline(always)] || ..`), since what is not inlined is compiled for every processor. The compiler never fuses or reorders floating
/// point operations by itself, so the results are the same at every level.
#[inline(always)]
pub fn vectorised<R>(body: impl FnOnce() -> R) -> R {
    match Level::detect() {
        Level::Portable => body(),
        // SAFETY: the processor has these instructions, as detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => unsafe { with_avx2(body) },
        // SAFETY: the processor has these instructions, as detected.
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 | Level::Avx512Bf16 | Level::Amx => unsafe { with_avx512(body) },
        #[cfg(not(target_arch = "x86_64"))]
        _ => body(),
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn with_avx2<R>(body: impl FnOnce() -> R) -> R {
    body()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
fn with_avx512<R>(body: impl FnOnce() -> R) -> R {
    body()
}
