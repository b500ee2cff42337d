//! Whether a chain of packet rules, of nf_tables or of iptables, refuses every packet that gets to
//! its end, and what becomes of the rules that open it.

use sys::Result;

/// How many chains are followed from one to the next.
const DEPTH: usize = 8;

/// What a rule does with every packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// It has passed.
    Accept,
    /// It is refused.
    Refuse,
    /// It goes to that chain, and may come back.
    Jump(String),
    /// It goes to that chain, and comes back to where this one would.
    Goto(String),
    /// It goes back.
    Return,
}

/// What a network's rules in a chain become when others are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Earlier {
    /// They stay.
    Keep,
    /// They are replaced.
    Replace,
}

/// Whether a chain refuses (`Some(true)`) or lets pass (`Some(false)`) every packet that gets to
/// its end; `None` when it goes back from there. `steps`: what a chain's rules without a condition
/// do.
///
/// # Errors
/// Those of `steps`.
pub(crate) fn end(chain: &str, steps: &dyn Fn(&str) -> Result<Vec<Step>>) -> Result<Option<bool>> {
    follow(chain, DEPTH, steps)
}

fn follow(chain: &str, depth: usize, steps: &dyn Fn(&str) -> Result<Vec<Step>>) -> Result<Option<bool>> {
    let Some(depth) = depth.checked_sub(1) else { return Ok(None) };
    for step in steps(chain)? {
        match step {
            Step::Accept => return Ok(Some(false)),
            Step::Refuse => return Ok(Some(true)),
            Step::Return => return Ok(None),
            Step::Goto(next) => return follow(&next, depth, steps),
            Step::Jump(next) => {
                let decided = follow(&next, depth, steps)?;
                if decided.is_some() {
                    return Ok(decided);
                }
            }
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_is_closed_by_what_becomes_of_everything() {
        let ends = |rules: &[(&str, Step)]| {
            end("INPUT", &|chain| {
                Ok(rules.iter().filter(|(of, _)| *of == chain).map(|(_, step)| step.clone()).collect())
            })
            .unwrap()
        };
        assert_eq!(ends(&[]), None);
        assert_eq!(ends(&[("INPUT", Step::Refuse)]), Some(true));
        assert_eq!(ends(&[("INPUT", Step::Accept), ("INPUT", Step::Refuse)]), Some(false));
        let jump = ("INPUT", Step::Jump("more".into()));
        assert_eq!(ends(&[jump.clone(), ("more", Step::Refuse)]), Some(true));
        assert_eq!(ends(&[jump.clone(), ("more", Step::Return), ("INPUT", Step::Refuse)]), Some(true));
        assert_eq!(ends(&[("INPUT", Step::Goto("more".into())), ("INPUT", Step::Refuse)]), None);
        // The kernel refuses such a loop in nf_tables; a list of a legacy table may contain one.
        assert_eq!(ends(&[("INPUT", Step::Jump("INPUT".into()))]), None);
    }
}
