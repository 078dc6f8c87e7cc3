//! The calls that wait at the guards of one object.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::Arc,
};

use crucial_runtime::{context::Context, object::MethodInfo};

/// Parked calls in groups that share a guard, so that it is asked once for all of them: calls of the same method, and if
/// the guard looks at the arguments, with the same arguments. `O` says where an answer goes.
///
/// Invariant: the calls of a group, and the groups by their first calls, are in the order of arrival.
pub(crate) struct Parked<O> {
    /// By the arrival of their first calls.
    groups: BTreeMap<u64, Group<O>>,
    /// Where the group of a guard is.
    places: HashMap<(u16, Arc<[u8]>), u64>,
    count: usize,
    arrivals: u64,
}

pub(crate) struct Group<O> {
    pub(crate) method: u16,
    /// The arguments for the guard: those of its first call.
    pub(crate) args: Arc<[u8]>,
    /// What the guard looks at of the arguments: all or nothing.
    key: Arc<[u8]>,
    pub(crate) calls: VecDeque<Call<O>>,
}

pub(crate) struct Call<O> {
    arrival: u64,
    pub(crate) args: Arc<[u8]>,
    pub(crate) context: Context,
    pub(crate) origin: O,
}

impl<O> Default for Parked<O> {
    fn default() -> Self {
        Parked { groups: BTreeMap::new(), places: HashMap::new(), count: 0, arrivals: 0 }
    }
}

impl<O> Parked<O> {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn push(&mut self, method: u16, info: &MethodInfo, args: &[u8], context: Context, origin: O) {
        let arrival = self.arrivals;
        self.arrivals += 1;
        self.count += 1;
        let args: Arc<[u8]> = args.into();
        let key = if info.guard_takes_args { args.clone() } else { Arc::default() };
        let place = *self.places.entry((method, key.clone())).or_insert(arrival);
        let group = self.groups.entry(place).or_insert_with(|| Group {
            method,
            args: args.clone(),
            key,
            calls: VecDeque::new(),
        });
        group.calls.push_back(Call { arrival, args, context, origin });
    }

    /// The first group that comes after the place `after`.
    pub(crate) fn next(&self, after: Option<u64>) -> Option<(u64, &Group<O>)> {
        let from = after.map_or(0, |after| after + 1);
        self.groups.range(from..).next().map(|(place, group)| (*place, group))
    }

    /// Takes the first call of a group.
    pub(crate) fn pop(&mut self, place: u64) -> Call<O> {
        let mut group = self.take(place);
        let call = group.calls.pop_front().expect("a group has calls");
        self.put(group);
        call
    }

    /// Takes a whole group.
    pub(crate) fn take(&mut self, place: u64) -> Group<O> {
        let group = self.groups.remove(&place).expect("a group is at its place");
        self.places.remove(&(group.method, group.key.clone()));
        self.count -= group.calls.len();
        group
    }

    /// Puts back what is left of a group.
    fn put(&mut self, mut group: Group<O>) {
        let Some(first) = group.calls.front() else { return };
        let place = first.arrival;
        group.args = first.args.clone();
        self.count += group.calls.len();
        self.places.insert((group.method, group.key.clone()), place);
        self.groups.insert(place, group);
    }

    /// Takes the call for which `is` holds.
    pub(crate) fn withdraw(&mut self, is: impl Fn(&O) -> bool) -> Option<O> {
        let find = |(place, group): (&u64, &Group<O>)| {
            Some((*place, group.calls.iter().position(|call| is(&call.origin))?))
        };
        let (place, at) = self.groups.iter().find_map(find)?;
        let mut group = self.take(place);
        let call = group.calls.remove(at);
        self.put(group);
        call.map(|call| call.origin)
    }

    /// All calls with their methods, in the order of arrival.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u16, &Call<O>)> {
        let calls =
            self.groups.values().flat_map(|group| group.calls.iter().map(|call| (group.method, call)));
        let mut calls: Vec<_> = calls.collect();
        calls.sort_by_key(|(_, call)| call.arrival);
        calls.into_iter()
    }

    /// Takes all calls, in the order of arrival.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = O> + use<O> {
        self.count = 0;
        self.places.clear();
        let groups = std::mem::take(&mut self.groups);
        let mut calls: Vec<_> = groups.into_values().flat_map(|group| group.calls).collect();
        calls.sort_by_key(|call| call.arrival);
        calls.into_iter().map(|call| call.origin)
    }
}

#[cfg(test)]
mod tests {
    use crucial_runtime::object::Access;

    use super::*;

    fn info(guard_takes_args: bool) -> MethodInfo {
        MethodInfo { name: "m", access: Access::Write, guarded: true, guard_takes_args, then: None }
    }

    fn places(parked: &Parked<u32>) -> Vec<(u64, usize)> {
        let mut places = Vec::new();
        let mut after = None;
        while let Some((place, group)) = parked.next(after) {
            places.push((place, group.calls.len()));
            after = Some(place);
        }
        places
    }

    fn push(parked: &mut Parked<u32>, method: u16, by_args: bool, args: &[u8], origin: u32) {
        parked.push(method, &info(by_args), args, Context::new(0, 0), origin);
    }

    #[test]
    fn calls_with_the_same_guard_are_a_group() {
        let mut parked = Parked::default();
        push(&mut parked, 0, true, b"a", 0);
        push(&mut parked, 0, true, b"b", 1);
        push(&mut parked, 0, true, b"a", 2);
        push(&mut parked, 1, false, b"a", 3);
        push(&mut parked, 1, false, b"b", 4);
        assert_eq!(places(&parked), [(0, 2), (1, 1), (3, 2)]);
        assert_eq!(parked.pop(0).origin, 0);
        // The rest of its group comes after what arrived before the next call.
        assert_eq!(places(&parked), [(1, 1), (2, 1), (3, 2)]);
        assert_eq!((parked.pop(3).origin, parked.len()), (3, 3));
        assert_eq!(parked.next(Some(2)).map(|(_, group)| (*group.args).to_vec()), Some(b"b".to_vec()));
        assert_eq!(parked.withdraw(|o| *o == 1), Some(1));
        assert_eq!(parked.withdraw(|o| *o == 1), None);
        push(&mut parked, 0, true, b"a", 5);
        assert_eq!(places(&parked), [(2, 2), (4, 1)]);
        assert_eq!(parked.drain().collect::<Vec<_>>(), [2, 4, 5]);
        assert_eq!((parked.len(), places(&parked)), (0, vec![]));
    }
}
