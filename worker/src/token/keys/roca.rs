//! RSA keys that were made by a known weak generator.
//!
//! Infineon's library made primes of the form `k · M + (65537^a mod M)`, M the product
//! of the first small primes; such a key can be factored (CVE-2017-15361, "ROCA"). The
//! modulus shows it: it is a power of 65537 modulo each prime of M, which any other
//! modulus is by chance once in 2^27.
//!
//! Source: Nemec and others, The Return of Coppersmith's Attack, CCS 2017, §4.

/// The primes up to 167, of which M is the product for the shortest keys, without 2, which tells nothing.
const PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// The generator of the primes.
const GENERATOR: u32 = 65_537;

/// Whether a modulus, big endian, has the fingerprint of that library.
pub(in crate::token) fn has_fingerprint(modulus: &[u8]) -> bool {
    PRIMES
        .into_iter()
        .all(|prime| is_power_of_the_generator(remainder(modulus, prime), prime))
}

fn remainder(modulus: &[u8], prime: u32) -> u32 {
    modulus
        .iter()
        .fold(0, |rest, byte| (rest * 256 + u32::from(*byte)) % prime)
}

fn is_power_of_the_generator(value: u32, prime: u32) -> bool {
    std::iter::successors(Some(1), |power| Some(power * (GENERATOR % prime) % prime))
        .take(prime as usize)
        .any(|power| power == value)
}

#[cfg(test)]
pub(in crate::token) mod tests {
    use super::*;

    /// 65537 to the power of `exponent`, big endian: such a product of two primes has the fingerprint, whatever the primes.
    pub(crate) fn power(exponent: usize) -> Vec<u8> {
        let mut digits = vec![1_u8];
        for _ in 0..exponent {
            // 65537 is 2^16 + 1.
            let shifted = [&digits[..], &[0, 0]].concat();
            let padded = [&[0, 0], &digits[..]].concat();
            let mut carry = 0_u16;
            let mut sum: Vec<u8> = shifted
                .iter()
                .zip(&padded)
                .rev()
                .map(|(a, b)| {
                    let digit = u16::from(*a) + u16::from(*b) + carry;
                    carry = digit >> 8;
                    digit.to_be_bytes()[1]
                })
                .collect();
            if carry > 0 {
                sum.push(1);
            }
            sum.reverse();
            digits = sum;
        }
        digits
    }

    #[test]
    fn powers_of_the_generator_have_it_and_their_neighbours_do_not() {
        for exponent in [1, 128, 200] {
            let weak = power(exponent);
            assert!(has_fingerprint(&weak), "{exponent}");
            let mut next = weak;
            *next.last_mut().unwrap() ^= 2;
            assert!(!has_fingerprint(&next), "{exponent}");
        }
        assert_eq!(power(2), [1, 0, 2, 0, 1]);
    }

    proptest::proptest! {
        #[test]
        fn a_modulus_by_chance_does_not_have_it(modulus in proptest::collection::vec(proptest::num::u8::ANY, 256)) {
            proptest::prop_assert!(!has_fingerprint(&modulus));
        }
    }
}
