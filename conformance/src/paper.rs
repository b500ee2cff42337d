//! The demo's output: aligned text, with colour only on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

/// The output, and whether every step passed.
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

    /// A step that passed, or failed and with it the whole demo.
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

    /// A cell of the matrix: the round-trip time, or no answer.
    pub fn cell(&mut self, round_trip: Option<Duration>) -> String {
        match round_trip {
            Some(time) => self.painted("32", &format!("{:>8.2} ms", time.as_secs_f64() * 1e3)),
            None => {
                self.failures += 1;
                self.painted("31", &format!("{:>11}", "no answer"))
            }
        }
    }

    /// Whether every step passed; prints the verdict.
    pub fn verdict(&self) -> bool {
        let text = match self.failures {
            0 => self.painted("1;32", "Every step passed."),
            1 => self.painted("1;31", "One step failed."),
            n => self.painted("1;31", &format!("{n} steps failed.")),
        };
        println!("\n{text}");
        self.failures == 0
    }
}
