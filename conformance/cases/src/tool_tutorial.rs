//! The commands of the tool's page, in the page's order, with the page's output.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use harness::case::Case;
use harness::patience;
use harness::room::Room;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::tool::case;

pub const CASES: &[Case] = &[case("tool/the_pages_commands_print_what_the_page_prints", &["T-090"], page)];

const PAGE: &str = include_str!("../../../plugins/moor/README.md");

/// A command of the page, and what it prints. `…` in a line stands for any text.
struct Step {
    line: usize,
    command: String,
    output: Vec<String>,
}

/// The time that one command may take on an idle machine.
const LIMIT: Duration = Duration::from_secs(20);
/// How long output may differ from the page's: what was started in the background is not there at
/// once.
const SETTLING: Duration = Duration::from_secs(5);

/// The heading of the part that is run.
const PART: &str = "## A tour";

fn steps(page: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = vec![];
    let (mut is_part, mut inside) = (false, false);
    for (number, line) in page.lines().enumerate() {
        match line.trim_start() {
            heading if heading.starts_with("## ") => is_part = heading == PART,
            "```console" => inside = is_part,
            "```" => inside = false,
            _ if !inside => {}
            text => match (text.strip_prefix("$ "), text.strip_prefix("> "), steps.last_mut()) {
                (Some(command), ..) => {
                    steps.push(Step { line: number + 1, command: command.to_owned(), output: vec![] });
                }
                (None, Some(more), Some(step)) if step.output.is_empty() => {
                    step.command = format!("{}\n{more}", step.command);
                }
                (_, _, Some(step)) => step.output.push(line.to_owned()),
                _ => {}
            },
        }
    }
    steps
}

fn page(room: &Room) -> Result<()> {
    let steps = steps(PAGE);
    ensure!(steps.len() > 20, "the page has {} commands", steps.len());
    room.outside(&[])?;
    let mut background = Background::default();
    let outside = "mkdir empty && exec ip netns exec outside python3 -m http.server 80 --directory empty";
    background.start(room, outside)?;
    for step in steps {
        take(room, &step, &mut background)
            .with_context(|| format!("plugins/moor/README.md:{}: $ {}", step.line, step.command))?;
    }
    Ok(())
}

/// What runs beside the page's other commands, and ends with them.
#[derive(Default)]
struct Background(Vec<Child>);

impl Background {
    fn start(&mut self, room: &Room, command: &str) -> Result<()> {
        let mut shell = shell(room, command);
        self.0.push(shell.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?);
        Ok(())
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if let Ok(pid) = child.id().try_into() {
                let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
            }
            let _ = child.wait();
        }
    }
}

fn take(room: &Room, step: &Step, background: &mut Background) -> Result<()> {
    if let Some(command) = step.command.strip_suffix(" &") {
        return background.start(room, command);
    }
    let began = Instant::now();
    loop {
        let printed = run(room, &step.command)?;
        let Err(difference) = compare(&step.output, &printed) else { return Ok(()) };
        // Who only looks may look again, until what was started in the background is there.
        let looks =
            !["create", "rm", "connect", "prune", "import"].iter().any(|word| step.command.contains(word));
        if !looks || began.elapsed() > patience::on_this_machine(SETTLING) {
            bail!("{difference}\nall of it:\n{printed}");
        }
        sleep(Duration::from_millis(100));
    }
}

fn shell(room: &Room, command: &str) -> Command {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("sh");
    shell.args(["-c", command]).env_clear().env("CNI_PATH", &room.suite);
    shell.env("PATH", format!("{}:{path}", room.suite.display())).env("SHELL", "/bin/sh");
    shell.stdin(Stdio::null()).current_dir(harness::room::SCRATCH).process_group(0);
    shell
}

/// Runs a command to its end, with both of its streams in one.
fn run(room: &Room, command: &str) -> Result<String> {
    let (mut reader, writer) = std::io::pipe()?;
    let mut shell = shell(room, command);
    shell.stdout(writer.try_clone()?).stderr(writer);
    let mut child = shell.spawn()?;
    drop(shell);
    let id = Pid::from_raw(child.id().try_into()?);
    let (done, is_done) = std::sync::mpsc::channel::<()>();
    let limit = patience::on_this_machine(LIMIT);
    let watch = std::thread::spawn(move || {
        if is_done.recv_timeout(limit).is_err_and(|error| error == std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            let _ = killpg(id, Signal::SIGKILL);
        }
    });
    let mut printed = String::new();
    reader.read_to_string(&mut printed)?;
    child.wait()?;
    drop(done);
    let _ = watch.join();
    Ok(printed)
}

fn compare(expected: &[String], printed: &str) -> Result<(), String> {
    let lines: Vec<_> = printed.lines().collect();
    for (number, expected) in expected.iter().enumerate() {
        match lines.get(number) {
            Some(line) if is_like(expected, line) => {}
            found => return Err(format!("expected {expected:?}, found {found:?}")),
        }
    }
    match lines.get(expected.len()) {
        Some(more) => Err(format!("the page does not have the line {more:?}")),
        None => Ok(()),
    }
}

/// Whether a line is the page's, in which `…` stands for any text, and any number of spaces for one.
fn is_like(expected: &str, line: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let (expected, line) = (plain(expected), plain(line));
    let mut parts = expected.split('…');
    let Some(mut rest) = line.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::{is_like, steps};

    #[test]
    fn a_page_is_commands_with_output() {
        let steps = steps(
            "```console\n$ z\n```\n## A tour\n```console\n$ a \\\n> b\none\n\n$ c\n```\n$ d\n## Z\n```console\n$ e\n```",
        );
        assert_eq!(steps.len(), 2);
        assert_eq!((steps[0].command.as_str(), steps[0].output.join("|")), ("a \\\nb", "one|".into()));
    }

    #[test]
    fn an_ellipsis_is_any_text() {
        assert!(is_like("a …  c", "a b  c") && is_like("…", "x") && is_like("a…", "a"));
        assert!(!is_like("a … c", "a b d") && !is_like("a", "ab") && !is_like("…a", "ab"));
    }
}
