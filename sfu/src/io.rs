//! A stand-in for the driver: answers offers with a fixed SDP and forwards nothing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::sync::{Mutex, PoisonError};

use crate::config::Config;
use crate::ids::{ParticipantId, RoomId, TrackId};
use crate::sfu::{
    Answer, Command, Event, Kind, OfferError, Published, RoomConfig, Source, TrackInfo,
};

/// A counter or gauge of the core.
#[derive(Clone, Debug)]
pub struct Metric {
    /// Name with the `plenum_` prefix.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// Counter or gauge.
    pub kind: MetricKind,
    /// One label.
    pub label: Option<(&'static str, &'static str)>,
    /// The value.
    pub value: u64,
}

/// Counter or gauge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
}

/// Why the core cannot start.
#[derive(Debug, thiserror::Error)]
#[error("the media ports cannot be opened")]
pub struct StartError;

/// The shard does not keep up.
#[derive(Debug, thiserror::Error)]
#[error("the shard's command queue is full")]
pub struct QueueFull;

/// The handle.
pub struct Sfu {
    events: Mutex<Option<mpsc::Sender<Event>>>,
    rooms: Mutex<std::collections::HashMap<ParticipantId, (RoomId, Vec<TrackId>)>>,
    next: AtomicU64,
}

/// What the core tells.
pub struct Events(mpsc::Receiver<Event>);

impl Events {
    /// The next event; `None` after shutdown.
    pub fn recv(&mut self) -> Option<Event> {
        self.0.recv().ok()
    }
}

impl Sfu {
    /// Starts it.
    pub fn start(_config: Config) -> Result<(Self, Events), StartError> {
        let (sender, receiver) = mpsc::channel();
        let sfu = Self {
            events: Mutex::new(Some(sender)),
            rooms: Mutex::default(),
            next: AtomicU64::new(1),
        };
        Ok((sfu, Events(receiver)))
    }

    fn next(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Picks a shard and opens a room there.
    pub fn create_room(&self, _config: RoomConfig) -> RoomId {
        RoomId::new(0, self.next())
    }

    /// An id on the room's shard.
    pub fn next_participant(&self, _room: RoomId) -> ParticipantId {
        ParticipantId::new(0, self.next())
    }

    /// Ends the threads; `Events` ends too.
    pub fn shutdown(&self) {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Sends a command.
    pub fn send(&self, command: Command) -> Result<(), QueueFull> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        match command {
            Command::Join {
                room, participant, ..
            } => {
                rooms.insert(participant, (room, Vec::new()));
            }
            Command::Offer { participant, offer } => {
                let Some((room, tracks)) = rooms.get_mut(&participant) else {
                    return Ok(());
                };
                if !offer.sdp.starts_with("v=0") {
                    let answer = Err(OfferError::BadSdp("no v= line".into()));
                    self.tell(Event::Answered {
                        participant,
                        offer: offer.id,
                        answer,
                    });
                    return Ok(());
                }
                let mut published = Vec::new();
                for entry in offer.publish {
                    let id = TrackId::new(0, self.next());
                    tracks.push(id);
                    published.push(Published {
                        mid: entry.mid,
                        track: Ok(id),
                    });
                    let audio =
                        matches!(entry.source, Source::Microphone | Source::ScreenShareAudio);
                    let track = TrackInfo {
                        id,
                        kind: if audio { Kind::Audio } else { Kind::Video },
                        source: entry.source,
                        name: entry.name,
                        muted: entry.muted,
                        codec: None,
                        layers: Vec::new(),
                    };
                    self.tell(Event::TrackPublished {
                        room: *room,
                        participant,
                        track,
                    });
                }
                let sdp = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\n".to_owned();
                let answer = Ok(Answer {
                    sdp,
                    published,
                    slots: Vec::new(),
                });
                self.tell(Event::Answered {
                    participant,
                    offer: offer.id,
                    answer,
                });
            }
            Command::RestartIce { participant, .. } => {
                let fragment = Some("a=ice-ufrag:x\r\na=ice-pwd:y\r\n".to_owned());
                self.tell(Event::IceRestarted {
                    participant,
                    fragment,
                });
            }
            Command::Leave { participant } => {
                let Some((room, tracks)) = rooms.remove(&participant) else {
                    return Ok(());
                };
                for track in tracks {
                    self.tell(Event::TrackUnpublished {
                        room,
                        participant,
                        track,
                    });
                }
            }
            Command::Unpublish { participant, track } => {
                let Some((room, tracks)) = rooms.get_mut(&participant) else {
                    return Ok(());
                };
                tracks.retain(|other| *other != track);
                self.tell(Event::TrackUnpublished {
                    room: *room,
                    participant,
                    track,
                });
            }
            Command::SendData {
                room,
                to,
                except,
                message,
                ..
            } => {
                let all = rooms.iter().filter(|(_, (other, _))| *other == room);
                for participant in all.map(|(id, _)| *id) {
                    let named = to.as_ref().is_none_or(|to| to.contains(&participant));
                    if named && Some(participant) != except {
                        let message = message.clone();
                        self.tell(Event::DataUndelivered {
                            participant,
                            message,
                        });
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn tell(&self, event: Event) {
        if let Some(events) = &*self.events.lock().unwrap_or_else(PoisonError::into_inner) {
            events.send(event).ok();
        }
    }

    /// Counters.
    pub fn metrics(&self) -> Vec<Metric> {
        vec![Metric {
            name: "plenum_stub",
            help: "Always one",
            kind: MetricKind::Gauge,
            label: None,
            value: 1,
        }]
    }

    /// The media ports.
    pub fn udp_ports(&self) -> Vec<u16> {
        vec![7800]
    }

    /// The ICE-TCP port.
    pub fn tcp_port(&self) -> u16 {
        7800
    }
}
