//! The task that owns a monitor's byte stream.

use std::{
    cell::RefCell,
    collections::VecDeque,
    mem::MaybeUninit,
    pin::Pin,
    rc::{Rc, Weak},
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead as _, AsyncWrite as _, ReadBuf},
    sync::mpsc,
};

use super::{Lost, Outgoing, Shared};
use crate::{
    env::Env,
    mutant::{Mutant, planted},
    wire::{Incoming, Session},
};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// Runs until the stream ends, fails or stops making sense, or until nobody can send any more.
pub(super) async fn run<E: Env>(
    env: E,
    io: E::Io,
    queue: mpsc::UnboundedReceiver<Outgoing<E>>,
    shared: Rc<RefCell<Shared>>,
) {
    let session = Session::new();
    let mut pump = Pump {
        env,
        io,
        queue,
        shared,
        session,
        unsent: VecDeque::new(),
        chunk: Box::new_uninit_slice(CHUNK),
    };
    let lost = std::future::poll_fn(|cx| pump.poll(cx)).await;
    let mut shared = pump.shared.borrow_mut();
    shared.lost = Some(lost);
    // Dropping the senders is what tells everyone who waits.
    shared.pending.clear();
    shared.events = None;
    shared.greeting = None;
}

struct Pump<E: Env> {
    env: E,
    io: E::Io,
    queue: mpsc::UnboundedReceiver<Outgoing<E>>,
    shared: Rc<RefCell<Shared>>,
    session: Session,
    unsent: VecDeque<Unsent<E>>,
    chunk: Box<[MaybeUninit<u8>]>,
}

/// Bytes that wait to be sent, and the file that goes with the first of them.
struct Unsent<E: Env> {
    bytes: Vec<u8>,
    file: Option<E::File>,
}

impl<E: Env> Pump<E> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        if let Poll::Ready(lost) = self.poll_send(cx) {
            return Poll::Ready(lost);
        }
        self.poll_receive(cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        loop {
            match self.queue.poll_recv(cx) {
                Poll::Ready(Some(Outgoing::Command { bytes, file })) => self.queue_up(bytes, file),
                Poll::Ready(Some(Outgoing::Close) | None) => return Poll::Ready(Lost::Closed),
                Poll::Pending => break,
            }
        }
        while let Some(Unsent { bytes, file }) = self.unsent.front_mut() {
            let io = Pin::new(&mut self.io);
            let written = match file {
                None => io.poll_write(cx, bytes),
                Some(file) => self.env.poll_write_with_file(io, cx, bytes, file),
            };
            match ready!(written) {
                Ok(0) => return Poll::Ready(Lost::Closed),
                Ok(written) if written == bytes.len() => drop(self.unsent.pop_front()),
                Ok(written) => {
                    bytes.drain(..written);
                    *file = None;
                }
                // What QEMU said before it went is still to be read.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => self.unsent.clear(),
                Err(error) => return Poll::Ready(Lost::Io(error.to_string())),
            }
        }
        Poll::Pending
    }

    /// Commands go out together, but for one with a file: that goes with its own first byte.
    fn queue_up(&mut self, bytes: Vec<u8>, file: Option<E::File>) {
        match self.unsent.back_mut() {
            Some(last) if file.is_none() => last.bytes.extend(bytes),
            _ => self.unsent.push_back(Unsent { bytes, file }),
        }
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        loop {
            let mut buffer = ReadBuf::uninit(&mut self.chunk);
            match ready!(Pin::new(&mut self.io).poll_read(cx, &mut buffer)) {
                Ok(()) if buffer.filled().is_empty() => return Poll::Ready(Lost::Closed),
                Ok(()) => self.session.receive(buffer.filled()),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return Poll::Ready(Lost::Closed);
                }
                Err(error) => return Poll::Ready(Lost::Io(error.to_string())),
            }
            loop {
                match self.session.poll() {
                    Ok(Some(incoming)) => self.hand_out(incoming),
                    Ok(None) => break,
                    Err(error) => return Poll::Ready(Lost::Wire(error)),
                }
            }
        }
    }

    fn hand_out(&mut self, incoming: Incoming) {
        let mut shared = self.shared.borrow_mut();
        shared.mute = false;
        match incoming {
            // Whoever waited may have given up meanwhile: that is what the ignored results are.
            Incoming::Greeting(greeting) => {
                if let Some(sender) = shared.greeting.take() {
                    let _ = sender.send(greeting);
                }
            }
            Incoming::Event(event) => {
                shared.standstill.hear(&event);
                for watch in shared.watches.iter().filter_map(Weak::upgrade) {
                    watch.borrow_mut().hear(&event);
                }
                if let Some(sender) = &shared.events {
                    let _ = sender.send(Rc::new(event));
                }
            }
            Incoming::Reply(reply) if planted(Mutant::MatchesRepliesByPosition) => {
                let number =
                    |id: &String| id.rsplit('#').next().and_then(|number| number.parse::<u64>().ok());
                let oldest = shared.pending.keys().min_by_key(|id| number(id)).cloned();
                if let Some(sender) = oldest.and_then(|id| shared.pending.remove(&id)) {
                    drop(sender.send(reply));
                }
            }
            Incoming::Reply(reply) => match reply.id.as_deref().and_then(|id| shared.pending.remove(id)) {
                Some(sender) => drop(sender.send(reply)),
                None => tracing::debug!(id = reply.id, "a reply that nobody waits for"),
            },
        }
    }
}
