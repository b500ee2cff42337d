//! A watch: lines without end, read by a thread that may block, ended by another.

use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ureq::{Agent, BodyReader};

use super::client::{malformed, stream_error};
use super::error::{Attempt, Error, Refusal};
use super::failure;
use super::members::{self, Members};
use super::request;
use super::response::{self, Header, LeftOut, Record};
use super::{RECORDS_MAX, RESPONSE_MAX};

/// A change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A record was written.
    Put(Record),
    /// A key was deleted, at this revision.
    Deleted(Vec<u8>, i64),
    /// A record was written that is not taken.
    LeftOut(LeftOut),
}

/// Changes, complete up to a revision; none: a sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// The changes, in their order.
    pub events: Vec<Event>,
    /// The cluster, and the revision.
    pub header: Header,
}

/// Why a watch has ended. A full read must follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchEnd {
    /// Another thread has ended it.
    Stopped,
    /// What it should begin with is no longer kept; this is the oldest revision that is.
    Compacted(i64),
    /// The member ended it, with these words: it has lost its leader, or the user's right has gone.
    Canceled(String),
    /// The connection ended, or brought what etcd does not send.
    Failed(Error),
}

/// A watch.
pub struct Watch {
    member: String,
    /// The answers, line by line.
    lines: BufReader<BodyReader<'static>>,
    line: Vec<u8>,
    stopper: Stopper,
}

/// Ends a watch from another thread.
#[derive(Clone)]
pub struct Stopper {
    agent: Agent,
    is_stopped: Arc<AtomicBool>,
}

impl Stopper {
    /// Ends the watch: its socket is shut down, and who reads it wakes.
    pub fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.agent.clone().shutdown();
    }

    /// Whether the watch was ended.
    pub fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }
}

impl Watch {
    pub(super) fn start(members: &Members, prefix: &[u8], revision: i64) -> Result<Self, Error> {
        let body = request::watch(prefix, revision).to_string();
        let mut failed = Vec::new();
        for member in members.order() {
            match Self::at(members, &member, body.as_bytes()) {
                Ok(watch) => return Ok(watch),
                Err(Error::Unreachable(attempts)) => failed.extend(attempts),
                Err(Error::NoQuorum(attempt)) => failed.push(attempt),
                Err(error) => return Err(error),
            }
            members.leave(&member);
        }
        Err(Error::Unreachable(failed))
    }

    fn at(members: &Members, member: &str, body: &[u8]) -> Result<Self, Error> {
        for is_last in [false, true] {
            let token = members.token(member, members::SILENCE)?;
            let agent = members.own_agent()?;
            let answer = members::send(&agent, member, "/v3/watch", body, token.as_deref(), None)
                .map_err(|broken| members::one(member, broken))?;
            let status = answer.status().as_u16();
            if status == 200 {
                let stopper = Stopper { agent, is_stopped: Arc::default() };
                let lines = BufReader::new(answer.into_body().into_reader());
                return Ok(Self { member: member.to_owned(), lines, line: Vec::new(), stopper });
            }
            let bytes = members::whole(answer).map_err(|broken| members::one(member, broken))?;
            match failure::of_answer(member, status, &bytes) {
                Some(error) => return Err(error),
                None if is_last => {}
                None => members.forget_token(token.as_deref()),
            }
        }
        let attempt = Attempt { member: member.to_owned(), why: "the watch is refused".into() };
        Err(Error::Refused(Refusal::Credentials, attempt))
    }

    /// The member's URL.
    pub fn member(&self) -> &str {
        &self.member
    }

    /// What ends this watch.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// The next changes. It blocks until there are some, or the watch is ended.
    ///
    /// # Errors
    /// Why the watch has ended.
    #[allow(clippy::should_implement_trait, reason = "an iterator has no error of its own")]
    pub fn next(&mut self) -> Result<Events, WatchEnd> {
        let mut all = Events::default();
        loop {
            self.read_line()?;
            let is_whole = collect(&self.member, &self.line, &mut all)?;
            if all.events.len() > RECORDS_MAX {
                return Err(WatchEnd::Failed(malformed(&self.member, "changes without end at one revision")));
            }
            if is_whole {
                return Ok(all);
            }
        }
    }

    fn read_line(&mut self) -> Result<(), WatchEnd> {
        self.line.clear();
        // A long line is rare: what it took is given back.
        self.line.shrink_to(1 << 16);
        let mut bounded = (&mut self.lines).take(RESPONSE_MAX as u64);
        let read = bounded.read_until(b'\n', &mut self.line);
        if self.stopper.is_stopped() {
            return Err(WatchEnd::Stopped);
        }
        match read {
            Ok(_) if self.line.ends_with(b"\n") => Ok(()),
            Ok(count) if count >= RESPONSE_MAX => {
                Err(WatchEnd::Failed(malformed(&self.member, "a line without end")))
            }
            Ok(_) => Err(WatchEnd::Canceled("the member ended the watch".into())),
            Err(error) => {
                let broken = failure::of_connection(&error.into());
                Err(WatchEnd::Failed(members::one(&self.member, broken)))
            }
        }
    }
}

/// Adds a line's changes; whether they are complete up to the line's revision.
pub(super) fn collect(member: &str, line: &[u8], all: &mut Events) -> Result<bool, WatchEnd> {
    let bad = |why: &str| WatchEnd::Failed(malformed(member, why));
    let line: response::Line<response::WatchLine<'_>> = response::parse(line).map_err(|why| bad(&why))?;
    if let Some(error) = line.error {
        return Err(WatchEnd::Failed(stream_error(member, &error)));
    }
    let result = line.result.ok_or_else(|| bad("neither result nor error"))?;
    if result.compact_revision > 0 {
        return Err(WatchEnd::Compacted(result.compact_revision));
    }
    if result.canceled {
        return Err(WatchEnd::Canceled(response::shown(&result.cancel_reason)));
    }
    for event in &result.events {
        all.events.push(match event.kind.as_ref() {
            "DELETE" => match event.kv.key() {
                Ok(key) => Event::Deleted(key, event.kv.mod_revision()),
                Err(why) => Event::LeftOut(LeftOut { key: String::new(), why }),
            },
            // The zero of its kind is absent.
            "" | "PUT" => event.kv.record().map_or_else(Event::LeftOut, Event::Put),
            other => return Err(bad(&format!("a change that is a {:?}", response::shown(other)))),
        });
    }
    all.header = result.header;
    Ok(!result.fragment)
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("member", &self.member).finish_non_exhaustive()
    }
}

impl fmt::Debug for Stopper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stopper").field("is_stopped", &self.is_stopped()).finish_non_exhaustive()
    }
}
