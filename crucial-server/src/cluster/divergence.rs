//! The check whether the replicas of a partition are equal, which they are if all methods are deterministic.
//!
//! It is made in the log, in three steps:
//!
//! 1. [`Check`](Step::Check): the leader names some of the objects that were written since they were checked last. Every
//!    replica takes digests of them when it applies the entry, so at the same place of the log.
//! 2. [`Compare`](Step::Compare): the leader says what its digests are, and the others compare theirs.
//! 3. [`Diverged`](Step::Diverged): a replica that differs tells the leader, and the leader tells all, so that every
//!    replica knows, and whoever leads later.
//!
//! The log brings each step to each replica once and in order, whoever leads, and after a restart again. To ask the
//! replicas for their digests would need all that a second time: digests of several places, of replicas that are behind,
//! and of leaders that change.
//!
//! **No false alarms.** Digests are compared only if they are of the same check: a replica remembers the last one, and one
//! that has become what a snapshot shows remembers none, since it has another replica's state. What digests don't see of
//! a state is in [`crucial_runtime::digest`].
//!
//! **No methods that had nothing to do with it.** A replica remembers which methods have changed an object since it was
//! found equal, and an object that was found to differ is not checked any more: what comes later would be blamed for it.
//!
//! **What it costs.** Nothing while nothing is written. The leader names no more objects than can be digested in
//! `BYTES`, and waits until that is paid for with `PER_ROUND`. An object that is larger is checked alone, and the wait
//! is longer. Since nobody knows how large an object is, digesting ends at the limit that the leader gives; each attempt
//! gets twice the limit of the one before.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use crucial_runtime::{
    codec,
    digest::{Digest, Failure},
    error::Result,
    id::{self, ObjectId},
    object::TypeInfo,
};
use serde::{Deserialize, Serialize};

use super::replica::Replica;
use crate::{methods::Methods, workers::aside};

/// How many objects are checked at once.
const OBJECTS: usize = 64;
/// How many bytes are digested at once, unless an object alone has more.
const BYTES: u64 = 1 << 20;
/// How many bytes may be digested in each round: the leader makes one a second.
const PER_ROUND: u64 = 256 << 10;
/// What checking an object costs beside its bytes, in bytes.
const EACH: u64 = 1 << 10;

/// A step of the check, as it is in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// Take digests of these objects.
    Check {
        /// Names the check.
        check: u64,
        /// How many bytes may be digested.
        limit: u64,
        /// Which objects.
        objects: Vec<ObjectId>,
    },
    /// These are the leader's digests.
    Compare {
        /// The check.
        check: u64,
        /// The digests.
        samples: Vec<Sample>,
    },
    /// The replicas of these objects differ, perhaps because of these methods.
    Diverged {
        /// Which objects.
        objects: Vec<(ObjectId, Methods)>,
    },
}

impl Step {
    /// The step as it is in the log.
    ///
    /// # Panics
    /// Never: numbers can be encoded.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        codec::encode("a step of a check", self, &mut bytes).expect("numbers can be encoded");
        bytes
    }
}

/// An object on one replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    object: ObjectId,
    /// Its digest; none if it isn't there, or can't be encoded.
    hash: Option<u64>,
    /// What has changed it since it was equal.
    methods: Methods,
}

/// What a replica knows of the check.
///
/// What is written, and by which methods, is replicated only roughly, and nothing of a replica's state depends on it: what
/// is checked is what the leader says.
#[derive(Debug, Default)]
pub(super) struct Checks {
    /// The objects that were written since they were checked, without those that have diverged.
    pub(super) written: BTreeSet<ObjectId>,
    /// The one that was checked last: others come first.
    last: Option<ObjectId>,
    /// What is to be compared.
    taken: Option<Taken>,
    /// What differs here from the leader, until all know.
    found: BTreeMap<ObjectId, Methods>,
    /// How many bytes were digested that are not paid for.
    debt: u64,
}

/// The digests of a check.
#[derive(Debug)]
struct Taken {
    check: u64,
    samples: Vec<Sample>,
}

/// About how many bytes a digest takes: a guess, for objects that were never digested.
#[derive(Debug, Default)]
pub(super) struct Size(AtomicU64);

impl Replica {
    /// What the leader puts into the log next, if there is something: it asks once a second.
    pub fn next_step(&self) -> Option<Step> {
        // While digests are taken, there is nothing to do next.
        let mut checks = self.checks.try_lock().ok()?;
        if !checks.found.is_empty() {
            return Some(Step::Diverged { objects: checks.found.iter().map(|(o, m)| (*o, *m)).collect() });
        }
        if let Some(Taken { check, samples }) = &checks.taken {
            return Some(Step::Compare { check: *check, samples: samples.clone() });
        }
        checks.debt = checks.debt.saturating_sub(PER_ROUND);
        if checks.debt > 0 {
            return None;
        }
        let after = checks.last.map_or(Bound::Unbounded, Bound::Excluded);
        let until = checks.last.map_or(Bound::Excluded(ObjectId(0)), Bound::Included);
        let next = checks.written.range((after, Bound::Unbounded));
        let next = next.chain(checks.written.range((Bound::Unbounded, until))).take(OBJECTS);
        let (mut objects, mut bytes) = (Vec::new(), 0);
        for object in next {
            let size = self.get(*object).map_or(0, |held| held.size.0.load(Ordering::Relaxed));
            if bytes + size > BYTES && !objects.is_empty() {
                break;
            }
            objects.push(*object);
            bytes += size;
        }
        // One that is alone may have grown.
        let limit = if bytes > BYTES { 2 * bytes } else { BYTES };
        (!objects.is_empty()).then(|| Step::Check { check: id::fresh() as u64, limit, objects })
    }

    /// The objects that differ here from the leader's, as long as the leader has not told all.
    pub fn found(&self) -> Vec<(ObjectId, Methods)> {
        self.checks.lock().unwrap().found.iter().map(|(object, methods)| (*object, *methods)).collect()
    }

    pub(super) fn step(&self, step: &[u8]) -> Result<()> {
        match codec::decode("a step of a check", step)? {
            Step::Check { check, limit, objects } => aside(|| self.take(check, limit, objects)),
            Step::Compare { check, samples } => self.compare(check, &samples),
            Step::Diverged { objects } => self.diverge(objects),
        }
        Ok(())
    }

    fn take(&self, check: u64, limit: u64, objects: Vec<ObjectId>) {
        let mut checks = self.checks.lock().unwrap();
        // The leader before has not compared them.
        let missed = checks.taken.take();
        self.put_back(&mut checks, missed.into_iter().flat_map(|taken| taken.samples));
        let mut samples = Vec::with_capacity(objects.len());
        let mut left = limit;
        for object in objects {
            let Some(held) = self.get(object) else {
                samples.push(Sample { object, hash: None, methods: Methods::default() });
                continue;
            };
            // Reads go on beside.
            let digest = {
                let cell = held.cell.read().unwrap();
                if cell.diverged().is_some() {
                    continue;
                }
                cell.digest(left)
            };
            let hash = match digest {
                Ok(Digest { hash, bytes }) => {
                    left -= bytes;
                    held.size.0.store(bytes, Ordering::Relaxed);
                    Some(hash)
                }
                Err(Failure::TooLarge) => {
                    let alone = left == limit;
                    left = 0;
                    if alone {
                        held.size.0.store(limit + 1, Ordering::Relaxed);
                        checks.last = Some(object);
                    }
                    break;
                }
                Err(Failure::Unfit(_)) => None,
            };
            let methods = held.cell.write().unwrap().take_written();
            samples.push(Sample { object, hash, methods });
            checks.written.remove(&object);
            checks.last = Some(object);
        }
        checks.debt = limit - left + EACH * samples.len() as u64;
        checks.taken = (!samples.is_empty()).then_some(Taken { check, samples });
    }

    fn compare(&self, check: u64, leaders: &[Sample]) {
        let mut checks = self.checks.lock().unwrap();
        let Some(taken) = checks.taken.take_if(|taken| taken.check == check) else { return };
        let mut own: BTreeMap<_, _> =
            taken.samples.into_iter().map(|sample| (sample.object, sample)).collect();
        for leaders in leaders {
            let Some(own) = own.remove(&leaders.object) else { continue };
            if own.hash != leaders.hash {
                let mut methods = own.methods;
                methods.extend(leaders.methods);
                checks.found.entry(own.object).or_insert(methods);
            }
        }
        // There was no room for these in the leader's digests: they are larger there.
        self.put_back(&mut checks, own.into_values());
    }

    /// Has objects checked again that were not compared.
    fn put_back(&self, checks: &mut Checks, samples: impl Iterator<Item = Sample>) {
        for Sample { object, methods, .. } in samples {
            if let Some(held) = self.get(object) {
                let mut cell = held.cell.write().unwrap();
                cell.add_written(methods);
                if cell.is_written() && cell.diverged().is_none() {
                    checks.written.insert(object);
                }
            }
        }
    }

    fn diverge(&self, objects: Vec<(ObjectId, Methods)>) {
        let mut checks = self.checks.lock().unwrap();
        for (object, methods) in objects {
            checks.found.remove(&object);
            checks.written.remove(&object);
            let Some(held) = self.get(object) else { continue };
            let mut cell = held.cell.write().unwrap();
            if cell.diverged().is_none() {
                cell.set_diverged(methods);
                report(held.info, &held.key, methods);
            }
        }
    }
}

/// Says that the replicas of an object differ, unless that has been said of these methods. A set of methods that contains
/// one that was found already tells nothing new: a log with a line for each object of a type would be of no use.
fn report(info: &'static TypeInfo, key: &str, methods: Methods) {
    static KNOWN: Mutex<BTreeMap<&'static str, Vec<Methods>>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    let known = known.entry(info.name).or_default();
    if known.iter().any(|known| known.is_subset(methods)) {
        return;
    }
    if !methods.is_empty() {
        known.push(methods);
    }
    tracing::error!(
        object = format!("{} {key}", info.name),
        methods = methods.names(info).join(", "),
        "the replicas of an object differ, so one of these methods is not deterministic: time and random numbers have to \
         come from an argument `cx: &mut Context`, and nothing may depend on the process or on the order of a hash table"
    );
}
