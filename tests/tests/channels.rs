//! Channels do what std's documentation promises, wherever objects and threads are.

use std::time::Duration;

use crucial::{
    Error, cloud_fn,
    sync::{
        Latch,
        mpsc::{
            self, Receiver, RecvError, RecvTimeoutError, SendError, Sender, SyncSender, TryRecvError,
            TrySendError,
        },
        oneshot,
    },
    test, thread,
};
use tests::{begin, eventually, in_time, objects::Journal};

/// Long enough for what must not happen to happen.
const MOMENT: Duration = Duration::from_millis(50);

#[cloud_fn]
fn send_all(sender: Sender<u64>, from: u64, to: u64) {
    for n in from..to {
        sender.send(n).unwrap();
    }
}

#[test(modes(embedded, processes, server))]
fn messages_come_in_order_and_end_with_the_last_sender() {
    let (sender, receiver) = mpsc::channel();
    let threads: Vec<_> = (0..3)
        .map(|i| {
            let sender = sender.clone();
            thread::spawn(move || send_all(sender, 1000 * i, 1000 * i + 100))
        })
        .collect();
    drop(sender);
    let all: Vec<u64> = in_time("the channel ends", move || receiver.into_iter().collect());
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!(all.len(), 300);
    for i in 0..3 {
        let ours: Vec<_> = all.iter().copied().filter(|n| n / 1000 == i).collect();
        assert_eq!(ours, (1000 * i..1000 * i + 100).collect::<Vec<_>>(), "in the order of sending");
    }
}

#[cloud_fn]
fn sum(receiver: Receiver<u64>) -> u64 {
    receiver.iter().sum()
}

#[test(modes(embedded, processes, server))]
fn a_receiver_travels_with_what_it_has_fetched() {
    let (sender, receiver) = mpsc::channel();
    for n in 0..10 {
        sender.send(n).unwrap();
    }
    assert_eq!(receiver.recv(), Ok(0), "and the others come with it");
    let thread = thread::spawn(move || sum(receiver));
    sender.send(100).unwrap();
    drop(sender);
    assert_eq!(thread.join(), Ok(145));
}

#[test(modes(embedded, processes, server))]
fn a_channel_without_senders_is_at_its_end() {
    let (sender, receiver) = mpsc::channel();
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
    assert_eq!(receiver.recv_timeout(MOMENT), Err(RecvTimeoutError::Timeout));
    sender.send("last".to_owned()).unwrap();
    drop(sender.clone());
    drop(sender);
    // What was sent is received all the same.
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), ["last"]);
    assert_eq!(receiver.recv(), Err(RecvError));
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(receiver.recv_timeout(MOMENT), Err(RecvTimeoutError::Disconnected));
    assert_eq!(receiver.iter().next(), None);
}

#[test(modes(embedded, processes, server))]
fn a_channel_without_a_receiver_takes_nothing() {
    let (sender, receiver) = mpsc::channel();
    sender.send(1).unwrap();
    drop(receiver);
    assert_eq!(sender.send(2), Err(SendError(2)));

    let (sender, receiver) = mpsc::sync_channel(1);
    sender.send(1).unwrap();
    let waiting = begin({
        let sender = sender.clone();
        move || sender.send(2)
    });
    std::thread::sleep(MOMENT);
    drop(receiver);
    assert_eq!(waiting.within("the receiver is gone"), Err(SendError(2)));
    assert_eq!(sender.try_send(3), Err(TrySendError::Disconnected(3)));
}

#[cloud_fn]
fn send_and_note(sender: SyncSender<u64>, sent: &Journal, count: u64) {
    for n in 0..count {
        sender.send(n).unwrap();
        sent.push(n);
    }
}

#[test(modes(embedded, processes, server))]
fn a_bounded_channel_makes_senders_wait() {
    let (sender, receiver) = mpsc::sync_channel(2);
    let sent = Journal::new();
    let thread = thread::spawn({
        let sent = sent.clone();
        move || send_and_note(sender, &sent, 5)
    });
    eventually("there is room for two", || sent.tokens().len() == 2);
    std::thread::sleep(MOMENT);
    assert_eq!(sent.tokens(), [0, 1]);
    assert_eq!(receiver.recv(), Ok(0));
    eventually("there is room for one more", || sent.tokens().len() == 3);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [1, 2, 3, 4]);
    thread.join().unwrap();

    let (sender, _receiver) = mpsc::sync_channel(1);
    assert_eq!(sender.try_send(1), Ok(()));
    assert_eq!(sender.try_send(2), Err(TrySendError::Full(2)));
}

#[test(modes(embedded, processes, server))]
fn a_rendezvous_waits_for_the_receiver() {
    let (sender, receiver) = mpsc::sync_channel(0);
    let sent = Journal::new();
    let thread = thread::spawn({
        let sent = sent.clone();
        move || send_and_note(sender, &sent, 2)
    });
    std::thread::sleep(MOMENT);
    assert!(sent.tokens().is_empty(), "nobody has received");
    assert_eq!(receiver.recv(), Ok(0));
    eventually("it was received", || sent.tokens() == [0]);
    drop(receiver);
    // The second one can't be delivered.
    assert!(matches!(thread.join(), Err(Error::FunctionPanicked { .. })));
    assert_eq!(sent.tokens(), [0]);
}

#[cloud_fn]
fn reply(requests: Receiver<(u64, oneshot::Sender<u64>)>) {
    for (n, answer) in requests {
        if n > 0 {
            answer.send(n * n).unwrap();
        }
    }
}

#[test(modes(embedded, processes, server))]
fn ends_travel_in_messages() {
    let (requests, receiver) = mpsc::channel();
    let server = thread::spawn(move || reply(receiver));
    for n in 0..3 {
        let (sender, receiver) = oneshot::channel();
        assert_eq!(receiver.try_recv(), Err(TryRecvError::Empty));
        requests.send((n, sender)).unwrap();
        let expected = if n > 0 { Ok(n * n) } else { Err(RecvError) };
        assert_eq!(in_time("it answers or drops the sender", move || receiver.recv()), expected);
    }
    drop(requests);
    server.join().unwrap();
}

#[cloud_fn]
fn ignore(sender: Sender<u64>, dropped: &Latch, go: &Latch) {
    drop(sender);
    dropped.count_down(1);
    go.wait();
}

#[test(modes(embedded, processes, server))]
fn a_sender_is_gone_when_its_thread_drops_it() {
    let (sender, receiver) = mpsc::channel();
    let (dropped, go) = (Latch::new(1), Latch::new(1));
    let thread = thread::spawn({
        let (dropped, go) = (dropped.clone(), go.clone());
        move || ignore(sender, &dropped, &go)
    });
    dropped.wait();
    // The thread is still running, and nothing of the argument on its way is left.
    assert_eq!(receiver.try_recv(), Err(TryRecvError::Disconnected));
    go.count_down(1);
    thread.join().unwrap();
}

#[cloud_fn]
fn never(_sender: Sender<u64>) {}

#[test(modes(embedded, processes, server))]
fn a_thread_that_never_starts_drops_its_sender() {
    let (sender, receiver) = mpsc::channel();
    drop(never(sender.clone()));
    let executor = crucial::executor::Executor::builder().concurrency(1).build().unwrap();
    let gate = Latch::new(1);
    let (other, _other_receiver) = mpsc::channel();
    let busy = executor.submit(|| ignore(other, &Latch::new(1), &gate)).unwrap();
    let queued = executor.submit(move || never(sender)).unwrap();
    queued.abort();
    assert_eq!(in_time("no sender is left", move || receiver.recv()), Err(RecvError));
    gate.count_down(1);
    busy.join().unwrap();
}

#[cloud_fn(retries = 1)]
fn fail_first(sender: Sender<u64>, attempts: &Latch) {
    sender.send(attempts.count() as u64).unwrap();
    attempts.count_down(1);
    assert!(attempts.count() != 1, "the first attempt fails");
}

#[test(modes(embedded, processes, server))]
fn a_thread_that_is_tried_again_has_its_sender_again() {
    let (sender, receiver) = mpsc::channel();
    let attempts = Latch::new(2);
    thread::spawn({
        let (attempts, sender) = (attempts.clone(), sender.clone());
        move || fail_first(sender, &attempts)
    })
    .join()
    .unwrap();
    drop(sender);
    assert_eq!(receiver.iter().collect::<Vec<_>>(), [2, 1]);
}

#[test(modes(embedded, processes, server))]
fn many_and_large_messages_come_in_batches() {
    let (sender, receiver) = mpsc::channel();
    for n in 0..600_usize {
        sender.send(vec![n as u8; if n % 100 == 0 { 100_000 } else { 10 }]).unwrap();
    }
    drop(sender);
    let sizes: Vec<_> = receiver.into_iter().enumerate().map(|(n, m)| (m[0] == n as u8, m.len())).collect();
    assert_eq!(sizes.len(), 600);
    assert!(sizes.iter().all(|(same, _)| *same));
    assert_eq!(sizes.iter().filter(|(_, size)| *size == 100_000).count(), 6);
}
