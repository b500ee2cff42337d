//! What is due for a lease. Pure.

use std::time::Duration;

use crate::exchange::Purpose;
use crate::record::{Record, State};

/// The next step of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing, until a time if there is one.
    Wait(Option<Duration>),
    /// Exchange messages for this purpose, until a time if there is one.
    Ask(Purpose, Option<Duration>),
    /// The time is over: stop using the address.
    Lose,
}

/// The step of a record at a time.
pub fn due(record: &Record, now: Duration) -> Step {
    match record.state {
        State::Offered | State::Releasing => return Step::Wait(None),
        State::Lost => return Step::Ask(Purpose::Select, None),
        State::Bound => {}
    }
    let (Some(t1), Some(t2), Some(end)) = (record.t1(), record.t2(), record.end()) else {
        return Step::Wait(None);
    };
    if now >= end {
        Step::Lose
    } else if now >= t2 {
        Step::Ask(Purpose::Rebind, Some(end))
    } else if now >= t1 {
        Step::Ask(Purpose::Renew, Some(t2))
    } else {
        Step::Wait(Some(t1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::tests::record;
    use crate::terms::Terms;

    #[test]
    fn a_lease_is_renewed_rebound_and_lost() {
        let seconds = Duration::from_secs;
        let mut lease = record();
        assert_eq!(due(&lease, seconds(50)), Step::Wait(Some(seconds(51))));
        assert_eq!(due(&lease, seconds(51)), Step::Ask(Purpose::Renew, Some(seconds(88))));
        assert_eq!(due(&lease, seconds(88)), Step::Ask(Purpose::Rebind, Some(seconds(101))));
        assert_eq!(due(&lease, seconds(101)), Step::Lose);
        lease.state = State::Lost;
        assert_eq!(due(&lease, seconds(102)), Step::Ask(Purpose::Select, None));
        for state in [State::Offered, State::Releasing] {
            lease.state = state;
            assert_eq!(due(&lease, seconds(102)), Step::Wait(None));
        }
        lease.state = State::Bound;
        if let Terms::V4 { grant, .. } = &mut lease.terms {
            grant.lease = None;
        }
        assert_eq!(due(&lease, seconds(1000)), Step::Wait(None));
    }
}
