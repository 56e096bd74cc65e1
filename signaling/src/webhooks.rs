//! Webhooks: an application is told by HTTP what happens in rooms, broadcasts and recordings.
//!
//! Requests are signed as Standard Webhooks has it, numbered, and repeated until they are taken. What
//! waits is in memory: a server that is killed takes it along.
//!
//! | file | what happens |
//! |---|---|
//! | `webhooks/event.rs` | what is told, and its body |
//! | `webhooks/watch.rs` | what is different about broadcasts since the last look |
//! | `webhooks/deliveries.rs` | pure: what goes out when, in which order, how often |
//! | `webhooks/signature.rs` | whose it is |
//! | this file | I/O: the clock, requests under way |
//! | `http/post.rs` | I/O: one request on one connection |

mod deliveries;
mod event;
mod signature;
mod watch;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use sfu::{Metric, MetricKind};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::sync::{Notify, watch as channel};
use tokio::task::{Id, JoinSet};
use tokio::time::{sleep_until, timeout};

use crate::config;
use crate::http::{Endpoint, PostError, unix_time};
use crate::rooms::random_key;
use deliveries::{Counts, Deliveries, Failure, Parcel};
pub use event::EventKind;
pub(crate) use event::{data_of, kind_of};
use signature::SigningKeys;
pub(crate) use signature::key_bytes;
pub(crate) use watch::{Watch, recording_event};

/// How long the server waits at its end for what is to be told still.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Tells an application what happens.
pub(crate) struct Webhooks {
    endpoint: Endpoint,
    keys: SigningKeys,
    /// Which; empty: all.
    wanted: Vec<EventKind>,
    deliveries: Mutex<Deliveries>,
    news: Notify,
}

/// A request's end: which, and what became of it.
type Outcome = (u64, Result<(), PostError>);

#[expect(
    clippy::disallowed_methods,
    reason = "requests go out when they are due: this file reads the clock"
)]
impl Webhooks {
    /// `None` when none are configured.
    pub(crate) fn new(config: &config::Webhooks) -> Option<Arc<Self>> {
        let endpoint = Endpoint::parse(&config.url)?;
        // Numbers of a later run are larger than those of this one.
        let first_seq = unix_time().saturating_mul(1_000_000).saturating_add(1);
        let run: String = random_key()
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(16)
            .collect();
        Some(Arc::new(Self {
            endpoint,
            keys: SigningKeys::new(&config.secrets),
            wanted: config.events.clone(),
            deliveries: Mutex::new(Deliveries::new(first_seq, format!("msg_{run}_"))),
            news: Notify::new(),
        }))
    }

    /// Tells an event about a room; `data` is called if anyone wants to know.
    pub(crate) fn tell(&self, kind: EventKind, room: &str, data: impl FnOnce() -> Value) {
        if !self.wanted.is_empty() && !self.wanted.contains(&kind) {
            return;
        }
        let (timestamp, data) = (timestamp(SystemTime::now()), data());
        let write = |seq| event::body(kind, &timestamp, &data, seq);
        self.deliveries().push(Instant::now(), room, write);
        self.news.notify_one();
    }

    /// Sends what there is to send, until the server ends and a moment longer.
    pub(crate) async fn run(self: Arc<Self>, mut stopped: channel::Receiver<bool>) {
        let mut posts = Posts::default();
        tokio::select! {
            () = self.deliver(&mut posts, false) => {}
            _ = stopped.wait_for(|stop| *stop) => {}
        }
        let flushed = timeout(FLUSH_TIMEOUT, self.deliver(&mut posts, true)).await;
        let waiting = self.deliveries().waiting();
        if flushed.is_err() || waiting > 0 {
            tracing::warn!(waiting, "the server ends before all webhooks were taken");
        }
    }

    /// Delivers, for ever or until nothing is left that can be sent now.
    async fn deliver(self: &Arc<Self>, posts: &mut Posts, is_last: bool) {
        loop {
            let now = Instant::now();
            let due_at = {
                let mut deliveries = self.deliveries();
                while let Some(parcel) = deliveries.poll_attempt(now) {
                    posts.begin(self, parcel);
                }
                deliveries.poll_timeout()
            };
            if is_last && posts.under_way.is_empty() {
                return;
            }
            let due = async {
                match due_at {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                (seq, outcome) = posts.next() => self.note(seq, outcome),
                () = self.news.notified() => {}
                () = due => {}
            }
        }
    }

    async fn post(self: Arc<Self>, parcel: Parcel) -> Outcome {
        let at_s = unix_time();
        let signature = self.keys.sign(&parcel.id, at_s, &parcel.body);
        let headers = [
            ("webhook-id", parcel.id.clone()),
            ("webhook-timestamp", at_s.to_string()),
            ("webhook-signature", signature),
        ];
        let posted = self.endpoint.post(&headers, parcel.body).await;
        (parcel.seq, posted)
    }

    fn note(&self, seq: u64, outcome: Result<(), PostError>) {
        let outcome = outcome.map_err(|error| {
            tracing::warn!(seq, "a webhook is not taken: {error}");
            match error {
                PostError::Status(_) => Failure::Refused,
                _ => Failure::Away,
            }
        });
        self.deliveries()
            .handle_outcome(Instant::now(), seq, outcome);
    }

    /// What is counted.
    pub(crate) fn metrics(&self) -> Vec<Metric> {
        let (waiting, counts) = {
            let deliveries = self.deliveries();
            (deliveries.waiting(), deliveries.counts())
        };
        metrics(u64::try_from(waiting).unwrap_or(u64::MAX), counts)
    }

    fn deliveries(&self) -> MutexGuard<'_, Deliveries> {
        self.deliveries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Requests under way.
#[derive(Default)]
struct Posts {
    tasks: JoinSet<Outcome>,
    under_way: HashMap<Id, u64>,
}

impl Posts {
    fn begin(&mut self, webhooks: &Arc<Webhooks>, parcel: Parcel) {
        let seq = parcel.seq;
        let task = self.tasks.spawn(Arc::clone(webhooks).post(parcel));
        self.under_way.insert(task.id(), seq);
    }

    /// The next that ends.
    async fn next(&mut self) -> Outcome {
        loop {
            let (id, outcome) = match self.tasks.join_next_with_id().await {
                None => std::future::pending().await,
                Some(Ok((id, outcome))) => (id, Some(outcome)),
                Some(Err(error)) => (error.id(), None),
            };
            if let Some(seq) = self.under_way.remove(&id) {
                return outcome.unwrap_or((seq, Err(PostError::Ended)));
            }
        }
    }
}

fn metrics(waiting: u64, counts: Counts) -> Vec<Metric> {
    let metric = |kind, name, help, label, value| Metric {
        name,
        help,
        kind,
        label,
        value,
    };
    let counter = |name, help, value| metric(MetricKind::Counter, name, help, None, value);
    let lost = |why, value| {
        let (name, help) = (
            "plenum_webhooks_lost_total",
            "Events never delivered, by reason.",
        );
        metric(
            MetricKind::Counter,
            name,
            help,
            Some(("reason", why)),
            value,
        )
    };
    vec![
        metric(
            MetricKind::Gauge,
            "plenum_webhooks_waiting",
            "Events not delivered yet.",
            None,
            waiting,
        ),
        counter(
            "plenum_webhooks_delivered_total",
            "Events delivered.",
            counts.delivered,
        ),
        counter(
            "plenum_webhooks_failed_tries_total",
            "Requests that were not answered with a status of 2xx.",
            counts.failed_tries,
        ),
        lost("queue_full", counts.dropped),
        lost("given_up", counts.given_up),
    ]
}

/// A moment as RFC 3339 has it, to the millisecond.
fn timestamp(at: SystemTime) -> String {
    let at = OffsetDateTime::from(at);
    let at = at.replace_millisecond(at.millisecond()).ok();
    at.and_then(|at| at.format(&Rfc3339).ok())
        .unwrap_or_default()
}
