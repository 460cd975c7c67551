//! All of several futures side by side: what `join!` does, for as many as there are, asked in the same order each time.

use std::{
    future::Future,
    task::{Context, Poll},
};

/// Waits until each has ended. What they came to stands in their order.
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|cx: &mut Context<'_>| {
        for (future, ended) in waiting.iter_mut().filter(|(_, ended)| ended.is_none()) {
            if let Poll::Ready(output) = future.as_mut().poll(cx) {
                *ended = Some(output);
            }
        }
        if waiting.iter().all(|(_, ended)| ended.is_some()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    waiting.into_iter().filter_map(|(_, ended)| ended).collect()
}
