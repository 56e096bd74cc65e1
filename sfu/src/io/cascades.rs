//! The ways between media threads: one bounded queue in front of each, woken only when it sleeps.
//!
//! What is carried and why it may be dropped or not is described in `cascade.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use super::Link;
use crate::cascade::{Notice, Shipment};
use crate::metrics::{DropReason, Metrics};

/// Deliveries waiting for one media thread; of shipments, half a second of 1,000 bursts a second.
pub(super) const INBOX_MAX: usize = 512;
/// Notices that wait for one other shard beyond what its queue holds; thousands of tracks fit.
const NOTICES_WAITING_MAX: usize = 16_384;
/// Shipments kept for use again; more are under way only while another shard is slow.
const POOL_MAX: usize = 64;

/// What one media thread hands another.
#[derive(Debug)]
pub(super) struct Delivery {
    pub(super) from: u16,
    pub(super) content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Notices(Vec<Notice>),
    Shipment(Arc<Shipment>),
}

/// The end of a media thread's queue that the others have.
#[derive(Debug)]
pub(super) struct Inlet {
    sender: SyncSender<Delivery>,
    is_asleep: AtomicBool,
}

/// Its own end.
#[derive(Debug)]
pub(super) struct Inbox {
    receiver: Receiver<Delivery>,
}

/// Makes the queue of one media thread.
pub(super) fn inbox() -> (Inlet, Inbox) {
    let (sender, receiver) = sync_channel(INBOX_MAX);
    let is_asleep = AtomicBool::new(false);
    (Inlet { sender, is_asleep }, Inbox { receiver })
}

impl Inlet {
    /// Puts something in; true when its thread sleeps and must be woken.
    fn push(&self, delivery: Delivery) -> Result<bool, Delivery> {
        match self.sender.try_send(delivery) {
            Ok(()) => {
                // Pairs with the fence of `falls_asleep`: either we see that it sleeps, or it sees this.
                fence(Ordering::SeqCst);
                Ok(self.is_asleep.swap(false, Ordering::Relaxed))
            }
            Err(TrySendError::Full(delivery) | TrySendError::Disconnected(delivery)) => {
                Err(delivery)
            }
        }
    }

    /// Its thread is about to wait; it must look at its inbox once more before it does.
    pub(super) fn falls_asleep(&self) {
        self.is_asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
    }

    /// Its thread looks at its inbox anyway.
    pub(super) fn wakes(&self) {
        self.is_asleep.store(false, Ordering::Relaxed);
    }
}

impl Inbox {
    pub(super) fn take(&self) -> Option<Delivery> {
        self.receiver.try_recv().ok()
    }
}

/// What a media thread has for the others.
#[derive(Debug)]
pub(super) struct Outlet {
    own: u16,
    links: Arc<[Arc<Link>]>,
    /// Shipments of before, the oldest first.
    pool: VecDeque<Arc<Shipment>>,
    /// By shard: what its queue had no space for, in order.
    waiting: Vec<VecDeque<Notice>>,
}

impl Outlet {
    pub(super) fn new(own: u16, links: Arc<[Arc<Link>]>) -> Self {
        let waiting = links.iter().map(|_| VecDeque::new()).collect();
        Self {
            own,
            links,
            pool: VecDeque::new(),
            waiting,
        }
    }

    /// An empty shipment; memory of an earlier one, if all have read it.
    pub(super) fn take_shipment(&mut self) -> Arc<Shipment> {
        let is_free = |oldest: &mut Arc<Shipment>| Arc::get_mut(oldest).is_some();
        let free = self.pool.pop_front_if(is_free);
        free.unwrap_or_default()
    }

    /// Hands a shipment to everyone it is for.
    pub(super) fn ship(&mut self, shipment: Arc<Shipment>, metrics: &mut Metrics) {
        for (to, link) in (0..).zip(self.links.iter()) {
            if !shipment.targets().contains(to) {
                continue;
            }
            let content = Content::Shipment(Arc::clone(&shipment));
            if deliver(link, self.own, content, metrics).is_err() {
                let lost = shipment.count_for(to) as u64;
                metrics.dropped_many(DropReason::CascadeFull, lost);
            }
        }
        if self.pool.len() < POOL_MAX {
            self.pool.push_back(shipment);
        }
    }

    /// Keeps a notice until `send_notices`. False: too many wait for that shard, and all of them were
    /// forgotten; the shard here has to forget that one as well.
    pub(super) fn tell(&mut self, to: u16, notice: Notice) -> bool {
        let Some(waiting) = self.waiting.get_mut(usize::from(to)) else {
            return true;
        };
        let fits = waiting.len() < NOTICES_WAITING_MAX;
        if !fits {
            waiting.clear();
            waiting.push_back(Notice::restarted());
        } else {
            waiting.push_back(notice);
        }
        fits
    }

    /// The shard here is new: whatever waits is of the one before.
    pub(super) fn restart(&mut self) {
        for (to, waiting) in (0..).zip(&mut self.waiting) {
            waiting.clear();
            if to != self.own {
                waiting.push_back(Notice::restarted());
            }
        }
    }

    /// Hands over what waits, to everyone whose queue has space.
    pub(super) fn send_notices(&mut self, metrics: &mut Metrics) {
        for (link, waiting) in self.links.iter().zip(&mut self.waiting) {
            if waiting.is_empty() {
                continue;
            }
            let content = Content::Notices(waiting.drain(..).collect());
            if let Err(Content::Notices(notices)) = deliver(link, self.own, content, metrics) {
                waiting.extend(notices);
            }
        }
    }

    /// Something waits for a full queue.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.iter().any(|waiting| !waiting.is_empty())
    }
}

fn deliver(link: &Link, from: u16, content: Content, metrics: &mut Metrics) -> Result<(), Content> {
    let delivery = Delivery { from, content };
    match link.inlet.push(delivery) {
        Ok(sleeps) => {
            if sleeps {
                metrics.cascade_wakes += 1;
                link.inputs.wake();
            }
            Ok(())
        }
        Err(Delivery { content, .. }) => Err(content),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cascade::ShardSet;
    use crate::ids::TrackId;
    use crate::publisher::layer::{PacketMeta, StoredPacket};
    use crate::rtp::payload::Descriptor;

    fn links(count: usize) -> (Arc<[Arc<Link>]>, Vec<Inbox>) {
        let ends = (0..count).map(|_| Link::new().unwrap());
        let (links, inboxes): (Vec<_>, Vec<_>) = ends.unzip();
        (links.into(), inboxes)
    }

    /// A shipment of one packet.
    fn load(outlet: &mut Outlet, to: &[u16]) -> Arc<Shipment> {
        let mut shipment = outlet.take_shipment();
        let filling = Arc::get_mut(&mut shipment).unwrap();
        filling.clear();
        let mut set = ShardSet::default();
        to.iter().for_each(|shard| set.insert(*shard));
        let meta = PacketMeta {
            sequence: 1,
            timestamp: 0,
            marker: false,
            payload_type: 96,
            descriptor: Descriptor::default(),
            arrival: std::time::Instant::now(),
            audio_level: None,
        };
        let packet = StoredPacket {
            meta,
            payload: b"packet",
            dependency_descriptor: &[],
        };
        filling.push((TrackId::new(0, 1), 0), set, packet);
        shipment
    }

    #[test]
    fn a_thread_is_woken_when_it_sleeps_and_only_then() {
        let (links, inboxes) = links(2);
        let push = || {
            let content = Content::Notices(Vec::new());
            links[1].inlet.push(Delivery { from: 0, content }).unwrap()
        };
        assert!(!push());
        links[1].inlet.falls_asleep();
        assert!(push());
        assert!(!push(), "once is enough");
        links[1].inlet.falls_asleep();
        links[1].inlet.wakes();
        assert!(!push());
        let count = std::iter::from_fn(|| inboxes[1].take()).count();
        assert_eq!(count, 4);
    }

    #[test]
    fn a_full_queue_loses_packets_and_keeps_notices() {
        let (links, inboxes) = links(3);
        let mut outlet = Outlet::new(0, links);
        let mut metrics = Metrics::default();
        for _ in 0..INBOX_MAX + 7 {
            let shipment = load(&mut outlet, &[1]);
            outlet.ship(shipment, &mut metrics);
        }
        assert_eq!(metrics.dropped_for(DropReason::CascadeFull), 7);
        assert!(outlet.tell(1, Notice::restarted()));
        assert!(outlet.tell(2, Notice::restarted()));
        outlet.send_notices(&mut metrics);
        assert!(outlet.is_waiting(), "for the full one");
        assert!(inboxes[2].take().is_some() && inboxes[2].take().is_none());
        while inboxes[1].take().is_some() {}
        outlet.send_notices(&mut metrics);
        assert!(!outlet.is_waiting());
        let Some(Delivery { from, content }) = inboxes[1].take() else {
            panic!("the notice is lost");
        };
        assert!(from == 0 && matches!(content, Content::Notices(notices) if notices.len() == 1));
    }

    #[test]
    fn who_does_not_listen_is_told_one_thing_in_the_end() {
        let (links, inboxes) = links(2);
        let mut outlet = Outlet::new(0, links);
        let mut metrics = Metrics::default();
        for _ in 0..NOTICES_WAITING_MAX {
            assert!(outlet.tell(1, Notice::restarted()));
        }
        assert!(!outlet.tell(1, Notice::restarted()));
        outlet.send_notices(&mut metrics);
        let told = inboxes[1].take().map(|delivery| delivery.content);
        assert!(
            matches!(told, Some(Content::Notices(notices)) if notices == [Notice::restarted()])
        );
    }

    #[test]
    fn memory_is_used_again_when_everyone_has_read_it() {
        let (links, inboxes) = links(3);
        let mut outlet = Outlet::new(0, links);
        let mut metrics = Metrics::default();
        let shipment = load(&mut outlet, &[1, 2]);
        let address = Arc::as_ptr(&shipment);
        outlet.ship(shipment, &mut metrics);
        assert_ne!(Arc::as_ptr(&outlet.take_shipment()), address);
        drop(inboxes[1].take());
        assert_ne!(Arc::as_ptr(&outlet.take_shipment()), address);
        drop(inboxes[2].take());
        assert_eq!(Arc::as_ptr(&outlet.take_shipment()), address);
    }
}
