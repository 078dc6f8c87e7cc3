//! What a deployment costs, roughly. The prices were written down from memory and never compared with AWS's lists: they show
//! the order of magnitude, and say so wherever they are printed.

use crucial_runtime::lambda::{GB_SECOND, REQUEST};

use super::servers::ROOT;

/// What these prices are, in US dollars. Other regions cost up to twice as much.
const PRICES: &str =
    "prices of us-east-1 from memory, 2026-11-21, not AWS's list; without free tiers, taxes and traffic";
/// An hour of Linux on demand.
const INSTANCES: [(&str, f64); 16] = [
    ("t3.micro", 0.0104),
    ("t3.small", 0.0208),
    ("t3.medium", 0.0416),
    ("t3.large", 0.0832),
    ("t3.xlarge", 0.1664),
    ("t3a.small", 0.0188),
    ("t3a.medium", 0.0376),
    ("c6i.large", 0.085),
    ("c6i.xlarge", 0.17),
    ("c7i.large", 0.08925),
    ("m6i.large", 0.096),
    ("m6i.xlarge", 0.192),
    ("m7i.large", 0.1008),
    ("m7i.xlarge", 0.2016),
    ("r6i.large", 0.126),
    ("r7i.large", 0.1323),
];
/// A GiB of a gp3 volume for a month, which has 730 hours.
const VOLUME_MONTH: f64 = 0.08;
/// An hour of a public IPv4 address.
const ADDRESS: f64 = 0.005;

/// An estimate for people.
pub(super) fn estimate(
    servers: usize,
    instance_type: &str,
    volume: i32,
    private: bool,
    memory: i32,
) -> String {
    let disks = f64::from(volume + ROOT) * VOLUME_MONTH / 730.0;
    let rest = disks + if private { 0.0 } else { ADDRESS };
    let instance = INSTANCES.iter().find(|(name, _)| *name == instance_type).map(|(_, price)| price);
    let count = u32::try_from(servers).map_or(0.0, f64::from);
    let hour = match instance {
        Some(price) => format!("${:.4} an hour", count * (price + rest)),
        None => format!("${:.4} an hour and {servers} times the price of a {instance_type}", count * rest),
    };
    let threads = 1000.0 * f64::from(memory) / 1024.0 * GB_SECOND;
    format!(
        "estimate: {hour} for {servers} servers with their volumes; ${threads:.4} for 1,000 seconds of cloud threads, and \
         ${:.4} for 1,000 of them ({PRICES})",
        1000.0 * REQUEST
    )
}

#[cfg(test)]
mod tests {
    use super::estimate;

    #[test]
    fn the_estimate_is_the_sum_of_its_parts() {
        // 3 × (0.0208 + 16 × 0.08 / 730 + 0.005), and 1769 / 1024 × 1000 × 0.0000166667.
        let text = estimate(3, "t3.small", 8, false, 1769);
        assert!(
            text.contains("$0.0827 an hour for 3 servers") && text.contains("$0.0288 for 1,000 seconds"),
            "{text}"
        );
        assert!(text.starts_with("estimate: ") && text.contains("from memory, 2026-"), "{text}");
        let text = estimate(2, "x9.huge", 8, true, 1024);
        assert!(text.contains("$0.0035 an hour and 2 times the price of a x9.huge"), "{text}");
    }
}
