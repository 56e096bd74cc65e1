//! The loop of one media thread: wait, receive, drive the shard, send.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{SyncSender, TrySendError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::restart::Restartable;
use super::tcp::{Connections, Ready};
use super::udp::{ReceiveBuffers, UdpSockets};
use super::{COMMANDS_MAX, Input, Link, lock};
use crate::metrics::{DropReason, Metrics};
use crate::sfu::Event;
use crate::shard::{Arena, Datagram, Path, Protocol, Shard, ShardOptions};

/// One media thread: a shard, its sockets and its queues.
pub(super) struct Driver {
    shard: Restartable,
    udp: UdpSockets,
    buffers: ReceiveBuffers,
    datagrams: Vec<Datagram<'static>>,
    connections: Connections,
    ready: Vec<Ready>,
    link: Arc<Link>,
    inputs: VecDeque<Input>,
    events: SyncSender<Event>,
    /// Events the service has not taken, in order.
    waiting: VecDeque<Event>,
    arena: Arena,
    metrics: Metrics,
    publish_at: Instant,
    /// There may be inputs although nothing wakes us for them.
    has_inputs: bool,
}

/// What can be done without waiting.
#[derive(Clone, Copy, Debug, Default)]
struct Woken {
    udp: [bool; 2],
    tcp: bool,
    inputs: bool,
}

impl Driver {
    /// Makes the driver of a shard; `run` starts it.
    pub(super) fn new(
        options: ShardOptions,
        udp: UdpSockets,
        link: Arc<Link>,
        events: SyncSender<Event>,
    ) -> io::Result<Self> {
        Ok(Self {
            publish_at: options.started,
            shard: Restartable::new(options),
            udp,
            buffers: ReceiveBuffers::new(),
            datagrams: Vec::new(),
            connections: Connections::new()?,
            ready: Vec::new(),
            link,
            inputs: VecDeque::new(),
            events,
            waiting: VecDeque::new(),
            arena: Arena::new(),
            metrics: Metrics::default(),
            has_inputs: false,
        })
    }

    /// Turns until the handle stops it, then handles what was asked before.
    pub(super) fn run(mut self) {
        let mut now = Instant::now();
        while !self.link.is_stopped() {
            let due = self.due(now);
            let woken = self.wait(now, due);
            now = Instant::now();
            self.turn(now, woken);
            let worked = now.elapsed();
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
        self.send_due(now);
        if self.shard.take_restarted() {
            // The new shard knows none of them; their peers are gone.
            self.connections.close_all(&mut self.metrics);
        }
        self.hand_out_events(now);
        if self.publish_at <= now {
            self.connections.close_idle(now, &mut self.metrics);
            self.publish(now);
        }
    }

    fn is_held_up(&self) -> bool {
        self.waiting.len() >= WAITING_MAX
    }

    /// When to wake even when nothing comes in.
    fn due(&mut self, now: Instant) -> Option<Instant> {
        let shard = self.shard.call(now, Shard::poll_timeout).flatten();
        let retry = (!self.waiting.is_empty()).then_some(now + EVENTS_RETRY);
        let inputs = (self.has_inputs && !self.is_held_up()).then_some(now);
        [shard, retry, inputs, Some(self.publish_at)]
            .into_iter()
            .flatten()
            .min()
    }

    fn wait(&self, now: Instant, due: Option<Instant>) -> Woken {
        let mut fds: [PollFd<'_>; 4] = std::array::from_fn(|index| {
            let fd = match index {
                0 => self.link.inputs.as_fd(),
                1 => self.connections.as_fd(),
                _ => self.udp.fd(index - 2),
            };
            PollFd::new(fd, PollFlags::POLLIN)
        });
        let fds = &mut fds[..2 + self.udp.count()];
        let timeout = due.map(|due| TimeSpec::from(due.saturating_duration_since(now)));
        if ppoll(fds, timeout, None).is_err() {
            return Woken::default(); // A signal: look at the clock and wait again.
        }
        let is_ready = |index: usize| fds.get(index).and_then(PollFd::any).unwrap_or(false);
        Woken {
            inputs: is_ready(0),
            tcp: is_ready(1),
            udp: [is_ready(2), is_ready(3)],
        }
    }

    fn receive_udp(&mut self, now: Instant, index: usize) {
        let mut datagrams = recycle(std::mem::take(&mut self.datagrams));
        // One batch: the socket is still readable when there is more, and what this one caused
        // goes out first.
        self.udp
            .receive(index, &mut self.buffers, &mut datagrams, &mut self.metrics);
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

    /// Handles a few inputs.
    fn take_inputs(&mut self, now: Instant) {
        self.has_inputs = self.link.inputs.take(INPUTS_PER_TURN, &mut self.inputs);
        while let Some(input) = self.inputs.pop_front() {
            match input {
                Input::Command(command) => self.shard.handle_command(now, command),
                Input::Connection(identified) => {
                    let opened = self.connections.open(now, identified, &mut self.metrics);
                    if let Some(number) = opened {
                        self.receive_tcp(now, number);
                    }
                }
            }
        }
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
        self.udp.send(&self.arena, &mut self.metrics);
        for run in self.arena.runs() {
            if let Path {
                protocol: Protocol::Tcp(number),
                ..
            } = run.path
            {
                let datagrams = self.arena.bytes(run).chunks(run.segment_bytes.max(1));
                self.connections
                    .send(now, number, datagrams, &mut self.metrics);
            } else if !self.udp.reaches(run.path.remote.ip()) {
                self.metrics
                    .dropped_many(DropReason::NoSocket, run.segments as u64);
            }
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
        self.publish_at = now + PUBLISH_EVERY;
        let mut sum = self.shard.metrics();
        sum.add(&self.metrics);
        *lock(&self.link.published) = sum;
    }
}

/// Empties a list and keeps its memory for datagrams of another lifetime.
fn recycle<'b>(mut datagrams: Vec<Datagram<'_>>) -> Vec<Datagram<'b>> {
    datagrams.clear();
    // Collecting an emptied list of the same layout keeps its allocation.
    datagrams
        .into_iter()
        .map(|_| unreachable!("the list is empty"))
        .collect()
}

/// Inputs between two rounds of packets: commands may cost 100 us each.
const INPUTS_PER_TURN: usize = 32;
/// Events a shard keeps for the service beyond what the queue holds.
const WAITING_MAX: usize = 16_384;
/// How soon to try again to hand out events.
const EVENTS_RETRY: Duration = Duration::from_millis(5);
const PUBLISH_EVERY: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recycled_list_keeps_its_memory() {
        let list: Vec<Datagram<'_>> = Vec::with_capacity(100);
        let address = list.as_ptr() as usize;
        let recycled = recycle(list);
        assert_eq!(
            (recycled.capacity(), recycled.as_ptr() as usize),
            (100, address)
        );
    }
}
