//! The heartbeats of all groups of a node, at once.
//!
//! openraft has a clock in each group, which wakes it twenty times in a second to see whether a heartbeat or an election is
//! due. With many groups, that is most of what an idle node does. Here one clock says for all groups that lead that they are
//! there, so that what goes to another node goes together; and a group that has heard of its leader needs no clock.

use std::{
    fmt,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use openraft::Raft;
use tokio::time::{MissedTickBehavior, interval};

use super::{machine::StateMachine, raft::Types};

/// When a group has heard of its leader last.
#[derive(Debug)]
pub struct Contact {
    start: Instant,
    /// Milliseconds after `start`; 0 is never.
    heard: AtomicU64,
}

impl Contact {
    /// It has heard of it now.
    pub fn heard(&self) {
        self.heard.store(self.start.elapsed().as_millis() as u64 + 1, Relaxed);
    }

    fn is_within(&self, time: Duration) -> bool {
        let heard = self.heard.load(Relaxed);
        let now = self.start.elapsed().as_millis() as u64 + 1;
        heard > 0 && now.saturating_sub(heard) < time.as_millis() as u64
    }
}

/// The clock of a node's groups.
pub struct Pulse {
    every: Duration,
    groups: Mutex<Vec<Beating>>,
}

struct Beating {
    raft: Raft<Types, StateMachine>,
    /// Nothing when the group is not there any more.
    contact: Weak<Contact>,
}

impl fmt::Debug for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulse").field("every", &self.every).finish_non_exhaustive()
    }
}

impl Pulse {
    /// A clock, which goes as long as this is there.
    pub fn start(every: Duration) -> Arc<Self> {
        let pulse = Arc::new(Pulse { every, groups: Mutex::default() });
        tokio::spawn(beat(Arc::downgrade(&pulse)));
        pulse
    }

    /// Takes care of a group as long as what this returns is there.
    pub fn keep(&self, raft: &Raft<Types, StateMachine>) -> Arc<Contact> {
        let contact = Arc::new(Contact { start: Instant::now(), heard: AtomicU64::new(0) });
        raft.runtime_config().heartbeat(false);
        self.groups.lock().unwrap().push(Beating { raft: raft.clone(), contact: Arc::downgrade(&contact) });
        contact
    }

    /// The groups that lead. Sets for each whether it needs a clock of its own.
    ///
    /// Invariant: a group that doesn't lead and has not heard of its leader has a clock, so it will elect a new one.
    fn leading(&self) -> Vec<Raft<Types, StateMachine>> {
        let mut leading = Vec::new();
        self.groups.lock().unwrap().retain(|group| {
            let Some(contact) = group.contact.upgrade() else { return false };
            let leads = group.raft.is_leader();
            // A heartbeat that is late by half is no reason to look at the clock.
            group.raft.runtime_config().tick(!leads && !contact.is_within(self.every * 3 / 2));
            if leads {
                leading.push(group.raft.clone());
            }
            true
        });
        leading
    }
}

async fn beat(pulse: Weak<Pulse>) {
    let Some(every) = pulse.upgrade().map(|pulse| pulse.every) else { return };
    let mut clock = interval(every);
    clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        clock.tick().await;
        let Some(pulse) = pulse.upgrade() else { return };
        for raft in pulse.leading() {
            // A group that has stopped needs none.
            let _ = raft.trigger().heartbeat().await;
        }
    }
}
