use super::Ordering;
use crate::{Shared, shared, typed::done};

macro_rules! atomic_int {
    ($($name:ident $int:ident)*) => {$(
        #[doc = concat!("An `", stringify!($int), "` that cloud threads share. Follows [`std::sync::atomic::", stringify!($name), "`].")]
        ///
        /// Arithmetic wraps around, as in std.
        ///
        /// ```
        #[doc = concat!("use crucial::sync::atomic::{", stringify!($name), ", Ordering};")]
        ///
        #[doc = concat!("let number = ", stringify!($name), "::new(5);")]
        /// assert_eq!(number.fetch_add(10, Ordering::SeqCst), 5);
        /// assert_eq!(number.load(Ordering::SeqCst), 15);
        /// ```
        #[shared]
        pub struct $name {
            value: $int,
        }

        #[shared]
        impl $name {
            /// A new atomic.
            pub fn new(value: $int) -> Self {
                $name { value }
            }

            /// The value.
            pub fn load(&self, _order: Ordering) -> $int {
                self.value
            }

            /// Sets the value.
            pub fn store(&mut self, value: $int, _order: Ordering) {
                self.value = value;
            }

            /// Sets the value and returns the one before.
            pub fn swap(&mut self, value: $int, _order: Ordering) -> $int {
                self.replace(value)
            }

            /// Sets the value to `new` if it is `current`. Returns the value before: `Ok` if it was `current`.
            pub fn compare_exchange(
                &mut self,
                current: $int,
                new: $int,
                _success: Ordering,
                _failure: Ordering,
            ) -> Result<$int, $int> {
                let before = self.value;
                if before == current {
                    self.value = new;
                    Ok(before)
                } else {
                    Err(before)
                }
            }

            fn replace(&mut self, value: $int) -> $int {
                std::mem::replace(&mut self.value, value)
            }

            /// Adds, wrapping around, and returns the value before.
            pub fn fetch_add(&mut self, value: $int, _order: Ordering) -> $int {
                self.replace(self.value.wrapping_add(value))
            }

            /// Subtracts, wrapping around, and returns the value before.
            pub fn fetch_sub(&mut self, value: $int, _order: Ordering) -> $int {
                self.replace(self.value.wrapping_sub(value))
            }

            /// Bitwise "and"; returns the value before.
            pub fn fetch_and(&mut self, value: $int, _order: Ordering) -> $int {
                self.replace(self.value & value)
            }

            /// Bitwise "nand"; returns the value before.
            pub fn fetch_nand(&mut self, value: $int, _order: Ordering) -> $int {
                self.replace(!(self.value & value))
            }

            /// Bitwise "or"; returns the value before.
            pub fn fetch_or(&mut self, value: $int, _order: Ordering) -> $int {
                self.replace(self.value | value)
            }

            /// Bitwise "xor"; returns the value before.
            pub fn fetch_xor(&mut self, value: $int, _order: Ordering) -> $int {
                self.replace(self.value ^ value)
            }

            /// Keeps the larger of the two values; returns the value before.
            pub fn fetch_max(&mut self, value: $int, _order: Ordering) -> $int {
                self.replace(self.value.max(value))
            }

            /// Keeps the smaller of the two values; returns the value before.
            pub fn fetch_min(&mut self, value: $int, _order: Ordering) -> $int {
                self.replace(self.value.min(value))
            }
        }

        impl $name {
            /// Returns the value and removes the atomic, in two calls; other handles of it fail after that. Follows
            #[doc = concat!("[`std::sync::atomic::", stringify!($name), "::into_inner`].")]
            #[must_use]
            #[track_caller]
            pub fn into_inner(self) -> $int {
                let value = self.load(Ordering::SeqCst);
                done(self.remove());
                value
            }

            /// As [`compare_exchange`](Self::compare_exchange): here it never fails without a reason.
            ///
            /// # Errors
            /// The value, if it was not `current`.
            #[track_caller]
            pub fn compare_exchange_weak(
                &self,
                current: $int,
                new: $int,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$int, $int> {
                self.compare_exchange(current, new, success, failure)
            }

            /// As [`compare_exchange`](Self::compare_exchange), but the value before is all that it returns. Deprecated
            /// in std, too.
            #[deprecated(note = "use `compare_exchange` instead")]
            #[track_caller]
            pub fn compare_and_swap(&self, current: $int, new: $int, order: Ordering) -> $int {
                self.compare_exchange(current, new, order, order).unwrap_or_else(|value| value)
            }

            /// Sets the value to `f(value)`, unless that is `None`. Returns the value before: `Err` if it was kept.
            ///
            /// `f` runs here, once for each time that somebody else changes the value meanwhile. A method of a shared
            /// struct of your own does it in one call.
            ///
            /// # Errors
            /// The value, if `f` returned `None` for it.
            #[track_caller]
            pub fn fetch_update<F: FnMut($int) -> Option<$int>>(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                mut f: F,
            ) -> Result<$int, $int> {
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
            #[doc = concat!("[`std::sync::atomic::", stringify!($name), "::try_update`].")]
            ///
            /// # Errors
            /// The value, if `f` returned `None` for it.
            #[track_caller]
            pub fn try_update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                f: impl FnMut($int) -> Option<$int>,
            ) -> Result<$int, $int> {
                self.fetch_update(set_order, fetch_order, f)
            }

            /// Sets the value to `f(value)` and returns the value before; `f` runs as often as that of
            /// [`fetch_update`](Self::fetch_update). Follows
            #[doc = concat!("[`std::sync::atomic::", stringify!($name), "::update`].")]
            #[track_caller]
            pub fn update(
                &self,
                set_order: Ordering,
                fetch_order: Ordering,
                mut f: impl FnMut($int) -> $int,
            ) -> $int {
                let updated = self.fetch_update(set_order, fetch_order, |value| Some(f(value)));
                updated.unwrap_or_else(|value| value)
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }

        impl From<$int> for $name {
            fn from(value: $int) -> Self {
                Self::new(value)
            }
        }
    )*};
}

atomic_int! {
    AtomicI8 i8
    AtomicI16 i16
    AtomicI32 i32
    AtomicI64 i64
    AtomicIsize isize
    AtomicU8 u8
    AtomicU16 u16
    AtomicU32 u32
    AtomicU64 u64
    AtomicUsize usize
}
