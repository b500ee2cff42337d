//! Requests to members, one after the other until one answers.

use std::fmt;
use std::io::Read;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use cluster::settings::Settings;
use rustls::ClientConfig;
use ureq::Agent;
use ureq::http::Response;
use ureq::unversioned::transport::{Connector, TcpConnector};

use super::error::{Attempt, Error, Refusal};
use super::failure::{self, Broken};
use super::identity::{self, Stamp};
use super::login::Login;
use super::resolve::Addresses;
use super::tls::Tls;
use super::{RESPONSE_MAX, response};

/// A member that is silent for so long is left for the next.
pub(super) const SILENCE: Duration = Duration::from_secs(5);
/// As [`SILENCE`], until the connection stands: what was not sent may be sent to another.
const CONNECT: Duration = Duration::from_secs(4);
/// The longest call, over all members.
const CALL: Duration = Duration::from_secs(15);
/// The longest head of a response, in bytes.
const HEAD_MAX: usize = 16 << 10;
/// Connections that wait for the next request.
const IDLE_MAX: usize = 2;

/// The path of a call that etcd asks nobody's name for.
pub(super) const KEEP_ALIVE: &str = "/v3/lease/keepalive";

/// Whether a request that may have been done may be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Repeat {
    /// It has the same effect twice.
    Harmless,
    /// It has not: a transaction that finds its own effect fails.
    OnlyUnsent,
}

/// The members, and what is known of them.
pub(super) struct Members {
    pub(super) settings: Settings,
    state: Mutex<State>,
}

struct State {
    /// In the order in which they are tried.
    order: Vec<String>,
    /// For all members: connections, made with these files.
    connections: Option<Connections>,
    login: Login,
    /// The files, when somebody last asked whether they have changed.
    seen: Option<Vec<Option<Stamp>>>,
}

struct Connections {
    agent: Agent,
    tls: Arc<ClientConfig>,
    /// The files that TLS was made with.
    of: Vec<Option<Stamp>>,
}

/// What a member answered.
pub(super) struct Body {
    /// Its URL.
    pub(super) member: String,
    /// The bytes.
    pub(super) bytes: Vec<u8>,
}

/// Why one member did not do it.
enum Failed {
    /// It is over.
    For(Error),
    /// Another member may do it.
    Here(Attempt, Kind),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Away,
    NoQuorum,
    Closed,
    Refused(Refusal),
}

impl Members {
    pub(super) fn new(settings: &Settings) -> Self {
        let mut order = settings.endpoints.clone();
        for last in (1..order.len()).rev() {
            let random = u32::from_ne_bytes(sys::random::bytes().unwrap_or_default()) as usize;
            order.swap(last, random % (last + 1));
        }
        let state = State { order, connections: None, login: Login::default(), seen: None };
        Self { settings: settings.clone(), state: Mutex::new(state) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The members, the one that answered last first.
    pub(super) fn order(&self) -> Vec<String> {
        self.state().order.clone()
    }

    /// Another member is asked first from now on, if this one was.
    pub(super) fn leave(&self, member: &str) {
        let order = &mut self.state().order;
        if order.first().is_some_and(|first| first == member) {
            order.rotate_left(1);
        }
    }

    /// Sends a request to one member after the other until one answers.
    pub(super) fn call(&self, path: &str, body: &[u8], repeat: Repeat) -> Result<Body, Error> {
        let deadline = Instant::now() + CALL;
        let mut attempts = Vec::new();
        let mut kinds = Vec::new();
        for member in self.order() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left < CALL / 50 {
                break;
            }
            match self.ask(&member, path, body, repeat, left.min(SILENCE)) {
                Ok(bytes) => return Ok(Body { member, bytes }),
                Err(Failed::For(error)) => {
                    if error.is_away() {
                        self.leave(&member);
                    }
                    return Err(error);
                }
                Err(Failed::Here(attempt, kind)) => {
                    self.leave(&member);
                    attempts.push(attempt);
                    kinds.push(kind);
                }
            }
        }
        Err(self.verdict(attempts, &kinds))
    }

    /// What the failures of all members mean together.
    fn verdict(&self, attempts: Vec<Attempt>, kinds: &[Kind]) -> Error {
        let refused = kinds.iter().zip(&attempts).find_map(|(kind, attempt)| match kind {
            Kind::Refused(refusal) => Some(Error::Refused(*refusal, attempt.clone())),
            _ => None,
        });
        // Every member takes the connection and drops it at once: that is no restart of one.
        let all_close = self.settings.cert.is_some()
            && !kinds.is_empty()
            && kinds.len() == self.settings.endpoints.len()
            && kinds.iter().all(|kind| *kind == Kind::Closed);
        if let Some(error) = refused {
            return error;
        }
        if let (true, Some(attempt)) = (all_close, attempts.first()) {
            return Error::Refused(Refusal::ServerAsClient, attempt.clone());
        }
        match kinds.iter().position(|kind| *kind == Kind::NoQuorum).and_then(|at| attempts.get(at)) {
            Some(attempt) => Error::NoQuorum(attempt.clone()),
            None => Error::Unreachable(attempts),
        }
    }

    fn ask(
        &self,
        member: &str,
        path: &str,
        body: &[u8],
        repeat: Repeat,
        patience: Duration,
    ) -> Result<Vec<u8>, Failed> {
        let deadline = Instant::now() + patience;
        // A token may have ended, and a pooled connection may have been closed meanwhile.
        for is_last in [false, true] {
            let left = deadline.saturating_duration_since(Instant::now()).max(CALL / 50);
            let token = match self.token(member, left) {
                // etcd asks nobody who keeps a lease alive for a name: a host that may not write
                // for a while stays alive for the others.
                Err(Error::Refused(Refusal::Credentials, _) | Error::File { .. }) if path == KEEP_ALIVE => {
                    None
                }
                token => token.map_err(|failed| self.counted(failed, repeat))?,
            };
            let agent = self.agent().map_err(Failed::For)?;
            let sent = send(&agent, member, path, body, token.as_deref(), Some(left));
            let answer = sent.and_then(|answer| Ok((answer.status().as_u16(), whole(answer)?)));
            match answer {
                Ok((200, bytes)) => return Ok(bytes),
                Ok((status, bytes)) => match failure::of_answer(member, status, &bytes) {
                    Some(error) => return Err(self.counted(error, repeat)),
                    None if is_last || self.settings.user.is_none() => {
                        let why = format!("{} (status {status})", response::shown(&failure::message(&bytes)));
                        let attempt = Attempt { member: member.to_owned(), why };
                        return Err(Failed::For(Error::Refused(Refusal::Credentials, attempt)));
                    }
                    None => self.forget_token(token.as_deref()),
                },
                Err(broken) => match (&broken, repeat) {
                    (Broken::Closed(_), Repeat::Harmless) if !is_last => {}
                    _ => return Err(broken_here(member, broken, repeat)),
                },
            }
        }
        Err(Failed::Here(Attempt { member: member.to_owned(), why: "no answer".into() }, Kind::Away))
    }

    /// Whether another member is asked after this error.
    fn counted(&self, error: Error, repeat: Repeat) -> Failed {
        match error {
            Error::Refused(Refusal::ServerAsClient, attempt) => {
                Failed::Here(attempt, Kind::Refused(Refusal::ServerAsClient))
            }
            Error::NoQuorum(attempt) if repeat == Repeat::Harmless => Failed::Here(attempt, Kind::NoQuorum),
            Error::Unreachable(mut attempts) => match attempts.pop() {
                Some(attempt) => Failed::Here(attempt, Kind::Away),
                None => Failed::For(Error::Unreachable(attempts)),
            },
            other => Failed::For(other),
        }
    }

    /// The token for the header, of this or an earlier authentication; `None` without a user.
    ///
    /// Checking a password costs etcd a tenth of a second of a core, and all hosts may have a
    /// wrong one: after a refusal it is asked again with pauses, and at once with another password.
    pub(super) fn token(&self, member: &str, patience: Duration) -> Result<Option<String>, Error> {
        let (Some(user), Some(path)) = (&self.settings.user, &self.settings.password_file) else {
            return Ok(None);
        };
        let stamp = identity::stamp(path);
        if let Some(known) = self.state().login.known(stamp, Instant::now()) {
            return known.map(Some);
        }
        let body = serde_json::json!({"name": user, "password": identity::password(path)?}).to_string();
        let answer = self.authenticate(member, body.as_bytes(), patience);
        let mut state = self.state();
        match &answer {
            Ok(Some(token)) => state.login.succeeded(token.clone()),
            Err(error @ Error::Refused(Refusal::Credentials, _)) => {
                state.login.refused(error.clone(), stamp, Instant::now())
            }
            _ => {}
        }
        answer
    }

    fn authenticate(&self, member: &str, body: &[u8], patience: Duration) -> Result<Option<String>, Error> {
        let agent = self.agent()?;
        let sent = send(&agent, member, "/v3/auth/authenticate", body, None, Some(patience));
        let (status, bytes) = sent
            .and_then(|answer| Ok((answer.status().as_u16(), whole(answer)?)))
            .map_err(|broken| one(member, broken))?;
        if status != 200 {
            // Users are not turned on: nothing asks for a token.
            if failure::message(&bytes).contains("authentication is not enabled") {
                return Ok(None);
            }
            let why = || format!("{} (status {status})", response::shown(&failure::message(&bytes)));
            let refused = || Attempt { member: member.to_owned(), why: why() };
            return Err(failure::of_answer(member, status, &bytes)
                .unwrap_or_else(|| Error::Refused(Refusal::Credentials, refused())));
        }
        let token = response::parse::<response::Token>(&bytes).map(|answer| answer.token);
        match token {
            // A header may have nothing else, and what the answer has is not shown: it is a secret.
            Ok(token) if !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Ok(Some(token))
            }
            _ => {
                let why = "its answer to name and password has no token".to_owned();
                Err(Error::Malformed(Attempt { member: member.to_owned(), why }))
            }
        }
    }

    /// This token is no longer good; another thread may have a new one.
    pub(super) fn forget_token(&self, token: Option<&str>) {
        self.state().login.forget(token);
    }

    /// Whether a file with a certificate, a key or the password has changed since the last call.
    pub(super) fn has_new_files(&self) -> bool {
        let mut stamps = identity::stamps(&self.settings);
        stamps.push(self.settings.password_file.as_deref().and_then(identity::stamp));
        let mut state = self.state();
        let is_so = state.seen.as_ref().is_some_and(|seen| *seen != stamps);
        state.seen = Some(stamps);
        is_so
    }

    /// Connections, with the certificates that the files have now.
    fn agent(&self) -> Result<Agent, Error> {
        self.connected(|connections| connections.agent.clone())
    }

    /// A connection of its own.
    pub(super) fn own_agent(&self) -> Result<Agent, Error> {
        self.connected(|connections| agent(&connections.tls))
    }

    fn connected<T>(&self, take: impl FnOnce(&Connections) -> T) -> Result<T, Error> {
        let of = identity::stamps(&self.settings);
        let mut state = self.state();
        if state.connections.as_ref().is_none_or(|used| used.of != of) {
            match identity::tls(&self.settings) {
                Ok(tls) => state.connections = Some(Connections { agent: agent(&tls), tls, of }),
                // A file that is being replaced: what was read before is good, and is read again.
                Err(_) if state.connections.is_some() => {}
                Err(error) => return Err(error),
            }
        }
        match &state.connections {
            Some(connections) => Ok(take(connections)),
            None => Err(Error::Unreachable(Vec::new())),
        }
    }
}

fn agent(tls: &Arc<ClientConfig>) -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .max_redirects(0)
        .max_response_header_size(HEAD_MAX)
        .max_idle_connections(IDLE_MAX)
        .max_idle_connections_per_host(IDLE_MAX)
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_recv_response(Some(SILENCE))
        .build();
    let connector = ().chain(TcpConnector::default()).chain(Tls(tls.clone()));
    Agent::with_parts(config, connector, Addresses::default())
}

/// Sends a request, and waits for the head of the answer.
pub(super) fn send(
    agent: &Agent,
    member: &str,
    path: &str,
    body: &[u8],
    token: Option<&str>,
    patience: Option<Duration>,
) -> Result<Response<ureq::Body>, Broken> {
    let mut request = agent
        .post(format!("{member}{path}"))
        .header("Content-Type", "application/json")
        // Else a watch of a member without quorum stays open, and silent.
        .header("Grpc-Metadata-hasleader", "true");
    if let Some(token) = token {
        request = request.header("Authorization", token);
    }
    let sent = request.config().timeout_global(patience).build().send(body);
    sent.map_err(|error| failure::of_connection(&error))
}

/// The answer's bytes.
pub(super) fn whole(answer: Response<ureq::Body>) -> Result<Vec<u8>, Broken> {
    let mut bytes = Vec::new();
    let mut reader = answer.into_body().into_reader().take(RESPONSE_MAX as u64 + 1);
    reader.read_to_end(&mut bytes).map_err(|error| failure::of_connection(&error.into()))?;
    Ok(bytes)
}

/// The error of one member alone.
pub(super) fn one(member: &str, broken: Broken) -> Error {
    match broken_here(member, broken, Repeat::Harmless) {
        Failed::For(error) => error,
        Failed::Here(attempt, Kind::Refused(refusal)) => Error::Refused(refusal, attempt),
        Failed::Here(attempt, _) => Error::Unreachable(vec![attempt]),
    }
}

fn broken_here(member: &str, broken: Broken, repeat: Repeat) -> Failed {
    let (why, kind, is_sent) = match broken {
        Broken::NotSent(why) => (why, Kind::Away, false),
        Broken::Refused(refusal, why) => (why, Kind::Refused(refusal), false),
        Broken::Silent(why) => (why, Kind::Away, true),
        Broken::Closed(why) => (why, Kind::Closed, true),
    };
    let attempt = Attempt { member: member.to_owned(), why };
    if is_sent && repeat == Repeat::OnlyUnsent {
        return Failed::For(Error::Unreachable(vec![attempt]));
    }
    Failed::Here(attempt, kind)
}

impl fmt::Debug for Members {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Members").field("endpoints", &self.settings.endpoints).finish_non_exhaustive()
    }
}
