//! Random numbers and ids that follow from the seed.

use super::clock::{Micros, seconds};
use super::profile::Profile;
use super::settings::IdStyle;

/// SplitMix64: small, fast, and the same everywhere.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Random(seed ^ 0x9e37_79b9_7f4a_7c15)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly spread over [0, 1).
    pub(super) fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(super) fn letters(&mut self, alphabet: &[u8], count: usize) -> String {
        (0..count).map(|_| alphabet[(self.next() % alphabet.len() as u64) as usize] as char).collect()
    }

    pub(super) fn hex(&mut self, count: usize) -> String {
        self.letters(b"0123456789abcdef", count)
    }

    pub(super) fn uuid(&mut self) -> String {
        format!("{}-{}-4{}-a{}-{}", self.hex(8), self.hex(4), self.hex(3), self.hex(3), self.hex(12))
    }
}

const CROCKFORD: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// A new file's id (platform_api.md §1A.6, §1B.6).
pub(super) fn file_id(random: &mut Random, profile: Profile, style: IdStyle, purpose: &str, now: Micros) -> String {
    match (profile.rules(), purpose) {
        (Profile::Moonshot, _) if style == IdStyle::Xid20 => random.letters(b"0123456789abcdefghijklmnopqrstuv", 20),
        (Profile::Moonshot, _) => format!("file_{}{}", ulid_time(now), random.letters(CROCKFORD, 16)),
        (Profile::ZhipuCn, "batch") => format!("{}_{}", day(now), random.uuid()),
        _ => format!("{purpose}_{}_{}", seconds(now), random.hex(32)),
    }
}

fn ulid_time(now: Micros) -> String {
    let millis = (now / 1_000).max(0) as u64;
    (0..10).rev().map(|digit| CROCKFORD[(millis >> (5 * digit)) as usize & 31] as char).collect()
}

fn day(now: Micros) -> String {
    let text = super::clock::rfc3339(now);
    text.get(..10).unwrap_or("19700101").replace('-', "")
}
