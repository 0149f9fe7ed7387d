//! The ports that the kernel's program passes, with neighbours merged if there is no room for all.

use crate::door::knock::PacketRule;
use crate::filter::interest::{Interest, Interval};

/// The ports to pass, with their rule sets.
#[derive(Clone, Debug)]
pub struct PortPlan {
    /// TCP, UDP, ICMP, each ascending, not overlapping.
    pub intervals: Vec<Interval>,
    /// The rule sets that the intervals refer to.
    pub rules: Vec<Vec<PacketRule>>,
}

impl PortPlan {
    /// The exact ports of an interest.
    #[must_use]
    pub fn exact(interest: &Interest) -> PortPlan {
        let ports = interest.ports();
        PortPlan { intervals: ports.intervals().to_vec(), rules: ports.rules().to_vec() }
    }

    /// The widths of the gaps between intervals, the widest first.
    #[must_use]
    pub fn gaps(&self) -> Vec<u32> {
        let gaps = self.intervals.windows(2).filter_map(|pair| match pair {
            [a, b] if a.protocol == b.protocol => Some(u32::from(b.low) - u32::from(a.high)),
            _ => None,
        });
        let mut gaps: Vec<u32> = gaps.collect();
        gaps.sort_unstable_by(|a, b| b.cmp(a));
        gaps
    }

    /// At most `count` intervals (and one for each protocol), by closing the narrowest gaps.
    #[must_use]
    pub fn coarser(&self, gaps: &[u32], count: usize) -> PortPlan {
        // Wider gaps stay open; of those with exactly this width, as many as there is room for.
        let width = gaps.get(count.saturating_sub(1)).copied().unwrap_or(0);
        let mut room = count.saturating_sub(gaps.iter().filter(|&&gap| gap > width).count());
        let mut plan = PortPlan { intervals: Vec::new(), rules: self.rules.clone() };
        for &interval in &self.intervals {
            let joined = plan.intervals.last_mut().filter(|last| last.protocol == interval.protocol);
            let Some(last) = joined else {
                plan.intervals.push(interval);
                continue;
            };
            let gap = u32::from(interval.low) - u32::from(last.high);
            let stays_open = gap > width || (gap == width && room > 0);
            if stays_open {
                if gap == width {
                    room -= 1;
                }
                plan.intervals.push(interval);
            } else {
                last.high = interval.high;
                if last.rules != interval.rules {
                    let mut set: Vec<PacketRule> = [last.rules, interval.rules]
                        .into_iter()
                        .filter_map(|rules| plan.rules.get(rules))
                        .flatten()
                        .copied()
                        .collect();
                    set.sort_unstable();
                    set.dedup();
                    last.rules = plan.rules.iter().position(|known| *known == set).unwrap_or_else(|| {
                        plan.rules.push(set);
                        plan.rules.len() - 1
                    });
                }
            }
        }
        plan
    }
}
