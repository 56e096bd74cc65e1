//! The floor: encrypts and sends a list of datagrams, and does nothing else.

use std::collections::HashMap;
use std::time::Instant;

use net::UdpSockets;
use sfu::shard::{Arena, Path};

use crate::stage::{PACED_ROUNDS, Pace, Sent, Stage};
use crate::{cpu_ns, median};

const ROUNDS: usize = 7;
const HEADER_BYTES: usize = 28;
const TAG_BYTES: usize = 16;
/// Batches between two times that the clients' sockets are emptied.
const BATCHES_PER_STRETCH: usize = 8;

/// Which library seals AES-GCM fastest here; the media core chooses the same way.
pub(crate) fn library() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    if !std::arch::is_x86_feature_detected!("avx512f") {
        return "ring";
    }
    "AWS-LC"
}

#[expect(clippy::large_enum_variant, reason = "as in the media core")]
enum Key {
    AwsLc(aws_lc_rs::aead::LessSafeKey),
    Ring(ring::aead::LessSafeKey),
}

impl Key {
    fn new(seed: u8) -> Self {
        let bytes = [seed; 32];
        match library() {
            "ring" => {
                use ring::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
                Self::Ring(LessSafeKey::new(
                    UnboundKey::new(&AES_256_GCM, &bytes).unwrap(),
                ))
            }
            _ => {
                use aws_lc_rs::aead::{AES_256_GCM, LessSafeKey, UnboundKey};
                Self::AwsLc(LessSafeKey::new(
                    UnboundKey::new(&AES_256_GCM, &bytes).unwrap(),
                ))
            }
        }
    }

    fn seal(&self, nonce: [u8; 12], packet: &mut [u8]) {
        let (header, rest) = packet.split_at_mut(HEADER_BYTES);
        let (body, tag) = rest.split_at_mut(rest.len() - TAG_BYTES);
        match self {
            Self::AwsLc(key) => {
                let nonce = aws_lc_rs::aead::Nonce::assume_unique_for_key(nonce);
                let aad = aws_lc_rs::aead::Aad::from(header);
                let sealed = key.seal_in_place_separate_tag(nonce, aad, body).unwrap();
                tag.copy_from_slice(sealed.as_ref());
            }
            Self::Ring(key) => {
                let nonce = ring::aead::Nonce::assume_unique_for_key(nonce);
                let aad = ring::aead::Aad::from(header);
                let sealed = key.seal_in_place_separate_tag(nonce, aad, body).unwrap();
                tag.copy_from_slice(sealed.as_ref());
            }
        }
    }
}

/// Keys for each client, and the list.
pub(crate) struct Floor {
    keys: Vec<Key>,
    /// Batch by batch: which key, where to, how long.
    list: Vec<Vec<(usize, Path, usize)>>,
    /// When each of them was sent.
    times: Vec<Instant>,
    packets: usize,
    server: UdpSockets,
    arena: Arena,
    payload: Vec<u8>,
    counter: u64,
}

impl Floor {
    pub(crate) fn new(list: &[Sent]) -> Self {
        let mut numbers: HashMap<Path, usize> = HashMap::new();
        let mut number = |path: Path| {
            let next = numbers.len();
            *numbers.entry(path).or_insert(next)
        };
        let times = list.iter().map(|sent| sent.at).collect();
        let list: Vec<Vec<_>> = list
            .iter()
            .map(|sent| {
                sent.datagrams
                    .iter()
                    .map(|(path, length)| (number(*path), *path, *length))
                    .collect()
            })
            .collect();
        Self {
            keys: (0..numbers.len())
                .map(|seed| Key::new(seed as u8))
                .collect(),
            times,
            packets: list.iter().map(Vec::len).sum(),
            list,
            server: UdpSockets::bind(0, 4 << 20).unwrap(),
            arena: Arena::new(),
            payload: (0..1500u32).map(|at| at as u8).collect(),
            counter: 0,
        }
    }

    pub(crate) fn disable_segmentation(&mut self) {
        self.server.disable_segmentation();
    }

    /// Nanoseconds per packet to copy and seal it, nothing sent.
    pub(crate) fn cipher_ns(&mut self) -> f64 {
        let rounds = (0..ROUNDS).map(|_| {
            let start = cpu_ns();
            for batch in 0..self.list.len() {
                self.seal(batch, |_, arena| arena.clear());
            }
            (cpu_ns() - start) / self.packets as f64
        });
        median(rounds.collect())
    }

    /// Nanoseconds per packet, sending included.
    pub(crate) fn measure(&mut self, stage: &mut Stage) -> f64 {
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let mut spent = 0.0;
            let batches: Vec<usize> = (0..self.list.len()).collect();
            for stretch in batches.chunks(BATCHES_PER_STRETCH) {
                let start = cpu_ns();
                for batch in stretch {
                    self.seal(*batch, |server, arena| {
                        server.send(arena);
                        arena.clear();
                    });
                }
                spent += cpu_ns() - start;
                stage.drain();
            }
            rounds.push(spent / self.packets as f64);
        }
        median(rounds)
    }

    /// The same in its own time.
    pub(crate) fn paced_ns(&mut self, stage: &mut Stage) -> f64 {
        let mut rounds = Vec::new();
        for _ in 0..PACED_ROUNDS {
            let mut spent = 0.0;
            let pace = Pace::begin(self.times.first().copied().unwrap());
            for batch in 0..self.list.len() {
                pace.wait(self.times[batch]);
                let start = cpu_ns();
                self.seal(batch, |server, arena| {
                    server.send(arena);
                    arena.clear();
                });
                spent += cpu_ns() - start;
                stage.drain();
            }
            rounds.push(spent / self.packets as f64);
        }
        median(rounds)
    }

    fn seal(&mut self, batch: usize, mut send: impl FnMut(&mut UdpSockets, &mut Arena)) {
        for &(key, mut path, length) in &self.list[batch] {
            path.local.set_port(self.server.port());
            self.arena.aim(path);
            if self.arena.reserve().is_none() {
                send(&mut self.server, &mut self.arena);
                self.arena.aim(path);
            }
            let packet = &mut self.arena.reserve().unwrap()[..length];
            packet.copy_from_slice(&self.payload[..length]);
            self.counter += 1;
            let mut nonce = [0; 12];
            nonce[..8].copy_from_slice(&self.counter.to_be_bytes());
            self.keys[key].seal(nonce, packet);
            self.arena.commit(length);
        }
        send(&mut self.server, &mut self.arena);
    }
}
