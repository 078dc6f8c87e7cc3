use crucial_runtime::transit;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de, ser};

use super::raw::{End, RawChannel};
use crate::{Holder, Result, Shared, typed::done};

/// One end of a channel, which the server counts: the channel is disconnected when the last sender or the last receiver
/// is dropped, or its process is lost.
///
/// An end that is serialized is counted twice from then on: here, and where it goes. There it is counted as this
/// process's until it arrives; if it is an argument of a cloud thread, until that has ended at the latest.
pub(super) struct Counted {
    pub(super) raw: RawChannel,
    end: End,
    token: u64,
}

impl Counted {
    /// An end that the server has counted.
    pub(super) fn new(raw: RawChannel, end: End, token: u64) -> Self {
        Counted { raw, end, token }
    }

    /// Counts the end that is on its way. Returns its token.
    fn travel(&self) -> Result<u64> {
        let token = self.raw.remote().add(self.end, Holder::current()?).wait()?;
        transit::at_task_end({
            let removal = self.raw.remote().remove(self.end, token);
            async move {
                let _ = removal.await;
            }
        });
        Ok(token)
    }

    fn arrive(raw: RawChannel, end: End, token: u64) -> Result<Self> {
        let token = raw.remote().adopt(end, token, Holder::current()?).wait()?;
        Ok(Counted { raw, end, token })
    }
}

impl Serialize for Counted {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let token = self.travel().map_err(ser::Error::custom)?;
        (&self.raw, self.end, token).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Counted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (raw, end, token) = Deserialize::deserialize(deserializer)?;
        Counted::arrive(raw, end, token).map_err(de::Error::custom)
    }
}

impl Clone for Counted {
    #[track_caller]
    fn clone(&self) -> Self {
        let token = self.raw.add(self.end, done(Holder::current()));
        Counted { raw: self.raw.clone(), end: self.end, token }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Err(error) = self.raw.remove(self.end, self.token) {
            // The run is over, or its server is gone: nobody waits for this end any more.
            tracing::debug!(%error, key = self.raw.key(), "the end of a channel could not be dropped");
        }
    }
}
