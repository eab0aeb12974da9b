//! Public addresses: those that neither this machine nor a network of its own has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Blocks of IPv4 for special purposes (IANA's registry of RFC 6890, and multicast), as address and length of the prefix.
const SPECIAL_V4: [(u32, u32); 17] = [
    (v4(0, 0, 0, 0), 8),
    (v4(10, 0, 0, 0), 8),
    (v4(100, 64, 0, 0), 10),
    (v4(127, 0, 0, 0), 8),
    (v4(169, 254, 0, 0), 16),
    (v4(172, 16, 0, 0), 12),
    (v4(192, 0, 0, 0), 24),
    (v4(192, 0, 2, 0), 24),
    (v4(192, 31, 196, 0), 24),
    (v4(192, 52, 193, 0), 24),
    (v4(192, 88, 99, 0), 24),
    (v4(192, 168, 0, 0), 16),
    (v4(192, 175, 48, 0), 24),
    (v4(198, 18, 0, 0), 15),
    (v4(198, 51, 100, 0), 24),
    (v4(203, 0, 113, 0), 24),
    // Multicast, reserved addresses and broadcast.
    (v4(224, 0, 0, 0), 3),
];

/// Blocks for special purposes among the global unicast addresses of IPv6 (RFC 6890). Among them are 6to4 and Teredo, which lead
/// to any address of IPv4.
const SPECIAL_V6: [(u128, u32); 6] = [
    // Teredo, benchmarks, ORCHID and other assignments of the IETF.
    (v6([0x2001, 0, 0, 0, 0, 0, 0, 0]), 23),
    (v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0]), 32),
    (v6([0x2002, 0, 0, 0, 0, 0, 0, 0]), 16),
    (v6([0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0]), 48),
    (v6([0x3ffe, 0, 0, 0, 0, 0, 0, 0]), 16),
    (v6([0x3fff, 0, 0, 0, 0, 0, 0, 0]), 20),
];

/// All that is global unicast (RFC 4291, as IANA assigns it).
const GLOBAL_V6: (u128, u32) = (v6([0x2000, 0, 0, 0, 0, 0, 0, 0]), 3);
/// Addresses of IPv4 behind a translator (NAT64, RFC 6052).
const NAT64: (u128, u32) = (v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0]), 96);

const fn v4(a: u8, b: u8, c: u8, d: u8) -> u32 {
    u32::from_be_bytes([a, b, c, d])
}

const fn v6(segments: [u16; 8]) -> u128 {
    let [a, b, c, d, e, f, g, h] = segments;
    Ipv6Addr::new(a, b, c, d, e, f, g, h).to_bits()
}

/// True for an address of the public internet. An address of IPv4 in a form of IPv6 (mapped, NAT64) is what it is in IPv4; forms
/// that are out of use (compatible, 6to4, Teredo) are not public, whatever they hold.
#[must_use]
pub fn is_public(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let bits = address.to_bits();
    SPECIAL_V4
        .iter()
        .all(|(block, length)| (bits ^ block).leading_zeros() < *length)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let bits = address.to_bits();
    let within = |(block, length): (u128, u32)| (bits ^ block).leading_zeros() >= length;
    if within(NAT64) {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    // Interface identifiers of ISATAP (RFC 5214) hold an address of IPv4, to which a router may lead.
    let [_, _, _, _, a, b, _, _] = address.segments();
    let is_isatap = matches!(a, 0 | 0x200) && b == 0x5efe;
    within(GLOBAL_V6) && !is_isatap && !SPECIAL_V6.into_iter().any(within)
}
