//! Ranges of ports that are moved as a whole.

/// A part of a range of ports, and the range that [`super::Rule::dnat_map_modulo`] moves it by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The ports that are moved: first and last.
    pub ports: (u16, u16),
    /// What the map says: `to.0 + port modulo (to.1 - to.0 + 1)` is where a port goes.
    pub to: (u16, u16),
}

impl Shift {
    /// Where a port goes, as the kernel counts.
    #[cfg(test)]
    fn port(&self, port: u32) -> u32 {
        let (first, last) = (u32::from(self.to.0), u32::from(self.to.1));
        first + port % (last - first + 1)
    }
}

/// Moves the ports `first` to `last` so that `first` becomes `target`, in as few parts as there must be: mostly one.
/// `None` when the range is empty, or the last one would be no port any more.
pub fn shifted(first: u16, last: u16, target: u16) -> Option<Vec<Shift>> {
    let count = last.checked_sub(first)?;
    target.checked_add(count)?;
    let mut shifts = Vec::new();
    let mut rest = Some(first);
    while let Some(start) = rest {
        let to = target + (start - first);
        let shift = longest(start, last, to)?;
        rest = shift.ports.1.checked_add(1).filter(|next| *next <= last);
        shifts.push(shift);
    }
    Some(shifts)
}

/// The part of `start` to `last` that one modulus moves right, as long as can be.
///
/// With modulus m, `start` lies k = start mod m behind the last wrap: the range must begin at `to - k`, may not reach
/// below 0 or above 65535, and is right up to the next wrap, m - k ports on.
fn longest(start: u16, last: u16, to: u16) -> Option<Shift> {
    let (from, to) = (u32::from(start), u32::from(to));
    let wanted = u32::from(last) - from + 1;
    let mut best: Option<(u32, Shift)> = None;
    // Greater moduli wrap later.
    for modulus in (1..=65_536u32).rev() {
        let behind = from % modulus;
        let Some(begin) = to.checked_sub(behind) else { continue };
        let (Ok(begin), Ok(end)) = (u16::try_from(begin), u16::try_from(begin + modulus - 1)) else {
            continue;
        };
        let length = wanted.min(modulus - behind);
        if best.is_none_or(|(longest, _)| length > longest) {
            let until = u16::try_from(from + length - 1).ok()?;
            best = Some((length, Shift { ports: (start, until), to: (begin, end) }));
        }
        if length == wanted {
            break;
        }
    }
    best.map(|(_, shift)| shift)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Every port of the range goes where it must, and every one once.
        #[test]
        fn every_port_is_moved_by_the_same_distance(first: u16, count in 0u16..3000, target: u16) {
            let last = first.saturating_add(count);
            let Some(shifts) = shifted(first, last, target) else {
                prop_assert!(u32::from(target) + u32::from(last - first) > 65_535);
                return Ok(());
            };
            let mut next = u32::from(first);
            for shift in &shifts {
                prop_assert_eq!(u32::from(shift.ports.0), next);
                for port in next..=u32::from(shift.ports.1) {
                    prop_assert_eq!(shift.port(port), port - u32::from(first) + u32::from(target));
                }
                next = u32::from(shift.ports.1) + 1;
            }
            prop_assert_eq!(next, u32::from(last) + 1);
        }
    }

    /// Issue 3: twenty thousand ports in at most four elements.
    #[test]
    fn large_ranges_are_few_parts() {
        for (first, target) in
            [(30_000, 30_000), (20_000, 40_000), (40_000, 20_000), (45_000, 1), (1, 45_000), (10_000, 9_999)]
        {
            let shifts = shifted(first, first + 19_999, target).unwrap();
            assert!(shifts.len() <= 4, "{first} to {target}: {shifts:?}");
        }
        assert_eq!(
            shifted(20_000, 39_999, 40_000).unwrap(),
            [Shift { ports: (20_000, 39_999), to: (20_000, 65_535) }]
        );
    }

    #[test]
    fn what_leads_out_of_the_ports_is_none() {
        assert_eq!(shifted(1, 0, 1), None);
        assert_eq!(shifted(1, 10, 65_530), None);
    }
}
