//! How many allocations there may be: by account, and on this node. Shared by its servers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::Account;

/// Counts the allocations of a process.
#[derive(Clone, Debug)]
pub struct Quotas(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    /// Limits are compared and counted under one lock, so that no burst can pass them.
    taken: Mutex<HashMap<Account, u32>>,
    per_user: u32,
    per_credential: u32,
    node: usize,
}

/// A counted place; dropping it gives it back.
#[derive(Debug)]
pub(crate) struct Seat {
    quotas: Quotas,
    account: Account,
}

impl Quotas {
    /// `per_user`: of one of our own users; `per_credential`: of a credential made elsewhere; `node`: of
    /// all credentials made elsewhere.
    pub fn new(per_user: u32, per_credential: u32, node: usize) -> Self {
        Self(Arc::new(Inner {
            taken: Mutex::default(),
            per_user,
            per_credential,
            node,
        }))
    }

    /// Takes a place; `None` when all are taken.
    pub(crate) fn take(&self, account: &Account) -> Option<Seat> {
        let mut taken = self.lock();
        let most = match account {
            Account::User(_) => self.0.per_user,
            Account::Shared(_) => {
                let shared = taken
                    .iter()
                    .filter(|(of, _)| matches!(of, Account::Shared(_)));
                let all: usize = shared.map(|(_, count)| *count as usize).sum();
                if all < self.0.node {
                    self.0.per_credential
                } else {
                    0
                }
            }
        };
        let count = taken.get(account).copied().unwrap_or_default();
        if count >= most {
            return None;
        }
        taken.insert(account.clone(), count + 1);
        Some(Seat {
            quotas: self.clone(),
            account: account.clone(),
        })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Account, u32>> {
        self.0.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.quotas.lock();
        if let Some(count) = taken.get_mut(&self.account) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::User;

    #[test]
    fn two_hundred_threads_get_exactly_what_there_is() {
        let quotas = Quotas::new(12, 32, 2000);
        for (account, most) in [
            (Account::User(User(7)), 12),
            (Account::Shared("ann".to_owned()), 32),
        ] {
            let takers: Vec<_> = (0..200)
                .map(|_| {
                    let (quotas, account) = (quotas.clone(), account.clone());
                    std::thread::Builder::new()
                        .spawn(move || quotas.take(&account))
                        .unwrap()
                })
                .collect();
            let seats: Vec<_> = takers
                .into_iter()
                .map(|taker| taker.join().unwrap())
                .collect();
            assert_eq!(seats.iter().flatten().count(), most);
            drop(seats);
            assert!(quotas.take(&account).is_some());
        }
        assert!(quotas.lock().is_empty());
    }

    #[test]
    fn the_node_has_its_own_limit_that_our_users_do_not_count_for() {
        let quotas = Quotas::new(12, 32, 3);
        let shared = |name: &str| quotas.take(&Account::Shared(name.to_owned()));
        let _users: Vec<_> = (0..9)
            .map(|user| quotas.take(&Account::User(User(user))))
            .collect();
        let seats = [shared("a"), shared("b"), shared("b")];
        assert!(seats.iter().all(Option::is_some) && shared("c").is_none());
        drop(seats);
        assert!(shared("c").is_some());
    }
}
