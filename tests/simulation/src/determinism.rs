//! The clock and the random numbers of the process, in the place of those of the system.
//!
//! The standard library and the crates below ask the C library for them, so its functions are defined here. A process
//! simulates one seed: what is set up once in a process, such as the seeds of hash tables, is then the same each time.

#![allow(unsafe_code)]

use std::{
    ffi::{c_int, c_long, c_uint, c_void},
    sync::{
        OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use libc::{clockid_t, size_t, ssize_t, timespec};
use tests::random::Random;
use tokio::runtime::Handle;

static ON: AtomicBool = AtomicBool::new(false);
/// No time before this is told any more, in nanoseconds.
static NOW: AtomicU64 = AtomicU64::new(0);
/// The state of the random numbers.
static RANDOM: AtomicU64 = AtomicU64::new(0);
/// An instant, and the time that was told for it.
static ORIGIN: OnceLock<(Instant, u64)> = OnceLock::new();

/// When a simulation begins: some time in 2020.
const EPOCH: u64 = 1_600_000_000 * SECOND;
const SECOND: u64 = 1_000_000_000;

/// From now on, time is simulated and random numbers follow from the seed. Nothing may have asked for either before.
///
/// # Panics
/// If it is called twice.
pub fn begin(seed: u64) {
    NOW.store(EPOCH, SeqCst);
    RANDOM.store(seed, SeqCst);
    assert!(!ON.swap(true, SeqCst), "a process simulates one seed");
    let origin = Instant::now();
    ORIGIN.set((origin, NOW.load(SeqCst))).expect("it is set here alone");
}

/// The time of the machine, for reports.
#[must_use]
pub fn wall_clock() -> Duration {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    system_time(libc::CLOCK_MONOTONIC, &raw mut now);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// The simulation has come this far.
///
/// Invariant: no host's clock stands still or falls behind by more than a tick. A host that starts again begins with the
/// time that is told then.
pub fn reach(elapsed: Duration) {
    NOW.fetch_max(EPOCH + elapsed.as_nanos() as u64, SeqCst);
}

/// What happens from now on is later than what has happened, on whichever host. Hosts run one after the other, each for a
/// tick, so a host's own clock may be up to a tick behind another's.
pub fn later() {
    NOW.store(simulated_time() + 1, SeqCst);
}

fn system_time(clock: clockid_t, to: *mut timespec) -> c_int {
    // SAFETY: the caller passes what the system call takes.
    unsafe { libc::syscall(libc::SYS_clock_gettime, c_long::from(clock), to) as c_int }
}

/// The time of the host that runs now. To ask for it changes nothing: a log asks, too.
fn simulated_time() -> u64 {
    let own = match (ORIGIN.get(), Handle::try_current()) {
        (Some((origin, at)), Ok(_)) => {
            let host = tokio::time::Instant::now().into_std();
            at + host.saturating_duration_since(*origin).as_nanos() as u64
        }
        _ => 0,
    };
    own.max(NOW.load(SeqCst))
}

/// Takes the place of the C library's.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn clock_gettime(clock: clockid_t, to: *mut timespec) -> c_int {
    if !ON.load(SeqCst) {
        return system_time(clock, to);
    }
    let now = simulated_time();
    let time = timespec { tv_sec: (now / SECOND) as _, tv_nsec: (now % SECOND) as _ };
    // SAFETY: the caller passes a place for it.
    unsafe { to.write(time) };
    0
}

/// Takes the place of the C library's.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(to: *mut c_void, length: size_t, flags: c_uint) -> ssize_t {
    if !ON.load(SeqCst) {
        // SAFETY: the caller passes what the system call takes.
        return unsafe { libc::syscall(libc::SYS_getrandom, to, length, flags) as ssize_t };
    }
    let mut random = Random(RANDOM.load(SeqCst));
    let bytes = random.bytes(length);
    RANDOM.store(random.0, SeqCst);
    // SAFETY: the caller passes room for so many bytes.
    unsafe { to.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), length) };
    length as ssize_t
}
