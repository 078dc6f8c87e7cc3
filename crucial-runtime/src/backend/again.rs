//! Requests that are sent again: to a service that runs functions somewhere else, and may be busy or have trouble.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use super::{cancelled, invocations::Call};
use crate::{
    error::{Error, Result},
    id,
};

/// The pauses between requests of the same attempt: the first is at most this long, each next one twice as much, ...
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// ... and none is longer.
const LAST_PAUSE: Duration = Duration::from_secs(5);
/// A request that was under way for so long has been taken. If there is no answer then, that is a new trouble.
const TAKEN: Duration = Duration::from_secs(30);
/// How often somebody who waits for a free function is told so.
const NEWS: Duration = Duration::from_secs(60);

/// Why a service did not run a function, or gave no answer.
#[derive(Clone)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) outlook: Outlook,
}

/// What may come of the same request a little later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// It will be refused again.
    Final,
    /// It may well be served.
    Trouble,
    /// It will be served when a function is free: all is well but for that.
    Busy,
}

/// How long requests are sent again.
pub(super) struct Patience {
    /// From when trouble begins.
    pub(super) trouble: Duration,
    /// The setting that says so.
    pub(super) setting: &'static str,
    /// From the first request on, without the time that it waited for a free function: what can't be served in this time
    /// isn't served at all.
    pub(super) all: Option<Duration>,
}

/// Sends a request until there is an answer, or no hope for one.
///
/// It may have been served although there is no answer; that does no harm, since attempts are
/// [claimed](super::delivery).
pub(super) async fn insist<T, F>(
    patience: &Patience,
    call: &Call<'_>,
    mut send: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T, Refusal>>,
{
    let function = call.function.name;
    let mut start = Instant::now();
    let mut trouble = None;
    let mut news = None;
    let mut pauses = Pauses::default();
    loop {
        let sent = Instant::now();
        let Refusal { reason, outlook } = match send().await {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        let pause = match outlook {
            Outlook::Final => return Err(Error::Refused { reason }),
            Outlook::Busy => {
                start = Instant::now();
                trouble = None;
                let since: &mut (Instant, Duration) = news.get_or_insert((start, NEWS));
                if since.0.elapsed() > since.1 {
                    tracing::warn!(
                        function,
                        reason,
                        "a cloud thread has waited {:?} for a free function. More of them, or a lower CRUCIAL_CONCURRENCY? \
                         One that waits for cloud threads of its own keeps a function meanwhile",
                        since.1
                    );
                    since.1 += NEWS;
                }
                pauses.next()
            }
            Outlook::Trouble => {
                if sent.elapsed() > TAKEN {
                    (trouble, pauses) = (None, Pauses::default());
                }
                let since = *trouble.get_or_insert_with(Instant::now);
                let pause = pauses.next();
                let is_over = patience.all.is_some_and(|all| start.elapsed() > all);
                if is_over || since.elapsed() + pause > patience.trouble {
                    return Err(call.failed(&tried(&reason, patience.trouble, patience.setting)));
                }
                tracing::info!(function, reason, "an invocation is sent again");
                pause
            }
        };
        tokio::select! {
            () = call.abort.aborted() => return Err(cancelled(call.function)),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Asks until a service answers or refuses, at most for the `connect_timeout`: what a program does when it starts.
pub(super) async fn reach<T, F>(connect_timeout: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T, Refusal>>,
{
    let start = Instant::now();
    let mut pauses = Pauses::default();
    loop {
        let Refusal { reason, outlook } = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(refusal) => refusal,
        };
        if outlook == Outlook::Final {
            return Err(Error::Refused { reason });
        }
        let pause = pauses.next();
        if start.elapsed() + pause > connect_timeout {
            let reason = tried(&reason, connect_timeout, "connect_timeout");
            return Err(Error::Refused { reason });
        }
        tokio::time::sleep(pause).await;
    }
}

/// A reason, and how long a setting had it tried.
fn tried(reason: &str, time: Duration, setting: &str) -> String {
    let stop = if reason.ends_with(['?', '.']) { "" } else { "." };
    format!("{reason}{stop} Tried for {time:?} (`{setting}`)")
}

/// The pauses before the same is tried again: exponential back-off with full jitter, so that many callers that were
/// refused at once don't come back at once.
struct Pauses(Duration);

impl Default for Pauses {
    fn default() -> Self {
        Pauses(FIRST_PAUSE)
    }
}

impl Pauses {
    fn next(&mut self) -> Duration {
        let longest = self.0;
        self.0 = (longest * 2).min(LAST_PAUSE);
        let chance = (id::fresh() >> 96) as u32;
        longest.mul_f64(f64::from(chance) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_are_spread_out() {
        let rounds: Vec<Vec<_>> = (0..200)
            .map(|_| {
                let mut pauses = Pauses::default();
                (0..10).map(|_| pauses.next()).collect()
            })
            .collect();
        for (n, longest) in [(0, 50), (1, 100), (4, 800), (7, 5000), (9, 5000)] {
            let longest = Duration::from_millis(longest);
            let pauses = || rounds.iter().map(|round| round[n]);
            assert!(pauses().all(|pause| pause <= longest));
            assert!(
                pauses().any(|pause| pause < longest / 4) && pauses().any(|pause| pause > longest * 3 / 4)
            );
        }
    }
}
