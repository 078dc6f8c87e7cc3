//! Shared structs and their impl blocks.

use std::collections::{BTreeMap, HashSet};

use crucial::{Call, Context, shared};
use crucial_runtime::object::{Access, SharedType};
use serde::{Deserialize, Serialize};

#[path = "server.rs"]
mod server;
use server::{Driven, info};

/// An account, with one of everything.
#[shared(key = "the account", persistent)]
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    balance: i64,
    history: Vec<f64>,
    grid: [f32; 40],
    #[serde(default)]
    notes: Vec<String>,
    #[serde(skip)]
    cache: Option<String>,
    #[cfg(any())]
    missing: NoSuchType,
}

/// What can be done with an account.
#[shared]
impl Account {
    /// The most that an account may hold.
    pub const LIMIT: i64 = 1_000_000;

    /// Opens an account.
    pub fn new(balance: i64) -> Self {
        Account { balance, history: Vec::new(), grid: [0.0; 40], notes: Vec::new(), cache: None }
    }

    /// Opens an account with a history.
    pub fn with_history(history: Vec<f64>, grid: [f32; 40], _cx: &mut Context) -> Account {
        Self { balance: 0, history, grid, notes: Vec::new(), cache: None }
    }

    fn empty() -> Self {
        Self::new(0)
    }

    /// Its balance.
    pub fn balance(&self) -> i64 {
        self.balance
    }

    /// Its history.
    #[must_use]
    pub fn history(&self) -> Vec<f64> {
        self.history.clone()
    }

    /// A grid.
    pub fn grid(&self) -> [f32; 40] {
        self.grid
    }

    /// Takes money out when there is enough.
    #[when(self.balance >= amount)]
    pub fn take(&mut self, amount: i64, note: &str) -> Result<i64, crucial::Error> {
        self.log(note);
        self.balance -= amount;
        Ok(self.balance)
    }

    /// Every kind of argument.
    #[allow(clippy::too_many_arguments, clippy::boxed_local, clippy::ptr_arg)]
    pub fn everything(
        &mut self,
        mut n: u32,
        (a, b): (u32, u32),
        text: &str,
        block: &[f64],
        words: &[String],
        map: &BTreeMap<String, u8>,
        bytes: Vec<u8>,
        boxed: Box<[u16]>,
        lent: &Vec<i8>,
        handle: Option<Other>,
    ) -> (u32, usize, bool) {
        n += a + b;
        let length =
            text.len() + block.len() + words.len() + map.len() + bytes.len() + boxed.len() + lent.len();
        (n, length, handle.is_some())
    }

    /// Something of chance.
    pub fn chance(&mut self, below: u64, cx: &mut Context) -> u64 {
        cx.random() % below
    }

    /// When the call was accepted.
    pub fn seconds(&self, cx: &Context) -> u64 {
        cx.now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
    }

    /// Resets the account.
    pub fn reset(&mut self) {
        *self = Self::empty();
        assert!(self.balance <= Self::LIMIT);
    }

    #[cfg(any())]
    pub fn not_here(&self) -> NoSuchType {
        unreachable!()
    }

    fn log(&mut self, note: &str) {
        self.history.push(note.len() as f64);
        self.notes.push(note.to_owned());
    }
}

/// A barrier: arrive, then pass when the round is over.
#[shared]
pub struct Rounds {
    parties: u32,
    waiting: u32,
    round: u64,
}

#[shared]
impl Rounds {
    /// A barrier for so many.
    pub fn new(parties: u32) -> Self {
        Rounds { parties, waiting: 0, round: 0 }
    }

    /// Waits for all others; true for the one that ends the round.
    #[then(pass)]
    pub fn wait(&mut self) -> Vec<u64> {
        let round = self.round;
        self.waiting += 1;
        let leads = self.waiting == self.parties;
        if leads {
            self.waiting = 0;
            self.round += 1;
        }
        vec![round, u64::from(leads)]
    }

    #[when(self.round > round[0])]
    #[then(tell)]
    fn pass(&mut self, round: &[u64]) -> String {
        format!("{round:?}")
    }

    fn tell(&self, text: &str) -> bool {
        text.ends_with("1]")
    }
}

/// A tuple struct that the constructor builds by name.
#[shared]
#[derive(Debug, Default)]
pub struct Other(u64, pub Vec<u8>);

#[shared]
impl Other {
    /// Two numbers.
    pub fn new(n: u64) -> Self {
        Other(n, vec![1, 2])
    }

    /// A name that is a keyword.
    #[when(self.0 > r#if)]
    pub fn r#type(&self, r#if: u64) -> u64 {
        self.0
    }

    /// The first.
    pub fn first(&self) -> u64 {
        let Other(n, _) = self;
        *n
    }
}

/// Without fields.
#[shared]
struct Unit;

#[shared]
impl Unit {
    pub fn new() -> Self {
        Unit
    }
    pub fn ping(&self) -> bool {
        true
    }
}

/// Sum and count.
#[shared(instances(Stats<f64, 2>, Stats<Vec<u8>, 3>))]
#[derive(Debug)]
pub struct Stats<T: Clone, const N: usize>
where
    T: Default,
{
    last: Vec<T>,
    seen: u64,
}

#[shared]
impl<T: Clone + Default, const N: usize> Stats<T, N> {
    /// Nothing yet.
    pub fn new() -> Self {
        Stats { last: vec![T::default(); N], seen: 0 }
    }

    /// Adds a value.
    pub fn add(&mut self, value: T) -> u64 {
        self.seen += 1;
        let place = self.seen as usize % N;
        self.last[place] = value;
        self.seen
    }

    /// The last values, or why not.
    #[when(self.seen >= least)]
    pub fn last(&self, least: u64) -> Result<Vec<T>, crucial::Error> {
        Ok(self.last.clone())
    }
}

#[test]
fn a_type_says_what_it_is() {
    assert_eq!(Account::NAME, "expand::objects::Account");
    assert_eq!(Account::KEY, Some("the account"));
    const { assert!(Account::PERSISTENT && !Rounds::PERSISTENT) };
    assert_eq!(Rounds::KEY, None);
    assert_eq!(Stats::<f64, 2>::NAME, "expand::objects::Stats<f64, 2>");
    assert_eq!(Stats::<Vec<u8>, 3>::NAME, "expand::objects::Stats<Vec<u8>, 3>");

    let account = info("objects::Account");
    assert_eq!(account.constructors, ["new", "with_history"]);
    let methods: Vec<_> =
        account.methods.iter().map(|m| (m.name, m.access == Access::Write, m.guarded)).collect();
    assert_eq!(
        methods,
        [
            ("balance", false, false),
            ("history", false, false),
            ("grid", false, false),
            ("take", true, true),
            ("everything", true, false),
            ("chance", true, false),
            ("seconds", false, false),
            ("reset", true, false),
            ("not_here", false, false),
        ]
    );
    let rounds: Vec<_> =
        info("objects::Rounds").methods.iter().map(|m| (m.name, m.guarded, m.then)).collect();
    assert_eq!(rounds, [("wait", false, Some(1)), ("pass", true, Some(2)), ("tell", false, None)]);
}

#[test]
fn constructors_and_methods_run() {
    let mut account = Driven::new("objects::Account", "new", &(5,));
    assert_eq!(account.call::<i64>("balance", &()), 5);
    assert!(account.guard("take", &(5, "all")) && !account.guard("take", &(6, "more")));
    assert_eq!(account.call::<Result<i64, crucial::Error>>("take", &(3, "some")), Ok(2));
    assert_eq!(account.call::<crucial::bulk::Bulk<Vec<f64>>>("history", &()).0, [4.0]);
    account.call::<()>("reset", &());
    assert_eq!(account.call::<i64>("balance", &()), 0);
    assert_eq!(account.call::<u64>("seconds", &()), 1);
    let mut again = Driven::new("objects::Account", "new", &(0,));
    assert_eq!(account.call::<u64>("chance", &(1000,)), again.call::<u64>("chance", &(1000,)));
}

#[test]
fn the_state_survives_a_snapshot() {
    use crucial::bulk::Bulk;
    let args = (Bulk(vec![0.5; 3]), Bulk([1.5f32; 40]));
    let mut account = Driven::new("objects::Account", "with_history", &args).restored();
    assert_eq!(account.call::<Bulk<Vec<f64>>>("history", &()).0, [0.5; 3]);
    assert_eq!(account.call::<Bulk<[f32; 40]>>("grid", &()).0, [1.5; 40]);
    let mut other = Driven::new("objects::Other", "new", &(9u64,)).restored();
    assert_eq!(other.call::<u64>("first", &()), 9);
    assert!(other.guard("type", &(8u64,)) && !other.guard("type", &(9u64,)));
    assert!(Driven::new("objects::Unit", "new", &()).restored().call::<bool>("ping", &()));
}

#[test]
fn arguments_of_all_kinds_arrive() {
    use crucial::bulk::Bulk;
    let mut account = Driven::new("objects::Account", "new", &(5,));
    let args = (
        1u32,
        (2u32, 3u32),
        "text",
        Bulk(&[0.5f64][..]),
        ["a", "b"],
        BTreeMap::from([("k", 1u8)]),
        Bulk(vec![1u8]),
        Bulk(vec![1u16, 2].into_boxed_slice()),
        Bulk(vec![-1i8]),
        None::<Other>,
    );
    assert_eq!(
        account.call::<(u32, usize, bool)>("everything", &args),
        (6, 4 + 1 + 2 + 1 + 1 + 2 + 1, false)
    );
}

#[test]
fn a_method_continues_in_others() {
    let mut rounds = Driven::new("objects::Rounds", "new", &(2u32,));
    // The first one's continuation is not due yet: its guard says so.
    assert!(!rounds.guard("pass", &(crucial::bulk::Bulk(vec![0u64, 0]),)));
    assert!(!rounds.call::<bool>("wait", &()));
    assert!(rounds.call::<bool>("wait", &()));
    assert!(rounds.guard("pass", &(crucial::bulk::Bulk(vec![0u64, 0]),)));
}

#[test]
fn instances_of_a_generic_struct_are_types_of_their_own() {
    let mut floats = Driven::new("objects::Stats<f64, 2>", "new", &());
    assert!(!floats.guard("last", &(1u64,)));
    assert_eq!(floats.call::<u64>("add", &(0.5,)), 1);
    assert!(floats.guard("last", &(1u64,)));
    assert_eq!(floats.call::<Result<Vec<f64>, crucial::Error>>("last", &(0u64,)), Ok(vec![0.0, 0.5]));
    let mut bytes = Driven::new("objects::Stats<Vec<u8>, 3>", "new", &());
    assert_eq!(bytes.call::<u64>("add", &(vec![1u8],)), 1);
    assert_ne!(floats.info.tag, bytes.info.tag);
}

#[test]
fn a_number_too_high_and_bytes_of_garbage_are_refused() {
    let mut account = Driven::new("objects::Account", "new", &(5,));
    for error in account.beyond() {
        assert!(error.to_string().contains("no method number 999"), "{error}");
    }
    let error = (account.info.construct)(999, &[], &mut server::context()).map(drop).unwrap_err();
    assert!(error.to_string().contains("no method number 999"), "{error}");
    let error = account.raw("take", vec![0xc1]).unwrap_err();
    assert!(error.to_string().contains("the arguments of `take`"), "{error}");
}

/// One module for each version of a type: only `tag` says that they differ.
mod versions {
    macro_rules! version {
        ($name:ident { $($field:tt)* } { $($method:tt)* }) => {
            pub mod $name {
                #[crucial::shared]
                pub struct V { $($field)* }
                #[crucial::shared]
                impl V { $($method)* }
            }
        };
    }
    version!(a { n: u64 } { pub fn new() -> Self { V { n: 0 } } pub fn get(&self) -> u64 { self.n } });
    version!(body { n: u64 } { pub fn new() -> Self { V { n: 1 } } pub fn get(&self) -> u64 { self.n } });
    version!(field { n: u32 } { pub fn new() -> Self { V { n: 0 } } pub fn get(&self) -> u64 { self.n.into() } });
    version!(renamed { m: u64 } { pub fn new() -> Self { V { m: 0 } } pub fn get(&self) -> u64 { self.m } });
    version!(result { n: u64 } { pub fn new() -> Self { V { n: 0 } } pub fn get(&self) -> u8 { self.n as u8 } });
    version!(access { n: u64 } { pub fn new() -> Self { V { n: 0 } } pub fn get(&mut self) -> u64 { self.n } });
    version!(args { n: u64 } { pub fn new(n: u64) -> Self { V { n } } pub fn get(&self) -> u64 { self.n } });
    version!(guard { n: u64 } {
        pub fn new() -> Self { V { n: 0 } }
        #[when(self.n > 0)]
        pub fn get(&self) -> u64 { self.n }
    });
    version!(absent { n: u64, #[cfg(any())] m: u64 } {
        pub fn new() -> Self { V { n: 0 } }
        pub fn get(&self) -> u64 { self.n }
    });
    version!(present { n: u64, #[cfg(all())] m: u64 } {
        pub fn new() -> Self { V { n: 0, m: 0 } }
        pub fn get(&self) -> u64 { self.n + self.m }
    });
}

#[test]
fn a_fingerprint_changes_with_fields_and_signatures() {
    fn shape<T: crucial_runtime::object::Methods>() -> (u64, u64) {
        (T::FIELDS, T::SIGNATURES)
    }
    use versions::{a, absent, access, args, body, field, guard, present, renamed, result};
    let first = shape::<a::V>();
    assert_eq!(first, shape::<body::V>(), "a body is no part of it");
    assert_eq!(first, shape::<absent::V>(), "a field that isn't there is no part of it");
    let others = [
        shape::<field::V>(),
        shape::<renamed::V>(),
        shape::<result::V>(),
        shape::<access::V>(),
        shape::<args::V>(),
        shape::<guard::V>(),
        shape::<present::V>(),
    ];
    let distinct: HashSet<_> = others.iter().chain([&first]).collect();
    assert_eq!(distinct.len(), 8, "{others:?}");
}

#[test]
fn a_handle_is_a_value() {
    let a = Account::from_object(crucial_runtime::reference::ObjectRef::anonymous());
    let b = Account::from_object(crucial_runtime::reference::ObjectRef::anonymous());
    assert_eq!(a, a.clone());
    assert_ne!(a, b);
    assert_eq!(HashSet::from([a.clone(), b.clone(), a.clone()]).len(), 2);
    let sent: Account = server::decode(&server::encode(&a));
    assert_eq!(sent, a);
    assert!(format!("{a:?}").starts_with("Account(#"), "{a:?}");
    assert!(format!("{:?}", Account::at("k")).contains("\"k\""));
}

/// Never called: what a program may write.
#[allow(dead_code)]
fn compiles(account: &Account, rounds: &Rounds) -> Result<(), crucial::Error> {
    let _: i64 = account.take(1, "x")?;
    let _: Vec<f64> = account.history();
    let call: Call<Vec<f64>> = account.remote().history();
    let _: Vec<f64> = call.wait()?;
    let call: Call<Result<i64, crucial::Error>> = account.remote().take(1, "x");
    let _: i64 = call.wait()??;
    let _: bool = rounds.wait();
    let call: Call<bool> = rounds.remote().wait();
    let _: bool = call.wait()?;
    let _: Account = Account::at("k").persistent().new(4);
    let _: Account = Account::at("k").with_history(Vec::new(), [0.0; 40]);
    let stats = Stats::<f64, 2>::new();
    stats.add(0.5);
    let _: Result<Vec<f64>, _> = Stats::<f64, 2>::at("k").new().last(3);
    let _ = Other::new(3);
    Unit::new().ping();
    Ok(())
}

#[test]
fn a_struct_may_be_local_to_a_function() {
    #[shared]
    struct Local {
        n: Vec<u8>,
    }
    #[shared]
    impl Local {
        pub fn new() -> Self {
            Local { n: vec![3] }
        }
        pub fn get(&self) -> u8 {
            self.n[0]
        }
    }
    assert_eq!(Driven::new("objects::Local", "new", &()).call::<u8>("get", &()), 3);
}
