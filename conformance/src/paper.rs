//! What the demo is written on: aligned text, colour only on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

/// The page, and whether everything on it held.
pub struct Paper {
    colour: bool,
    step: usize,
    failures: usize,
}

impl Paper {
    /// Standard output.
    pub fn new() -> Self {
        Self { colour: std::io::stdout().is_terminal(), step: 0, failures: 0 }
    }

    fn painted(&self, code: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A numbered heading.
    pub fn heading(&mut self, text: &str) {
        self.step += 1;
        println!("\n{}", self.painted("1", &format!("{}. {text}", self.step)));
    }

    /// A line beneath a heading.
    pub fn line(&self, text: &str) {
        println!("   {text}");
    }

    /// A step that held, or did not and then the whole demo did not.
    pub fn step(&mut self, what: &str, took: Duration, done: Result<(), String>) {
        let time = format!("{:>7.1} ms", took.as_secs_f64() * 1e3);
        match done {
            Ok(()) => println!("   {what:<44} {time}  {}", self.painted("32", "ok")),
            Err(why) => {
                self.failures += 1;
                println!("   {what:<44} {time}  {}", self.painted("31", "FAILED"));
                why.lines().for_each(|line| println!("        {line}"));
            }
        }
    }

    /// A cell of the matrix: the time of a round trip, or that nothing came back.
    pub fn cell(&mut self, round_trip: Option<Duration>) -> String {
        match round_trip {
            Some(time) => self.painted("32", &format!("{:>8.2} ms", time.as_secs_f64() * 1e3)),
            None => {
                self.failures += 1;
                self.painted("31", &format!("{:>11}", "no answer"))
            }
        }
    }

    /// Whether everything held; prints the verdict.
    pub fn verdict(&self) -> bool {
        let text = match self.failures {
            0 => self.painted("1;32", "Everything held."),
            1 => self.painted("1;31", "One step did not hold."),
            n => self.painted("1;31", &format!("{n} steps did not hold.")),
        };
        println!("\n{text}");
        self.failures == 0
    }
}
