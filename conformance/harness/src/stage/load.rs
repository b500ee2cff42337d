//! Queries at a steady rate for names that come and go; each answer is compared with the state
//! during the query.

use std::collections::VecDeque;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use nix::sys::socket::{setsockopt, sockopt};
use serde_json::json;

use crate::dns_client::{Question, client, kind, rcode};
use crate::patience::on_this_machine;
use crate::room::Room;
use crate::stage::dns::Named;

/// When a query counts as lost: resolvers retry after five seconds, impatient ones after two.
const PATIENCE: Duration = Duration::from_secs(2);
/// The number of query ids.
const NUMBERS: usize = 1 << 16;
/// Receive buffer for answers, in bytes as the kernel counts them.
const QUEUE: usize = 8 << 20;
/// The number of wrong answers described in a report.
const FAULTS_SHOWN: usize = 8;
/// For each worker, how many of the containers that come and go exist at once.
const AT_ONCE: usize = 8;

/// A name and whether it exists. The worker that attaches its container updates it before and
/// after.
pub struct Known {
    question: String,
    address: AtomicU32,
    /// A counter of changes modulo 4: 0 is absent, 2 is present, odd values are in transition.
    state: AtomicU64,
}

impl Known {
    /// A name that does not exist yet.
    pub fn absent(question: &str) -> Self {
        Self { question: question.to_owned(), address: AtomicU32::new(0), state: AtomicU64::new(0) }
    }

    /// Marks the start of ADD or DEL.
    pub fn changes(&self) {
        self.state.fetch_add(1, Ordering::SeqCst);
    }

    /// Marks the end of ADD: the name exists.
    pub fn is_there(&self, address: &str) -> Result<()> {
        let address: Ipv4Addr = address.parse()?;
        self.address.store(address.into(), Ordering::SeqCst);
        self.changes();
        Ok(())
    }

    /// Checks an answer, if the state did not change since the query.
    fn verdict(&self, asked_in: u64, reply: &[u8]) -> Result<(), String> {
        let code = reply.get(3).map_or(15, |flags| flags & 15);
        let has_answers = reply.get(7).is_some_and(|count| *count > 0);
        let address = self.address.load(Ordering::SeqCst);
        let state = self.state.load(Ordering::SeqCst);
        let (now, known) = (state == asked_in, state % 4);
        let fine = match (code, now.then_some(known)) {
            (rcode::NOERROR, Some(2)) => has_answers && reply.ends_with(&address.to_be_bytes()),
            (rcode::NXDOMAIN, Some(0)) => !has_answers,
            (rcode::NOERROR | rcode::NXDOMAIN, None | Some(1 | 3)) => true,
            _ => false,
        };
        let what = match known {
            0 => "absent",
            2 => "there",
            _ => "changing",
        };
        if fine { Ok(()) } else { Err(format!("{} is {what}: code {code}, {reply:02x?}", self.question)) }
    }
}

/// How often queries are sent, and how long answers may take.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Time from one query to the next.
    each: Duration,
    /// When a query counts as lost.
    patience: Duration,
}

impl Pace {
    /// So many queries a second, whatever else the machine does.
    pub fn exact(rate: u32) -> Self {
        Self { each: Duration::from_secs(1) / rate, patience: PATIENCE }
    }

    /// So many on an idle machine. On a busy one, where the responder gets the processor less often,
    /// there are fewer, and answers may take longer.
    pub fn on_this_machine(rate: u32) -> Self {
        let exact = Self::exact(rate);
        Self { each: on_this_machine(exact.each), patience: on_this_machine(exact.patience) }
    }
}

/// A query in flight.
struct Slot {
    /// Nanoseconds since the load began; 0 when no query has that id.
    sent: AtomicU64,
    name: AtomicUsize,
    state: AtomicU64,
}

struct Shared {
    socket: UdpSocket,
    began: Instant,
    names: Arc<Vec<Known>>,
    slots: Vec<Slot>,
    over: AtomicBool,
    /// All queries have been sent.
    asked: AtomicBool,
    pace: Pace,
}

/// The result of a load.
#[derive(Debug, Default)]
pub struct Tally {
    /// Queries sent.
    pub asked: u64,
    /// Queries without an answer in time.
    pub lost: u64,
    /// Datagrams dropped because a socket's queue on the host was full: the responder did not get
    /// the processor.
    pub overflowed: u64,
    /// Wrong answers, SERVFAIL among them.
    pub wrong: u64,
    /// Descriptions of the first wrong answers.
    pub faults: Vec<String>,
    /// The longest time to an answer.
    pub slowest: Duration,
    /// The duration of the load.
    pub lasted: Duration,
    /// Queries that were due in that time.
    pub due: u64,
}

impl Tally {
    /// Requires a correct answer to every query that reached the responder, and that nearly all were
    /// sent that were due.
    pub fn ensure_perfect(&self) -> Result<()> {
        let whole = self.lost <= self.overflowed && self.wrong == 0;
        ensure!(whole, "{self}:\n  {}", self.faults.join("\n  "));
        ensure!(self.asked * 10 >= self.due * 8, "only {self}: {} were due", self.due);
        Ok(())
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let seconds = self.lasted.as_secs_f64();
        let slowest = self.slowest.as_secs_f64() * 1e3;
        write!(
            f,
            "{} questions in {seconds:.1} s, {} unanswered ({} found the queue full), {} answered wrongly, the slowest \
             in {slowest:.1} ms",
            self.asked, self.lost, self.overflowed, self.wrong
        )
    }
}

/// A running load.
pub struct Load {
    shared: Arc<Shared>,
    overflows: u64,
    asker: JoinHandle<Tally>,
    listener: JoinHandle<Tally>,
}

impl Load {
    /// Starts querying a server (its port 53) from a namespace, for these names in turns.
    pub fn start(room: &Room, from: &str, server: &str, names: Arc<Vec<Known>>, pace: Pace) -> Result<Self> {
        let server = SocketAddr::new(server.parse()?, 53);
        let socket = room.inside(from, || client(server))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        // Drops while this socket is not read would not be the server's fault.
        if setsockopt(&socket, sockopt::RcvBufForce, &QUEUE).is_err() {
            setsockopt(&socket, sockopt::RcvBuf, &QUEUE)?;
        }
        let free = || Slot { sent: AtomicU64::new(0), name: AtomicUsize::new(0), state: AtomicU64::new(0) };
        let messages: Vec<Vec<u8>> = names
            .iter()
            .map(|name| Question::new(&name.question, kind::A).message(0))
            .collect::<Result<_>>()?;
        let shared = Arc::new(Shared {
            socket,
            began: Instant::now(),
            names,
            slots: std::iter::repeat_with(free).take(NUMBERS).collect(),
            over: AtomicBool::new(false),
            asked: AtomicBool::new(false),
            pace,
        });
        let overflows = overflows()?;
        let (mine, theirs) = (Arc::clone(&shared), Arc::clone(&shared));
        let asker = std::thread::spawn(move || mine.ask(messages));
        let listener = std::thread::spawn(move || theirs.listen());
        Ok(Self { shared, overflows, asker, listener })
    }

    /// Ends the load, and waits for the last answers.
    pub fn end(self) -> Result<Tally> {
        self.shared.over.store(true, Ordering::SeqCst);
        let asked = self.asker.join().map_err(|_| anyhow!("the sender panicked"))?;
        self.shared.asked.store(true, Ordering::SeqCst);
        let heard = self.listener.join().map_err(|_| anyhow!("the receiver panicked"))?;
        let overflowed = overflows()? - self.overflows;
        Ok(Tally {
            asked: asked.asked,
            lost: asked.lost + heard.lost,
            lasted: asked.lasted,
            due: asked.due,
            overflowed,
            ..heard
        })
    }
}

/// Datagrams that found the queue of their socket full, on the host (`RcvbufErrors`,
/// /proc/net/snmp).
fn overflows() -> Result<u64> {
    let text = fs::read_to_string("/proc/net/snmp")?;
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:")).map(str::split_whitespace);
    let (Some(mut names), Some(values)) = (lines.next(), lines.next()) else { return Ok(0) };
    let at = names.position(|name| name == "RcvbufErrors");
    let value = at.and_then(|at| values.into_iter().nth(at)?.parse().ok());
    value.context("no RcvbufErrors")
}

impl Shared {
    fn now(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX).max(1)
    }

    fn ask(&self, mut messages: Vec<Vec<u8>>) -> Tally {
        let mut tally = Tally::default();
        while !self.over.load(Ordering::SeqCst) {
            let due = self.pace.each * u32::try_from(tally.asked).unwrap_or(u32::MAX);
            // The rate is fixed; answers are not awaited.
            std::thread::sleep(due.saturating_sub(self.began.elapsed()));
            let name = usize::try_from(tally.asked).unwrap_or_default() % messages.len().max(1);
            let number = usize::try_from(tally.asked).unwrap_or_default() % NUMBERS;
            let (Some(message), Some(known)) = (messages.get_mut(name), self.names.get(name)) else { break };
            let slot = &self.slots[number];
            slot.name.store(name, Ordering::SeqCst);
            slot.state.store(known.state.load(Ordering::SeqCst), Ordering::SeqCst);
            // The previous query with this id was never answered.
            tally.lost += u64::from(slot.sent.swap(self.now(), Ordering::SeqCst) != 0);
            message[..2].copy_from_slice(&u16::try_from(number).unwrap_or_default().to_be_bytes());
            // A closed port is reported by the next call; the query is lost, and counted in the
            // end.
            if self.socket.send(message).is_err() {
                drop(self.socket.send(message));
            }
            tally.asked += 1;
        }
        tally.lasted = self.began.elapsed();
        let due = tally.lasted.as_nanos() / self.pace.each.as_nanos().max(1);
        tally.due = u64::try_from(due).unwrap_or(u64::MAX);
        tally
    }

    fn listen(&self) -> Tally {
        let mut tally = Tally::default();
        let mut bytes = [0; 4096];
        let mut last = None;
        loop {
            if let Ok(length) = self.socket.recv(&mut bytes) {
                self.heard(bytes.get(..length).unwrap_or_default(), &mut tally);
            }
            if self.asked.load(Ordering::SeqCst) {
                let waiting = || self.slots.iter().any(|slot| slot.sent.load(Ordering::SeqCst) != 0);
                let since = *last.get_or_insert_with(Instant::now);
                if since.elapsed() > self.pace.patience || !waiting() {
                    break;
                }
            }
        }
        let left = self.slots.iter().filter(|slot| slot.sent.load(Ordering::SeqCst) != 0).count();
        tally.lost += left as u64;
        tally
    }

    fn heard(&self, reply: &[u8], tally: &mut Tally) {
        let number = reply.first_chunk().map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)));
        let slot = &self.slots[number];
        let sent = slot.sent.swap(0, Ordering::SeqCst);
        // Already answered: a resolver would not listen any more.
        if sent == 0 {
            return;
        }
        let took = Duration::from_nanos(self.now().saturating_sub(sent));
        tally.slowest = tally.slowest.max(took);
        tally.lost += u64::from(took > self.pace.patience);
        let Some(known) = self.names.get(slot.name.load(Ordering::SeqCst)) else { return };
        if let Err(fault) = known.verdict(slot.state.load(Ordering::SeqCst), reply) {
            tally.wrong += 1;
            if tally.faults.len() < FAULTS_SHOWN {
                tally.faults.push(fault);
            }
        }
    }
}

/// Creates containers `r<n>` that stay, and names `g<n>` for containers that come and go: see
/// [`come_and_go`].
pub fn names(room: &Room, stay: usize, go: usize) -> Result<(Vec<Named>, Arc<Vec<Known>>)> {
    let mut stayed = vec![];
    let mut names = vec![];
    for n in 0..stay {
        let named = Named::add(room, &format!("r{n}"), &format!("r{n}"), json!({"internal": true}))?;
        let known = Known::absent(&format!("r{n}.net"));
        known.changes();
        known.is_there(&named.address(false))?;
        stayed.push(named);
        names.push(known);
    }
    names.extend((0..go).map(|n| Known::absent(&format!("g{n}.net"))));
    Ok((stayed, Arc::new(names)))
}

/// Attaches and detaches the containers that come and go, one after the other in each of `workers`
/// threads, until each has existed and `until` has passed, but no longer than `at_most`. Returns
/// how many came and went.
pub fn come_and_go(
    room: &Room,
    names: &[Known],
    workers: usize,
    until: Duration,
    at_most: Duration,
) -> Result<usize> {
    let began = Instant::now();
    let going: Vec<(usize, &Known)> =
        names.iter().enumerate().filter(|(_, known)| known.question.starts_with('g')).collect();
    let work = |worker: usize| -> Result<usize> {
        let own: Vec<_> = going.iter().filter(|(n, _)| n % workers == worker).collect();
        let mut here: VecDeque<(Named, &Known)> = VecDeque::new();
        let (mut count, mut round) = (0, 0);
        let go = |(named, known): (Named, &Known)| -> Result<()> {
            known.changes();
            named.del(room)?;
            known.changes();
            let bridge = crate::config::bridge(crate::config::USUAL);
            room.attach("bridge", "DEL", &named.container).config(&bridge).run()?.silent()?;
            room.remove(&named.container)
        };
        while began.elapsed() < at_most && (round == 0 || began.elapsed() < until) {
            for (_, known) in &own {
                if began.elapsed() >= at_most {
                    break;
                }
                let name = known.question.trim_end_matches(".net");
                known.changes();
                let named = Named::add(room, name, name, json!({"internal": true}))?;
                known.is_there(&named.address(false))?;
                here.push_back((named, known));
                if here.len() > AT_ONCE.min(own.len() / 2) {
                    here.pop_front().map_or(Ok(()), go)?;
                    count += 1;
                }
            }
            round += 1;
        }
        count += here.len();
        here.into_iter().try_for_each(go)?;
        Ok(count)
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        let mut sum = 0;
        for worker in started {
            sum += worker.join().map_err(|_| anyhow!("a worker panicked"))?.context("come and go")?;
        }
        Ok(sum)
    })
}
