//! The bots of one thread: whose turn it is, and what they count together. A pure machine, as each bot.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use crate::bot::{Agreed, Bot, BotPlan, Outbox, Stage, Turn};
use crate::totals::{Joins, Totals};

/// One moment on two clocks, so that the one tells the other.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// The moment.
    pub at: Instant,
    /// The same in microseconds since the epoch.
    pub wall_us: u64,
}

impl Clock {
    /// Microseconds since the epoch at `now`.
    pub fn wall_us(&self, now: Instant) -> u64 {
        let since = now.saturating_duration_since(self.at).as_micros();
        self.wall_us + u64::try_from(since).unwrap_or_default()
    }
}

/// Names a bot of a fleet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BotKey(usize);

/// How many bots have come how far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stages {
    /// Without keys.
    pub connecting: u64,
    /// With keys, waiting for what they want.
    pub connected: u64,
    /// With what they want.
    pub started: u64,
    /// Given up.
    pub failed: u64,
}

impl Stages {
    /// Adds those of another fleet.
    pub fn add(&mut self, other: &Self) {
        self.connecting += other.connecting;
        self.connected += other.connected;
        self.started += other.started;
        self.failed += other.failed;
    }
}

/// Bots that share a thread.
pub struct Fleet {
    bots: Vec<Bot>,
    /// When each bot is next looked at: the one entry of `timers` that counts.
    planned: Vec<Option<Instant>>,
    timers: BinaryHeap<Reverse<(Instant, BotKey)>>,
    /// Whose plan may have changed.
    touched: Option<BotKey>,
    /// Until when each must have come to its end of joining.
    deadlines: VecDeque<(Instant, BotKey)>,
    clock: Clock,
    out: Outbox,
    totals: Totals,
    /// Of bots that do not receive as others do.
    hindered: Totals,
    joins: Joins,
}

impl Fleet {
    /// A fleet without bots.
    pub fn new(clock: Clock) -> Self {
        Self {
            bots: Vec::new(),
            planned: Vec::new(),
            timers: BinaryHeap::new(),
            touched: None,
            deadlines: VecDeque::new(),
            clock,
            out: Outbox::default(),
            totals: Totals::default(),
            hindered: Totals::default(),
            joins: Joins::default(),
        }
    }

    /// Takes a bot in; it begins at once.
    pub fn add(&mut self, now: Instant, plan: BotPlan, agreed: Agreed) -> BotKey {
        let key = BotKey(self.bots.len());
        let bot = Bot::new(now, plan, agreed);
        self.deadlines.push_back((bot.opened() + JOIN_TIMEOUT, key));
        self.planned.push(None);
        self.bots.push(bot);
        self.plan(key);
        key
    }

    /// Hands a datagram to its bot.
    pub fn handle_datagram(&mut self, now: Instant, key: BotKey, bytes: &[u8]) {
        if self.touched != Some(key) {
            self.settle();
            self.touched = Some(key);
        }
        self.with_bot(now, key, |bot, turn| bot.handle_datagram(turn, bytes));
    }

    /// Lets one bot do what is due; false when none has anything due.
    pub fn handle_next_timeout(&mut self, now: Instant) -> bool {
        self.settle();
        while let Some((_, key)) = self.deadlines.pop_front_if(|(at, _)| *at <= now) {
            self.with_bot(now, key, Bot::give_up);
        }
        while let Some(Reverse((at, key))) = self.timers.peek().copied() {
            if at > now {
                return false;
            }
            self.timers.pop();
            let Some(planned) = self.planned.get_mut(key.0) else {
                continue;
            };
            if *planned != Some(at) {
                continue; // an earlier look was planned later, and has been taken
            }
            *planned = None;
            self.with_bot(now, key, Bot::handle_timeout);
            self.plan(key);
            return true;
        }
        false
    }

    /// When to call `handle_next_timeout`.
    pub fn poll_timeout(&mut self) -> Option<Instant> {
        self.settle();
        let timer = self.timers.peek().map(|Reverse((at, _))| *at);
        let deadline = self.deadlines.front().map(|(at, _)| *at);
        [timer, deadline].into_iter().flatten().min()
    }

    /// What is to be sent.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.out
    }

    /// Notes how long a turn of the thread took in which so many packets came.
    pub fn note_turn(&mut self, took: Duration, packets: u64) {
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.totals.own_turns.record_many(took_us, packets);
    }

    /// Counts from now on; joins are counted from the beginning.
    pub fn mark(&mut self, now: Instant) {
        self.totals = Totals::default();
        self.hindered = Totals::default();
        self.bots.iter_mut().for_each(|bot| bot.mark(now));
    }

    /// Settles what is still open; returns how many expected streams do not come.
    pub fn finish(&mut self, now: Instant) -> u64 {
        let keys = (0..self.bots.len()).map(BotKey);
        let mut missing = 0;
        for key in keys {
            self.with_bot(now, key, |bot, turn| missing += bot.finish(turn));
        }
        missing
    }

    /// What was counted since the mark.
    pub fn totals(&self) -> &Totals {
        &self.totals
    }

    /// What those counted that do not receive as others do.
    pub fn hindered(&self) -> &Totals {
        &self.hindered
    }

    /// How joining went.
    pub fn joins(&self) -> &Joins {
        &self.joins
    }

    /// How far the bots have come.
    pub fn stages(&self) -> Stages {
        let mut stages = Stages::default();
        for bot in &self.bots {
            *match bot.stage() {
                Stage::Connecting => &mut stages.connecting,
                Stage::Connected => &mut stages.connected,
                Stage::Started => &mut stages.started,
                Stage::Failed => &mut stages.failed,
            } += 1;
        }
        stages
    }

    fn with_bot(&mut self, now: Instant, key: BotKey, act: impl FnOnce(&mut Bot, &mut Turn<'_>)) {
        let Some(bot) = self.bots.get_mut(key.0) else {
            return;
        };
        let totals = if bot.is_hindered() {
            &mut self.hindered
        } else {
            &mut self.totals
        };
        let mut turn = Turn {
            now,
            wall_us: self.clock.wall_us(now),
            out: &mut self.out,
            totals,
            joins: &mut self.joins,
        };
        act(bot, &mut turn);
    }

    /// Plans for the bot touched last.
    fn settle(&mut self) {
        if let Some(key) = self.touched.take() {
            self.plan(key);
        }
    }

    /// Plans an earlier look at a bot when it wants one; a later one is planned when the time comes.
    fn plan(&mut self, key: BotKey) {
        let wanted = self.bots.get(key.0).and_then(Bot::poll_timeout);
        if let (Some(wanted), Some(planned)) = (wanted, self.planned.get_mut(key.0))
            && planned.is_none_or(|planned| wanted < planned)
        {
            *planned = Some(wanted);
            self.timers.push(Reverse((wanted, key)));
        }
    }
}

/// A bot that has not got what it wants by then has failed to join.
const JOIN_TIMEOUT: Duration = Duration::from_secs(15);
