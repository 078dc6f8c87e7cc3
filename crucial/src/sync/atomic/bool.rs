use super::Ordering;
use crate::{Shared, shared, typed::done};

/// A `bool` that cloud threads share. Follows [`std::sync::atomic::AtomicBool`].
///
/// ```
/// use crucial::sync::atomic::{AtomicBool, Ordering};
///
/// let done = AtomicBool::new(false);
/// assert!(!done.swap(true, Ordering::SeqCst));
/// assert!(done.load(Ordering::SeqCst));
/// ```
#[shared]
pub struct AtomicBool {
    value: bool,
}

#[shared]
impl AtomicBool {
    /// A new atomic.
    pub fn new(value: bool) -> Self {
        AtomicBool { value }
    }

    /// The value.
    pub fn load(&self, _order: Ordering) -> bool {
        self.value
    }

    /// Sets the value.
    pub fn store(&mut self, value: bool, _order: Ordering) {
        self.value = value;
    }

    /// Sets the value and returns the one before.
    pub fn swap(&mut self, value: bool, _order: Ordering) -> bool {
        self.replace(value)
    }

    /// Sets the value to `new` if it is `current`. Returns the value before: `Ok` if it was `current`.
    pub fn compare_exchange(
        &mut self,
        current: bool,
        new: bool,
        _success: Ordering,
        _failure: Ordering,
    ) -> Result<bool, bool> {
        let before = self.value;
        if before == current {
            self.value = new;
            Ok(before)
        } else {
            Err(before)
        }
    }

    fn replace(&mut self, value: bool) -> bool {
        std::mem::replace(&mut self.value, value)
    }

    /// Logical "and"; returns the value before.
    pub fn fetch_and(&mut self, value: bool, _order: Ordering) -> bool {
        self.replace(self.value & value)
    }

    /// Logical "nand"; returns the value before.
    pub fn fetch_nand(&mut self, value: bool, _order: Ordering) -> bool {
        self.replace(!(self.value & value))
    }

    /// Logical "or"; returns the value before.
    pub fn fetch_or(&mut self, value: bool, _order: Ordering) -> bool {
        self.replace(self.value | value)
    }

    /// Logical "xor"; returns the value before.
    pub fn fetch_xor(&mut self, value: bool, _order: Ordering) -> bool {
        self.replace(self.value ^ value)
    }

    /// Logical "not"; returns the value before.
    pub fn fetch_not(&mut self, _order: Ordering) -> bool {
        self.replace(!self.value)
    }
}

impl AtomicBool {
    /// Returns the value and removes the atomic, in two calls; other handles of it fail after that. Follows
    /// [`std::sync::atomic::AtomicBool::into_inner`].
    #[must_use]
    #[track_caller]
    pub fn into_inner(self) -> bool {
        let value = self.load(Ordering::SeqCst);
        done(self.remove());
        value
    }

    /// As [`compare_exchange`](Self::compare_exchange), but the value before is all that it returns. Deprecated in std,
    /// too.
    #[deprecated(note = "use `compare_exchange` instead")]
    #[track_caller]
    pub fn compare_and_swap(&self, current: bool, new: bool, order: Ordering) -> bool {
        self.compare_exchange(current, new, order, order).unwrap_or_else(|value| value)
    }

    /// As [`compare_exchange`](Self::compare_exchange): here it never fails without a reason.
    ///
    /// # Errors
    /// The value, if it was not `current`.
    #[track_caller]
    pub fn compare_exchange_weak(
        &self,
        current: bool,
        new: bool,
        success: Ordering,
        failure: Ordering,
    ) -> Result<bool, bool> {
        self.compare_exchange(current, new, success, failure)
    }

    /// Sets the value to `f(value)`, unless that is `None`. Returns the value before: `Err` if it was kept.
    /// `f` runs here, once more for each time that somebody else changes the value meanwhile.
    ///
    /// # Errors
    /// The value, if `f` returned `None` for it.
    #[track_caller]
    pub fn fetch_update<F: FnMut(bool) -> Option<bool>>(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        mut f: F,
    ) -> Result<bool, bool> {
        let mut value = self.load(fetch_order);
        while let Some(new) = f(value) {
            match self.compare_exchange(value, new, set_order, fetch_order) {
                Ok(before) => return Ok(before),
                Err(other) => value = other,
            }
        }
        Err(value)
    }

    /// As [`fetch_update`](Self::fetch_update), under the newer name. Follows
    /// [`std::sync::atomic::AtomicBool::try_update`].
    ///
    /// # Errors
    /// The value, if `f` returned `None` for it.
    #[track_caller]
    pub fn try_update(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        f: impl FnMut(bool) -> Option<bool>,
    ) -> Result<bool, bool> {
        self.fetch_update(set_order, fetch_order, f)
    }

    /// Sets the value to `f(value)` and returns the value before; `f` runs as often as that of
    /// [`fetch_update`](Self::fetch_update). Follows [`std::sync::atomic::AtomicBool::update`].
    #[track_caller]
    pub fn update(
        &self,
        set_order: Ordering,
        fetch_order: Ordering,
        mut f: impl FnMut(bool) -> bool,
    ) -> bool {
        let updated = self.fetch_update(set_order, fetch_order, |value| Some(f(value)));
        updated.unwrap_or_else(|value| value)
    }
}

impl Default for AtomicBool {
    fn default() -> Self {
        Self::new(false)
    }
}

impl From<bool> for AtomicBool {
    fn from(value: bool) -> Self {
        Self::new(value)
    }
}
