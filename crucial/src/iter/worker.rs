//! The side of a worker: many calls of a function in one cloud thread.

use crucial_runtime::{
    codec,
    error::{Error, Result},
    function::{self, Body, FunctionInfo, Options},
    task::IntoTask,
};
use serde::{Deserialize, Serialize};

/// An answer is full when its results have so many bytes: like a payload, its size is limited, in Lambda to 6 MB.
const BYTES: usize = 2 << 20;

/// Encoded arguments, or an encoded result.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Bytes(#[serde(with = "crate::bulk")] pub(super) Vec<u8>);

/// A call of a cloud function.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Call {
    function: String,
    fingerprint: u64,
    args: Bytes,
}

impl Call {
    pub(super) fn of<W: IntoTask>(work: W) -> Self {
        let (function, args) = work.into_task().into_call();
        let args = Bytes(args.unwrap_or_else(|error| panic!("{error}")));
        Call { function: function.name.to_owned(), fingerprint: function.fingerprint, args }
    }

    fn run(self, attempt: u32) -> Result<()> {
        function::lookup(&self.function, self.fingerprint)?.run(self.args.0, attempt).map(drop)
    }
}

/// What a worker gets.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Chunk {
    pub(super) function: String,
    pub(super) fingerprint: u64,
    pub(super) attempt: u32,
    pub(super) init: Option<Call>,
    pub(super) finish: Option<Call>,
    pub(super) items: Vec<Bytes>,
}

/// What becomes of it: a result for each item from the first on, at least one, unless something failed that concerns
/// them all.
pub(super) type Outcome = Result<Vec<Result<Bytes>>>;

impl Chunk {
    fn run(self) -> Outcome {
        let function = function::lookup(&self.function, self.fingerprint)?;
        if let Some(init) = self.init {
            init.run(self.attempt)?;
        }
        let mut results = Vec::with_capacity(self.items.len());
        let (mut bytes, mut largest) = (0, 0);
        for args in self.items {
            let result = function.run(args.0, self.attempt).map(Bytes);
            let size = result.as_ref().map_or(0, |result| result.0.len());
            results.push(result);
            bytes += size;
            largest = largest.max(size);
            // The next one may be as large as those before. Items that are left get another worker.
            if bytes + largest > BYTES {
                break;
            }
        }
        if let Some(finish) = self.finish {
            finish.run(self.attempt)?;
        }
        Ok(results)
    }
}

fn body(args: &[u8]) -> Result<Vec<u8>> {
    let outcome = codec::decode::<Chunk>("a chunk of items", args).and_then(Chunk::run);
    let mut bytes = Vec::new();
    codec::encode("the results of a chunk", &outcome, &mut bytes)?;
    Ok(bytes)
}

const INFO: FunctionInfo = FunctionInfo {
    name: "crucial::iter::worker",
    fingerprint: crucial_runtime::id::fingerprint("crucial::iter::worker 1"),
    options: Options { retries: None, timeout: None, memory: None },
    body: Body::Sync(body),
};

crate::__private::inventory::submit! { INFO }

/// The function that every worker runs.
pub(super) static WORKER: FunctionInfo = INFO;

/// Reads what a worker answered for so many items, some of which may be left.
pub(super) fn outcome(bytes: &[u8], items: usize) -> Outcome {
    let what = "the results of a chunk";
    let results = codec::decode::<Outcome>(what, bytes)??;
    if (1..=items).contains(&results.len()) {
        Ok(results)
    } else {
        let reason = format!("there are {} for {items} items", results.len());
        Err(Error::Decode { what: what.to_owned(), reason })
    }
}
