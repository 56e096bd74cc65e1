//! Requests: who asks, and what becomes of it (RFC 8656 §7 to §12).

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use net::stun::{BINDING, Class, Message};
use net::{Arena, Path};

use super::Server;
use super::relaying::Indicated;
use crate::allocation::{InstallError, LIFETIME_DEFAULT};
use crate::attributes::{Attributes, Family, LIFETIME, peers};
use crate::auth::{Account, Key, Refusal};
use crate::counts::DropReason;

/// A request that is proven to be its sender's.
pub(super) struct Request<'r, 'a> {
    pub(super) now: Instant,
    pub(super) path: Path,
    pub(super) message: &'r Message<'a>,
    pub(super) attributes: &'r Attributes<'a>,
    pub(super) key: Key,
}

/// An error code (RFC 8489 §14.8, RFC 8656 §19).
pub(super) type ErrorCode = u16;

impl Server {
    /// Answers a request; a Send indication comes back.
    pub(super) fn handle_message(
        &mut self,
        now: Instant,
        path: Path,
        message: &Message<'_>,
        arena: &mut Arena,
    ) -> Option<Indicated> {
        match (message.class, message.method) {
            (Class::Indication, SEND) => return self.read_indication(message),
            (Class::Request, BINDING) => {
                let attributes = Attributes::read(message);
                self.handle_binding(now, (path, message), &attributes, arena);
            }
            (Class::Request, ALLOCATE | REFRESH | CREATE_PERMISSION | CHANNEL_BIND) => {
                self.handle_request(now, path, message, arena);
            }
            // Binding indications keep a NAT's binding open (RFC 8445 §11).
            (Class::Indication, BINDING) => {}
            _ => self.counts.dropped(DropReason::Malformed),
        }
        None
    }

    fn handle_request(
        &mut self,
        now: Instant,
        path: Path,
        message: &Message<'_>,
        arena: &mut Arena,
    ) {
        let attributes = Attributes::read(message);
        let known = self
            .by_client
            .get(&path)
            .and_then(|key| self.allocations.get(*key));
        let known = known.map(|allocation| (allocation.username.as_str(), allocation.key));
        let unix_time = self.unix_time(now);
        let proven =
            self.settings
                .secrets
                .authenticate(unix_time, &path, (message, &attributes), known);
        let proven = proven.and_then(|(account, key)| match &account {
            Some(Account::User(user)) if !self.users.contains(user) => Err(Refusal::Unauthorized),
            Some(Account::Shared(_)) if self.settings.relay.is_none() => Err(Refusal::Unauthorized),
            _ => Ok((account, key)),
        });
        let (account, key) = match proven {
            Ok(proven) => proven,
            Err(refusal) => return self.refuse_unproven(now, (path, message), refusal, arena),
        };
        let request = Request {
            now,
            path,
            message,
            attributes: &attributes,
            key,
        };
        let unknown = attributes.unknown_required();
        let outcome = if !unknown.is_empty() {
            Err(UNKNOWN_ATTRIBUTE)
        } else if message.method == ALLOCATE {
            self.allocate(&request, account, arena)
        } else if account.is_some() && self.by_client.contains_key(&path) {
            Err(WRONG_CREDENTIALS)
        } else {
            self.change(&request, arena)
        };
        if let Err(code) = outcome {
            self.counts.refused += 1;
            self.reply((path, message), (Class::Error, &key), arena, |writer| {
                writer.put_error(code)?;
                if code == UNKNOWN_ATTRIBUTE {
                    writer.put_unknown(unknown)?;
                }
                Some(())
            });
        }
    }

    /// Refresh, CreatePermission and ChannelBind: about an allocation there is.
    fn change(&mut self, request: &Request<'_, '_>, arena: &mut Arena) -> Result<(), ErrorCode> {
        let key = *self.by_client.get(&request.path).ok_or(MISMATCH)?;
        match request.message.method {
            REFRESH => return self.refresh(key, request, arena),
            CREATE_PERMISSION => self.create_permission(key, request)?,
            _ => self.bind_channel(key, request)?,
        }
        let about = (request.path, request.message);
        self.reply(about, (Class::Success, &request.key), arena, |_| Some(()));
        Ok(())
    }

    fn refresh(
        &mut self,
        key: usize,
        request: &Request<'_, '_>,
        arena: &mut Arena,
    ) -> Result<(), ErrorCode> {
        let allocation = self.allocations.get_mut(key).ok_or(MISMATCH)?;
        let family = request.attributes.family;
        if request.attributes.has_unknown_family {
            return Err(PEER_FAMILY_MISMATCH);
        }
        if family.is_some_and(|family| allocation.relayed(family).is_none()) {
            return Err(PEER_FAMILY_MISMATCH);
        }
        let is_end = request.attributes.lifetime == Some(0);
        if is_end {
            let kept =
                |address: &SocketAddr| family.is_some_and(|gone| Family::of(*address) != gone);
            allocation.relayed.retain(kept);
            allocation.bound.retain(kept);
            if allocation.relayed.is_empty() {
                self.remove(key);
            } else {
                self.close_family(key, family);
            }
        } else {
            allocation.expires_at = request.now + LIFETIME_DEFAULT;
        }
        let lifetime = if is_end {
            0
        } else {
            LIFETIME_DEFAULT.as_secs()
        };
        let lifetime = u32::try_from(lifetime).unwrap_or_default().to_be_bytes();
        let about = (request.path, request.message);
        self.reply(about, (Class::Success, &request.key), arena, |writer| {
            writer.put(LIFETIME, &lifetime)
        });
        Ok(())
    }

    /// Closes the sockets of one IP version.
    fn close_family(&mut self, key: usize, family: Option<Family>) {
        let closings = &mut self.closings;
        self.by_relayed.retain(|address, owner| {
            let is_gone = *owner == key && Some(Family::of(*address)) == family;
            if is_gone {
                closings.push_back(*address);
            }
            !is_gone
        });
    }

    fn create_permission(
        &mut self,
        key: usize,
        request: &Request<'_, '_>,
    ) -> Result<(), ErrorCode> {
        let peers = peers(request.message)
            .filter(|peers| !peers.is_empty())
            .ok_or(BAD_REQUEST)?;
        let mut ips = Vec::with_capacity(peers.len());
        for peer in peers {
            let ip = self.judge(key, peer)?;
            if !ips.contains(&ip) {
                ips.push(ip);
            }
        }
        let allocation = self.allocations.get_mut(key).ok_or(MISMATCH)?;
        allocation.permit(request.now, &ips).map_err(install_code)
    }

    fn bind_channel(&mut self, key: usize, request: &Request<'_, '_>) -> Result<(), ErrorCode> {
        let number = request
            .attributes
            .channel
            .filter(|number| CHANNELS.contains(number));
        let number = number.ok_or(BAD_REQUEST)?;
        let peers = peers(request.message).ok_or(BAD_REQUEST)?;
        // Of two addresses neither counts: another server took the last.
        let [peer] = *peers else {
            return Err(BAD_REQUEST);
        };
        self.judge(key, peer)?;
        let account = self
            .allocations
            .get(key)
            .map(|allocation| &allocation.account);
        if !account.is_some_and(|account| self.permits_address(account, peer)) {
            return Err(FORBIDDEN);
        }
        let allocation = self.allocations.get_mut(key).ok_or(MISMATCH)?;
        allocation
            .bind(request.now, number, peer)
            .map_err(install_code)
    }

    /// Whether an allocation may have this peer, and its address.
    fn judge(&self, key: usize, peer: SocketAddr) -> Result<IpAddr, ErrorCode> {
        let allocation = self.allocations.get(key).ok_or(MISMATCH)?;
        if allocation.relayed(Family::of(peer)).is_none() {
            return Err(PEER_FAMILY_MISMATCH);
        }
        let is_permitted = match &allocation.account {
            Account::User(_) => self
                .settings
                .media
                .iter()
                .any(|media| media.ip() == peer.ip()),
            Account::Shared(_) => {
                let relay = self.settings.relay.as_ref();
                relay.is_some_and(|relay| relay.filter.permits(peer.ip()))
            }
        };
        is_permitted.then_some(peer.ip()).ok_or(FORBIDDEN)
    }
}

fn install_code(error: InstallError) -> ErrorCode {
    match error {
        InstallError::Taken => BAD_REQUEST,
        InstallError::Full => INSUFFICIENT_CAPACITY,
    }
}

const ALLOCATE: u16 = 3;
const REFRESH: u16 = 4;
const SEND: u16 = 6;
const CREATE_PERMISSION: u16 = 8;
const CHANNEL_BIND: u16 = 9;

/// RFC 5766 §11. RFC 8656 §12 asks clients to stay below 0x5000, but those of the former are still there
/// (coturn's own among them), and on a socket of TURN alone nothing else begins so.
const CHANNELS: std::ops::RangeInclusive<u16> = 0x4000..=0x7fff;
pub(super) const BAD_REQUEST: ErrorCode = 400;
pub(super) const UNAUTHORIZED: ErrorCode = 401;
const FORBIDDEN: ErrorCode = 403;
const UNKNOWN_ATTRIBUTE: ErrorCode = 420;
pub(super) const MISMATCH: ErrorCode = 437;
pub(super) const FAMILY_UNSUPPORTED: ErrorCode = 440;
const WRONG_CREDENTIALS: ErrorCode = 441;
pub(super) const TRANSPORT_UNSUPPORTED: ErrorCode = 442;
const PEER_FAMILY_MISMATCH: ErrorCode = 443;
pub(super) const QUOTA_REACHED: ErrorCode = 486;
pub(super) const INSUFFICIENT_CAPACITY: ErrorCode = 508;
