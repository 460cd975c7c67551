//! The task that owns a monitor's byte stream.

use std::{
    cell::RefCell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
};

use super::{Lost, Outgoing, Shared};
use crate::wire::{Incoming, Session};

/// Bytes read at once.
const CHUNK: usize = 16 << 10;

/// Runs until the stream ends, fails or stops making sense, or until nobody can send any more.
pub(super) async fn run<Io: AsyncRead + AsyncWrite + Unpin>(
    io: Io,
    queue: mpsc::UnboundedReceiver<Outgoing>,
    shared: Rc<RefCell<Shared>>,
) {
    let mut pump =
        Pump { io, queue, shared, session: Session::new(), unsent: Vec::new(), chunk: vec![0; CHUNK] };
    let lost = std::future::poll_fn(|cx| pump.poll(cx)).await;
    let mut shared = pump.shared.borrow_mut();
    shared.lost = Some(lost);
    // Dropping the senders is what tells everyone who waits.
    shared.pending.clear();
    shared.events = None;
    shared.greeting = None;
}

struct Pump<Io> {
    io: Io,
    queue: mpsc::UnboundedReceiver<Outgoing>,
    shared: Rc<RefCell<Shared>>,
    session: Session,
    unsent: Vec<u8>,
    chunk: Vec<u8>,
}

impl<Io: AsyncRead + AsyncWrite + Unpin> Pump<Io> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        if let Poll::Ready(lost) = self.poll_send(cx) {
            return Poll::Ready(lost);
        }
        self.poll_receive(cx)
    }

    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        loop {
            match self.queue.poll_recv(cx) {
                Poll::Ready(Some(Outgoing::Command(bytes))) => self.unsent.extend(bytes),
                Poll::Ready(Some(Outgoing::Close) | None) => return Poll::Ready(Lost::Closed),
                Poll::Pending => break,
            }
        }
        while !self.unsent.is_empty() {
            match ready!(Pin::new(&mut self.io).poll_write(cx, &self.unsent)) {
                Ok(0) => return Poll::Ready(Lost::Closed),
                Ok(written) => drop(self.unsent.drain(..written)),
                // What QEMU said before it went is still to be read.
                Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => self.unsent.clear(),
                Err(error) => return Poll::Ready(Lost::Io(error.to_string())),
            }
        }
        Poll::Pending
    }

    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Lost> {
        loop {
            let mut buffer = ReadBuf::new(&mut self.chunk);
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
                if let Some(sender) = &shared.events {
                    let _ = sender.send(Rc::new(event));
                }
            }
            Incoming::Reply(reply) => match reply.id.as_deref().and_then(|id| shared.pending.remove(id)) {
                Some(sender) => drop(sender.send(reply)),
                None => tracing::debug!(id = reply.id, "a reply that nobody waits for"),
            },
        }
    }
}
