//! A steady load while containers come and go, and while the responder is killed.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use harness::room::Room;
use harness::stage::dns::{GATEWAYS, expect, kill_responder, until};
use harness::stage::load::{Load, Pace, come_and_go, names};

use super::report_budget;

/// Queries per second.
const RATE: u32 = 5_000;
/// The duration, and the number of containers meanwhile.
const LASTS: Duration = Duration::from_secs(30);
const GOING: usize = 500;
/// Containers that stay.
const STAYING: usize = 8;
/// The longest that the containers may take.
const AT_MOST: Duration = Duration::from_secs(240);
/// How often the responder is killed.
const KILLS: usize = 10;

/// Returns true if no query is lost or answered wrongly, except while there is no responder.
pub fn run(room: &Room) -> Result<bool> {
    let (stay, names) = names(room, STAYING, GOING)?;
    let load = Load::start(room, "r0", GATEWAYS[0], names.clone(), Pace::exact(RATE))?;
    let went = come_and_go(room, &names, 2, LASTS, AT_MOST)?;
    let tally = load.end()?;
    println!("  {went} containers came and went: {tally}");
    tally.faults.iter().for_each(|fault| println!("    {fault}"));
    let perfect = tally.lost == 0 && tally.wrong == 0 && went >= GOING;
    let mut kept = report_budget("every query was answered correctly", perfect);
    let mut slowest = Duration::ZERO;
    let (mut lost, mut healed) = (0, 0);
    for round in 0..KILLS {
        let verb = ["CHECK", "ADD"][round % 2];
        let load = Load::start(room, "r0", GATEWAYS[0], names.clone(), Pace::exact(RATE))?;
        let began = Instant::now();
        until(Duration::from_secs(2), "a tenth of a second", || {
            began.elapsed() > Duration::from_millis(100)
        })?;
        kill_responder()?;
        let began = Instant::now();
        let answer = stay[1].verb(room, verb)?;
        ensure!(answer.succeeded(), "{verb}: {}", answer.summary());
        slowest = slowest.max(began.elapsed());
        // From now on no query is lost.
        let after = Load::start(room, "r2", GATEWAYS[0], names.clone(), Pace::exact(RATE))?;
        for named in &stay {
            expect(room, Some("r3"), GATEWAYS[0], &named.name, &[&named.address(false)])
                .with_context(|| format!("after {verb}"))?;
        }
        let began = Instant::now();
        until(Duration::from_secs(2), "half a second", || began.elapsed() > Duration::from_millis(500))?;
        let (during, after) = (load.end()?, after.end()?);
        lost += during.lost;
        healed += usize::from(during.wrong == 0 && after.lost == 0 && after.wrong == 0);
    }
    let ms = slowest.as_secs_f64() * 1e3;
    println!(
        "  killed {KILLS} times: CHECK or ADD took {ms:.1} ms at most; {lost} queries were lost meanwhile"
    );
    kept &= report_budget("the next CHECK or ADD restarted it with all records", healed == KILLS);
    Ok(kept)
}
