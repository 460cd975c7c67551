//! The first of two futures: what `select!` does, but always asked in the same order.

use std::{future::Future, pin::pin, task::Poll};

/// Which future was first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum First<A, B> {
    /// The left one; it wins when both are ready.
    Left(A),
    /// The right one.
    Right(B),
}

/// Waits for whichever is ready first and drops the other.
pub async fn race<A: Future, B: Future>(left: A, right: B) -> First<A::Output, B::Output> {
    let (mut left, mut right) = (pin!(left), pin!(right));
    std::future::poll_fn(|cx| {
        if let Poll::Ready(output) = left.as_mut().poll(cx) {
            return Poll::Ready(First::Left(output));
        }
        right.as_mut().poll(cx).map(First::Right)
    })
    .await
}
