//! The addresses of a name.

use std::net::IpAddr;

use sys::IpFamily;

/// Addresses of one family, and how many attachments have each.
type Counted = Vec<(IpAddr, usize)>;

/// The addresses of a name.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    v4: Counted,
    v6: Counted,
    /// Those of silent hosts. Most names have none.
    silent: Option<Box<Silent>>,
}

#[derive(Debug, Default)]
struct Silent {
    v4: Counted,
    v6: Counted,
}

impl Addresses {
    /// What is answered: those of silent hosts are left out while there is another one.
    pub(super) fn of_family(&self, family: IpFamily) -> &[(IpAddr, usize)] {
        let known: &[_] = family.choose(&self.v4, &self.v6);
        match &self.silent {
            Some(silent) if known.is_empty() => family.choose(&silent.v4, &silent.v6),
            _ => known,
        }
    }

    pub(super) fn insert(&mut self, ip: IpAddr, silent: bool) {
        let held = if silent {
            self.silent.get_or_insert_default().of(ip)
        } else {
            IpFamily::of(ip).choose(&mut self.v4, &mut self.v6)
        };
        match held.iter_mut().find(|(held, _)| *held == ip) {
            Some((_, count)) => *count += 1,
            None => held.push((ip, 1)),
        }
    }

    pub(super) fn remove(&mut self, ip: IpAddr, silent: bool) {
        if !silent {
            return forget(IpFamily::of(ip).choose(&mut self.v4, &mut self.v6), ip);
        }
        if let Some(silent) = &mut self.silent {
            forget(silent.of(ip), ip);
        }
        self.silent.take_if(|silent| silent.v4.is_empty() && silent.v6.is_empty());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty() && self.silent.is_none()
    }
}

impl Silent {
    fn of(&mut self, ip: IpAddr) -> &mut Counted {
        IpFamily::of(ip).choose(&mut self.v4, &mut self.v6)
    }
}

fn forget(held: &mut Counted, ip: IpAddr) {
    if let Some(at) = held.iter().position(|(held, _)| *held == ip) {
        held[at].1 -= 1;
        if held[at].1 == 0 {
            held.remove(at);
        }
    }
}
