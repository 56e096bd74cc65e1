//! An allocation with its permissions and channels (RFC 8656 §2.2 to §2.5).
#![warn(clippy::indexing_slicing)]

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use net::Path;
use net::stun::TransactionId;

use crate::attributes::{Family, Token};
use crate::auth::{Account, Key};
use crate::budget::Bucket;
use crate::quotas::Seat;

/// What one client may send and receive through us.
#[derive(Debug)]
pub(crate) struct Allocation {
    /// The 5-tuple it belongs to.
    pub(crate) client: Path,
    /// Tells it from those that had the same place before.
    pub(crate) serial: u64,
    /// The user name it was made with; requests with another are refused.
    pub(crate) username: String,
    /// On whose behalf it was made.
    pub(crate) account: Account,
    /// What proves its requests.
    pub(crate) key: Key,
    /// Of the request that made it: the same request again gets the same answer.
    pub(crate) transaction_id: TransactionId,
    /// At most one of each IP version, as clients are told.
    pub(crate) relayed: Vec<SocketAddr>,
    /// The same as they are bound; none inside the process.
    pub(crate) bound: Vec<SocketAddr>,
    /// The port reserved along with it.
    pub(crate) reserved: Option<Token>,
    /// An IP version that was wanted as well and could not be had.
    pub(crate) missing: Option<Family>,
    /// What it may carry.
    pub(crate) bandwidth: Bucket,
    /// When it ends unless refreshed.
    pub(crate) expires_at: Instant,
    permissions: Vec<(IpAddr, Instant)>,
    channels: Vec<Channel>,
    /// Its place among those its account and this node may have.
    _seat: Seat,
}

/// A number that stands for a peer.
#[derive(Clone, Copy, Debug)]
struct Channel {
    number: u16,
    peer: SocketAddr,
    expires_at: Instant,
}

/// Why a channel or permission is not installed; each is an error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InstallError {
    /// 400: the number or the peer is taken.
    Taken,
    /// 508: there are too many.
    Full,
}

impl Allocation {
    pub(crate) fn new(
        now: Instant,
        (client, serial): (Path, u64),
        (account, username, key): (Account, String, Key),
        (bandwidth, seat): (Bucket, Seat),
        transaction_id: TransactionId,
    ) -> Self {
        Self {
            client,
            serial,
            username,
            account,
            key,
            transaction_id,
            relayed: Vec::new(),
            bound: Vec::new(),
            reserved: None,
            missing: None,
            bandwidth,
            expires_at: now + LIFETIME_DEFAULT,
            permissions: Vec::new(),
            channels: Vec::new(),
            _seat: seat,
        }
    }

    /// Its relayed address of this IP version.
    pub(crate) fn relayed(&self, family: Family) -> Option<SocketAddr> {
        let mut relayed = self.relayed.iter();
        relayed
            .find(|address| Family::of(**address) == family)
            .copied()
    }

    /// What sends to peers of this IP version: a bound address, or inside the process the relayed one.
    pub(crate) fn source(&self, family: Family) -> Option<SocketAddr> {
        let sources = match &self.account {
            Account::User(_) => &self.relayed,
            Account::Shared(_) => &self.bound,
        };
        let mut sources = sources.iter();
        sources
            .find(|address| Family::of(**address) == family)
            .copied()
    }

    /// Whether a peer address may send to the client.
    pub(crate) fn has_permission(&self, now: Instant, ip: IpAddr) -> bool {
        let mut permissions = self.permissions.iter();
        permissions.any(|(permitted, until)| *permitted == ip && now < *until)
    }

    /// Installs or refreshes permissions, all or none.
    pub(crate) fn permit(&mut self, now: Instant, ips: &[IpAddr]) -> Result<(), InstallError> {
        self.permissions.retain(|(_, until)| now < *until);
        let is_new = |ip: &&IpAddr| self.permissions.iter().all(|(known, _)| known != *ip);
        if self.permissions.len() + ips.iter().filter(is_new).count() > PERMISSIONS_MAX {
            return Err(InstallError::Full);
        }
        for ip in ips {
            self.permissions.retain(|(known, _)| known != ip);
            self.permissions.push((*ip, now + PERMISSION_LIFETIME));
        }
        Ok(())
    }

    /// Binds or refreshes a channel, and permits its peer.
    pub(crate) fn bind(
        &mut self,
        now: Instant,
        number: u16,
        peer: SocketAddr,
    ) -> Result<(), InstallError> {
        self.channels.retain(|channel| now < channel.expires_at);
        let is_same = |channel: &Channel| channel.number == number && channel.peer == peer;
        let is_new = !self.channels.iter().any(is_same);
        let mut channels = self.channels.iter();
        if is_new && channels.any(|channel| channel.number == number || channel.peer == peer) {
            return Err(InstallError::Taken);
        }
        if is_new && self.channels.len() >= CHANNELS_MAX {
            return Err(InstallError::Full);
        }
        self.permit(now, &[peer.ip()])?;
        self.channels.retain(|channel| !is_same(channel));
        self.channels.push(Channel {
            number,
            peer,
            expires_at: now + CHANNEL_LIFETIME,
        });
        Ok(())
    }

    /// The peer a channel leads to.
    pub(crate) fn peer_of(&self, now: Instant, number: u16) -> Option<SocketAddr> {
        let mut channels = self.channels.iter();
        let channel = channels.find(|channel| channel.number == number)?;
        (now < channel.expires_at).then_some(channel.peer)
    }

    /// The channel a peer is bound to.
    pub(crate) fn channel_of(&self, now: Instant, peer: SocketAddr) -> Option<u16> {
        let mut channels = self.channels.iter();
        let channel = channels.find(|channel| channel.peer == peer)?;
        (now < channel.expires_at).then_some(channel.number)
    }
}

/// RFC 8656 §3.2; refreshing more often costs little, so it is also the longest we grant.
pub(crate) const LIFETIME_DEFAULT: Duration = Duration::from_secs(600);
/// RFC 8656 §9.
const PERMISSION_LIFETIME: Duration = Duration::from_secs(300);
/// RFC 8656 §12.
const CHANNEL_LIFETIME: Duration = Duration::from_secs(600);
/// Peers of one client: a call has a few, each with several addresses.
const PERMISSIONS_MAX: usize = 64;
const CHANNELS_MAX: usize = 64;
