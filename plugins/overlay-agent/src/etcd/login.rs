//! The token of a user, and when etcd is asked for another one.

use std::time::{Duration, Instant};

use super::error::Error;
use super::identity::Stamp;

/// The first pause after a refusal, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// What is known of the user.
#[derive(Default)]
pub(super) struct Login {
    token: Option<String>,
    refused: Option<Refused>,
}

struct Refused {
    error: Error,
    /// The password's file.
    of: Option<Stamp>,
    until: Instant,
    pause: Duration,
}

impl Login {
    /// The token, or why there is none; `None`: etcd is to be asked.
    pub(super) fn known(&self, password: Option<Stamp>, now: Instant) -> Option<Result<String, Error>> {
        let refused = self.refused.as_ref().filter(|refused| refused.of == password && now < refused.until);
        match (&self.token, refused) {
            (Some(token), _) => Some(Ok(token.clone())),
            (None, Some(refused)) => Some(Err(refused.error.clone())),
            (None, None) => None,
        }
    }

    /// etcd gave a token.
    pub(super) fn succeeded(&mut self, token: String) {
        (self.token, self.refused) = (Some(token), None);
    }

    /// etcd refused this password.
    pub(super) fn refused(&mut self, error: Error, password: Option<Stamp>, now: Instant) {
        let before = self.refused.take().filter(|before| before.of == password);
        let pause = before.map_or(PAUSES.0, |before| (before.pause * 2).min(PAUSES.1));
        self.refused = Some(Refused { error, of: password, until: now + pause, pause });
    }

    /// This token is no longer good.
    pub(super) fn forget(&mut self, token: Option<&str>) {
        if self.token.as_deref() == token {
            self.token = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error() -> Error {
        Error::TooMuch("refused".into())
    }

    /// O-075: a refused password is not tried in a loop, and another one is at once.
    #[test]
    fn a_refused_password_is_tried_with_pauses_and_another_at_once() {
        let mut login = Login::default();
        let now = Instant::now();
        let (old, new) = (None, super::super::identity::stamp(std::path::Path::new("/")));
        assert!(login.known(old, now).is_none());
        let mut at = now;
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            login.refused(error(), old, at);
            assert_eq!(login.known(old, at), Some(Err(error())));
            assert!(login.known(new, at).is_none());
            at += Duration::from_secs(pause);
            assert!(login.known(old, at).is_none(), "after {pause} s");
        }
        login.succeeded("t".into());
        assert_eq!(login.known(old, at), Some(Ok("t".into())));
        login.forget(Some("another"));
        assert_eq!(login.known(old, at), Some(Ok("t".into())));
        login.forget(Some("t"));
        assert!(login.known(old, at).is_none());
    }
}
