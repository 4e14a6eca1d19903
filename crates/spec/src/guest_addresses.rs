//! How many address bits a guest is told of. The machine tells it, and the planner counts on it.

/// Address bits whose end is the end of HyperTransport's range.
const HYPER_TRANSPORT_BITS: u8 = 40;
/// AMD, and Hygon, whose processors are AMD's.
const AMD_VENDORS: [&str; 2] = ["AuthenticAMD", "HygonGenuine"];

/// Returns the bits of a guest-physical address on a processor of `vendor` (as CPUID spells it) that has `bits`.
///
/// SeaBIOS puts large BARs at the very end of the addresses. With 40 bits that is the range below 1 TiB which AMD's
/// processors and IOMMUs keep for HyperTransport (AMD I/O Virtualization Technology specification, section 2.1.2), so a guest
/// there is told of one bit less.
pub fn guest_address_bits(vendor: &str, bits: u8) -> u8 {
    if AMD_VENDORS.contains(&vendor) && bits == HYPER_TRANSPORT_BITS { bits - 1 } else { bits }
}

#[cfg(test)]
mod tests {
    use super::guest_address_bits;

    #[test]
    fn a_guest_on_amd_is_not_told_of_addresses_that_end_in_hyper_transport_s() {
        for (vendor, bits, told) in [
            ("AuthenticAMD", 40, 39),
            ("HygonGenuine", 40, 39),
            ("AuthenticAMD", 39, 39),
            ("AuthenticAMD", 43, 43),
            ("GenuineIntel", 40, 40),
            ("", 40, 40),
        ] {
            assert_eq!(guest_address_bits(vendor, bits), told, "{vendor} {bits}");
        }
    }
}
