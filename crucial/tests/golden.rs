//! What the macros expand to, by hand.
#![allow(missing_docs)]

use crucial::{Error, Shared};

mod bank {
    use ::crucial::__private as __crucial;

    // ---- #[shared] pub struct Account { balance: i64, history: Vec<f64> }
    pub struct Account {
        object: __crucial::ObjectRef,
    }

    #[doc(hidden)]
    pub struct __AccountState {
        balance: i64,
        history: Vec<f64>,
    }
    // the derives of the state (with #[serde(crate = "::crucial::__private::serde")]) and of the handle:
    const _: () = {
        use __crucial::serde::{Deserialize, Deserializer, Serialize, Serializer};
        impl Serialize for __AccountState {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                (&self.balance, &self.history).serialize(s)
            }
        }
        impl<'de> Deserialize<'de> for __AccountState {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                let (balance, history) = <(i64, Vec<f64>)>::deserialize(d)?;
                Ok(__AccountState { balance, history })
            }
        }
        impl Serialize for Account {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                self.object.serialize(s)
            }
        }
        impl<'de> Deserialize<'de> for Account {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                <_>::deserialize(d).map(|object| Account { object })
            }
        }
        impl Clone for Account {
            fn clone(&self) -> Self {
                Account { object: self.object.clone() }
            }
        }
        // also Debug, PartialEq, Eq and Hash by the object reference
        impl __crucial::SharedType for Account {
            const NAME: &'static str = concat!(module_path!(), "::", "Account");
            const KEY: Option<&'static str> = None;
            const PERSISTENT: bool = false;
            const FIELDS: u64 = __crucial::fingerprint("balance : i64 , history : Vec < f64 >");
            type State = __AccountState;
            fn from_object(object: __crucial::ObjectRef) -> Self {
                Account { object }
            }
            fn object_ref(&self) -> &__crucial::ObjectRef {
                &self.object
            }
        }
        impl __crucial::Shared for Account {
            type Handle = Self;
            fn handle(&self) -> &Self {
                self
            }
        }
        __crucial::inventory::submit! { __crucial::TypeInfo::of::<Account>() }
        const _: () = __crucial::assert_methods::<Account>();
        const _: () = __crucial::assert_data::<i64>();
        const _: () = __crucial::assert_data::<Vec<f64>>();
    };

    // ---- #[shared] impl Account { .. }
    const _: () = {
        type Account = __AccountState;
        // the user's impl block, word for word but for our attributes
        impl Account {
            pub fn new(balance: i64) -> Self {
                Account { balance, history: Vec::new() }
            }
            pub fn balance(&self) -> i64 {
                self.balance
            }
            pub fn history(&self) -> Vec<f64> {
                self.history.clone()
            }
            // #[when(self.balance >= amount)]
            pub fn take(&mut self, amount: i64, note: &str) -> Result<i64, crucial::Error> {
                self.log(note);
                self.balance -= amount;
                Ok(self.balance)
            }
            fn log(&mut self, note: &str) {
                self.history.push(note.len() as f64);
            }
        }
    };
    const _: () = {
        type __State = __AccountState;
        impl __crucial::Methods for Account {
            const METHODS: &'static [__crucial::MethodInfo] = &[
                __crucial::MethodInfo {
                    name: "balance",
                    access: __crucial::Access::Read,
                    guarded: false,
                    then: None,
                },
                __crucial::MethodInfo {
                    name: "history",
                    access: __crucial::Access::Read,
                    guarded: false,
                    then: None,
                },
                __crucial::MethodInfo {
                    name: "take",
                    access: __crucial::Access::Write,
                    guarded: true,
                    then: None,
                },
            ];
            const CONSTRUCTORS: &'static [&'static str] = &["new"];
            const SIGNATURES: u64 = __crucial::fingerprint("all signatures as text");
            fn construct(
                constructor: u16,
                args: &[u8],
                _cx: &mut __crucial::Context,
            ) -> __crucial::Result<__State> {
                match constructor {
                    0 => {
                        let (balance,): (i64,) = __crucial::decode("the arguments of `new`", args)?;
                        Ok(<__State>::new(balance))
                    }
                    other => Err(__crucial::no_such_method(<Self as __crucial::SharedType>::NAME, other)),
                }
            }
            fn read(
                state: &__State,
                method: u16,
                _args: &[u8],
                _cx: &mut __crucial::Context,
                out: &mut Vec<u8>,
            ) -> __crucial::Result<()> {
                match method {
                    0 => __crucial::encode("the result of `balance`", &<__State>::balance(state), out),
                    1 => __crucial::encode(
                        "the result of `history`",
                        &__crucial::Bulk(<__State>::history(state)),
                        out,
                    ),
                    other => Err(__crucial::no_such_method(<Self as __crucial::SharedType>::NAME, other)),
                }
            }
            fn write(
                state: &mut __State,
                method: u16,
                args: &[u8],
                _cx: &mut __crucial::Context,
                out: &mut Vec<u8>,
            ) -> __crucial::Result<()> {
                match method {
                    2 => {
                        let (amount, note): (i64, &str) = __crucial::decode("the arguments of `take`", args)?;
                        __crucial::encode("the result of `take`", &<__State>::take(state, amount, note), out)
                    }
                    other => Err(__crucial::no_such_method(<Self as __crucial::SharedType>::NAME, other)),
                }
            }
            fn guard(state: &__State, method: u16, args: &[u8]) -> __crucial::Result<bool> {
                match method {
                    2 => {
                        #[allow(unused_variables)]
                        let (amount, note): (i64, &str) = __crucial::decode("the arguments of `take`", args)?;
                        // the guard's tokens in a function of its own with `&self`, so that `self` means the state
                        Ok(state.balance >= amount)
                    }
                    _ => Ok(true),
                }
            }
        }
    };
    impl Account {
        #[track_caller]
        pub fn new(balance: i64) -> Self {
            __crucial::construct::<Self, _>(0, &(balance,))
        }
        pub fn at(key: impl Into<String>) -> __AccountAt {
            __AccountAt(__crucial::Named::new(key, <Self as __crucial::SharedType>::PERSISTENT))
        }
        pub fn remote(&self) -> __AccountRemote<'_> {
            __AccountRemote(self)
        }
        #[track_caller]
        pub fn balance(&self) -> i64 {
            match __crucial::call(self, 0, &(), |bytes| __crucial::decode("the result of `balance`", bytes)) {
                Ok(value) => value,
                Err(error) => {
                    #[allow(unused_imports)]
                    use __crucial::{FailWithErr as _, FailWithPanic as _};
                    __crucial::FailAs::<i64>::new().fail(error)
                }
            }
        }
        #[track_caller]
        pub fn take(&self, amount: i64, note: &str) -> Result<i64, crucial::Error> {
            match __crucial::call(self, 2, &(amount, note), |bytes| {
                __crucial::decode("the result of `take`", bytes)
            }) {
                Ok(value) => value,
                Err(error) => {
                    #[allow(unused_imports)]
                    use __crucial::{FailWithErr as _, FailWithPanic as _};
                    __crucial::FailAs::<Result<i64, crucial::Error>>::new().fail(error)
                }
            }
        }
        // history likewise, decoding `Bulk<Vec<f64>>` and mapping `|b| b.0`
    }
    #[doc(hidden)]
    #[derive(Clone, Debug)]
    pub struct __AccountAt(__crucial::Named);
    impl __AccountAt {
        pub fn persistent(self) -> Self {
            __AccountAt(self.0.persistent())
        }
        pub fn __lazy(self) -> Self {
            __AccountAt(self.0.lazy())
        }
        #[track_caller]
        pub fn new(self, balance: i64) -> Account {
            __crucial::construct_at::<Account, _>(self.0, 0, &(balance,))
        }
    }
    #[doc(hidden)]
    pub struct __AccountRemote<'a>(&'a Account);
    impl __AccountRemote<'_> {
        pub fn balance(&self) -> __crucial::Call<i64> {
            __crucial::remote(self.0, 0, &(), |bytes| __crucial::decode("the result of `balance`", bytes))
        }
    }
    // ---- #[shared] pub static TILL: Account = Account::new(10);
    pub static TILL: ::crucial::Static<Account> = {
        __crucial::inventory::submit! { __crucial::StaticInfo {
            key: concat!(module_path!(), "::", "TILL"),
            type_name: __crucial::type_name::<Account>,
            place: concat!(file!(), ":", line!()),
        } }
        ::crucial::Static::new(|| <Account>::at(concat!(module_path!(), "::", "TILL")).__lazy().new(10))
    };
    // ---- #[cloud_fn(retries = 2)] pub fn earn(amount: i64, notes: &[f64]) -> i64 { .. }
    pub fn earn(amount: i64, notes: &[f64]) -> ::crucial::Task<i64> {
        fn body(amount: i64, notes: &[f64]) -> i64 {
            amount + notes.len() as i64
        }
        fn run(args: &[u8]) -> __crucial::Result<Vec<u8>> {
            let (amount, notes): (i64, __crucial::Bulk<Vec<f64>>) =
                __crucial::decode("the arguments of `earn`", args)?;
            let mut out = Vec::new();
            __crucial::encode("the result of `earn`", &body(amount, &notes.0), &mut out)?;
            Ok(out)
        }
        static INFO: __crucial::FunctionInfo = __crucial::FunctionInfo {
            name: concat!(module_path!(), "::", "earn"),
            fingerprint: __crucial::fingerprint("the signature as text"),
            options: __crucial::Options { retries: Some(2), timeout: None, memory: None },
            body: __crucial::Body::Sync(run),
        };
        __crucial::inventory::submit! { __crucial::FunctionInfo { ..INFO_CONST } }
        const INFO_CONST: __crucial::FunctionInfo = __crucial::FunctionInfo {
            name: INFO.name,
            fingerprint: INFO.fingerprint,
            options: INFO.options,
            body: INFO.body,
        };
        let mut args = Vec::new();
        let encoded =
            __crucial::encode("the arguments of `earn`", &(amount, __crucial::Bulk(notes)), &mut args);
        __crucial::Task::new(&INFO, encoded.map(|()| args), |bytes| {
            __crucial::decode("the result of `earn`", bytes)
        })
    }
}

#[test]
fn expands() {
    let _ = bank::TILL.key();
    let _ = |e: Error| e;
    assert_eq!(bank::earn(1, &[0.5]).here(), 2);
}
