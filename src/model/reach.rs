//! Which addresses a platform may be at.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where a platform may be. A name that leads into the own network would carry a key, and files, to somebody who has no
/// business with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// On the public network.
    #[default]
    Public,
    /// On this machine, such as the simulator.
    ThisMachine,
    /// In the own network, too; but never where clouds keep their credentials.
    Private,
}

impl Reach {
    pub fn allows(self, address: IpAddr) -> bool {
        let address = plain(address);
        match self {
            Reach::Public => is_public(address),
            Reach::ThisMachine => address.is_loopback(),
            Reach::Private => is_public(address) || address.is_loopback() || is_private(address),
        }
    }
}

/// An IPv6 address that stands for an IPv4 one is that one: mapped, translated (NAT64) or tunnelled (6to4).
fn plain(address: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = address else { return address };
    let octets = v6.octets();
    let four = |at: usize| Ipv4Addr::new(octets[at], octets[at + 1], octets[at + 2], octets[at + 3]).into();
    match v6.segments() {
        [0, 0, 0, 0, 0, 0 | 0xffff, ..] if !v6.is_loopback() && !v6.is_unspecified() => four(12),
        [0x64, 0xff9b, ..] => four(12),
        [0x2002, ..] => four(2),
        _ => address,
    }
}

fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_private() || is_shared(v4),
        IpAddr::V6(v6) => v6.is_unique_local() && v6 != EC2_METADATA,
    }
}

/// Between a carrier and its customers (RFC 6598).
fn is_shared(v4: Ipv4Addr) -> bool {
    let [first, second, ..] = v4.octets();
    first == 100 && second & 0xc0 == 64
}

const EC2_METADATA: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x0ec2, 0, 0, 0, 0, 0, 0x254);

fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [first, second, third, _] = v4.octets();
            let is_set_apart = first == 0
                || first >= 224
                || (first, second, third) == (192, 0, 0)
                || (first == 198 && second & 0xfe == 18);
            !(is_set_apart
                || v4.is_loopback()
                || v4.is_private()
                || v4.is_link_local()
                || v4.is_documentation()
                || is_shared(v4))
        }
        // Global unicast, without documentation, benchmarking and the like (2001:0::/23) and 3fff::/20.
        IpAddr::V6(v6) => match v6.segments() {
            [0x2001, second, ..] => second >= 0x200 && second != 0xdb8,
            [0x3fff, second, ..] => second >= 0x1000,
            [first, ..] => first & 0xe000 == 0x2000,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_is_where_it_may_be_and_nowhere_else() {
        use Reach::{Private, Public, ThisMachine};
        for (addresses, reaches) in [
            ("1.1.1.1 8.8.8.8 172.32.0.1 100.128.0.1 2606:4700::1111 2a00::1 64:ff9b::808:808", &[Public, Private][..]),
            ("127.0.0.1 127.255.0.9 ::1 ::ffff:127.0.0.1", &[ThisMachine, Private]),
            ("10.0.0.1 172.16.0.1 192.168.1.1 100.64.0.1 fc00::1 ::ffff:10.0.0.1 64:ff9b::a00:1", &[Private]),
            ("169.254.169.254 169.254.0.1 fe80::1 fd00:ec2::254 ::ffff:169.254.169.254 2002:a9fe:a9fe::1", &[]),
            ("0.0.0.0 :: 255.255.255.255 224.0.0.1 240.0.0.1 192.0.2.1 198.18.0.1 192.0.0.8 ff02::1", &[]),
            ("2001:db8::1 2001::1 3fff::1 ::169.254.169.254 2002:7f00:1::", &[]),
        ] {
            for address in addresses.split(' ') {
                let parsed: IpAddr = address.parse().unwrap();
                for reach in [Public, ThisMachine, Private] {
                    let is_tunnelled_loopback = address == "2002:7f00:1::" && reach != Public;
                    let expected = reaches.contains(&reach) || is_tunnelled_loopback;
                    assert_eq!(reach.allows(parsed), expected, "{address} {reach:?}");
                }
            }
        }
    }
}
