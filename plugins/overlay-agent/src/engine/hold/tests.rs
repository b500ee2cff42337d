use super::*;

/// Pauses between attempts, in seconds, while all fail.
fn pauses(is_full: bool) -> Vec<f64> {
    let mut hold: Option<Hold> = None;
    let mut now = Duration::from_secs(100);
    let mut pauses = Vec::new();
    for _ in 0..9 {
        let next = Hold::after(hold.as_ref(), "no", is_full, now, 0);
        pauses.push((next.until(false) - now).as_secs_f64());
        assert_eq!(next.since, Duration::from_secs(100));
        assert!(next.until(true) <= now + AWAITED);
        now = next.until(false);
        hold = Some(next);
    }
    pauses
}

#[test]
fn refused_requests_are_repeated_once_a_minute_at_last_and_sooner_for_somebody_who_waits() {
    assert_eq!(pauses(false), [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]);
    assert_eq!(pauses(true), [0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0, 5.0]);
}
