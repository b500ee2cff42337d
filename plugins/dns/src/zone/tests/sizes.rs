//! Answers that do not fit.

use super::*;

/// D-027.
#[test]
fn many_addresses_are_truncated_over_udp_and_complete_over_tcp() {
    for count in [60, 1000] {
        let many = (0..count).map(|n| {
            let ip = format!("10.0.{}.{}", n / 200, n % 200 + 1);
            attachment("n1", &format!("c{n}"), &["many"], &[&ip], n)
        });
        let zone = zone(vec![network("n1", &["10.0.0.0/16"])], many.collect());
        let querier = zone.querier(&[zone.slot("n1").unwrap()], "10.0.0.1".parse().unwrap()).unwrap();
        let packet = question("many", kind::A);
        let mut buffer = vec![0; TCP_MAX];
        let mut ask = |limit| match respond(&querier, &query(&packet), &mut buffer, limit, true) {
            Outcome::Answer(length) => {
                let cut = u16_at(&buffer, 2).unwrap() & flag::TC != 0;
                (length, cut, got(&buffer[..length], packet.len()).data)
            }
            Outcome::Forward(_) => panic!("a known name is asked of others"),
        };
        let (length, cut, data) = ask(UDP_PLAIN);
        assert!(length <= UDP_PLAIN && length > UDP_PLAIN - 16 && cut && data.len() == 30);
        let (_, cut, mut data) = ask(TCP_MAX);
        data.sort();
        data.dedup();
        assert!(!cut && data.len() == usize::try_from(count).unwrap());
    }
}

#[test]
fn an_answer_never_exceeds_a_small_buffer() {
    let packet = question("a", kind::A);
    let mut buffer = [0; 40];
    let mut answer = Answer::new(&mut buffer, 512, &query(&packet), false);
    assert!(!answer.address(0, "10.0.0.1".parse().unwrap()) || answer.finish(Rcode::NoError) <= 40);
}
