//! Questions for names of containers, one after another, as a stub resolver asks them: a question
//! without an answer is asked again, and a wrong answer is final.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use harness::dns_client::{Question, kind, rcode};
use harness::patience::on_this_machine;

/// How long an answer may take, and how often a question is asked: `timeout:1 attempts:3` of
/// resolv.conf(5).
const TIMEOUT: Duration = Duration::from_secs(1);
const ATTEMPTS: usize = 3;
/// The pause between two names.
const PAUSE: Duration = Duration::from_millis(20);

/// The outcome of one attempt.
#[derive(Clone, Debug)]
pub enum Attempt {
    /// The container's address came.
    Right,
    /// Another answer came: no resolver asks again.
    Wrong(String),
    /// Nothing came, or a failure of the server.
    None(String),
}

/// What was seen of all names.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Names that were asked for.
    pub asked: usize,
    /// Attempts after the first.
    pub again: usize,
    /// The longest time until the answer.
    pub longest: Duration,
    /// Names without the right answer.
    pub lost: Vec<String>,
}

impl Seen {
    /// Asks for a name until the outcome is final.
    fn ask(&mut self, name: &str, mut attempt: impl FnMut() -> Attempt) {
        self.asked += 1;
        let began = Instant::now();
        let mut why = String::new();
        for nth in 0..ATTEMPTS {
            self.again += usize::from(nth > 0);
            match attempt() {
                Attempt::Right => {
                    self.longest = self.longest.max(began.elapsed());
                    return;
                }
                Attempt::Wrong(answer) => {
                    why = answer;
                    break;
                }
                Attempt::None(error) => why = error,
            }
        }
        self.lost.push(format!("{name}: {why}"));
    }

    /// One line for people; an error if a name was lost.
    pub fn verdict(&self) -> Result<String> {
        let Self { asked, again, longest, lost } = self;
        let line = format!(
            "{asked} names, {} lost, {again} asked again, longest wait {} ms",
            lost.len(),
            longest.as_millis()
        );
        match lost.first() {
            None if *asked == 0 => bail!("no name was asked for"),
            None => Ok(line),
            Some(first) => bail!("{line}\nthe first: {first}"),
        }
    }
}

/// Asks for these names and addresses in turn until `ends`, in the calling thread's namespace.
pub fn ask_until(ends: &AtomicBool, server: SocketAddr, names: &[(String, String)]) -> Seen {
    let mut seen = Seen::default();
    for (name, address) in names.iter().cycle() {
        if ends.load(Ordering::Relaxed) {
            break;
        }
        seen.ask(name, || attempt(server, name, address));
        std::thread::sleep(PAUSE);
    }
    seen
}

fn attempt(server: SocketAddr, name: &str, address: &str) -> Attempt {
    match Question::new(name, kind::A).udp_within(server, on_this_machine(TIMEOUT)) {
        Err(error) => Attempt::None(format!("{error:#}")),
        Ok(reply) if reply.rcode() == rcode::SERVFAIL => Attempt::None("the server failed".into()),
        Ok(reply) if reply.texts() == [address] => Attempt::Right,
        Ok(reply) => {
            Attempt::Wrong(format!("code {}, {:?} in the place of {address}", reply.rcode(), reply.texts()))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_asked_again_and_a_wrong_answer_is_final() {
        let mut seen = Seen::default();
        assert!(seen.verdict().is_err(), "nothing was seen");
        let mut asked = 0;
        seen.ask("web", || {
            asked += 1;
            if asked < 3 { Attempt::None("silence".into()) } else { Attempt::Right }
        });
        assert_eq!((seen.asked, seen.again, seen.lost.len()), (1, 2, 0));
        assert!(seen.verdict().unwrap().contains("0 lost, 2 asked again"));
        seen.ask("db", || Attempt::Wrong("code 3".into()));
        assert_eq!((seen.asked, seen.again, seen.lost.len()), (2, 2, 1));
        seen.ask("cache", || Attempt::None("silence".into()));
        assert_eq!((seen.asked, seen.again, seen.lost.len()), (3, 4, 2));
        let error = format!("{:#}", seen.verdict().unwrap_err());
        assert!(error.contains("2 lost") && error.contains("db: code 3"), "{error}");
    }
}
