//! The end of an annex's queues that its program's thread serves.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::cascades::{Content, Delivery, INBOX_MAX, Inbox, Outlet};
use super::{COMMANDS_MAX, Input, Link, lock};
use crate::annex::Annex;
use crate::cascade::Notice;
use crate::sfu::Event;

/// Between two publications of what was counted.
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
const ASK_EVERY: Duration = Duration::from_millis(100);

/// An annex and its queues to the shards and the service. Owned by the thread that serves it.
#[derive(Debug)]
pub struct AnnexPort {
    annex: Annex,
    index: u16,
    link: Arc<Link>,
    inbox: Inbox,
    outlet: Outlet,
    events: SyncSender<Event>,
    /// Events the service has not taken, in order; each is caused by a command or an own track.
    waiting: VecDeque<Event>,
    delivered: Option<Delivery>,
    inputs: VecDeque<Input>,
    publish_at: Option<Instant>,
    ask_at: Option<Instant>,
    /// Deliveries taken in the last time.
    taken: usize,
}

impl AnnexPort {
    pub(super) fn new(
        index: u16,
        links: Arc<[Arc<Link>]>,
        inbox: Inbox,
        events: SyncSender<Event>,
    ) -> Self {
        Self {
            annex: Annex::new(index),
            index,
            link: Arc::clone(&links[usize::from(index)]),
            inbox,
            outlet: Outlet::new(index, links),
            events,
            waiting: VecDeque::new(),
            delivered: None,
            inputs: VecDeque::new(),
            publish_at: None,
            ask_at: None,
            taken: 0,
        }
    }

    /// The machine.
    pub fn annex(&mut self) -> &mut Annex {
        &mut self.annex
    }

    /// The media core has been shut down.
    pub fn is_stopped(&self) -> bool {
        self.link.is_stopped()
    }

    /// Waits until there may be something to do: a shard or the service said something, `also` became
    /// readable, or this much time has passed. Without a time it sleeps until it is woken.
    ///
    /// With one it is not woken by shards at all: packets that come meanwhile wait until then, and the
    /// media threads are spared the waking.
    pub fn wait(&mut self, time: Option<Duration>, also: BorrowedFd<'_>) {
        if time.is_none() {
            self.link.inlet.falls_asleep();
            self.delivered = self.inbox.take();
            if self.delivered.is_some() {
                self.link.inlet.wakes();
                return;
            }
        }
        let inputs = self.link.inputs.as_fd();
        let mut fds = [inputs, also].map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        // A signal ends it early, which does no harm.
        ppoll(&mut fds, time.map(TimeSpec::from), None).ok();
        self.link.inlet.wakes();
    }

    /// Takes in all that shards and the service have said.
    pub fn receive(&mut self) {
        self.link.inputs.clear_wake();
        while self.link.inputs.take(COMMANDS_MAX, &mut self.inputs) {}
        while let Some(input) = self.inputs.pop_front() {
            if let Input::Command(command) = input {
                self.annex.handle_command(command);
            }
        }
        self.taken = 0;
        while let Some(delivery) = self.delivered.take().or_else(|| self.inbox.take()) {
            self.taken += 1;
            match delivery.content {
                Content::Notices(notices) => self.annex.handle_notices(delivery.from, notices),
                Content::Shipment(shipment) => self.annex.handle_shipment(&shipment),
            }
        }
    }

    /// Hands out packets, notices and events.
    pub fn send(&mut self, now: Instant) {
        while self.annex.has_shipment() {
            let mut shipment = self.outlet.take_shipment();
            let Some(filling) = Arc::get_mut(&mut shipment) else {
                break;
            };
            if self.annex.poll_shipment(filling) {
                self.outlet.ship(shipment, &mut self.annex.metrics);
            }
        }
        if self.ask_at.is_none_or(|at| at <= now) {
            self.ask_at = Some(now + ASK_EVERY);
            self.annex.ask_again();
        }
        while let Some((to, notice)) = self.annex.poll_notice() {
            if !self.outlet.tell(to, notice) {
                tracing::error!(shard = to, "a media shard does not listen to the annex");
                self.annex.metrics.cascade_cuts += 1;
                self.annex.handle_notices(to, [Notice::restarted()]);
            }
        }
        self.outlet.send_notices(&mut self.annex.metrics);
        self.hand_out_events();
        if self.publish_at.is_none_or(|at| at <= now) {
            self.publish_at = Some(now + PUBLISH_EVERY);
            *lock(&self.link.published) = self.annex.metrics.clone();
        }
    }

    /// Something waits for a queue that was full: `send` should be called again soon.
    pub fn is_waiting(&self) -> bool {
        self.outlet.is_waiting() || !self.waiting.is_empty()
    }

    /// So much came since the time before that the queue might be full the next time.
    pub fn is_pressed(&self) -> bool {
        self.taken > INBOX_MAX / 4
    }

    fn hand_out_events(&mut self) {
        while let Some(event) = self.annex.poll_event() {
            self.waiting.push_back(event);
        }
        while let Some(event) = self.waiting.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    break;
                }
                Err(TrySendError::Disconnected(_)) => self.waiting.clear(),
            }
        }
    }

    /// The number the shards know the annex by.
    pub fn index(&self) -> u16 {
        self.index
    }
}
