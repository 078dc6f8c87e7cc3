//! Objects and handles: keys, statics, guards, async calls, poison, lifetimes.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use crucial::{
    Config, Context, Error, Shared, cloud_fn,
    run::Run,
    shared,
    sync::{Semaphore, atomic::AtomicU64, atomic::Ordering::SeqCst},
    test, thread,
};
use serde::{Deserialize, Serialize};
use tests::{
    assert_says, begin, eventually, in_time,
    objects::{Journal, Tally},
    panic_of,
    server::{LocalServer, OwnRun, client, ephemeral, parked},
};

#[test(modes(embedded, processes, server))]
fn an_anonymous_object_is_nobody_elses() {
    let (a, b) = (Tally::new(1), Tally::new(1));
    a.add(10);
    assert_eq!((a.get(), b.get(), a.clone().get()), (11, 1, 11));
    assert_ne!(a, b);
    assert_eq!(a.key(), None);
}

#[test(modes(embedded, processes, server))]
fn a_named_object_keeps_its_first_state() {
    let first = Tally::at("first").new(1);
    let second = Tally::at("first").new(2);
    assert_eq!((first.get(), second.get()), (1, 1));
    second.add(5);
    assert_eq!(first.get(), 6);
    assert_eq!(first, second);
    assert_eq!(first.key(), Some("first"));
    // Another type's key is another object.
    assert_eq!(AtomicU64::at("first").new(9).load(SeqCst), 9);
}

#[shared(key = "the only one")]
struct Single {
    n: u64,
}

#[shared]
impl Single {
    pub fn new(n: u64) -> Self {
        Single { n }
    }
    pub fn get(&self) -> u64 {
        self.n
    }
}

#[test(modes(embedded, processes, server))]
fn a_key_on_the_struct_makes_one_object() {
    let (a, b) = (Single::new(1), Single::new(2));
    assert_eq!((a.get(), b.get(), a.key()), (1, 1, Some("the only one")));
    assert_eq!(Single::at("another").new(3).get(), 3);
}

#[shared]
static HITS: AtomicU64 = AtomicU64::new(40);

#[shared]
static MAKER: Tally = Tally::new(7);

#[shared]
static NAMES: crucial::collections::HashMap<String, u64> = crucial::collections::HashMap::new();

#[cloud_fn]
fn hit() -> u64 {
    HITS.fetch_add(1, SeqCst)
}

#[cloud_fn]
fn first_use() -> u64 {
    NAMES.insert("made by a cloud thread".to_owned(), 3);
    MAKER.add(1)
}

#[test(modes(embedded, processes, server))]
fn a_static_is_the_same_object_in_client_and_cloud_threads() {
    assert_eq!(HITS.fetch_add(1, SeqCst), 40);
    let threads: Vec<_> = (0..3).map(|_| thread::spawn(hit)).collect();
    let mut seen: Vec<_> = threads.into_iter().map(|t| t.join().unwrap()).collect();
    seen.sort_unstable();
    assert_eq!(seen, [41, 42, 43]);
    assert_eq!(HITS.load(SeqCst), 44);
}

#[test(modes(embedded, processes, server))]
fn a_static_is_made_by_whoever_uses_it_first() {
    assert_eq!(thread::spawn(first_use).join().unwrap(), 7);
    assert_eq!(MAKER.get(), 8);
    assert_eq!(NAMES.get("made by a cloud thread"), Some(3));
}

/// A handle as a field of another object.
#[shared]
struct Shelf {
    tallies: Vec<Tally>,
    newest: Option<Tally>,
}

#[shared]
impl Shelf {
    pub fn new() -> Self {
        Shelf { tallies: Vec::new(), newest: None }
    }
    pub fn put(&mut self, tally: Tally) -> usize {
        self.tallies.push(tally.clone());
        self.newest = Some(tally);
        self.tallies.len()
    }
    pub fn newest(&self) -> Option<Tally> {
        self.newest.clone()
    }
    pub fn all(&self) -> Vec<Tally> {
        self.tallies.clone()
    }
}

#[cloud_fn]
fn put_on(shelf: &Shelf, tally: Tally) -> usize {
    tally.add(1);
    shelf.put(tally)
}

#[test(modes(embedded, processes, server))]
fn handles_travel() {
    let shelf = Arc::new(Shelf::new());
    let tally = Tally::new(0);
    let threads: Vec<_> = (0..3).map(|_| thread::spawn(|| put_on(&shelf, tally.clone()))).collect();
    threads.into_iter().for_each(|t| assert!(t.join().unwrap() <= 3));
    let local = shelf.clone();
    assert_eq!(in_time("a call through an Arc", move || local.newest().unwrap().add(10)), 3);
    assert_eq!(shelf.all(), [tally.clone(), tally.clone(), tally.clone()]);
    assert_eq!(tally.get(), 13);
    // A static's handle travels too, and makes its object where it arrives.
    shelf.put(MAKER.clone());
    assert_eq!(shelf.newest().unwrap().get(), 7);
}

/// Guards, and a chain of two continuations.
#[shared]
struct Relay {
    passed: u64,
    log: Vec<String>,
}

#[shared]
impl Relay {
    pub fn new() -> Self {
        Relay { passed: 0, log: Vec::new() }
    }
    pub fn open(&mut self) -> u64 {
        self.passed += 1;
        self.passed
    }
    #[when(self.passed >= at_least)]
    pub fn wait(&self, at_least: u64) -> u64 {
        self.passed
    }
    #[then(second)]
    pub fn begin(&mut self, who: &str) -> (String, u64) {
        self.log.push(format!("{who} begins"));
        (who.to_owned(), self.passed + 1)
    }
    #[when(self.passed >= ticket.1)]
    #[then(third)]
    fn second(&mut self, ticket: (String, u64)) -> (String, u64) {
        self.log.push(format!("{} is second", ticket.0));
        (ticket.0, ticket.1 + 1)
    }
    #[when(self.passed >= ticket.1)]
    fn third(&mut self, ticket: (String, u64)) -> Vec<String> {
        self.log.push(format!("{} is third", ticket.0));
        self.log.clone()
    }
    pub fn log(&self) -> Vec<String> {
        self.log.clone()
    }
}

#[cloud_fn]
fn run_relay(relay: &Relay) -> Vec<String> {
    relay.begin("ada")
}

#[test(modes(embedded, processes, server))]
fn guards_hold_calls_until_they_are_due() {
    let relay = Relay::new();
    let waiter = begin({
        let relay = relay.clone();
        move || relay.wait(2)
    });
    let runner = thread::spawn(|| run_relay(&relay));
    eventually("the runner begins", || !relay.log().is_empty());
    assert_eq!(relay.log(), ["ada begins"]);
    assert_eq!(relay.open(), 1);
    // A write's answer comes after all that it let go on.
    assert_eq!(relay.log(), ["ada begins", "ada is second"]);
    assert_eq!(relay.open(), 2);
    assert_eq!(runner.join().unwrap(), ["ada begins", "ada is second", "ada is third"]);
    assert_eq!(waiter.within("its guard holds"), 2);
}

#[shared]
struct Clock;

#[shared]
impl Clock {
    pub fn new() -> Self {
        Clock
    }
    pub fn read(&self, cx: &mut Context) -> (u64, u64, u64) {
        let micros = cx.now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
        (micros, cx.random(), cx.random())
    }
    pub fn write(&mut self, cx: &mut Context) -> u64 {
        cx.random()
    }
}

#[test(modes(embedded, processes, server))]
fn time_and_chance_come_from_the_call() {
    let clock = Clock::new();
    let micros = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as u64;
    let before = micros();
    let (now, a, b) = clock.read();
    assert!((before..=micros()).contains(&now), "{now} is not after {before}");
    let (_, c, d) = clock.read();
    let mut numbers = vec![a, b, c, d, clock.write(), clock.write()];
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 6, "no two random numbers are the same");
}

#[shared(instances(Window<f64, 2>, Window<String, 3>))]
struct Window<T: Clone + Default, const N: usize> {
    last: Vec<T>,
    seen: u64,
}

#[shared]
impl<T: Clone + Default, const N: usize> Window<T, N> {
    pub fn new() -> Self {
        Window { last: vec![T::default(); N], seen: 0 }
    }
    pub fn add(&mut self, value: T) -> u64 {
        self.last[self.seen as usize % N] = value;
        self.seen += 1;
        self.seen
    }
    pub fn last(&self) -> Vec<T> {
        self.last.clone()
    }
}

#[cloud_fn]
fn add_to(window: &Window<String, 3>, text: &str) -> u64 {
    window.add(text.to_owned())
}

#[test(modes(embedded, processes, server))]
fn instances_of_a_generic_struct_are_objects() {
    let (floats, texts) = (Window::<f64, 2>::new(), Window::<String, 3>::at("texts").new());
    floats.add(0.5);
    floats.add(1.5);
    assert_eq!(floats.add(2.5), 3);
    assert_eq!(floats.last(), [2.5, 1.5]);
    assert_eq!(thread::spawn(|| add_to(&texts, "x")).join().unwrap(), 1);
    assert_eq!(texts.last(), ["x", "", ""]);
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Place {
    name: String,
    at: (f64, f64),
}

#[shared]
struct Keeper {
    places: Vec<Place>,
    block: Vec<f64>,
}

#[shared]
impl Keeper {
    pub fn new() -> Self {
        Keeper { places: Vec::new(), block: Vec::new() }
    }
    pub fn keep(&mut self, name: &str, at: &[f64], like: &Place) -> Place {
        let place = Place { name: format!("{name} like {}", like.name), at: (at[0], at[1]) };
        self.places.push(place.clone());
        place
    }
    pub fn store(&mut self, block: &[f64]) -> f64 {
        self.block = block.to_vec();
        block.iter().sum()
    }
    pub fn load(&self) -> Vec<f64> {
        self.block.clone()
    }
}

#[cloud_fn]
fn scale(block: &[f64], by: f64) -> Vec<f64> {
    block.iter().map(|x| x * by).collect()
}

#[test(modes(embedded, processes, server))]
fn arguments_are_lent_and_blocks_are_large() {
    let keeper = Keeper::new();
    let like = Place { name: "home".into(), at: (0.0, 0.0) };
    let kept = keeper.keep("work", &[1.0, -2.5], &like);
    assert_eq!(kept, Place { name: "work like home".into(), at: (1.0, -2.5) });

    let block: Vec<f64> = (0..1_000_000).map(f64::from).collect();
    assert_eq!(keeper.store(&block), 499_999_500_000.0);
    assert!(keeper.load() == block, "a million numbers come back as they were");
    for length in [200_000, 1_000_000] {
        // The larger one is more than fits into a payload of Lambda.
        let scaled = thread::spawn(|| scale(&block[..length], 2.0)).join().unwrap();
        assert!(scaled.iter().eq(block[..length].iter().map(|n| n * 2.0).collect::<Vec<_>>().iter()));
    }
}

/// An application's own error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum Failure {
    TooBig(u64),
    Remote(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Remote(error)
    }
}

#[shared]
struct Strict {
    n: u64,
}

#[shared]
impl Strict {
    pub fn new() -> Self {
        Strict { n: 0 }
    }
    pub fn set(&mut self, n: u64) -> Result<u64, Failure> {
        if n > 9 {
            return Err(Failure::TooBig(n));
        }
        assert!(n != 7, "seven is not taken");
        Ok(std::mem::replace(&mut self.n, n))
    }
}

#[test(modes(embedded, processes, server))]
fn failures_arrive_as_errors_where_the_method_has_room_for_them() {
    let strict = Strict::new();
    assert_eq!(strict.set(3), Ok(0));
    assert_eq!(strict.set(10), Err(Failure::TooBig(10)));
    assert!(matches!(strict.set(7), Err(Failure::Remote(Error::MethodPanicked { .. }))));
    assert!(matches!(strict.set(1), Err(Failure::Remote(Error::Poisoned { .. }))));
    strict.clear_poison().unwrap();
    assert_eq!(strict.set(1), Ok(3));
    strict.remove().unwrap();
    assert!(matches!(strict.set(1), Err(Failure::Remote(Error::NoSuchObject { .. }))));
}

// ---- remote()

#[test(modes(embedded, processes, server))]
fn a_call_can_be_awaited_or_waited_for() {
    let tally = Tally::new(1);
    assert_eq!(tally.remote().add(2).wait(), Ok(1));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(async {
        // Nothing is sent before it is awaited.
        drop(tally.remote().add(100));
        let (a, b) = tokio::join!(tally.remote().add(4), tally.remote().get());
        (a, b.is_ok())
    });
    assert_eq!(result, (Ok(3), true));
    assert_eq!(tally.get(), 7);
}

#[test(modes(embedded, processes, server))]
fn many_calls_are_under_way_at_once() {
    let (tally, journal) = (Tally::new(0), Journal::new());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let results = runtime.block_on(async {
        let waiting = futures::future::join_all((1..=100).map(|n| tally.remote().reach(n)));
        let adding = futures::future::join_all((0..100).map(|_| tally.remote().add(1)));
        let pushing = futures::future::join_all((0..100).map(|n| journal.remote().push(n)));
        let (waited, added, pushed) = tokio::join!(waiting, adding, pushing);
        assert!(pushed.iter().all(Result::is_ok));
        (waited.into_iter().map(Result::unwrap).collect::<Vec<_>>(), added)
    });
    assert!(results.0.iter().zip(1..).all(|(reached, n)| *reached >= n));
    let mut before: Vec<_> = results.1.into_iter().map(Result::unwrap).collect();
    before.sort_unstable();
    assert_eq!(before, (0..100).collect::<Vec<_>>());
    let mut tokens = journal.tokens();
    tokens.sort_unstable();
    assert_eq!(tokens, (0..100).collect::<Vec<_>>());
}

const SHORT: Duration = Duration::from_millis(50);

#[test(modes(embedded, processes, server))]
fn a_call_that_timed_out_has_not_run() {
    let tally = Tally::new(0);
    let error = tally.remote().take(1).timeout(SHORT).wait().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    assert_says(&error, &["take of tests::objects::Tally", "timed out after 50ms"]);
    let async_error = crucial::run::block_on(tally.remote().take(1).timeout(SHORT)).unwrap_err();
    assert_eq!(async_error, error);
    // What they waited for is still there.
    tally.add(1);
    assert_eq!(tally.get(), 1);
    assert_eq!(tally.remote().take(1).timeout(Duration::from_secs(20)).wait(), Ok(0));
}

#[test(modes(embedded, processes, server))]
fn a_dropped_future_takes_its_call_back() {
    let (tally, semaphore) = (Tally::new(0), Semaphore::new(0));
    crucial::run::block_on(async {
        for _ in 0..3 {
            let take = tally.remote().take(1);
            let acquire = semaphore.remote().take(1);
            // They are polled, so they are sent, and dropped while they are parked.
            let outcome = tokio::time::timeout(SHORT, async { tokio::join!(take, acquire) }).await;
            assert!(outcome.is_err());
        }
        // This connection's earlier frames are served before this one.
        tally.remote().add(2).await.unwrap();
        semaphore.remote().add_permits(2).await.unwrap();
    });
    assert_eq!((tally.get(), semaphore.available_permits()), (2, 2));
}

#[test(modes(embedded, processes, server))]
fn a_timeout_behind_a_busy_object_takes_the_call_back() {
    let tally = Tally::new(0);
    for round in 0..5 {
        let slow = begin({
            let tally = tally.clone();
            move || tally.slow_add(0, 150)
        });
        let took = begin({
            let tally = tally.clone();
            move || tally.remote().take(1).timeout(SHORT).wait()
        });
        slow.within("a slow call");
        let took = took.within("a timeout behind a slow call");
        assert!(matches!(took, Err(Error::Timeout { .. })), "round {round}: {took:?}");
    }
    tally.add(1);
    assert_eq!(tally.get(), 1);
}

#[test(modes(embedded, processes, server))]
fn a_blocking_call_works_in_a_multi_thread_runtime() {
    let (tally, run) = (Tally::new(5), Run::current().unwrap());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let value = runtime.block_on(async {
        let tally = tally.clone();
        tokio::spawn(async move {
            let _entered = run.enter();
            let parked = tokio::spawn({
                let (tally, run) = (tally.clone(), run.clone());
                async move {
                    let _entered = run.enter();
                    tally.reach(6)
                }
            });
            tally.add(1);
            (parked, tally.get())
        })
        .await
        .unwrap()
    });
    assert_eq!(value.1, 6);
    assert_eq!(runtime.block_on(value.0).unwrap(), 6);
}

#[test(modes(embedded, processes, server))]
fn a_blocking_call_in_a_current_thread_runtime_says_what_to_write() {
    let tally = Tally::new(5);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let message = runtime.block_on(async { panic_of(|| tally.get()) });
    assert_says(&message, &["a blocking call (get of", "current-thread", "`.remote()`", "`.await`"]);
    let error = runtime.block_on(async { tally.try_get() }).unwrap_err();
    assert!(matches!(error, Error::BlockingInAsync { .. }), "{error}");
    let error = runtime.block_on(async { tally.remote().get().wait() }).unwrap_err();
    assert!(matches!(error, Error::BlockingInAsync { .. }), "{error}");
    assert_eq!(tally.get(), 5);
}

// ---- poison

#[test(modes(embedded, processes, server))]
fn a_write_that_panics_poisons() {
    let tally = Tally::at("poisoned").new(1);
    let parked = begin({
        let tally = tally.clone();
        move || tally.remote().take(100).wait()
    });
    let also = Tally::at("poisoned").new(1);
    // Parked: a call that comes later is served first, and it is there.
    eventually("the call is parked", || parked_calls() >= 1);
    assert_says(
        &panic_of(|| tally.fail_writing("as it should")),
        &["fail_writing of tests::objects::Tally \"poisoned\" panicked: as it should"],
    );
    let error = parked.within("a parked call fails with its object").unwrap_err();
    assert_says(&error, &["is poisoned", "as it should"]);
    assert_says(
        &panic_of(|| also.get()),
        &["\"poisoned\" is poisoned: an earlier call panicked: as it should"],
    );
    assert!(matches!(also.try_get(), Err(Error::Poisoned { .. })));
    assert_eq!(tally.is_poisoned(), Ok(true));
    tally.clear_poison().unwrap();
    assert_eq!(also.is_poisoned(), Ok(false));
    // The state is as the panic left it.
    assert_eq!(also.get(), 2);
}

/// How many calls are parked in this run's servers.
fn parked_calls() -> u64 {
    let addresses = Run::current().unwrap().dso().addresses().unwrap();
    addresses.iter().map(|address| parked(&tests::server::status(address))).sum()
}

#[test(modes(embedded, processes, server))]
fn a_read_that_panics_does_not_poison() {
    let tally = Tally::new(1);
    assert_says(&panic_of(|| tally.fail_reading("in a read")), &["fail_reading", "in a read"]);
    assert_eq!((tally.is_poisoned(), tally.get()), (Ok(false), 1));
}

#[test(modes(embedded, processes, server))]
fn a_method_may_print() {
    let tally = Tally::new(3);
    assert_eq!((tally.print(), tally.print()), (3, 3));
}

/// Its methods do what they must not.
#[shared]
struct Meddler {
    other: Tally,
}

#[shared]
impl Meddler {
    pub fn new(other: Tally) -> Self {
        Meddler { other }
    }
    pub fn with_a_call(other: Tally) -> Self {
        other.add(1);
        Meddler { other }
    }
    pub fn call(&self) -> u64 {
        self.other.get()
    }
    pub fn call_later(&self) -> Result<u64, Error> {
        self.other.remote().get().wait()
    }
    pub fn make(&self) -> Tally {
        Tally::new(1)
    }
    #[when(self.other.get() > 0)]
    pub fn guarded(&self) {}
}

#[test(modes(embedded, processes, server))]
fn a_method_cannot_call_another_object() {
    let tally = Tally::new(1);
    let meddler = Meddler::new(tally.clone());
    for message in [
        panic_of(|| meddler.call()),
        panic_of(|| meddler.make()),
        panic_of(|| meddler.guarded()),
        panic_of(|| Meddler::with_a_call(tally.clone())),
        meddler.call_later().unwrap_err().to_string(),
    ] {
        assert_says(&message, &["inside a shared method", "Call the other object before or after"]);
    }
    assert_eq!((tally.get(), meddler.is_poisoned()), (1, Ok(false)));
}

// ---- lifetimes

#[test(modes(embedded, processes, server))]
fn a_removed_object_is_gone() {
    let tally = Tally::at("removed").new(1);
    let waiting = begin({
        let tally = tally.clone();
        move || tally.remote().take(100).wait()
    });
    eventually("the call is parked", || parked_calls() >= 1);
    assert_eq!(tally.remove(), Ok(true));
    assert!(matches!(waiting.within("a parked call fails"), Err(Error::NoSuchObject { .. })));
    assert_eq!(tally.remove(), Ok(false));
    assert_says(&panic_of(|| tally.get()), &["tests::objects::Tally \"removed\" does not exist", "removed"]);
    // Its constructor makes it anew.
    assert_eq!(Tally::at("removed").new(5).get(), 5);
    assert_eq!(tally.get(), 5);
}

#[shared(persistent)]
struct Lasting {
    n: u64,
}

#[shared]
impl Lasting {
    pub fn new(n: u64) -> Self {
        Lasting { n }
    }
    pub fn add(&mut self, by: u64) -> u64 {
        self.n += by;
        self.n
    }
}

#[shared(key = "lasting static", persistent)]
static LASTING: Tally = Tally::new(0);

#[::core::prelude::v1::test]
fn runs_share_what_is_persistent_and_nothing_else() {
    let server = LocalServer::start(&Config::default());
    let (first, anonymous) = {
        let first = OwnRun::on(&server.address);
        assert_eq!(Tally::at("t").new(1).add(1), 1);
        assert_eq!(Tally::at("p").persistent().new(1).add(1), 1);
        assert_eq!(Lasting::at("l").new(1).add(1), 2);
        LASTING.add(5);
        HITS.fetch_add(1, SeqCst);
        let anonymous = Tally::new(77);
        assert!(ephemeral(&server.status()) >= 3);

        let second = OwnRun::on(&server.address);
        assert_eq!(Tally::at("t").new(10).get(), 10, "it is another run's");
        assert_eq!(Tally::at("p").persistent().new(10).get(), 2);
        assert_eq!(Lasting::at("l").new(10).add(1), 3);
        assert_eq!(LASTING.get(), 5);
        assert_eq!(HITS.load(SeqCst), 40);
        assert!(matches!(anonymous.try_get(), Err(Error::NoSuchObject { .. })));
        drop(second);
        assert_eq!(Tally::at("t").new(10).get(), 2, "the end of one run is not the end of another");
        (first, anonymous)
    };
    drop(first);
    let status = server.status();
    assert_eq!((ephemeral(&status), status.runs), (0, 0), "{status:?}");
    let persistent: u64 = status.types.iter().map(|t| t.persistent).sum();
    assert_eq!(persistent, 3, "{status:?}");

    let _third = OwnRun::on(&server.address);
    assert!(anonymous.try_get().is_err());
    assert_eq!(LASTING.get(), 5);
    for object in [Tally::at("p").persistent().new(0), LASTING.clone()] {
        assert_eq!(object.remove(), Ok(true));
    }
    assert_eq!(Tally::at("p").persistent().new(4).get(), 4);
}

#[::core::prelude::v1::test]
fn a_lost_object_is_an_error_and_never_a_fresh_value() {
    let server = LocalServer::start(&Config::default());
    let run = OwnRun::on(&server.address);
    let (named, anonymous) = (Tally::at("lost").new(3), Tally::new(4));
    HITS.fetch_add(1, SeqCst);
    run.run.end();
    for error in [
        named.try_get().unwrap_err(),
        anonymous.try_get().unwrap_err(),
        HITS.remote().load(SeqCst).wait().unwrap_err(),
        Tally::at("new").remote_new_error(),
    ] {
        assert!(matches!(error, Error::StateLost { .. } | Error::NoSuchObject { .. }), "{error}");
    }
    assert_eq!(ephemeral(&server.status()), 0);
}

/// The error of a constructor, which panics with it.
trait NewError {
    fn remote_new_error(self) -> Error;
}

impl NewError for tests::objects::__TallyAt {
    fn remote_new_error(self) -> Error {
        let message = panic_of(|| self.new(1));
        assert_says(&message, &["is lost", "run"]);
        Error::StateLost { object: String::new(), reason: message }
    }
}

#[::core::prelude::v1::test]
fn a_run_that_ends_while_its_threads_call_leaves_nothing_behind() {
    let server = LocalServer::start(&Config::default());
    for _ in 0..10 {
        let run = OwnRun::enter(client(&server.address));
        let makers: Vec<_> = (0..3)
            .map(|_| {
                begin(|| {
                    let mut made = 0;
                    // Until the run has ended, and an error says so.
                    while std::panic::catch_unwind(|| Tally::new(1)).is_ok() && made < 100_000 {
                        made += 1;
                    }
                    made
                })
            })
            .collect();
        eventually("they make objects", || ephemeral(&server.status()) > 3);
        run.run.end();
        for maker in makers {
            assert!(maker.within("a run's end") < 100_000);
        }
        assert_eq!(ephemeral(&server.status()), 0);
    }
}
