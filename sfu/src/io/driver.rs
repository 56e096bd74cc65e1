//! The loop of one media thread: wait, receive, drive the shard, send.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::prctl;
use nix::sys::time::TimeSpec;

use super::cascades::{Content, Delivery, Inbox, Outlet};
use super::quantum::Quantum;
use super::relay::Relay;
use super::restart::Restartable;
use super::tcp::{Connections, Ready};
use super::{COMMANDS_MAX, Input, Link, lock};
use crate::cascade::Notice;
use crate::metrics::{DropReason, Metrics};
use crate::sfu::{Command, Event};
use crate::shard::{Arena, Datagram, Protocol, Shard, ShardOptions};
use net::{ReceiveBuffers, UdpSockets, recycle};

/// One media thread: a shard, its sockets and its queues.
pub(super) struct Driver {
    shard: Restartable,
    udp: UdpSockets,
    buffers: ReceiveBuffers,
    datagrams: Vec<Datagram<'static>>,
    connections: Connections,
    ready: Vec<Ready>,
    link: Arc<Link>,
    /// The TURN server of this shard.
    pub(super) relay: Option<Box<dyn Relay>>,
    inputs: VecDeque<Input>,
    events: SyncSender<Event>,
    /// Events the service has not taken, in order.
    waiting: VecDeque<Event>,
    /// What other shards hand to this one, and this one to them.
    inbox: Inbox,
    outlet: Outlet,
    /// Taken from the inbox while falling asleep.
    delivered: Option<Delivery>,
    /// There may be more in the inbox.
    has_deliveries: bool,
    arena: Arena,
    metrics: Metrics,
    published_at: Instant,
    publish_at: Instant,
    /// RTP packets sent when the count was last published.
    published_packets: u64,
    quantum: Quantum,
    /// There may be inputs although nothing wakes us for them.
    has_inputs: bool,
}

/// What can be done without waiting.
#[derive(Clone, Copy, Debug, Default)]
struct Woken {
    udp: [bool; 2],
    tcp: bool,
    inputs: bool,
    relay: bool,
}

impl Driver {
    /// Makes the driver of a shard; `run` starts it.
    pub(super) fn new(
        options: ShardOptions,
        udp: UdpSockets,
        links: Arc<[Arc<Link>]>,
        inbox: Inbox,
        events: SyncSender<Event>,
    ) -> io::Result<Self> {
        Ok(Self {
            published_at: options.started,
            publish_at: options.started,
            published_packets: 0,
            link: Arc::clone(&links[usize::from(options.index)]),
            inbox,
            outlet: Outlet::new(options.index, links),
            delivered: None,
            has_deliveries: false,
            shard: Restartable::new(options),
            udp,
            buffers: ReceiveBuffers::new(),
            datagrams: Vec::new(),
            connections: Connections::new()?,
            ready: Vec::new(),
            relay: None,
            inputs: VecDeque::new(),
            events,
            waiting: VecDeque::new(),
            arena: Arena::new(),
            metrics: Metrics::default(),
            quantum: Quantum::default(),
            has_inputs: false,
        })
    }

    /// Turns until the handle stops it, then handles what was asked before.
    pub(super) fn run(mut self) {
        let mut now = Instant::now();
        // A pause must not take 50 us longer than asked for.
        prctl::set_timerslack(TIMER_SLACK_NS).ok();
        while !self.link.is_stopped() {
            let due = self.due(now);
            let woken = self.wait(now, due);
            let has_packets = woken.udp.contains(&true) || woken.relay;
            if has_packets && let Some(hold) = self.quantum.hold() {
                pause(hold);
            }
            now = Instant::now();
            self.turn(now, woken);
            let worked = now.elapsed();
            if has_packets {
                self.quantum.worked(worked);
            }
            self.metrics.busy_microseconds += u64::try_from(worked.as_micros()).unwrap_or(0);
        }
        for _ in 0..=COMMANDS_MAX / INPUTS_PER_TURN {
            self.take_inputs(now);
        }
        self.send_due(now);
        self.hand_out_events(now);
        self.publish(now);
    }

    /// One round.
    fn turn(&mut self, now: Instant, woken: Woken) {
        for index in 0..self.udp.count() {
            if woken.udp[index] {
                self.receive_udp(now, index);
            }
        }
        if woken.tcp {
            self.serve_connections(now);
        }
        self.serve_relay(now, woken.relay);
        self.take_deliveries(now);
        // Commands cause events: while the service does not take its events, its commands wait.
        self.has_inputs |= woken.inputs;
        if woken.inputs {
            self.link.inputs.clear_wake();
        }
        if self.has_inputs && !self.is_held_up() {
            self.take_inputs(now);
        }
        while let Some(path) = self.connections.poll_closed() {
            self.shard.call(now, |shard| shard.handle_closed(now, path));
        }
        let is_due = |shard: &mut Shard| shard.poll_timeout().is_some_and(|due| due <= now);
        if self.shard.call(now, is_due).unwrap_or(false) {
            self.shard.call(now, |shard| shard.handle_timeout(now));
        }
        // Other shards first: they can begin while this one serves its own subscribers.
        self.ship(now);
        self.send_due(now);
        if self.shard.take_restarted() {
            // The new shard knows none of them; their peers are gone.
            self.connections.close_all(&mut self.metrics);
            self.outlet.restart();
        }
        self.hand_out_events(now);
        self.hand_out_notices(now);
        if self.publish_at <= now {
            self.connections.close_idle(now, &mut self.metrics);
            if let Some(relay) = &mut self.relay {
                let shard = &self.shard;
                relay.retain(&|participant| shard.has_participant(participant));
            }
            self.publish(now);
        }
    }

    fn is_held_up(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// When to wake even when nothing comes in.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        let shard = self.shard.call(now, Shard::poll_timeout).flatten();
        let is_waiting = !self.waiting.is_empty() || self.outlet.is_waiting();
        let retry = is_waiting.then_some(now + EVENTS_RETRY);
        let has_inputs = self.has_inputs && !self.is_held_up();
        let inputs = (has_inputs || self.has_deliveries).then_some(now);
        let relay = self.relay.as_ref().and_then(|relay| relay.poll_timeout());
        [shard, retry, inputs, relay, Some(self.publish_at)]
            .into_iter()
            .flatten()
            .min()
    }

    fn wait(&mut self, now: Instant, due: Option<Instant>) -> Woken {
        self.link.inlet.falls_asleep();
        self.delivered = self.inbox.take();
        let due = match self.delivered {
            Some(_) => Some(now),
            None => due,
        };
        let woken = self.wait_for_sockets(now, due);
        self.link.inlet.wakes();
        woken
    }

    fn wait_for_sockets(&self, now: Instant, due: Option<Instant>) -> Woken {
        let inputs = self.link.inputs.as_fd();
        let relay = self.relay.as_ref().map(|relay| relay.fd());
        let mut fds: [PollFd<'_>; 5] = std::array::from_fn(|index| {
            let fd = match index {
                0 => inputs,
                1 => self.connections.as_fd(),
                2 => relay.unwrap_or(inputs),
                _ => self.udp.fd(index - 3),
            };
            PollFd::new(fd, PollFlags::POLLIN)
        });
        let fds = &mut fds[..3 + self.udp.count()];
        let timeout = due.map(|due| TimeSpec::from(due.saturating_duration_since(now)));
        if ppoll(fds, timeout, None).is_err() {
            return Woken::default(); // A signal: look at the clock and wait again.
        }
        let is_ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        Woken {
            inputs: is_ready(0),
            tcp: is_ready(1),
            relay: relay.is_some() && is_ready(2),
            udp: [is_ready(3), is_ready(4)],
        }
    }

    fn receive_udp(&mut self, now: Instant, index: usize) {
        let mut datagrams = recycle(std::mem::take(&mut self.datagrams));
        // One batch: the socket is still readable when there is more, and what this one caused
        // goes out first.
        self.udp.receive(index, &mut self.buffers, &mut datagrams);
        if !datagrams.is_empty() {
            self.shard
                .call(now, |shard| shard.handle_batch(now, &mut datagrams));
        }
        self.datagrams = recycle(datagrams);
    }

    fn serve_connections(&mut self, now: Instant) {
        let mut ready = std::mem::take(&mut self.ready);
        self.connections.poll_ready(&mut ready);
        for Ready {
            number,
            readable,
            writable,
        } in ready.iter().copied()
        {
            if writable {
                self.connections.write(now, number, &mut self.metrics);
            }
            if readable {
                self.receive_tcp(now, number);
            }
        }
        self.ready = ready;
    }

    fn receive_tcp(&mut self, now: Instant, number: u64) {
        let mut datagrams = recycle(std::mem::take(&mut self.datagrams));
        self.connections
            .receive(number, &mut datagrams, &mut self.metrics);
        if !datagrams.is_empty() {
            self.shard
                .call(now, |shard| shard.handle_batch(now, &mut datagrams));
        }
        self.datagrams = recycle(datagrams);
    }

    /// Lets the TURN server work, and takes in what relayed clients sent.
    fn serve_relay(&mut self, now: Instant, is_ready: bool) {
        let Some(relay) = &mut self.relay else {
            return;
        };
        let mut sources_left = if is_ready { RELAY_SOURCES_PER_TURN } else { 0 };
        let mut datagrams = recycle(std::mem::take(&mut self.datagrams));
        while sources_left > 0 && relay.receive(now, &mut datagrams) {
            sources_left -= 1;
            if !datagrams.is_empty() {
                self.shard
                    .call(now, |shard| shard.handle_batch(now, &mut datagrams));
            }
            datagrams = recycle(datagrams);
        }
        self.datagrams = recycle(datagrams);
        if relay.poll_timeout().is_some_and(|due| due <= now) {
            relay.handle_timeout(now);
        }
    }

    /// Tells the TURN server whose credentials are good.
    fn tell_relay(&mut self, command: &Command) {
        match (&mut self.relay, command) {
            (Some(relay), Command::Join { participant, .. }) => relay.handle_joined(*participant),
            (Some(relay), Command::Leave { participant }) => relay.handle_left(*participant),
            _ => {}
        }
    }

    /// Handles a few inputs.
    fn take_inputs(&mut self, now: Instant) {
        self.has_inputs = self.link.inputs.take(INPUTS_PER_TURN, &mut self.inputs);
        while let Some(input) = self.inputs.pop_front() {
            match input {
                Input::Command(command) => {
                    self.tell_relay(&command);
                    self.shard.handle_command(now, command);
                }
                Input::Connection(identified) => {
                    let opened = self.connections.open(now, identified, &mut self.metrics);
                    if let Some(number) = opened {
                        self.receive_tcp(now, number);
                    }
                }
            }
        }
    }

    /// Takes in a few of what other shards handed over.
    fn take_deliveries(&mut self, now: Instant) {
        let mut left = DELIVERIES_PER_TURN;
        while left > 0 {
            let next = self.delivered.take().or_else(|| self.inbox.take());
            let Some(Delivery { from, content }) = next else {
                break;
            };
            left -= 1;
            match content {
                Content::Notices(notices) => {
                    self.shard
                        .call(now, |shard| shard.handle_notices(now, from, notices));
                }
                Content::Shipment(shipment) => {
                    self.shard
                        .call(now, |shard| shard.handle_shipment(now, &shipment));
                }
            }
        }
        self.has_deliveries = left == 0;
    }

    /// Hands packets to the shards that want them.
    fn ship(&mut self, now: Instant) {
        while self.shard.call(now, |shard| shard.has_shipment()) == Some(true) {
            let mut shipment = self.outlet.take_shipment();
            let Some(filling) = Arc::get_mut(&mut shipment) else {
                return;
            };
            let is_filled = self.shard.call(now, |shard| shard.poll_shipment(filling));
            if is_filled == Some(true) {
                self.outlet.ship(shipment, &mut self.metrics);
            }
        }
    }

    /// Tells other shards what there is to tell, never before the service is told its part of it.
    fn hand_out_notices(&mut self, now: Instant) {
        let count = self.shard.call(now, |shard| shard.notice_count());
        if !self.waiting.is_empty() && count.is_none_or(|count| count < NOTICES_HELD_MAX) {
            return;
        }
        while let Some((to, notice)) = self.shard.call(now, Shard::poll_notice).flatten() {
            if !self.outlet.tell(to, notice) {
                tracing::error!(shard = to, "a media shard does not listen to another one");
                self.metrics.cascade_cuts += 1;
                let anew = [Notice::restarted()];
                self.shard
                    .call(now, |shard| shard.handle_notices(now, to, anew));
            }
        }
        self.outlet.send_notices(&mut self.metrics);
    }

    fn send_due(&mut self, now: Instant) {
        loop {
            let arena = &mut self.arena;
            let filled = self.shard.call(now, |shard| shard.flush(now, arena));
            if filled.is_some() {
                self.send(now);
            }
            self.arena.clear();
            if filled != Some(true) {
                return;
            }
        }
    }

    fn send(&mut self, now: Instant) {
        if self.arena.runs().is_empty() {
            return;
        }
        self.udp.send(&self.arena);
        for run in self.arena.runs() {
            let datagrams = || self.arena.bytes(run).chunks(run.segment_bytes.max(1));
            match (run.path.protocol, &mut self.relay) {
                (Protocol::Tcp(number), _) => {
                    self.connections
                        .send(now, number, datagrams(), &mut self.metrics);
                }
                (Protocol::Relayed(_), Some(relay)) => {
                    datagrams().for_each(|datagram| relay.send(now, run.path, datagram));
                }
                (Protocol::Udp, _) if self.udp.reaches(run.path.remote.ip()) => {}
                _ => {
                    let lost = run.segments as u64;
                    self.metrics.dropped_many(DropReason::NoSocket, lost);
                }
            }
        }
        if let Some(relay) = &mut self.relay {
            relay.flush();
        }
    }

    /// Gives events to the service without ever waiting for it.
    fn hand_out_events(&mut self, now: Instant) {
        while let Some(event) = self.shard.poll_event(now) {
            let is_remote_choice = matches!(event, Event::DataReceived { .. });
            if is_remote_choice && self.is_held_up() {
                // Clients must not fill our memory; all other events are bounded by commands.
                self.metrics.events_dropped += 1;
                continue;
            }
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
        self.metrics.events_waiting = self.waiting.len() as u64;
    }

    fn publish(&mut self, now: Instant) {
        let mut sum = self.shard.metrics();
        sum.add(&self.metrics);
        sum.add_udp(self.udp.counts());
        let elapsed_ms = now.saturating_duration_since(self.published_at).as_millis();
        let packets = sum.rtp_sent_packets - self.published_packets;
        let elapsed_ms = u64::try_from(elapsed_ms).unwrap_or(u64::MAX).max(1);
        let per_second = packets.saturating_mul(1000) / elapsed_ms;
        self.link
            .sent_per_second
            .store(per_second, Ordering::Relaxed);
        self.published_packets = sum.rtp_sent_packets;
        self.published_at = now;
        self.publish_at = now + PUBLISH_EVERY;
        *lock(&self.link.published) = sum;
    }
}

/// Waits whatever comes in.
fn pause(time: Duration) {
    // A signal ends it early, which does no harm.
    ppoll(&mut [], Some(TimeSpec::from(time)), None).ok();
}

/// Inputs between two rounds of packets: commands may cost 100 us each.
const INPUTS_PER_TURN: usize = 32;
/// Deliveries of other shards between two rounds of packets of its own: as much as one receive batch.
const DELIVERIES_PER_TURN: usize = 64;
/// Sources of the TURN server between two rounds of packets; each gives one batch.
const RELAY_SOURCES_PER_TURN: usize = 64;
/// Notices that wait for the service to take its events first; more would only tell the same again.
const NOTICES_HELD_MAX: usize = 8192;
/// Events a shard keeps for the service beyond what the queue holds.
const WAITING_MAX: usize = 16_384;
/// How soon to try again to hand out events.
const EVENTS_RETRY: Duration = Duration::from_millis(5);
/// How late the kernel may wake a media thread.
const TIMER_SLACK_NS: u64 = 1_000;
const PUBLISH_EVERY: Duration = Duration::from_secs(1);
